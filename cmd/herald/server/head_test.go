package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/auth"
)

// TestHeadIsAsGet sends HEAD and GET to everything that can be read, with and without a reason for a refusal, over both
// versions of HTTP. The answers have the same status and headers, and HEAD opens no stream. All answers of /events keep
// caches and compressing proxies away.
func TestHeadIsAsGet(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.AllowOrigin, cfg.Demo = []string{"https://app.example"}, true })
	alice := bearer(s.token(t, auth.Identity{User: "alice"}))
	page := alice.Clone()
	page.Set("Origin", "https://app.example")
	program := alice.Clone()
	program.Set("Accept", "application/json")
	foreign := headers("Cookie", "__Host-herald="+s.token(t, auth.Identity{User: "alice"}), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	admin := "http://" + s.AdminAddr().String()
	tests := []struct {
		url    string
		header http.Header
		status int
	}{
		{s.url + "/events", alice, 200},
		{s.url + "/events?since=earliest&types=a", alice, 200},
		{s.url + "/events", page, 200},
		{s.url + "/events?wait=0", alice, 200},
		{s.url + "/events?wait=0", program, 200},
		{s.url + "/events", nil, 401},
		{s.url + "/events", bearer("x"), 401},
		{s.url + "/events", foreign, 403},
		{s.url + "/events?sinse=earliest", alice, 400},
		{s.url + "/events?since=tomorrow", alice, 400},
		{s.url + "/session", alice, 200},
		{s.url + "/session", nil, 204},
		{s.url + "/session?a=b", nil, 400},
		{s.url + "/", nil, 200},
		{s.url + "/demo/app.js", nil, 200},
		{s.url + "/demo/condition", nil, 200},
		{s.url + "/herald.js", page, 200},
		{s.url + "/broadcast", nil, 405},
		{s.url + "/nothing", nil, 404},
		{admin + "/livez", nil, 200},
		{admin + "/readyz", nil, 200},
		{admin + "/metrics", nil, 200},
		{admin + "/nothing", nil, 404},
	}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(version == "HTTP/1.1")
		protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
		client := &http.Transport{Protocols: protocols, DisableCompression: true}
		t.Cleanup(client.CloseIdleConnections)
		for _, test := range tests {
			if version == "HTTP/2.0" && strings.HasPrefix(test.url, admin) {
				continue // the admin listener has HTTP/1.1 only
			}
			want := headOf(t, client, http.MethodGet, test.url, test.header)
			before := openedStreams(t, s)
			got := headOf(t, client, http.MethodHead, test.url, test.header)
			if want.status != test.status || got.status != test.status || got.proto != version {
				t.Errorf("%s %s: GET %d, HEAD %d, want %d", got.proto, test.url, want.status, got.status, test.status)
			}
			if diff := cmp.Diff(want.header, got.header, cmpopts.IgnoreMapEntries(func(name string, _ []string) bool {
				return slices.Contains([]string{"Date", "Content-Length", "Connection"}, name)
			})); diff != "" {
				t.Errorf("%s %s: headers (-GET +HEAD):\n%s", got.proto, test.url, diff)
			}
			if opened := openedStreams(t, s); opened != before {
				t.Errorf("%s HEAD %s opened %v streams", got.proto, test.url, opened-before)
			}
			if strings.Contains(test.url, "/events") && got.header.Get("Cache-Control") != "no-store, no-transform" {
				t.Errorf("%s HEAD %s: Cache-Control %q", got.proto, test.url, got.header.Get("Cache-Control"))
			}
			if kind := got.header.Get("Content-Type"); test.status == 200 && strings.Contains(test.url, "/events") && test.header.Get("Accept") == "" && kind != "text/event-stream; charset=utf-8" {
				t.Errorf("%s HEAD %s: Content-Type %q", got.proto, test.url, kind)
			}
		}
	}
}

// openedStreams returns how many streams the server has opened.
func openedStreams(t *testing.T, s *secured) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	opened := 0.0
	for _, family := range families {
		if family.GetName() == "herald_streams_opened_total" {
			for _, m := range family.GetMetric() {
				opened += m.GetCounter().GetValue()
			}
		}
	}
	return opened
}

// head is an answer without its body.
type head struct {
	proto  string
	status int
	header http.Header
}

// headOf sends a request and returns the head of the answer.
func headOf(t *testing.T, client http.RoundTripper, method, url string, header http.Header) head {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header.Clone()
	}
	res, err := client.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	_ = res.Body.Close()
	return head{res.Proto, res.StatusCode, res.Header}
}
