package stream

import (
	"context"
	"errors"
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

// liveKafka is a Kafka with one topic, whose records before the seam are the user's.
type liveKafka struct {
	foreignKafka
	down   atomic.Bool // Kafka does not answer replays and questions
	joined chan struct{}
}

func (k *liveKafka) Join(ctx context.Context, user string) ([]consumer.UserTopic, error) {
	if k.joined != nil {
		select {
		case <-k.joined:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return k.foreignKafka.Join(ctx, user)
}

func (k *liveKafka) Replay(_ context.Context, _ string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		r := &ranges[i]
		if k.down.Load() {
			r.Err = errors.New("kafka has no answer")
		}
		for ; r.Err == nil && r.Next < r.To; r.Next++ {
			fn(r, &consumer.Record{Record: batch.Record{Offset: r.Next, Value: fmt.Append(nil, r.Next)}, User: []byte("alice")})
		}
	}
}

func (k *liveKafka) Since(context.Context, []consumer.Partition, time.Time) (map[consumer.Partition]int64, error) {
	if k.down.Load() {
		return map[consumer.Partition]int64{{Topic: "shared"}: 2}, errors.New("kafka has no answer for the other partition")
	}
	return map[consumer.Partition]int64{{Topic: "shared"}: 2, {Topic: "shared", ID: 1}: 0}, nil
}

func (k *liveKafka) Range(context.Context, consumer.Partition, [16]byte) (start, end int64, err error) {
	if k.down.Load() {
		return 0, 0, errors.New("kafka has no answer")
	}
	return 0, 9, nil
}

// eventsOf returns the types and data of the events written, without ids.
func eventsOf(out *partOutput) (events []string) {
	out.mu.Lock()
	defer out.mu.Unlock()
	for _, e := range parse(out.text).events {
		events = append(events, strings.TrimPrefix(e.kind+" "+e.data, TypeMessage+" "))
	}
	return events
}

// TestLiveIsSaidOnceAndNeverEarly opens streams while something is missing, and ends the fault after a while. The checkpoint
// that says that replay has met live comes when nothing is missing, and no second one.
func TestLiveIsSaidOnceAndNeverEarly(t *testing.T) {
	const plain, live = `checkpoint {}`, `checkpoint {"live":true}`
	for name, test := range map[string]struct {
		request     streamRequest
		id          string // the offsets of the client's id
		old, down   bool   // until the fault ends
		first, then []string
	}{
		"nothing was missed":                       {first: []string{live}},
		"nothing was missed since the id":          {id: ".0-1.1-0", first: []string{live}},
		"records were missed":                      {id: ".0-0", first: []string{plain, "1", "0", live}}, // one of each partition
		"the replica is not current":               {old: true, first: []string{plain}, then: []string{live}},
		"records were missed, not current":         {id: ".0-0", old: true, first: []string{plain, "1", "0"}, then: []string{live}},
		"a partition's replay has no answer":       {id: ".0-0", down: true, first: []string{plain}, then: []string{"0", "1", live}},
		"the offset of since is not known":         {request: streamRequest{since: time.UnixMilli(1)}, down: true, first: []string{plain}, then: []string{"0", live}},
		"another replica has read further":         {id: ".0-5.1-0", down: true, first: []string{plain}, then: nil},
		"a partition that the replica lacks":       {id: ".0-1.1-0.2-7", first: []string{plain}},
		"an id that is not one":                    {id: "x", first: []string{`gap {"reason":"unknown-id"}`, live}},
		"the client's place was lost, not current": {id: "x", old: true, first: []string{`gap {"reason":"unknown-id"}`, plain}, then: []string{live}},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub, kafka, out := NewHub("event-type", nil), new(liveKafka), new(partOutput)
			kafka.old.Store(test.old)
			kafka.down.Store(test.down)
			hub.Begin(consumer.Partition{Topic: "shared"}, [16]byte{1}, 2)
			hub.Begin(consumer.Partition{Topic: "shared", ID: 1}, [16]byte{1}, 1)
			s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
			s.sub.serve = func(s *clientStream) { go s.serveQuick() }
			if test.id != "" {
				test.request.lastID = "1~" + tag("shared") + newIncarnation([16]byte{1}).incarnationTag + test.id
			}
			s.start(test.request)
			time.Sleep(10*time.Second + retryAfter/2) // eleven catch-ups, each of which begins with another partition
			got := eventsOf(out)
			if !slices.Equal(got, test.first) {
				t.Errorf("%s: %q, want %q", name, got, test.first)
			}
			kafka.old.Store(false)
			kafka.down.Store(false)
			time.Sleep(2 * retryAfter)
			s.sub.requestHeartbeat()
			s.sub.requestCatchUp()
			synctest.Wait()
			if now := eventsOf(out)[len(got):]; !slices.Equal(now, test.then) {
				t.Errorf("%s: then %q, want %q", name, now, test.then)
			}
			s.sub.end(errGone)
			synctest.Wait()
		})
	}
}

