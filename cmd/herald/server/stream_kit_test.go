package server

import (
	"bufio"
	"context"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"herald/cmd/herald/tail"
)

// lastIDOf opens a stream, reads it until the event with the data, and returns that event's id.
func lastIDOf(t *testing.T, address string, header http.Header, data string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events := openEvents(ctx, t, address, header)
	for {
		e, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Data == data {
			return e.ID
		}
	}
}

// openEvents opens a stream. The test fails if the answer is not 200.
func openEvents(ctx context.Context, t *testing.T, address string, header http.Header) *tail.EventReader {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %s, want 200", res.Status)
	}
	return tail.NewEventReader(bufio.NewReader(res.Body), "")
}

// dataUntil reads a stream until it has received all of want, and returns the data of the events. It leaves out
// Herald's own events.
func dataUntil(t *testing.T, url string, want ...string) []string {
	t.Helper()
	return dataUntilWith(t, url, nil, want...)
}

// dataUntilWith is dataUntil with headers.
func dataUntilWith(t *testing.T, url string, header http.Header, want ...string) []string {
	t.Helper()
	got, gaps := eventsUntil(t, url, header, want...)
	if len(gaps) > 0 {
		t.Fatalf("gaps %q beside %q", gaps, got)
	}
	return got
}

// eventsUntil reads a stream until it has received all of want, and returns the data of its events and gaps.
func eventsUntil(t *testing.T, url string, header http.Header, want ...string) (got, gaps []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := openEvents(ctx, t, url, header)
	for len(want) > 0 {
		e, err := events.Next()
		if err != nil {
			t.Fatalf("want %q after %q: %v", want, got, err)
		}
		switch e.Type {
		case "checkpoint":
		case "gap":
			gaps = append(gaps, e.Data)
		case "end":
			t.Fatalf("%s %s after %q", e.Type, e.Data, got)
		default:
			got = append(got, e.Data)
			want = slices.DeleteFunc(want, func(data string) bool { return data == e.Data })
		}
	}
	return got, gaps
}
