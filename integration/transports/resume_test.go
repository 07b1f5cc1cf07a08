package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/cmd/herald/tail"
	"herald/stream"
)

// readRecords reads the events of records until it has read count of them, or until the stream ends. It returns the id
// to continue from.
func readRecords(r io.Reader, lastID string, count int) (list []tail.Event, last string) {
	events := tail.NewEventReader(r, lastID)
	for len(list) < count {
		e, err := events.Next()
		if err != nil {
			break
		}
		if e.Type == stream.TypeMessage {
			list = append(list, e)
		}
	}
	return list, events.LastID()
}

// openAs opens a stream of user-0 that continues from lastID. Its context ends the stream.
func openAs(ctx context.Context, t *testing.T, name, address, lastID string) io.ReadCloser {
	t.Helper()
	transport, err := transportOf(name)
	if err != nil {
		t.Fatal(err)
	}
	c := newLoad(transport, address, 1).clients[0]
	c.lastID = lastID
	body, err := c.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = body.Close() })
	return body
}

// TestWebSocketResumesAtEachByte compares the events of a WebSocket with the events of an event stream. Then it reads the
// WebSocket up to each byte in turn, and continues from the last id: each record must arrive once, and in order.
func TestWebSocketResumesAtEachByte(t *testing.T) {
	const topic, count = "resume", 5
	brokers, kafka := startBroker(t, topic)
	server, err := startServer(t.Context(), brokers, topic, false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	from := firstID(t, openAs(t.Context(), t, "sse", server.address, ""))
	for i := range count {
		value := appendNotification(nil, userName(0), uint64(i+1), time.Now())
		if err := kafka.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte(userName(0)), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := readRecords(openAs(t.Context(), t, "sse", server.address, from), from, count)
	got, _ := readRecords(openAs(t.Context(), t, "ws", server.address, from), from, count)
	if diff := cmp.Diff(want, got); diff != "" || len(want) != count {
		t.Fatalf("WebSocket and the event stream differ (-stream +WebSocket):\n%s", diff)
	}
	size := int64(1)
	for ; ; size++ {
		ctx, cancel := context.WithCancel(t.Context())
		first, id := readRecords(io.LimitReader(openAs(ctx, t, "ws", server.address, from), size), from, count)
		cancel()
		if len(first) == count {
			break
		}
		ctx, cancel = context.WithCancel(t.Context())
		second, _ := readRecords(openAs(ctx, t, "ws", server.address, id), id, count-len(first))
		cancel()
		if diff := cmp.Diff(want, append(first, second...)); diff != "" {
			t.Fatalf("after a cut at byte %d (-want +got):\n%s", size, diff)
		}
	}
	if least := int64(count * notificationSize); size < least {
		t.Errorf("the stream has %d bytes, but its values have %d", size, least)
	}
}

// firstID returns the id of the checkpoint with which a stream begins.
func firstID(t *testing.T, r io.Reader) string {
	t.Helper()
	events := tail.NewEventReader(r, "")
	if e, err := events.Next(); err != nil || e.Type != stream.TypeCheckpoint {
		t.Fatalf("the stream begins with %+v (%v)", e, err)
	}
	return events.LastID()
}
