package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tailOf follows the server until done ends or the server refuses.
func tailOf(ctx context.Context, url string) (out, notes string, err error) {
	var o, n bytes.Buffer
	tl := &tailer{
		client: http.DefaultClient, url: url, token: func() (string, error) { return "", nil }, idle: 10 * time.Second,
		out: &eventPrinter{w: &o, now: func() time.Time { return time.Unix(0, 0).UTC() }}, notes: &n, retry: minRetry,
	}
	err = tl.run(ctx)
	return o.String(), n.String(), err
}

// TestTailResumes cuts the stream in the middle of an event and wants that event once, asked for
// by the id of the last whole one.
func TestTailResumes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch len(asked) {
		case 1:
			fmt.Fprint(w, "retry: 100\n\nid: 1\ndata: one\n\nid: 2\ndata: tw")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case 2:
			fmt.Fprint(w, "id: 2\ndata: two\n\n")
		default:
			cancel()
		}
	}))
	defer server.Close()
	out, notes, err := tailOf(ctx, server.URL)
	if err != nil {
		t.Fatalf("%v\n%s", err, notes)
	}
	want := "00:00:00.000 message 1 one\n00:00:00.000 message 2 two\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"", "1", "2"}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestTailStopsAtRefusals(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"message":"because"}}`)
		}))
		_, _, err := tailOf(t.Context(), server.URL)
		server.Close()
		if err == nil || !strings.Contains(err.Error(), "because") || asked != 1 {
			t.Errorf("%d: %v after %d requests, want the server's reason after one", status, err, asked)
		}
	}
}

// TestTailWithoutUser has a server that believes whoever a stream is for, and is told nobody.
func TestTailWithoutUser(t *testing.T) {
	srv := startServer(t)
	_, _, err := tailOf(t.Context(), "http://"+srv.publicListener.Addr().String()+"/events")
	if err == nil || !strings.Contains(err.Error(), "add --user NAME") {
		t.Errorf("%v, want the flag that is missing", err)
	}
}

// TestTailAsks wants the flags in the request.
func TestTailAsks(t *testing.T) {
	srv := startServer(t)
	url := "http://" + srv.publicListener.Addr().String()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"since": {[]string{"--since=yesterday"}, "since: want now, earliest, delivered, a time like 2026-01-31T08:00:00Z or an age like 90m"},
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

// TestTailCertificates wants an end at once, and what to do, where a certificate is not taken or only
// one side speaks TLS.
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
	old := selfSigned(t, key, 1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
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
		"unknown authority": {[]string{"--url=" + server.URL}, exitFailed, "signed by unknown authority: name the authority that signed the certificate by --ca-file FILE (PEM)"},
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
