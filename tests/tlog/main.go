// A verifier of the record that is not ours: the libraries of Go's checksum database, on the CA's port of metrics. It takes the
// signed checkpoint, holds it against one that was kept, verifies a proof file, and finds every event's hash in the tree. With
// -witness it is a witness that is not ours either.
package main

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Go's own height of tiles of 256 hashes.
const height = 8

func main() {
	log.SetFlags(0)
	url := flag.String("url", "", "where the checkpoint and the tiles are served")
	key := flag.String("key", "", "the key of the record")
	kept := flag.String("against", "", "a checkpoint that was kept")
	proof := flag.String("proof", "", "a proof file")
	witnesses := flag.String("witnesses", "", "the keys of those who have to have cosigned the cosigned checkpoint and the proof")
	state := flag.String("witness", "", "be a witness of this log, with its state in this file")
	name := flag.String("name", "witness.example/one", "the name of that witness")
	address := flag.String("listen", "127.0.0.1:0", "where that witness listens")
	flag.Parse()
	verifier, err := note.NewVerifier(*key)
	if err != nil {
		log.Fatalf("the key: %v", err)
	}
	if *state != "" {
		serve(verifier, *state, *name, *address)
	}
	newest, err := get(*url + "/checkpoint")
	if err != nil {
		log.Fatal(err)
	}
	tree := checkpoint(newest, verifier)
	reader := tlog.TileHashReader(tree, tiles(*url))

	if *kept != "" {
		old := checkpoint(file(*kept), verifier)
		path, err := tlog.ProveTree(tree.N, old.N, reader)
		if err != nil {
			log.Fatalf("consistency with %d events: %v", old.N, err)
		}
		if err := tlog.CheckTree(path, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			log.Fatalf("consistency with %d events: %v", old.N, err)
		}
		fmt.Printf("consistent %d\n", old.N)
	}
	for index := int64(0); index < tree.N; index++ {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			log.Fatalf("event %d: %v", index, err)
		}
		path, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			log.Fatalf("event %d: %v", index, err)
		}
		if err := tlog.CheckRecord(path, tree.N, tree.Hash, index, hashes[0]); err != nil {
			log.Fatalf("event %d: %v", index, err)
		}
	}
	fmt.Printf("included %d\n", tree.N)
	if *witnesses != "" {
		older, err := get(*url + "/checkpoint/cosigned")
		if err != nil {
			log.Fatal(err)
		}
		tree := checkpoint(older, verifier)
		fmt.Printf("cosigned %d by %d\n", tree.N, cosigned(older, verifier, *witnesses))
	}
	if *proof != "" {
		if *witnesses != "" {
			_, signed, _ := bytes.Cut(file(*proof), []byte("\n\n"))
			fmt.Printf("proof cosigned by %d\n", cosigned(signed, verifier, *witnesses))
		}
		index, event := proven(file(*proof), verifier)
		// What was proven from a file is what the log serves.
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil || hashes[0] != tlog.RecordHash(event) {
			log.Fatalf("event %d is another one in the log (%v)", index, err)
		}
		fmt.Printf("proven %d %d\n", index, len(event))
	}
}

func file(path string) []byte {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return content
}

// The tree of a checkpoint that is signed. Its text is that of Go's own trees but for their name.
func checkpoint(signed []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		log.Fatalf("the checkpoint: %v", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		log.Fatalf("the checkpoint is not of %s: %q", verifier.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		log.Fatalf("the checkpoint: %v", err)
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil {
		log.Fatalf("the checkpoint: %v", err)
	}
	return tlog.Tree{N: size, Hash: hash}
}

// Verifies a proof file (C2SP tlog-proof) that holds its event, and gives that.
func proven(proof []byte, verifier note.Verifier) (int64, []byte) {
	head, signed, found := bytes.Cut(proof, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		log.Fatalf("this is no proof file: %q", head)
	}
	event, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		log.Fatalf("the event of the proof: %v", err)
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		log.Fatalf("the proof: %v", err)
	}
	var path tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			log.Fatalf("the proof: %v", err)
		}
		path = append(path, hash)
	}
	tree := checkpoint(signed, verifier)
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(event)); err != nil {
		log.Fatalf("the proof of event %d: %v", index, err)
	}
	return index, event
}

func get(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, response.Status, content)
	}
	return content, err
}

// Reads tiles where C2SP has them; Go's own path names the height, too.
type tiles string

func (tiles) Height() int { return height }

func (url tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(wanted))
	for number, tile := range wanted {
		path, found := strings.CutPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
		if !found {
			return nil, fmt.Errorf("%s is of another height", tile.Path())
		}
		content, err := get(string(url) + "/tile/" + path)
		if err != nil {
			return nil, err
		}
		all[number] = content
	}
	return all, nil
}

// The library has verified the tile against the tree.
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
