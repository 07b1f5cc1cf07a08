package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func selfSigned(t *testing.T, key *ecdsa.PrivateKey, serial int64, changes ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestTLS serves a stream by HTTP/2 over TLS while the certificate changes, breaks and is mended. The
// stream lives on, and new connections get the newest certificate that is good.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	flags := tlsFlags{TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem")}
	first := keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 1)
	log := new(logBuffer)
	srv, _ := startServerWith(t, func(s *settings) {
		var err error
		s.Log = slog.New(slog.NewTextHandler(log, nil))
		if s.Certificate, err = flags.certificate(s.Log); err != nil {
			t.Fatal(err)
		}
	})
	address := srv.publicListener.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(first)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	open := func() *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/events?user=alice", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	res := open() //nolint:bodyclose // closed at the end of the test
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK {
		t.Errorf("%s %d, want HTTP/2", res.Proto, res.StatusCode)
	}
	serial := func() int64 {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address) //nolint:gosec // the test looks at it itself
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // a test's
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	waitSerial := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); serial() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the certificate is number %d, want %d", serial(), want)
			}
		}
	}
	waitLog := func(want string, times int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); strings.Count(log.String(), want) != times; time.Sleep(50 * time.Millisecond) {
			serial() // somebody connects
			if time.Now().After(deadline) {
				t.Fatalf("no %d lines with %q:\n%s", times, want, log.String())
			}
		}
	}
	keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 2)
	waitSerial(2)
	before := strings.Count(log.String(), "level=ERROR") // between the two files they do not fit together
	replace(t, flags.TLSKeyFile, []byte("broken"))
	waitLog("level=ERROR", before+1)
	if got := serial(); got != 2 {
		t.Errorf("with a broken key file: number %d, want the one before", got)
	}
	time.Sleep(2 * statPause)
	if serial(); strings.Count(log.String(), "level=ERROR") != before+1 {
		t.Errorf("the same mistake is told again:\n%s", log.String())
	}
	keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 3)
	waitSerial(3)
	if _, _, text := request(t, http.MethodGet, "http://"+srv.adminListener.Addr().String()+"/metrics", nil); !strings.Contains(text, "herald_tls_not_after_timestamp_seconds 1.") {
		t.Error("no metric of the certificate's end")
	}

	// The stream is still the same, longer than requests have.
	time.Sleep(testReadTimeout)
	event := make([]byte, 1<<16)
	n := 0
	status, body := 0, ""
	for !strings.Contains(string(event[:n]), "still there") {
		if status == 0 {
			post, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/users/alice/notifications", strings.NewReader("still there"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(post)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if status, body = answer.StatusCode, string(text); status != http.StatusCreated || err != nil {
				t.Fatalf("%d %s (%v)", status, body, err)
			}
		}
		more, err := res.Body.Read(event[n:])
		if n += more; err != nil {
			t.Fatalf("the stream ended: %v after %q", err, event[:n])
		}
	}

	// Plain HTTP, and a handshake that breaks off, are refused and fill no log.
	conn := dial(t, address)
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") {
		t.Errorf("plain HTTP to TLS: %q, %v", answer, err)
	}
	if strings.Contains(log.String(), "handshake") {
		t.Errorf("the log has what anybody can have written:\n%s", log.String())
	}
}

// TestFailedCertificateIsTriedAgain mends a key without a change of the file's size, time and number, as
// when it becomes readable.
func TestFailedCertificateIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	flags := tlsFlags{TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem")}
	keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 1)
	log := new(logBuffer)
	c, err := flags.certificate(slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	write := func(text []byte) { // over the file that is there
		t.Helper()
		if err := errors.Join(os.WriteFile(flags.TLSKeyFile, text, 0o600), os.Chtimes(flags.TLSKeyFile, at, at)); err != nil { //nolint:gosec // the test's own file
			t.Fatal(err)
		}
	}
	serial := func() int64 { // of the certificate, as after a while
		c.mu.Lock()
		c.looked = time.Time{}
		c.mu.Unlock()
		return c.current().Leaf.SerialNumber.Int64()
	}
	keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 2)
	key, err := os.ReadFile(flags.TLSKeyFile)
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
	if got := serial(); got != 2 || serial() != 2 || strings.Count(log.String(), "read again") != 1 {
		t.Errorf("number %d, want 2, and one line of it:\n%s", got, log.String())
	}
}

// TestOldTLSIsRefused wants TLS 1.2 or later.
func TestOldTLSIsRefused(t *testing.T) {
	dir := t.TempDir()
	flags := tlsFlags{TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem")}
	keyPair(t, flags.TLSCertFile, flags.TLSKeyFile, 1)
	certificate, err := flags.certificate(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", certificate.config())
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

// keyPair writes a certificate for localhost and its key.
func keyPair(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := selfSigned(t, key, serial)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	replace(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return cert
}

// replace puts a new file in the place of the old one.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
