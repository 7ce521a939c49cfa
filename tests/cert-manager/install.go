package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	config "github.com/cert-manager/cert-manager/internal/apis/config/webhook"
	"github.com/cert-manager/cert-manager/internal/webhook"
	"github.com/go-logr/logr"
	admission "k8s.io/api/admissionregistration/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// Between two looks at what tells nobody that it has begun.
const look = 50 * time.Millisecond

// The webhook with a certificate in files.
func serve(ctx context.Context, kubeconfig string, port int, certificate, key string) {
	options := config.WebhookConfiguration{KubeConfig: kubeconfig, SecurePort: int32(port), MetricsListenAddress: "0"}
	options.TLSConfig.Filesystem.CertFile, options.TLSConfig.Filesystem.KeyFile = certificate, key
	server, err := webhook.NewCertManagerWebhookServer(logr.Discard(), options)
	must(err)
	server.HealthzAddr = nil
	must(server.Run(ctx))
}

// Waits until somebody speaks TLS there.
func listens(address string) {
	for {
		connection, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			connection.Close()
			return
		}
		time.Sleep(look)
	}
}

// A certificate that is its own root, in files; it is given as PEM.
func certificate(directory string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "cert-manager-webhook"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	must(os.WriteFile(filepath.Join(directory, "tls.crt"), bundle, 0o600))
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	must(os.WriteFile(filepath.Join(directory, "tls.key"), private, 0o600))
	return bundle
}

// The kinds, and the webhook as cert-manager's chart registers it.
func install(ctx context.Context, kubeconfig, kinds, address string, bundle []byte) {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	must(err)
	apply(ctx, extensionsclient.NewForConfigOrDie(rest), kinds)

	fail, none, equivalent := admission.Fail, admission.SideEffectClassNone, admission.Equivalent
	hook := func(path string) admission.WebhookClientConfig {
		url := "https://" + address + path
		return admission.WebhookClientConfig{URL: &url, CABundle: bundle}
	}
	rule := func(resources string, operations ...admission.OperationType) []admission.RuleWithOperations {
		rule := admission.Rule{APIGroups: []string{"cert-manager.io"}, APIVersions: []string{"v1"}, Resources: []string{resources}}
		return []admission.RuleWithOperations{{Operations: operations, Rule: rule}}
	}
	name, versions := "webhook.cert-manager.io", []string{"v1"}
	client := kubernetes.NewForConfigOrDie(rest).AdmissionregistrationV1()
	validating := admission.ValidatingWebhookConfiguration{
		ObjectMeta: meta.ObjectMeta{Name: "cert-manager-webhook"},
		Webhooks: []admission.ValidatingWebhook{{
			Name: name, ClientConfig: hook("/validate"), Rules: rule("*/*", admission.Create, admission.Update),
			FailurePolicy: &fail, MatchPolicy: &equivalent, SideEffects: &none, AdmissionReviewVersions: versions,
		}},
	}
	_, err = client.ValidatingWebhookConfigurations().Create(ctx, &validating, meta.CreateOptions{})
	must(err)
	mutating := admission.MutatingWebhookConfiguration{
		ObjectMeta: meta.ObjectMeta{Name: "cert-manager-webhook"},
		Webhooks: []admission.MutatingWebhook{{
			Name: name, ClientConfig: hook("/mutate"), Rules: rule("certificaterequests", admission.Create),
			FailurePolicy: &fail, MatchPolicy: &equivalent, SideEffects: &none, AdmissionReviewVersions: versions,
		}},
	}
	_, err = client.MutatingWebhookConfigurations().Create(ctx, &mutating, meta.CreateOptions{})
	must(err)
}

// The CustomResourceDefinitions of a directory, until they are served.
func apply(ctx context.Context, client extensionsclient.Interface, directory string) {
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	must(err)
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(err)
		var definition extensions.CustomResourceDefinition
		must(yaml.Unmarshal(text, &definition))
		if _, err := definitions.Create(ctx, &definition, meta.CreateOptions{}); !errors.IsAlreadyExists(err) {
			must(err)
		}
		names = append(names, definition.Name)
	}
	for _, name := range names {
		for !established(ctx, client, name) {
			time.Sleep(look)
		}
	}
}

func established(ctx context.Context, client extensionsclient.Interface, name string) bool {
	definition, err := client.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, meta.GetOptions{})
	must(err)
	for _, condition := range definition.Status.Conditions {
		if condition.Type == extensions.Established && condition.Status == extensions.ConditionTrue {
			return true
		}
	}
	return false
}
