package listener

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"herald/auth/textfile"
)

// statPause is the least time between two looks at the certificate's files.
const statPause = time.Second

// Certificate is a server's TLS certificate, which follows its files: after a change it loads them
// again, without a restart. While the new files cannot be used, it logs the error once and keeps the
// certificate that it has. Its methods may be called concurrently.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu       sync.Mutex
	loaded   *tls.Certificate
	files    [2]os.FileInfo // certificate and key as the last look found them; nil: the file was missing
	failed   bool           // the last load failed
	lookedAt time.Time
}

// LoadCertificate loads a certificate and its key from PEM files. The certificate file may have the
// certificates between it and its authority as well.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.lookLocked() // nobody else has c yet
	if err := c.loadLocked(); err != nil {
		return nil, err
	}
	return c, nil
}

// Replace makes c the certificate of other, and follow the files of other. Nobody may use other afterwards.
func (c *Certificate) Replace(other *Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile, c.loaded = other.certFile, other.keyFile, other.loaded
	c.files, c.failed, c.lookedAt = other.files, other.failed, other.lookedAt
}

// Equal reports whether both are the same certificate from the same files.
func (c *Certificate) Equal(other *Certificate) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certFile == other.certFile && c.keyFile == other.keyFile && c.loaded.Leaf.Equal(other.loaded.Leaf)
}

// Config returns a configuration for a server of HTTP/2 and HTTP/1.1, with TLS 1.2 or later.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// NotAfter returns when the certificate expires. It loads changed files first.
func (c *Certificate) NotAfter() time.Time { return c.current().Leaf.NotAfter }

// current returns the certificate for a new connection. It looks at the files at most once a second
// and loads them if they have changed.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.lookedAt) < statPause {
		return c.loaded
	}
	before := c.files
	c.lookLocked()
	same := unchanged(before, c.files)
	if same && !c.failed {
		return c.loaded
	}
	// A failed load is tried again even if the files look the same: a change of their permissions
	// does not show in size and time.
	err := c.loadLocked()
	c.failed = err != nil
	switch {
	case err != nil && same: // logged before
	case err != nil:
		c.log.Error("certificate not reloaded; the previous one stays in use", "cert_file", c.certFile, "key_file", c.keyFile, "error", err)
	default:
		c.log.Info("certificate reloaded", "cert_file", c.certFile, "not_after", c.loaded.Leaf.NotAfter)
	}
	return c.loaded
}

// lookLocked notes the state of the files.
func (c *Certificate) lookLocked() {
	c.lookedAt = time.Now()
	for i, name := range []string{c.certFile, c.keyFile} {
		c.files[i], _ = os.Stat(name) // nil if the file is missing, which counts as a change
	}
}

// loadLocked loads the files. Callers call lookLocked first: then the next look sees a change that
// comes during the load.
func (c *Certificate) loadLocked() error {
	pair, err := textfile.LoadKeyPair(c.certFile, c.keyFile)
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
