package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tlsFlags say how the public listener is secured.
type tlsFlags struct {
	TLSCertFile string `name:"tls-cert-file" placeholder:"FILE" help:"PEM file of the public listener's certificate and those between it and its authority; read again when it changes. Default: no TLS." group:"Listeners"`
	TLSKeyFile  string `name:"tls-key-file" placeholder:"FILE" help:"PEM file of that certificate's key." group:"Listeners"`
}

func (t *tlsFlags) check() error {
	if (t.TLSCertFile == "") != (t.TLSKeyFile == "") {
		return errors.New("--tls-cert-file and --tls-key-file go together")
	}
	return nil
}

// certificate returns nil where no TLS is asked for. The error is a [usageError].
func (t *tlsFlags) certificate(log *slog.Logger) (*certificate, error) {
	if t.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // no TLS
	}
	c := &certificate{certFile: t.TLSCertFile, keyFile: t.TLSKeyFile, log: log}
	if err := c.load(); err != nil {
		return nil, usageError{fmt.Errorf("--tls-cert-file and --tls-key-file: %w", err)}
	}
	return c, nil
}

// authorities reads the certificates of the file that the flag names.
func authorities(flag, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // it is for the operator to name
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--%s: %s has no certificate in PEM", flag, file)
	}
	return pool, nil
}

// statPause is the time between looks at the files.
const statPause = time.Second

// certificate is the public listener's, read again when its files change. What is broken then is
// logged, and the one before goes on.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	files  [2]os.FileInfo // as they were when they were read last
	failed bool           // and whether they could not be
	looked time.Time
}

// config offers HTTP/2 and HTTP/1.1.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// current looks at the files at most once a second, when somebody connects.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < statPause {
		return c.loaded
	}
	before := c.files
	c.look()
	same := unchanged(before, c.files)
	if same && !c.failed { // what failed is tried again: that a file can be read now does not show
		return c.loaded
	}
	err := c.read()
	c.failed = err != nil
	switch {
	case err != nil && same: // was told
	case err != nil:
		c.log.Error("the new certificate cannot be used: the one before goes on", "cert_file", c.certFile, "key_file", c.keyFile, "error", err)
	default:
		c.log.Info("the certificate was read again", "cert_file", c.certFile, "not_after", c.loaded.Leaf.NotAfter)
	}
	return c.loaded
}

func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	return c.read()
}

// look notes what the files are like. c.mu is held.
func (c *certificate) look() {
	c.looked = time.Now()
	for i, name := range []string{c.certFile, c.keyFile} {
		c.files[i], _ = os.Stat(name) // nil if it is away, which is a change
	}
}

// read is called behind look: what changes meanwhile is seen by the next one. c.mu is held.
func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.loaded = &pair
	return nil
}

func unchanged(a, b [2]os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime())) {
			return false
		}
	}
	return true
}

// expiry is a metric: an alert on it comes before the one by users.
func (c *certificate) expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_tls_not_after_timestamp_seconds", Help: "Unix time at which the public listener's certificate ends.",
	}, func() float64 { return float64(c.current().Leaf.NotAfter.Unix()) })
}
