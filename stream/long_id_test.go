package stream

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"herald/consumer"
)

// wideKafka is a Kafka with two topics without new records.
type wideKafka struct{ Kafka }

func (wideKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (wideKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "other"}, {Topic: "wide"}}, nil
}

func (wideKafka) Leave(string)                                  {}
func (wideKafka) Delivered(consumer.Partition, [16]byte, int64) {}

func (wideKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, _ func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		ranges[i].Next = ranges[i].To
	}
}

// TestManyPartitions has topics with enough partitions to make ids long, and topics whose partitions an id
// cannot name. The log must warn once, each id must decode, and a gap must report the topic that an id leaves
// out.
func TestManyPartitions(t *testing.T) {
	for _, test := range []struct {
		partitions int32
		level      string // the level of the log line
		told       string // the gap that a returning client gets
	}{
		{100, "", ""},
		{700, "WARN", ""},
		{5000, "ERROR", `{"source":"wide","reason":"unknown-id"}`},
	} {
		hub := NewHub("event-type", nil)
		hub.Begin(consumer.Partition{Topic: "other"}, [16]byte{1}, 12_345_678)
		for p := range test.partitions {
			hub.Begin(consumer.Partition{Topic: "wide", ID: p}, [16]byte{2}, 12_345_678)
		}
		var log bytes.Buffer
		warned := &longIDs{log: slog.New(slog.NewTextHandler(&log, nil)), logged: make(map[string]bool)}
		open := func(lastID string) (id string, gaps []string) {
			out := new(partOutput)
			s := newStream(t, streamOptions{hub: hub, kafka: wideKafka{}, out: out, longIDs: warned})
			s.start(streamRequest{lastID: lastID})
			_, gaps = out.received()
			_, last, _ := strings.Cut(string(out.text), "id: ")
			id, _, _ = strings.Cut(last, "\n")
			return id, gaps
		}
		id, gaps := open("")
		if sources, err := decodeID(id); err != nil || sources[tag("other")].positions[0].next != 12_345_678 || len(gaps) > 0 {
			t.Errorf("%d partitions: an id of %d bytes, %v; gaps %v", test.partitions, len(id), err, gaps)
		}
		_, gaps = open(id)
		if got := strings.Join(gaps, " "); got != test.told {
			t.Errorf("%d partitions: %s, want %s", test.partitions, got, test.told)
		}
		text, lines := log.String(), 0
		if test.level != "" {
			lines = 1
		}
		if strings.Count(text, "\n") != lines || strings.Count(text, "level="+test.level) != lines || strings.Count(text, "topic=wide") != lines || strings.Count(text, "partitioner=") != lines {
			t.Errorf("%d partitions: the log has %q", test.partitions, text)
		}
	}
}
