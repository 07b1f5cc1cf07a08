package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herald/cmd/herald/listener/certtest"
	"herald/cmd/herald/tail"
)

// TestTailWithoutUser opens a stream without a user at a server with --insecure-no-auth, which takes
// the user from the query. The error must name the missing flag.
func TestTailWithoutUser(t *testing.T) {
	srv, _ := startServer(t, devRoutes)
	err := tail.Run(t.Context(), tail.Config{
		Client: http.DefaultClient, URL: "http://" + srv.Addr().String() + "/events",
		Token: func() (string, error) { return "", nil }, IdleTimeout: 10 * time.Second, Out: io.Discard, Notes: io.Discard,
	})
	if err == nil || !strings.Contains(err.Error(), "add --user NAME") {
		t.Errorf("%v, want the missing flag", err)
	}
}

// TestTailAtTheWrongPlace asks for a stream at a path that does not exist, and for a user at a server that takes the
// user from the token. The error says what exists, and which flag to give.
func TestTailAtTheWrongPlace(t *testing.T) {
	for name, test := range map[string]struct {
		status              int
		path, message, want string
	}{
		"path":       {http.StatusNotFound, "/event", "there is nothing at this path, did you mean GET /events?", "did you mean GET /events?\n"},
		"user":       {http.StatusBadRequest, "/events?user=alice", "the query parameter user has no effect: the token says who the user is", "give --token-file instead of --user\n"},
		"not Herald": {http.StatusNotFound, "/", "no", "no: is the path of --url right?\n"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			fmt.Fprintf(w, `{"error":{"message":%q}}`, test.message)
		}))
		code, stderr := start(t, "tail", "--url="+server.URL+test.path)
		server.Close()
		if code != exitFailed || !strings.HasSuffix(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %q at its end", name, code, stderr, test.want)
		}
	}
}

// TestTailOverASocket asks for a stream under a base path at a Unix socket, and at paths that are no sockets: the command
// ends at once.
func TestTailOverASocket(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // the path of a socket must be short
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", "s")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.URL.Path, http.StatusForbidden)
	}))
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for url, test := range map[string]struct {
		code int
		want string
	}{
		"unix:s":          {exitFailed, "403 Forbidden: /events\n"},
		"unix:s:/herald/": {exitFailed, "403 Forbidden: /herald/events\n"},
		"unix:s:/a/b":     {exitFailed, "403 Forbidden: /a/b\n"},
		"unix:no":         {exitFailed, "there is no socket no: is the path right, and does the server run?\n"},
		"unix:s/herald/":  {exitUsage, "s/herald/ is not a socket; a base path follows a colon, as in unix:/run/herald/herald.sock:/herald/\n"},
		"unix:file":       {exitUsage, "file is not a socket; a base path follows a colon, as in unix:/run/herald/herald.sock:/herald/\n"},
	} {
		if code, stderr := start(t, "tail", "--url="+url); code != test.code || !strings.HasSuffix(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q at its end", url, code, stderr, test.code, test.want)
		}
	}
}

// TestTailSendsItsFlags expects the flags --since, --types and --user in the request.
func TestTailSendsItsFlags(t *testing.T) {
	srv, _ := startServer(t, devRoutes)
	url := "http://" + srv.Addr().String()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"since": {[]string{"--since=yesterday"}, `since: "yesterday": want now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m`},
		"types": {[]string{"--types=news,gap"}, `types: "gap" cannot be the type of an event`},
	} {
		code, stderr := start(t, with([]string{"tail", "--url=" + url, "--user=alice"}, test.args...)...)
		if code != exitFailed || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %q", name, code, stderr, test.want)
		}
	}
	got, err := (&tailCommand{URL: url, User: "alice", Since: "90m", Types: []string{"news", "message"}}).streamURL()
	if want := url + "/events?since=90m&types=news%2Cmessage&user=alice"; got != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// TestTailCertificates expects that tail ends at once and says what to do if it does not accept the
// server's certificate or if only one side speaks TLS.
func TestTailCertificates(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	plain := httptest.NewServer(answer)
	defer plain.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old := certtest.SelfSigned(t, key, 1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	expired := httptest.NewUnstartedServer(answer)
	expired.Config.ErrorLog = server.Config.ErrorLog
	expired.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{old.Raw}, PrivateKey: key}}}
	expired.StartTLS()
	defer expired.Close()
	dir := t.TempDir()
	file := func(name string, cert *x509.Certificate) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return "--ca-file=" + path
	}
	ca, oldCA := file("ca.pem", server.Certificate()), file("old.pem", old)
	named := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown authority": {[]string{"--url=" + server.URL}, exitFailed, "signed by unknown authority: name the authority that signed the certificate with --ca-file FILE (PEM)"},
		"authority given":   {[]string{"--url=" + server.URL, ca}, exitFailed, "403 Forbidden"},
		"another name":      {[]string{"--url=" + named, ca}, exitFailed, "write a name that the certificate has in --url"},
		"expired":           {[]string{"--url=" + expired.URL, oldCA}, exitFailed, "the server needs a new certificate, or this machine's clock is wrong"},
		"http to TLS":       {[]string{"--url=http" + strings.TrimPrefix(server.URL, "https")}, exitFailed, "400 Bad Request: Client sent an HTTP request to an HTTPS server.: write https:// in --url"},
		"TLS to http":       {[]string{"--url=https" + strings.TrimPrefix(plain.URL, "http")}, exitFailed, "write http:// in --url"},
		"no file":           {[]string{"--url=" + server.URL, ca + "x"}, exitUsage, "--ca-file: open "},
		"file without use":  {[]string{"--url=" + plain.URL, ca}, exitUsage, "--ca-file has no effect"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := start(t, with([]string{"tail"}, test.args...)...)
			if code != test.code || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, %q, want %d and one line with %q", code, stderr, test.code, test.want)
			}
		})
	}
}