// TestLiveChecksBecomeRare has a stream that never meets live, for example because Herald may not read a topic. The
// stream checks for ever, but not each second.
func TestLiveChecksBecomeRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, kafka, out := NewHub("event-type", nil), new(liveKafka), new(partOutput)
		kafka.old.Store(true)
		hub.Begin(consumer.Partition{Topic: "shared"}, [16]byte{1}, 2)
		s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, inline: true})
		var checks atomic.Int32
		s.sub.serve = func(s *clientStream) {
			checks.Add(1)
			go s.serveQuick()
		}
		s.start(streamRequest{})
		time.Sleep(quickChecks*retryAfter + time.Minute)
		synctest.Wait()
		if got, want := int(checks.Load()), quickChecks+int(time.Minute/slowCheck); got < want-1 || got > want+1 {
			t.Errorf("%d checks, want about %d", got, want)
		}
		kafka.old.Store(false)
		time.Sleep(slowCheck)
		synctest.Wait()
		if got, want := eventsOf(out), []string{`checkpoint {}`, `checkpoint {"live":true}`}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		s.sub.end(errGone)
		synctest.Wait()
	})
}

// TestHeartbeatEvents has a client ask for heartbeats as events. The first checkpoint has their interval. While the
// stream waits for Kafka at its beginning, they have the client's own id: WebKit would otherwise adopt the id of a cut
// event.
func TestHeartbeatEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, kafka, out := NewHub("event-type", nil), &liveKafka{joined: make(chan struct{})}, new(partOutput)
		p := consumer.Partition{Topic: "shared"}
		hub.Begin(p, [16]byte{1}, 0)
		s := newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, heartbeat: time.Minute, inline: true})
		s.sub.serve = func(s *clientStream) { go s.serveQuick() }
		id := "1~" + tag("shared") + newIncarnation([16]byte{1}).incarnationTag
		go s.start(streamRequest{lastID: id, beats: true})
		read := 0
		next := func(after time.Duration) string {
			time.Sleep(after)
			synctest.Wait()
			out.mu.Lock()
			defer out.mu.Unlock()
			defer func() { read = len(out.text) }()
			return string(out.text[read:])
		}
		const beat = "event: heartbeat\ndata: {}\n\n"
		beats := func() { s.sub.requestHeartbeat() }
		for i, step := range []struct {
			do   func()
			want string
		}{
			{func() {}, "id: " + id + "\n" + beat}, // waits to join
			{func() { close(kafka.joined) }, "id: " + id + "\nevent: checkpoint\ndata: {\"live\":true,\"heartbeat\":60000}\n\n"},
			{beats, beat},
			{func() { hub.Deliver(p, nil, 5); beats() }, "id: " + id + ".0-4\n" + beat},
			{beats, beat},
			{func() { hub.Deliver(p, nil, 5+checkpointAfter); beats() }, fmt.Sprintf("id: %s.0-%d\n", id, 4+checkpointAfter) + beat},
		} {
			step.do()
			after := time.Second
			if i == 0 {
				after = time.Minute
			}
			if got := next(after); got != step.want {
				t.Errorf("step %d: %q, want %q", i, got, step.want)
			}
		}
		s.sub.end(errGone)
		synctest.Wait()
	})
}
