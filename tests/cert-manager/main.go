// cert-manager's own controllers and webhook for tests, in one program: no containers, nothing installed but its kinds and the
// webhook. Those of the CA issuer and the self-signed one, and the one that approves every request unless it is told not to.
// When all that is there it says `ready`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	"github.com/go-logr/logr"
)

const approver = "certificaterequests-approver"

// What runs; a controller that something else brings with it does not.
var wanted = []string{
	approver, "certificaterequests-issuer-ca", "certificaterequests-issuer-selfsigned", "clusterissuers", "issuers",
}

func main() {
	// What is imported has flags of its own.
	flags := flag.NewFlagSet("cert-manager", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "as whom the API server is spoken to")
	directory := flags.String("dir", "", "an empty directory for the webhook's certificate")
	kinds := flags.String("crds", "", "where the CustomResourceDefinitions are")
	namespace := flags.String("cluster-resource-namespace", "cert-manager", "where Secrets of ClusterIssuers are")
	approves := flags.Bool("approver", true, "whether requests are approved by themselves")
	must(flags.Parse(os.Args[1:]))

	go endWithOurParent()
	ctx := logr.NewContext(context.Background(), logr.Discard())
	address := freeAddress()
	bundle := certificate(*directory)
	go serve(ctx, *kubeconfig, address.Port, filepath.Join(*directory, "tls.crt"), filepath.Join(*directory, "tls.key"))
	listens(address.String())
	install(ctx, *kubeconfig, *kinds, address.String(), bundle)

	options := controller.ContextOptions{Kubeconfig: *kubeconfig}
	options.ClusterResourceNamespace = *namespace
	control(ctx, options, *approves)
	fmt.Println("ready")
	select {}
}

func control(ctx context.Context, options controller.ContextOptions, approves bool) {
	factory, err := controller.NewContextFactory(ctx, options)
	must(err)
	var started []controller.Interface
	for name, construct := range controller.Known() {
		if !slices.Contains(wanted, name) || (name == approver && !approves) {
			continue
		}
		one, err := construct(factory)
		must(err)
		started = append(started, one)
	}
	shared, err := factory.Build("signet-tests")
	must(err)
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	for _, one := range started {
		go func() { must(one.Run(5, ctx)) }()
	}
}

func freeAddress() *net.TCPAddr {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Whoever started this holds the other end of its input, and is gone, in whatever way, when that ends.
func endWithOurParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}
