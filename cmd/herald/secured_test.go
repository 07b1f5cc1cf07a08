package main

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/twmb/franz-go/pkg/kfake"

	"herald/auth"
)

// secured is a server with authentication by a secret, its log, and who makes tokens for it.
type secured struct {
	*server
	signer *auth.Signer
	broker *kfake.Cluster
	log    *logBuffer
	url    string
}

// logBuffer is safe while the server runs.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startSecured runs a server with these flags of authentication, those of a secret among them.
// change may be nil.
func startSecured(t *testing.T, change func(*settings), args ...string) *secured {
	t.Helper()
	secret := []byte(strings.Repeat("k", 32))
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &secured{log: new(logBuffer)}
	var err error
	if s.signer, err = auth.NewSecretSigner(secret); err != nil {
		t.Fatal(err)
	}
	var flags authFlags
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(with([]string{"--jwt-secret-file=" + path}, args...)); err != nil {
		t.Fatal(err)
	}
	if err := flags.check("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.server, s.broker = startServerWith(t, func(set *settings) {
		set.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if set.access, err = flags.access("127.0.0.1:0", set.Log); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(set)
		}
	})
	s.url = "http://" + s.publicListener.Addr().String()
	return s
}

// token returns one that is good for an hour.
func (s *secured) token(t *testing.T, id auth.Identity) string {
	t.Helper()
	id.Expires = time.Now().Add(time.Hour)
	token, err := s.signer.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// request sends a request and returns the status, the header and the beginning of the body; of a
// stream that is its first event.
func request(t *testing.T, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultTransport.RoundTrip(req) // which follows no redirect and keeps no cookie
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	var body []byte
	for piece := make([]byte, 4096); ; {
		n, err := res.Body.Read(piece)
		body = append(body, piece[:n]...)
		if err != nil && err != io.EOF {
			t.Fatalf("%s %s: %v", method, url, err)
		}
		if err != nil || bytes.Contains(body, []byte("checkpoint")) {
			return res.StatusCode, res.Header, string(body)
		}
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// headers joins what is given as name, value, name, value.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}
