package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// newCertificate returns a certificate for 127.0.0.1 that signs itself, and a pool with it.
func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestListenerThatWantsACertificateNamesTheFlag connects without a certificate, and with one that the listener does not
// know, to a listener that wants a certificate. With TLS 1.3, the listener says so after the handshake.
func TestListenerThatWantsACertificateNamesTheFlag(t *testing.T) {
	server, pool := newCertificate(t)
	other, _ := newCertificate(t)
	for name, test := range map[string]struct {
		version      uint16
		certificates []tls.Certificate
		want         []string
	}{
		"none, TLS 1.3":    {tls.VersionTLS13, nil, []string{"certificate required", "wants a client's certificate: add --kafka-cert-file"}},
		"none, TLS 1.2":    {tls.VersionTLS12, nil, []string{"handshake failure", "may want a client's certificate: see --kafka-cert-file"}},
		"unknown, TLS 1.3": {tls.VersionTLS13, []tls.Certificate{other}, []string{"unknown certificate authority", "refuses the certificate of --kafka-cert-file"}},
		"unknown, TLS 1.2": {tls.VersionTLS12, []tls.Certificate{other}, []string{"unknown certificate authority", "refuses the certificate of --kafka-cert-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			wanted := &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: test.version}
			address := listenWith(t, func(c net.Conn) { _ = tls.Server(c, wanted).HandshakeContext(t.Context()) })
			ours := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			if test.certificates != nil { // is sent even if the listener does not know its authority, as the flag's certificate is
				ours.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &test.certificates[0], nil }
			}
			c := NewCluster([]string{address}, ours, nil, time.Minute)
			defer c.Close()
			err := c.CheckVersions(t.Context())
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
		})
	}
}
