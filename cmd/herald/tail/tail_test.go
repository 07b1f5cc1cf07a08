package tail

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tailOf follows the stream at url until ctx ends or the server refuses it for good.
func tailOf(ctx context.Context, url string) (out, notes string, err error) {
	var o, n bytes.Buffer
	tl := newTailer(Config{
		Client: http.DefaultClient, URL: url, Token: func() (string, error) { return "", nil }, IdleTimeout: 10 * time.Second,
		Out: &o, Notes: &n,
	})
	tl.retry, tl.out.now = minRetry, func() time.Time { return time.Unix(0, 0).UTC() }
	err = tl.run(ctx)
	return o.String(), n.String(), err
}

// TestTailResumes cuts the stream in the middle of an event. The client must resume from the id of the
// last complete event and print the interrupted event once.
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

// TestTailShowsWhyATokenIsRefused wants the server's sentence. The advice to give a token follows only if there is
// none, or if the server is not Herald.
func TestTailShowsWhyATokenIsRefused(t *testing.T) {
	const advice = ": give a valid token with --token-file or HERALD_TOKEN"
	for body, want := range map[string]string{
		`{"error":{"reason":"expired","message":"the token has expired"}}`: "the server says 401 Unauthorized: the token has expired",
		`{"error":{"reason":"no-token","message":"the request has none"}}`: "the server says 401 Unauthorized: the request has none" + advice,
		`go away`: "the server says 401 Unauthorized: go away" + advice,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, body)
		}))
		_, _, err := tailOf(t.Context(), server.URL)
		server.Close()
		if fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}
