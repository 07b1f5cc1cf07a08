package stream

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herald/consumer"
	"herald/consumer/batch"
)

// foreignKafka is a Kafka with one topic that has records of other users only. It counts replayed offsets.
type foreignKafka struct {
	Kafka
	scanned int64
	delay   time.Duration // of a replay
	old     atomic.Bool   // the replica does not know that it is current
}

func (l *foreignKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool {
	return !l.old.Load()
}

func (*foreignKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "shared"}}, nil
}

func (*foreignKafka) Leave(string)                                  {}
func (*foreignKafka) Delivered(consumer.Partition, [16]byte, int64) {}

func (l *foreignKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, _ func(*consumer.Range, *consumer.Record) bool) {
	time.Sleep(l.delay)
	for i := range ranges {
		l.scanned += ranges[i].To - ranges[i].Next
		ranges[i].Next = ranges[i].To
	}
}

// quiet returns a stream over a foreignKafka.
type quiet struct {
	*clientStream
	text *partOutput
}

func newQuiet(t *testing.T, hub *Hub, kafka Kafka, r streamRequest) quiet {
	t.Helper()
	out := new(partOutput)
	s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
	s.start(r)
	return quiet{s, out}
}

// beat makes the stream write heartbeats. It returns the number of checkpoints among them and the last id.
func (q quiet) beat(n int) (checkpoints int, id string) {
	before := len(q.text.text)
	for range n {
		q.sub.requestHeartbeat()
		q.serveSlow()
	}
	_, id, _ = strings.Cut(string(q.text.text[bytes.LastIndex(q.text.text, []byte("id: ")):]), " ")
	id, _, _ = strings.Cut(id, "\n")
	return bytes.Count(q.text.text[before:], []byte("event: checkpoint")), id
}

// TestQuietStreamsCheckpoint moves the position of a quiet stream by other users' records. Once the position
// has moved far, the stream must write a checkpoint, so that a returning client causes a bounded replay.
func TestQuietStreamsCheckpoint(t *testing.T) {
	hub, kafka := NewHub("event-type", nil), new(foreignKafka)
	first, second := consumer.Partition{Topic: "shared"}, consumer.Partition{Topic: "shared", ID: 1}
	hub.Begin(first, [16]byte{1}, 0)
	hub.Begin(second, [16]byte{1}, 0)
	q := newQuiet(t, hub, kafka, streamRequest{})
	_, begun := q.beat(1)
	hub.Deliver(first, nil, 6000)
	hub.Deliver(second, nil, checkpointAfter-6000-1)
	if n, id := q.beat(3); n != 0 || id != begun {
		t.Errorf("%d checkpoints, the last id %q, below the threshold", n, id)
	}
	hub.Deliver(second, nil, checkpointAfter-6000)
	n, id := q.beat(3)
	if want := begun + ".0-5999.1-3999"; n != 1 || id != want {
		t.Errorf("%d checkpoints, the last id %q, want one of %q", n, id, want)
	}
	hub.Deliver(first, nil, 6000+checkpointAfter-1)
	if n, again := q.beat(1); n != 0 || again != id {
		t.Errorf("%d checkpoints, the last id %q, too early again", n, again)
	}
	newQuiet(t, hub, kafka, streamRequest{lastID: id})
	if kafka.scanned != checkpointAfter-1 {
		t.Errorf("a client that comes back has %d records read again, want %d", kafka.scanned, checkpointAfter-1)
	}
}

// TestIDsPassChosenTypes checks that records of event types that the stream leaves out move its position, live
// and in a replay.
func TestIDsPassChosenTypes(t *testing.T) {
	hub, kafka := NewHub("event-type", nil), new(foreignKafka)
	p := consumer.Partition{Topic: "shared"}
	hub.Begin(p, [16]byte{1}, 0)
	q := newQuiet(t, hub, kafka, streamRequest{types: []string{"a"}})
	_, begun := q.beat(1)
	typed := func(offset int64, kind string) consumer.Record {
		return consumer.Record{Record: batch.Record{Offset: offset, Value: []byte("v"), Headers: []consumer.Header{{Key: "event-type", Value: []byte(kind)}}}, User: []byte("alice")}
	}
	offset := int64(0)
	pass := func(to int64) {
		for ; offset < to; offset++ {
			hub.Deliver(p, []consumer.Record{typed(offset, "b")}, offset+1)
		}
	}
	pass(checkpointAfter - 1)
	if n, id := q.beat(2); n != 0 || id != begun {
		t.Errorf("%d checkpoints, the last id %q, below the threshold", n, id)
	}
	pass(checkpointAfter)
	n, id := q.beat(2)
	if want := fmt.Sprintf("%s.0-%d", begun, checkpointAfter-1); n != 1 || id != want {
		t.Errorf("%d checkpoints, the last id %q, want %q", n, id, want)
	}
	pass(checkpointAfter + 5)
	hub.Deliver(p, []consumer.Record{typed(offset, "a")}, offset+1)
	_, id = q.beat(1)
	if want := fmt.Sprintf("%s.0-%d", begun, offset); id != want {
		t.Errorf("the event's id is %q, want %q", id, want)
	}
	newQuiet(t, hub, kafka, streamRequest{lastID: id, types: []string{"a"}})
	if kafka.scanned != 0 {
		t.Errorf("%d records are read again behind the id", kafka.scanned)
	}
	again := newQuiet(t, hub, kafka, streamRequest{lastID: begun, types: []string{"a"}})
	checkpoints := bytes.Count(again.text.text, []byte("event: checkpoint"))
	if n, id := again.beat(1); checkpoints != 1 || n != 0 || id != fmt.Sprintf("%s.0-%d", begun, offset) {
		t.Errorf("%d checkpoints after a replay of nothing that was chosen, want 1; %d with the heartbeat, the last id %q", checkpoints, n, id)
	}
}

