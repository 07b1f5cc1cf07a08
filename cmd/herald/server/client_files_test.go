package server

import (
	"io"
	"net/http"
	"slices"
	"testing"

	"herald/stream/client"
)

// TestClientFiles loads the module's files as pages of several origins do, without signing in.
func TestClientFiles(t *testing.T) {
	const listed = "https://app.example"
	s := startSecured(t, func(cfg *Config) { cfg.AllowOrigin = []string{listed} })
	for _, path := range clientPaths {
		content, err := client.Scripts.ReadFile(path[1:])
		if err != nil {
			t.Fatal(err)
		}
		for origin, allowed := range map[string]string{"": "*", "https://foreign.example": "*", listed: listed} {
			h := headers("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "script")
			if origin != "" {
				h.Set("Origin", origin)
			}
			status, header, body := wholeFile(t, s.url+path, h)
			if status != http.StatusOK || body != string(content) {
				t.Errorf("GET %s from %q: %d with %d bytes, want 200 with the file", path, origin, status, len(body))
			}
			for name, want := range map[string]string{
				"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
				"Access-Control-Allow-Origin": allowed,
			} {
				if got := header.Values(name); !slices.Equal(got, []string{want}) {
					t.Errorf("GET %s from %q: %s %q, want %q", path, origin, name, got, want)
				}
			}
			h.Set("If-None-Match", header.Get("Etag"))
			if status, again, _ := request(t, http.MethodGet, s.url+path, h); status != http.StatusNotModified || again.Get("Access-Control-Allow-Origin") != allowed {
				t.Errorf("GET %s from %q with its ETag: %d %v, want 304", path, origin, status, again)
			}
			h.Del("If-None-Match")
			if status, _, body := request(t, http.MethodHead, s.url+path, h); status != http.StatusOK || body != "" {
				t.Errorf("HEAD %s from %q: %d %q, want 200 without a body", path, origin, status, body)
			}
		}
	}
}

// wholeFile returns the answer to a GET with its whole body.
func wholeFile(t *testing.T, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}
