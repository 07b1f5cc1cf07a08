package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"herald/cmd/herald/listener"
)

// tlsFlags say how the public listener is secured.
type tlsFlags struct {
	TLSCertFile string `name:"tls-cert-file" placeholder:"FILE" help:"PEM file of the public listener's certificate and the certificates between it and its authority; read again when it changes. Default: no TLS." group:"Listeners"`
	TLSKeyFile  string `name:"tls-key-file" placeholder:"FILE" help:"PEM file of that certificate's key." group:"Listeners"`
}

func (t *tlsFlags) check() error {
	if (t.TLSCertFile == "") != (t.TLSKeyFile == "") {
		return errors.New("--tls-cert-file and --tls-key-file go together")
	}
	return nil
}

// certificate returns nil if the flags ask for no TLS. The error is a [usageError].
func (t *tlsFlags) certificate(log *slog.Logger) (*listener.Certificate, error) {
	if t.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // no TLS
	}
	c, err := listener.LoadCertificate(t.TLSCertFile, t.TLSKeyFile, log)
	if err != nil {
		return nil, usageError{fmt.Errorf("--tls-cert-file and --tls-key-file: %w", err)}
	}
	return c, nil
}

// authorities reads the certificates of authorities from the file that the flag names.
func authorities(flag, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--%s: %s has no certificate in PEM", flag, file)
	}
	return pool, nil
}
