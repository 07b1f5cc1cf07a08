package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/listener/certtest"
)

// openTLS opens alice's stream.
func openTLS(t *testing.T, client *http.Client, address string) *http.Response {
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

// certificateSerial returns the serial number of the certificate that a new connection gets.
func certificateSerial(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address) //nolint:gosec // the test checks the certificate itself
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test's
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// publishTLS publishes "still there" to alice.
func publishTLS(t *testing.T, client *http.Client, address string) {
	t.Helper()
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
	if answer.StatusCode != http.StatusCreated || err != nil {
		t.Fatalf("%d %s (%v)", answer.StatusCode, text, err)
	}
}

// TestTLS serves a stream by HTTP/2 over TLS while the certificate changes, breaks and is repaired. The
// stream stays open, and new connections get the newest valid certificate.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := certtest.WriteKeyPair(t, certFile, keyFile, 1)
	log := new(logBuffer)
	srv := startImpatient(t, func(s *Config) {
		var err error
		s.Logger = slog.New(slog.NewTextHandler(log, nil))
		if s.Certificate, err = listener.LoadCertificate(certFile, keyFile, s.Logger); err != nil {
			t.Fatal(err)
		}
	})
	address := srv.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(first)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res := openTLS(t, client, address) //nolint:bodyclose // closed at the end of the test
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK {
		t.Errorf("%s %d, want HTTP/2", res.Proto, res.StatusCode)
	}
	serial := func() int64 { return certificateSerial(t, address) }
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
			serial() // the server looks at the files when a client connects
			if time.Now().After(deadline) {
				t.Fatalf("no %d lines with %q:\n%s", times, want, log.String())
			}
		}
	}
	certtest.WriteKeyPair(t, certFile, keyFile, 2)
	waitSerial(2)
	before := strings.Count(log.String(), "level=ERROR") // between the two files they do not fit together
	certtest.ReplaceFile(t, keyFile, []byte("broken"))
	waitLog("level=ERROR", before+1)
	if got := serial(); got != 2 {
		t.Errorf("with a broken key file: number %d, want the one before", got)
	}
	time.Sleep(2 * time.Second) // the server looks at the files once a second
	if serial(); strings.Count(log.String(), "level=ERROR") != before+1 {
		t.Errorf("the same mistake is logged again:\n%s", log.String())
	}
	certtest.WriteKeyPair(t, certFile, keyFile, 3)
	waitSerial(3)
	if _, _, text := request(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/metrics", nil); !strings.Contains(text, "herald_tls_not_after_timestamp_seconds 1.") {
		t.Error("no metric of the certificate's end")
	}

	// The stream lives longer than the time for requests.
	time.Sleep(testReadTimeout)
	publishTLS(t, client, address)
	event, n := make([]byte, 1<<16), 0
	for !strings.Contains(string(event[:n]), "still there") {
		more, err := res.Body.Read(event[n:])
		if n += more; err != nil {
			t.Fatalf("the stream ended: %v after %q", err, event[:n])
		}
	}

	// The server refuses plain HTTP, and does not log the failed handshake.
	conn := dial(t, address)
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") {
		t.Errorf("plain HTTP to TLS: %q, %v", answer, err)
	}
	if strings.Contains(log.String(), "handshake") {
		t.Errorf("a client without TLS filled the log:\n%s", log.String())
	}
}

// slowHello sends the first record, which is the ClientHello, as records of one byte.
type slowHello struct {
	net.Conn
	sent bool
}

// Write implements [net.Conn].
func (c *slowHello) Write(b []byte) (int, error) {
	if c.sent {
		return c.Conn.Write(b)
	}
	c.sent = true
	var pieces []byte
	for _, one := range b[5:] { // after the record's header (RFC 8446, section 5.1)
		pieces = append(pieces, b[0], b[1], b[2], 0, 1, one)
	}
	_, err := c.Conn.Write(pieces)
	return len(b), err
}

// TestOddHandshakes connects to the TLS listener with something else than a browser's handshake.
func TestOddHandshakes(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, certFile, keyFile, 1)
	srv, _ := startServerWith(t, func(cfg *Config) {
		var err error
		if cfg.Certificate, err = listener.LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	})
	for text, want := range map[string]string{
		"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n": "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
		http2.ClientPreface:        "",
		"SSH-2.0-client\r\n":       "",
		"\x16\x03\x01\xff\xff\x01": "", // a record above the limit
	} {
		conn := dial(t, srv.Addr().String())
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(conn) // a reset is an end as well
		if strings.HasPrefix(string(got), "\x15\x03") {
			got = nil // an alert
		}
		if string(got) != want {
			t.Errorf("%.20q: %q, want %q", text, got, want)
		}
	}
	for protocol, want := range map[string]string{"spdy/3": "no application protocol", "http/1.1": ""} {
		conn := tls.Client(&slowHello{Conn: dial(t, srv.Addr().String())}, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // not what the test is about
		err := conn.HandshakeContext(t.Context())
		if want == "" {
			if err != nil {
				t.Errorf("a ClientHello in records of one byte: %v", err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", protocol, err, want)
		}
	}
}
