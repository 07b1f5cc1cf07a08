package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"herald/auth"
	"herald/stream"
)

// TestDebugStreams lists streams and ends them, as an operator does, and refuses wrong requests.
func TestDebugStreams(t *testing.T) {
	s := startSecured(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := openEvents(ctx, t, s.url+"/events", bearer(s.token(t, auth.Identity{User: "alice"})))
	if _, err := events.Next(); err != nil {
		t.Fatal(err)
	}
	path := "http://" + s.AdminAddr().String() + streamsPath
	list := func(query string) (listing stream.Listing, text string) {
		t.Helper()
		status, header, text := request(t, http.MethodGet, path+query, nil)
		if err := json.Unmarshal([]byte(text), &listing); err != nil || status != 200 || header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %d %v %s", query, status, header, text)
		}
		return listing, text
	}
	got, text := list("?user=alice&state=live&address=127.0.0.1&limit=0")
	if got.Streams != 1 || len(got.Listed) != 1 || got.Listed[0].User != "alice" || strings.Contains(text, "eyJ") {
		t.Errorf("%s, want the stream of alice without her token", text)
	}
	for query, want := range map[string]string{
		"?usr=alice":                 `unknown query parameter "usr", did you mean "user"?`,
		"?user=":                     "the query parameter user is empty",
		"?state=dead":                `the query parameter state is "dead": want one of ["live" "catching-up" "waiting-for-kafka" "slow"]`,
		"?limit=-1":                  `the query parameter limit is "-1": want the most streams to list`,
		"?id=x":                      `the query parameter id is "x": want the id of a stream`,
		"?address=here":              `the query parameter address is "here": want an address or a network`,
		"DELETE ":                    "give either user or id",
		"DELETE ?user=alice&id=1":    "give either user or id",
		"DELETE ?state=slow":         `unknown query parameter "state": this route takes user, id`,
		"DELETE ?user=alice&address": `unknown query parameter "address"`,
	} {
		method, rest := http.MethodGet, query
		if after, ok := strings.CutPrefix(query, "DELETE "); ok {
			method, rest = http.MethodDelete, after
		}
		if status, _, text := request(t, method, path+rest, nil); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want 400 and %q", query, status, text, want)
		}
	}
	for name, want := range map[string]string{"?user=bob": `{"ended":0}`, "?user=alice": `{"ended":1}`} {
		if status, _, text := request(t, http.MethodDelete, path+name, nil); status != 200 || strings.TrimSpace(text) != want {
			t.Errorf("DELETE %s: %d %s, want %s", name, status, text, want)
		}
	}
	for e, err := events.Next(); e.Type != "end"; e, err = events.Next() {
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, "open streams", 0, func() int { got, _ := list(""); return got.Streams })
	for _, want := range []string{
		`msg="stream opened" id=`, ` user=alice address=127.0.0.1 protocol=HTTP/1.1 kind=stream start=now`,
		`msg="streams ended by an operator" user=alice id=0 streams=1`, `kind=stream reason=reconnect seconds=`, ` events=0 bytes=`,
	} {
		await(t, "the log has "+want, true, func() bool { return strings.Contains(s.log.String(), want) })
	}
}

// TestPagesEndNoStreams sends what a browser sends for a page: a preflight, which gets no permission, and requests of
// a page whose name leads to a listener that is not on loopback, which need no preflight.
func TestPagesEndNoStreams(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) { cfg.AdminListen = "0.0.0.0:0" })
	for name, test := range map[string]struct {
		method string
		header http.Header
		status int
	}{
		"a preflight":        {http.MethodOptions, headers("Origin", "https://evil.example", "Access-Control-Request-Method", "DELETE"), 405},
		"a page":             {http.MethodDelete, headers("Origin", "https://evil.example"), 403},
		"a sandboxed page":   {http.MethodDelete, headers("Origin", "null"), 403},
		"a rebound name":     {http.MethodDelete, headers("Origin", "http://rebind.example", "Sec-Fetch-Site", "same-origin"), 403},
		"without an origin":  {http.MethodDelete, headers("Sec-Fetch-Site", "none"), 403},
		"a form":             {http.MethodPost, headers("Origin", "https://evil.example"), 405},
		"herald streams":     {http.MethodDelete, nil, 200},
		"another method":     {http.MethodPut, nil, 405},
		"the head of a list": {http.MethodHead, nil, 200},
	} {
		r := httptest.NewRequestWithContext(t.Context(), test.method, "http://rebind.example"+streamsPath+"?user=alice", nil)
		r.Header = test.header
		if r.Header == nil {
			r.Header = http.Header{}
		}
		w := httptest.NewRecorder()
		srv.admin.Handler.ServeHTTP(w, r)
		if w.Code != test.status || len(w.Header().Values("Access-Control-Allow-Origin")) > 0 || len(w.Header().Values("Access-Control-Allow-Methods")) > 0 {
			t.Errorf("%s: %d %v, want %d and no permission for pages", name, w.Code, w.Header(), test.status)
		}
	}
}
