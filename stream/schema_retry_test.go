package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herald/consumer"
	"herald/consumer/batch"
)

// schemaKafka is a Kafka whose records each need a schema of their own. A schema arrives a moment after a replay has first
// needed it, unless the registry is down.
type schemaKafka struct {
	foreignKafka
	down    bool
	schemas map[int64]time.Time // by the offset of the record
	replays int
}

func (k *schemaKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	k.replays++
	for i := range ranges {
		for r := &ranges[i]; r.Next < r.To; r.Next++ {
			if asked, ok := k.schemas[r.Next]; !ok || k.down || time.Since(asked) < time.Millisecond {
				if r.Err = consumer.ErrNotReady; !ok {
					k.schemas[r.Next] = time.Now()
				}
				break
			}
			fn(r, &consumer.Record{Record: batch.Record{Offset: r.Next, Value: fmt.Append(nil, r.Next)}, User: []byte("alice")})
		}
	}
}

// TestReplayOfManySchemas replays records that each need a schema which the replica does not have yet. The stream asks again
// soon while schemas arrive, and each second while the registry is down.
func TestReplayOfManySchemas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records = 20
		hub, kafka, out := NewHub("event-type", nil), &schemaKafka{down: true, schemas: make(map[int64]time.Time)}, new(partOutput)
		hub.Begin(consumer.Partition{Topic: "shared"}, [16]byte{1}, records+1)
		s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
		s.sub.serve = func(s *clientStream) { go s.serveQuick() }
		s.start(streamRequest{lastID: "1~" + tag("shared") + newIncarnation([16]byte{1}).incarnationTag + ".0-0"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if kafka.replays < 55 || kafka.replays > 70 {
			t.Errorf("%d replays in a minute while the registry is down, want about one a second", kafka.replays)
		}
		kafka.down = false
		time.Sleep(retryAfter + records*2*schemaRetryAfter)
		synctest.Wait()
		got := slices.DeleteFunc(eventsOf(out), func(e string) bool { return strings.HasPrefix(e, "checkpoint") })
		if len(got) != records {
			t.Errorf("%d records have arrived, want %d: %q", len(got), records, got)
		}
		s.sub.end(errGone)
		synctest.Wait()
	})
}
