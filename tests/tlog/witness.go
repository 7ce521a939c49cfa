// A witness that is not ours: the one of transparency-dev, behind its own handler of add-checkpoint. What it has cosigned is in a
// file, so that it can be stopped and started.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

// What a witness has to remember.
type state struct {
	Secret, Public string
	Seen           map[string][]byte
	path           string
	lock           sync.Mutex
}

func load(path, name string) *state {
	state := &state{Seen: map[string][]byte{}, path: path}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, state)
	} else if os.IsNotExist(err) {
		if state.Secret, state.Public, err = note.GenerateKey(nil, name); err == nil {
			err = state.save()
		}
	}
	if err != nil {
		log.Fatalf("%s: %v", path, err)
	}
	return state
}

func (state *state) save() error {
	content, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(state.path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(state.path+".new", state.path)
}

func (*state) Init(context.Context) error { return nil }

func (state *state) Latest(_ context.Context, origin string) ([]byte, error) {
	state.lock.Lock()
	defer state.lock.Unlock()
	return state.Seen[origin], nil
}

func (state *state) Update(_ context.Context, origin string, change func([]byte) ([]byte, error)) error {
	state.lock.Lock()
	defer state.lock.Unlock()
	next, err := change(state.Seen[origin])
	if err != nil {
		return err
	}
	state.Seen[origin] = next
	return state.save()
}

// Cosigns the log of this key until the process ends. Says first where it listens, and what verifies its cosignatures.
func serve(verifier note.Verifier, path, name, address string) {
	state := load(path, name)
	signer, err := cosignature.NewSignerForCosignatureV1(state.Secret)
	if err != nil {
		log.Fatal(err)
	}
	public, err := cosignature.VKeyToCosignatureV1(state.Public)
	if err != nil {
		log.Fatal(err)
	}
	known := func(_ context.Context, origin string) (note.Verifier, bool, error) {
		return verifier, origin == verifier.Name(), nil
	}
	options := witness.Opts{Persistence: state, Signers: []note.Signer{signer}, VerifierForLog: known}
	made, err := witness.New(context.Background(), options)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(made).AddCheckpoint)
	fmt.Printf("listening http://%s\nkey %s\n", listener.Addr(), public)
	log.Fatal(http.Serve(listener, mux))
}

// That every one of these witnesses has cosigned a checkpoint that the log has signed.
func cosigned(signed []byte, log_ note.Verifier, keys string) int {
	all := []note.Verifier{log_}
	for _, key := range strings.Fields(keys) {
		verifier, err := cosignature.NewVerifierForCosignatureV1(key)
		if err != nil {
			log.Fatalf("the key of a witness: %v", err)
		}
		all = append(all, verifier)
	}
	opened, err := note.Open(signed, note.VerifierList(all...))
	if err != nil {
		log.Fatalf("the cosigned checkpoint: %v", err)
	}
	if len(opened.Sigs) < len(all) {
		log.Fatalf("the checkpoint is signed by %d of %d: %s", len(opened.Sigs), len(all), signed)
	}
	return len(opened.Sigs) - 1
}
