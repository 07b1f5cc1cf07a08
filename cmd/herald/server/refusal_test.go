package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"herald/auth"
)

// TestErrorsHaveOneShape wants JSON with a message for every error.
func TestErrorsHaveOneShape(t *testing.T) {
	srv := startServer(t)
	public := "http://" + srv.Addr().String()
	for _, test := range []struct {
		method, path string
		body         string
		status       int
	}{
		{http.MethodPost, "/users//notifications", "x", http.StatusBadRequest},            // an empty name does not mean everyone
		{http.MethodPost, "/users/a%00b/notifications", "x", http.StatusBadRequest},       // no user's name has a control character
		{http.MethodPost, "/users/a%2Fb/notifications", "x", http.StatusBadRequest},       // can have no stream
		{http.MethodPost, "/users/a%40b/notifications?type=", "x", http.StatusBadRequest}, // likewise
		{http.MethodGet, "/events", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a%00b", "", http.StatusBadRequest},
		{http.MethodGet, "/events?user=a/b", "", http.StatusForbidden}, // cannot be a part of a topic's name
		{http.MethodGet, "/nowhere", "", http.StatusNotFound},
		{http.MethodDelete, "/events", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/broadcast?type=checkpoint", "x", http.StatusBadRequest},
		{http.MethodPost, "/broadcast", strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge},
	} {
		status, body := call(t, test.method, public+test.path, test.body)
		var answer struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != test.status || answer.Error.Message == "" {
			t.Errorf("%s %s: %d %s, want %d and a message in JSON", test.method, test.path, status, body, test.status)
		}
	}
	status, header, body := send(t, http.MethodPost, public+"/broadcast", "x", http.Header{"Origin": {"http://elsewhere.example"}, "Sec-Fetch-Site": {"cross-site"}})
	if !strings.Contains(body, `"code":"foreign-origin"`) || status != http.StatusForbidden || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		t.Errorf("POST from another origin: %d %s", status, body)
	}
	// None of these requests wrote a record.
	status, body = call(t, http.MethodPost, public+"/broadcast", "first")
	var answer published
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusCreated || err != nil || answer.Offset != 0 {
		t.Errorf("POST /broadcast: %d %s, want the topic's first record (%v)", status, body, err)
	}
}

// TestRefusalsAreLogged wants a log line with the reason, at most one a second, and never the token.
func TestRefusalsAreLogged(t *testing.T) {
	keys, err := auth.Secret([]byte(strings.Repeat("s", 32)))
	if err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSecretSigner([]byte(strings.Repeat("s", 32)))
	if err != nil {
		t.Fatal(err)
	}
	old, err := signer.Sign(auth.Identity{User: "alice", IssuedAt: time.Unix(0, 0), Expires: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	for token, want := range map[string]string{
		"":               "no token",
		"nonsense":       "invalid token",
		old:              "token expired",
		old[:len(old)-9]: "signature",
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			front := newFrontDoor(j, nil, nil, slog.New(slog.NewTextHandler(&log, nil)))
			refuse := func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				w := httptest.NewRecorder()
				if _, err := front.identify(e.NewContext(r, w)); err == nil || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%v, %v: want a challenge", err, w.Header())
				}
			}
			for range 100 {
				refuse()
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || !strings.Contains(got, "level=INFO") || token != "" && strings.Contains(got, token) {
				t.Errorf("100 times %q logs %q, want one line with %q", token, got, want)
			}
			time.Sleep(time.Second)
			refuse()
			if got := strings.Count(log.String(), "\n"); got != 2 {
				t.Errorf("%d lines after another second, want 2", got)
			}
		})
	}
}

// TestRefusedUserIsLogged asks for the stream of a user whose name cannot be part of a topic's name. The log has
// the refusal, with the client's address that a trusted proxy names.
func TestRefusedUserIsLogged(t *testing.T) {
	log := new(logBuffer)
	srv, _ := startServerWith(t, func(s *Config) {
		s.Logger, s.TrustedProxies = slog.New(slog.NewTextHandler(log, nil)), []string{"127.0.0.0/8"}
	})
	url := "http://" + srv.Addr().String() + "/events?user=a/b"
	if status, _, body := send(t, http.MethodGet, url, "", http.Header{"X-Forwarded-For": {"192.0.2.7"}}); status != http.StatusForbidden {
		t.Errorf("%d %s, want 403", status, body)
	}
	if text := log.String(); !strings.Contains(text, "request refused") || !strings.Contains(text, "remote=192.0.2.7") {
		t.Errorf("the log lacks the refusal:\n%s", text)
	}
}

// TestProtocolListsEveryCode compares the codes in refusal.go with the table of stream/PROTOCOL.md.
func TestProtocolListsEveryCode(t *testing.T) {
	protocol, err := os.ReadFile("../../../stream/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?m)^\tcode\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(codes) < 19 {
		t.Errorf("%d codes in the source, want 19 or more", len(codes))
	}
	for _, code := range codes {
		if !strings.Contains(string(protocol), "| `"+code[1]+"` | ") {
			t.Errorf("stream/PROTOCOL.md lacks the code %s", code[1])
		}
	}
}
