package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestValues sends values that could break the framing of an event stream, live and in a replay. An event stream
// is UTF-8 and does not distinguish CR, CR LF and LF.
func TestValues(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	tests := []struct{ name, value, want string }{
		{"empty", "", ""},
		{"LF", "a\nb", "a\nb"},
		{"CR", "a\rb", "a\nb"},
		{"CR LF", "a\r\nb", "a\nb"},
		{"LF CR", "a\n\rb", "a\n\nb"},
		{"only line ends", "\n\n", "\n\n"},
		{"line ends around", "\r\na\r\n", "\na\n"},
		{"fields", "x\n\nid: 5\nevent: end\ndata: y\nretry: 1\n\n", "x\n\nid: 5\nevent: end\ndata: y\nretry: 1\n\n"},
		{"leading space", " a\n  b", " a\n  b"},
		{"leading colon", ": a", ": a"},
		{"NUL", "a\x00b\x00", "a\x00b\x00"},
		{"byte order mark", "\uFEFFa", "\uFEFFa"},
		{"invalid UTF-8", "a\xffb", "a\uFFFDb"},
		{"cut UTF-8", "\xe2\x82", "\uFFFD"},
		{"line end in invalid UTF-8", "\xff\n\xfe", "\uFFFD\n\uFFFD"},
		{"line separators of Unicode", "a\u2028b\u0085c", "a\u2028b\u0085c"},
		{"1 MiB", big, big},
		{"after 1 MiB", "still here", "still here"},
	}
	b := sharedBroker(t)
	topic := b.newTopic(t, "values", 1, "max.message.bytes", "4194304")
	h := startHerald(t, b, "--topic="+topic, "--write-timeout=2m") // the test reads one stream after the other
	live := openStream(t, h, "alice")
	replayed := newStream(t, h.public, "alice")
	replayed.LastID = live.LastID
	for _, test := range tests {
		b.produce(t, record(topic, "alice", test.value))
	}
	replayed.Reconnect()
	for name, s := range map[string]*eventSource{"live": live, "replayed": replayed} {
		for _, test := range tests {
			if got := s.Record(); got.Data != test.want || got.Type != "message" {
				t.Errorf("%s, %s: %.60q arrived as %s %.60q (%d bytes), want %.60q (%d bytes)",
					test.name, name, test.value, got.Type, got.Data, len(got.Data), test.want, len(test.want))
			}
		}
	}
}

// TestTombstoneIsNotDelivered writes tombstones. They must not be delivered, but the stream's position must pass them.
func TestTombstoneIsNotDelivered(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "values", 1)
	h := startHerald(t, b, "--topic="+topic)
	tombstone := &kgo.Record{Topic: topic, Key: []byte("alice")}
	alice := openStream(t, h, "alice")
	start := alice.LastID
	b.produce(t, record(topic, "alice", "a"), tombstone, tombstone, record(topic, "alice", "b"))
	if diff := cmp.Diff([]string{"a", "b"}, alice.Values(2)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	past := alice.LastID
	alice.LastID = start
	alice.Reconnect()
	if diff := cmp.Diff([]string{"a", "b"}, alice.Values(2)); diff != "" {
		t.Errorf("by replay (-want +got):\n%s", diff)
	}
	if alice.LastID != past {
		t.Errorf("the last id is %s by replay, was %s live", alice.LastID, past)
	}
	alice.Cut()
	b.produce(t, tombstone, record(topic, "alice", "c"))
	alice.Reconnect()
	if got := alice.Record(); got.Data != "c" || got.ID == past {
		t.Errorf("after a cut and one more tombstone: %+v, want c with an id of its own", got)
	}
}

// TestEventTypes writes records with a header for the event type. The event must have this type, unless Herald or
// EventSource uses the type itself or an event stream cannot carry it.
func TestEventTypes(t *testing.T) {
	tests := []struct{ header, want string }{
		{"order.shipped", "order.shipped"},
		{"größe", "größe"},
		{"message", "message"},
		{"", "message"},
		{"checkpoint", "message"},
		{"gap", "message"},
		{"end", "message"},
		{"open", "message"},
		{"error", "message"},
		{"a\nid: 1", "message"},
		{"a\rb", "message"},
		{"a\xff", "message"},
	}
	b := sharedBroker(t)
	topic := b.newTopic(t, "types", 1)
	h := startHerald(t, b, "--topic="+topic)
	alice := openStream(t, h, "alice")
	for _, test := range tests {
		r := record(topic, "alice", test.header)
		r.Value = []byte("value")
		r.Headers = []kgo.RecordHeader{{Key: "other", Value: []byte("x")}, {Key: "event-type", Value: []byte(test.header)}}
		b.produce(t, r)
		got := alice.Event()
		for got.Type == "checkpoint" && got.Data != "value" { // not the record
			got = alice.Event()
		}
		if got.Type != test.want || got.Data != "value" {
			t.Errorf("event-type %q arrived as %s %q, want type %s", test.header, got.Type, got.Data, test.want)
		}
	}
}

// TestAbortedTransactions writes in transactions. Streams must deliver the committed records and no others, live
// and in a replay.
func TestAbortedTransactions(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "transactions", 1)
	h := startHerald(t, b, "--topic="+topic)
	live := openStream(t, h, "alice")
	start := live.LastID
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatalf("transactional producer: %v", err)
	}
	defer client.Close()
	var want []string
	for i, commit := range []kgo.TransactionEndTry{false, true, true, false, false, true} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatalf("begin transaction: %v", err)
		}
		value := fmt.Sprintf("%d, commit: %t", i, commit)
		if err := client.ProduceSync(t.Context(), record(topic, "alice", value)).FirstErr(); err != nil {
			t.Fatalf("produce in a transaction: %v", err)
		}
		if err := client.EndTransaction(t.Context(), commit); err != nil {
			t.Fatalf("end transaction: %v", err)
		}
		if commit {
			want = append(want, value)
		}
	}
	b.produce(t, record(topic, "alice", "last"))
	want = append(want, "last")
	if diff := cmp.Diff(want, live.Values(len(want))); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	live.LastID = start
	live.Reconnect()
	if diff := cmp.Diff(want, live.Values(len(want))); diff != "" {
		t.Errorf("by replay (-want +got):\n%s", diff)
	}
}
