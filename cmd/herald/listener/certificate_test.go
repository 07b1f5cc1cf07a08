package listener

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herald/cmd/herald/listener/certtest"
)

// TestFailedCertificateIsTriedAgain repairs a key without a change of the file's size, time and inode,
// as when an unreadable file becomes readable.
func TestFailedCertificateIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, certFile, keyFile, 1)
	var log strings.Builder
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	write := func(text []byte) { // into the existing file
		t.Helper()
		if err := errors.Join(os.WriteFile(keyFile, text, 0o600), os.Chtimes(keyFile, at, at)); err != nil { //nolint:gosec // the test's own file
			t.Fatal(err)
		}
	}
	serial := func() int64 { // of the certificate that a connection gets after a while
		c.mu.Lock()
		c.lookedAt = time.Time{}
		c.mu.Unlock()
		return c.current().Leaf.SerialNumber.Int64()
	}
	certtest.WriteKeyPair(t, certFile, keyFile, 2)
	key, err := os.ReadFile(keyFile) //nolint:gosec // the test wrote the file
	if err != nil {
		t.Fatal(err)
	}
	write([]byte(strings.Repeat("x", len(key))))
	for range 3 {
		if got := serial(); got != 1 {
			t.Fatalf("with a key that cannot be read: number %d, want 1", got)
		}
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
		t.Errorf("%d errors, want one:\n%s", got, log.String())
	}
	write(key)
	if got := serial(); got != 2 || serial() != 2 || strings.Count(log.String(), "certificate reloaded") != 1 {
		t.Errorf("number %d, want 2, and one line of it:\n%s", got, log.String())
	}
}

// TestOldTLSIsRefused wants TLS 1.2 and later accepted, and TLS 1.1 refused.
func TestOldTLSIsRefused(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, certFile, keyFile, 1)
	certificate, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", certificate.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // a test's
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).HandshakeContext(t.Context())
			_ = conn.Close()
		}
	}()
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version} //nolint:gosec // the test is that it is refused
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", listener.Addr().String())
		if want != (err == nil) {
			t.Errorf("%s: %v, want it taken: %v", tls.VersionName(version), err, want)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}