// discard is an output that drops all bytes.
type discard struct{}

func (discard) send([]byte) ([]byte, error)      { return nil, nil }
func (discard) sendLarge(*large) ([]byte, error) { return nil, nil }
func (discard) finish([]byte) error              { return nil }
func (discard) close(clean bool) bool            { return clean }
func (discard) leave()                           {}
func (discard) cut()                             {}

// BenchmarkHeartbeat measures one heartbeat of one of 100,000 streams, without the write: over a topic without
// new records, and over a topic whose position moves so far that each heartbeat is a checkpoint.
func BenchmarkHeartbeat(b *testing.B) {
	const count = 100_000
	for _, partitions := range []int32{1, 4, 50} {
		for _, moved := range []bool{false, true} {
			name := fmt.Sprintf("%d partitions, still", partitions)
			if moved {
				name = fmt.Sprintf("%d partitions, moved", partitions)
			}
			b.Run(name, func(b *testing.B) {
				hub := NewHub("event-type", nil)
				next := int64(12_345_678)
				for p := range partitions {
					hub.Begin(consumer.Partition{Topic: "shared", ID: p}, [16]byte{1}, next)
				}
				svc := newService(b.Context(), hub, new(foreignKafka), time.Hour, Limits{})
				streams := make([]*clientStream, count)
				for i := range streams {
					streams[i] = newStream(b, streamOptions{service: svc, hub: hub, out: discard{}, user: fmt.Sprint(i), inline: true})
					streams[i].start(streamRequest{})
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i = (i + 1) % count {
					if moved && i == 0 {
						next += checkpointAfter
						for p := range partitions {
							hub.Deliver(consumer.Partition{Topic: "shared", ID: p}, nil, next)
						}
					}
					streams[i].sub.requestHeartbeat()
					streams[i].serveQuick()
				}
			})
		}
	}
}

// TestCheckpointAfterAReplayOfOthersRecords checks a client that returns after other users' records. A checkpoint
// after the replay gives the client the new position, in place of the first checkpoint if that one has not been sent.
// While the replica does not know that it is current, a checkpoint follows only if the new position is far from the
// old one.
func TestCheckpointAfterAReplayOfOthersRecords(t *testing.T) {
	for _, test := range []struct {
		others int64
		old    bool // the replica does not know that it is current
		late   bool // the replay takes longer than events are held back
		want   []string
		moved  bool // the last checkpoint has the new position
	}{
		{others: 1, want: []string{`{"live":true}`}, moved: true},
		{others: checkpointAfterReplay, want: []string{`{"live":true}`}, moved: true},
		{others: 1, late: true, want: []string{`{}`, `{"live":true}`}, moved: true},
		{others: checkpointAfterReplay - 1, old: true, want: []string{`{}`}},
		{others: checkpointAfterReplay, old: true, want: []string{`{}`}, moved: true},
		{others: checkpointAfterReplay, old: true, late: true, want: []string{`{}`, `{}`}, moved: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub, kafka := NewHub("event-type", nil), new(foreignKafka)
			p := consumer.Partition{Topic: "shared"}
			hub.Begin(p, [16]byte{1}, 0)
			_, begun := newQuiet(t, hub, kafka, streamRequest{}).beat(1)
			hub.Deliver(p, nil, test.others)
			kafka.old.Store(test.old)
			if test.late {
				kafka.delay = 2 * holdFor
			}
			q := newQuiet(t, hub, kafka, streamRequest{lastID: begun})
			if got := checkpointsIn(q.text.text); !slices.Equal(got, test.want) || kafka.scanned != test.others {
				t.Errorf("%+v: checkpoints %q", test, got)
			}
			want := begun
			if test.moved {
				want += fmt.Sprint(".0-", test.others-1)
			}
			if _, id := q.beat(1); id != want {
				t.Errorf("%+v: the last id is %q, want %q", test, id, want)
			}
		})
	}
}

// checkpointsIn returns the data of the checkpoints in the text.
func checkpointsIn(text []byte) (data []string) {
	for _, e := range parse(text).events {
		if e.kind == TypeCheckpoint {
			data = append(data, e.data)
		}
	}
	return data
}
