package listener

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"herald/cmd/herald/listener/certtest"
)

// tlsConfig returns the configuration of a server with a certificate of its own.
func tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, certFile, keyFile, 1)
	certificate, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Config()
}

// dialTLS connects and makes the client's part of the handshake.
func dialTLS(t *testing.T, address, protocol string) *tls.Conn {
	t.Helper()
	conn := tls.Client(dial(t, address), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // not what the test is about
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestHandshakesAreMadeElsewhere accepts a client that sends nothing and then a client that wants a handshake. The
// handshake is made although nobody asks for it, and the silent client delays nobody.
func TestHandshakesAreMadeElsewhere(t *testing.T) {
	plain, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := TLS(plain, tlsConfig(t))
	defer l.Close() //nolint:errcheck // the test is over
	dial(t, l.Addr().String())
	shaken := make(chan *tls.Conn, 1)
	go func() { shaken <- dialTLS(t, l.Addr().String(), "h2") }()
	var silent, second net.Conn
	for _, conn := range []*net.Conn{&silent, &second} {
		if *conn, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer (*conn).Close() //nolint:errcheck // the test is over
	}
	client := <-shaken
	defer client.Close() //nolint:errcheck // the test is over
	secure := second.(*tls.Conn)
	if err := secure.HandshakeContext(t.Context()); err != nil || secure.ConnectionState().NegotiatedProtocol != "h2" {
		t.Errorf("%v and the protocol %q, want h2", err, secure.ConnectionState().NegotiatedProtocol)
	}
	if _, ok := innermost(secure).(*net.TCPConn); !ok {
		t.Errorf("the innermost connection is a %T", innermost(secure))
	}
	// A deadline that is set after Accept, as net/http does, ends the other handshake.
	if err := silent.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := silent.(*tls.Conn).HandshakeContext(t.Context()); err == nil {
		t.Error("the handshake of a silent client has succeeded")
	}
}

// TestRoomByUnfinishedHandshake fills the server with a connection whose handshake does not begin. The next client
// must get its place.
func TestRoomByUnfinishedHandshake(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		plain, err := Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		limited := Limit(plain, 1, func() {})
		s := &http.Server{
			TLSConfig: tlsConfig(t), ConnState: limited.ConnState, ReadHeaderTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
			Handler:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(TLS(limited, s.TLSConfig)) }()
		silent := dial(t, limited.Addr().String())
		await(t, "connections", 1, limited.Open)
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)} //nolint:gosec // not what the test is about
		transport.Protocols.SetHTTP1(protocol == "http/1.1")
		transport.Protocols.SetHTTP2(protocol == "h2")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+limited.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := (&http.Client{Transport: transport}).Do(req); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %v", protocol, err)
		} else {
			_ = res.Body.Close()
		}
		if _, err := io.Copy(io.Discard, silent); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the silent connection is still open", protocol)
		}
		transport.CloseIdleConnections()
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}
