package remote

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestClient wants no redirect to be followed, headers of a bounded length, and the authorities that are given.
func TestClient(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/target", http.StatusFound)
		case "/headers":
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
		case "/body":
			_, _ = w.Write(make([]byte, 100))
		}
	}))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	client := NewClient(nil, 30*time.Second)
	defer client.CloseIdleConnections()
	get := func(url string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.Do(r)
	}
	answer, err := get(plain.URL + "/redirect")
	if err != nil || answer.StatusCode != http.StatusFound || !strings.Contains(ExplainStatus(answer).Error(), "/target") {
		t.Errorf("a redirect: %v, %v", answer, err)
	}
	_ = answer.Body.Close()
	if answer, err := get(plain.URL + "/headers"); err == nil {
		_ = answer.Body.Close()
		t.Error("headers of any length are read")
	}
	answer, err = get(plain.URL + "/body")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := ReadBody(answer, 10); len(text) != 11 || err != nil {
		t.Errorf("%d bytes of a body, %v, want one more than the limit", len(text), err)
	}
	_ = answer.Body.Close()
	if answer, err := get(secure.URL); err == nil || strings.Contains(Explain(err).Error(), secure.URL) {
		if err == nil {
			_ = answer.Body.Close()
		}
		t.Errorf("an unknown authority: %v", err)
	}
}
