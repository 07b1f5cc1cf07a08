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
		{http.MethodPost, "/users/a%2Fb/notifications", "x", http.StatusForbidden},        // can have no stream
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
			front := newFrontDoor(j, nil, &origins{protection: http.NewCrossOriginProtection()}, nil, slog.New(slog.NewTextHandler(&log, nil)), newRefusals())
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

// TestTokensAreRefusedWithAReason wants the reason in the body and in the challenge (RFC 6750, section 3).
func TestTokensAreRefusedWithAReason(t *testing.T) {
	s := startSecured(t, nil)
	mayRead := s.token(t, auth.Identity{User: "alice"})
	old, err := s.signer.Sign(auth.Identity{User: "alice", Expires: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, method, path string
		header             http.Header
		status             int
		code, reason       string
		challenge          string // its beginning
	}{
		{"no token", http.MethodGet, "/events", nil, 401, "invalid-token", "no-token", `Bearer realm="herald"`},
		{"another scheme", http.MethodGet, "/events", headers("Authorization", "Basic YTpi"), 401, "invalid-token", "no-token", `Bearer realm="herald"`},
		{"malformed", http.MethodGet, "/events", bearer("x"), 401, "invalid-token", "malformed", `Bearer error="invalid_token", error_description="the token is not a signed JWT`},
		{"expired", http.MethodPost, "/broadcast", bearer(old), 401, "invalid-token", "expired", `Bearer error="invalid_token", error_description="the token has expired`},
		{"expired", http.MethodPost, "/session", bearer(old), 401, "invalid-token", "expired", `Bearer error="invalid_token", error_description="the token has expired`},
		{"too long", http.MethodGet, "/events", bearer(strings.Repeat("a", 16385)), 401, "invalid-token", "too-long", `Bearer error="invalid_token", error_description="the token is longer than 16384 bytes`},
		{"two tokens", http.MethodGet, "/events", headers("Authorization", "Bearer "+mayRead, "Cookie", "__Host-herald=other"), 400, "conflicting-tokens", "", `Bearer error="invalid_request"`},
		{"no right", http.MethodPost, "/broadcast", bearer(mayRead), 403, "may-not-publish", "", `Bearer error="insufficient_scope", error_description="the token does not allow publishing`},
	} {
		status, header, body := request(t, test.method, s.url+test.path, test.header)
		var answer map[string]errorBody
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != test.status || answer["error"].Code != test.code || answer["error"].Reason != test.reason {
			t.Errorf("%s: %d %s, want %d, %s and %s (%v)", test.name, status, body, test.status, test.code, test.reason, err)
		}
		if got := header.Get("WWW-Authenticate"); !strings.HasPrefix(got, test.challenge) {
			t.Errorf("%s: challenge %s, want %s", test.name, got, test.challenge)
		}
	}
}

// TestMessagesNameCharacters asks for streams of users whose names cannot be part of a topic's name. The message
// names the first character that cannot, and escapes it if nobody would see it.
func TestMessagesNameCharacters(t *testing.T) {
	srv := startServer(t)
	for user, want := range map[string]string{
		"%E6%97%A5%E6%9C%AC": "character '日' cannot be in a topic name",
		"Zo%C3%AB":           "character 'ë' cannot be in a topic name",
		"a%20b":              "character ' ' cannot be in a topic name",
		"a%E2%80%8Bb":        `character '\\u200b' cannot be in a topic name`, // escaped once more by JSON
		"a%C2%A0b":           `character '\\u00a0' cannot be in a topic name`,
		"a%E2%80%AEb":        `character '\\u202e' cannot be in a topic name`,
		"a%40b":              "user cannot have a topic by the route notifications.{user}: character '@'",
		"a%FF":               "the name is not valid UTF-8",
	} {
		if _, body := call(t, http.MethodGet, "http://"+srv.Addr().String()+"/events?user="+user, ""); !strings.Contains(body, want) {
			t.Errorf("%s: %s, want %q", user, body, want)
		}
	}
}

// TestProtocolListsEveryReason compares the reasons in auth/refusal.go with the table of stream/PROTOCOL.md.
func TestProtocolListsEveryReason(t *testing.T) {
	protocol, err := os.ReadFile("../../../stream/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../../auth/refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\trefused\w+ += Refusal\{"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	reasons := []string{auth.ReasonNoToken}
	for _, match := range found {
		reasons = append(reasons, match[1])
	}
	_, table, _ := strings.Cut(string(protocol), "| `reason` | the token |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, reason := range reasons {
		if !strings.Contains(table, "\n| `"+reason+"` | ") {
			t.Errorf("stream/PROTOCOL.md lacks the reason %s", reason)
		}
	}
	if rows := strings.Count(table, "\n| `"); rows != len(reasons) || rows < 12 {
		t.Errorf("stream/PROTOCOL.md has %d reasons, want the %d of auth", rows, len(reasons))
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
