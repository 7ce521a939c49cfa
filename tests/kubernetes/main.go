// A Kubernetes API server for tests, with the etcd that it needs, in one program: no containers, nothing installed.
// The first argument says which of the two it is; the rest are that server's own flags.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	commands := map[string]func() *cobra.Command{"etcd": etcd, "kube-apiserver": apiserver.NewAPIServerCommand}
	var start func() *cobra.Command
	if len(os.Args) > 1 {
		start = commands[os.Args[1]]
	}
	if start == nil {
		fmt.Fprintln(os.Stderr, "usage: kubernetes etcd|kube-apiserver [flags]")
		os.Exit(2)
	}
	go endWithOurParent()
	os.Args = os.Args[1:]
	os.Exit(cli.Run(start()))
}

// Whoever started this holds the other end of its input, and is gone, in whatever way, when that ends.
func endWithOurParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	// An API server whose etcd is gone, too, would wait for it for ever.
	time.Sleep(10 * time.Second)
	os.Exit(1)
}

// One member on the loopback interface. What it keeps is not written through: it lives no longer than a test.
func etcd() *cobra.Command {
	var directory, clients, peers, remove string
	command := &cobra.Command{Use: "etcd", SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
		config := embed.NewConfig()
		config.Dir, config.LogLevel, config.UnsafeNoFsync = directory, "warn", true
		client, err := url.Parse(clients)
		peer, err2 := url.Parse(peers)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
		config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
		config.InitialCluster = config.InitialClusterFromName(config.Name)
		server, err := embed.StartEtcd(config)
		if err != nil {
			return err
		}
		// Also when nobody is left who would.
		defer os.RemoveAll(remove)
		defer server.Close()
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
		select {
		case <-end:
			return nil
		case err := <-server.Err():
			return err
		}
	}}
	command.Flags().StringVar(&directory, "dir", "", "where it keeps what it has")
	command.Flags().StringVar(&remove, "remove", "", "a directory that is removed at its end")
	command.Flags().StringVar(&clients, "client", "", "the URL for clients")
	command.Flags().StringVar(&peers, "peer", "", "the URL for other members, of which there are none")
	return command
}
