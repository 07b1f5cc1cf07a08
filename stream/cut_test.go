package stream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"herald/consumer"
)

// bytesOf returns a stream's bytes up to the end of the event with the data.
func bytesOf(t *testing.T, url, lastID, data string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", lastID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(text), "data: "+data+"\n\n"); text = append(text, b...) {
		if _, err := io.ReadFull(res.Body, b); err != nil {
			t.Fatal(err)
		}
	}
	return string(text)
}

// TestRestOfACutEvent cuts two connections at every byte. The client behaves like WebKit: it keeps the rest
// of a cut event and takes it for the beginning of the next connection's stream. No record may arrive
// mutilated or twice, and no id may skip a record that the client did not receive.
func TestRestOfACutEvent(t *testing.T) {
	url, producer := serve(t)
	records := []string{"first", "second", "third"}
	c := open(t, url+"alice", "")
	start := c.next().id
	after := map[string]int{start: 0} // the number of records received, by the last id
	for i, value := range records {
		put(t, producer, "shared", "alice", value)
		after[c.nextButCheckpoint().id] = i + 1
	}
	last := records[len(records)-1]
	text := bytesOf(t, url+"alice", start, last)
	again := map[string]string{"": bytesOf(t, url+"alice", start, last)} // the resumed stream's bytes, by the id that it resumes from
	for id, n := range after {
		if n < len(records) {
			again[id] = bytesOf(t, url+"alice", id, last)
		}
	}
	for first := range text {
		id := lastOf(parse([]byte(text[:first])))
		for second := range len(again[id]) + 1 {
			both := text[:first] + again[id][:second]
			got := parse([]byte(both))
			received := []string{}
			for _, e := range got.events {
				if e.kind == "message" {
					received = append(received, e.data)
				}
			}
			n, known := after[lastOf(got)]
			if lastOf(got) != "" && !known || n != len(received) {
				t.Fatalf("the id %q is not where the client is, which received %q of\n%s", lastOf(got), received, both)
			}
			if diff := cmp.Diff(records[:min(len(records), len(received))], received); diff != "" {
				t.Fatalf("%s(-want +got):\n%s", both, diff)
			}
		}
	}
}

func lastOf(p parsed) string {
	if len(p.events) == 0 {
		return ""
	}
	return p.events[len(p.events)-1].id
}

// TestEndBeforeTheCheckpoint ends a stream before its checkpoint, because Kafka is unreachable. The client
// must not adopt the id of a cut event that the connection before left over.
func TestEndBeforeTheCheckpoint(t *testing.T) {
	hub := NewHub("event-type", nil)
	away, err := consumer.New(consumer.Config{Brokers: []string{"127.0.0.1:1"}, Group: "g", Replica: "r", Routes: []consumer.Route{{Topic: "shared"}}}, hub)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- away.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	h := NewHandler(Config{Hub: hub, Kafka: away, Viewer: func(echo.Context) (Viewer, error) { return Viewer{User: "alice"}, nil }})
	e := echo.New()
	e.GET("/events", h.Events)
	server := httptest.NewServer(e)
	defer server.Close()
	at := "1~" + strings.Repeat("a", 2*tagSize) + ".0-5"
	for lastID, want := range map[string]string{at: at, "": "", "none of ours": "left-over"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", lastID)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		h.Drain(t.Context(), 0)
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := parse(append([]byte("id: left-over\ndata: cut"), text...))
		if len(got.events) != 1 || got.events[0].kind != TypeEnd || got.events[0].id != want {
			t.Errorf("with the id %q: %+v, want one end with the id %q", lastID, got.events, want)
		}
	}
}
