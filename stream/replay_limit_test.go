package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
	"herald/consumer/batch"
)

// agedKafka is a Kafka with one topic. Each list of ages is a partition, and each age is a record of that age.
type agedKafka struct {
	Kafka
	mu         sync.Mutex
	partitions [][]time.Duration
	silent     map[int32]bool // partitions whose leader does not answer
	outdated   bool           // silent partitions answer from outdated metadata that the topic does not exist
	asked      map[int32]int  // how often Since was called for each partition that answers
	start      int64          // the log start offset of all partitions
}

func (*agedKafka) IsCurrent(string, [16]byte, func(int32) (int64, bool)) bool { return true }

func (l *agedKafka) Join(context.Context, string) ([]consumer.UserTopic, error) {
	return []consumer.UserTopic{{Topic: "shared"}}, nil
}

func (l *agedKafka) Leave(string)                                    {}
func (l *agedKafka) Delivered(consumer.Partition, [16]byte, int64)   {}
func (l *agedKafka) Confirm(context.Context, string, [16]byte) error { return nil }

func (l *agedKafka) silence(partitions ...int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent, l.asked = make(map[int32]bool), make(map[int32]int)
	for _, p := range partitions {
		l.silent[p] = true
	}
}

func (l *agedKafka) Since(_ context.Context, partitions []consumer.Partition, t time.Time) (map[consumer.Partition]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := make(map[consumer.Partition]int64)
	var err error
	for _, p := range partitions {
		ages := l.partitions[p.ID]
		if l.silent[p.ID] {
			if !l.outdated {
				err = errors.New("a partition has no leader")
			}
			continue
		}
		if l.asked != nil {
			l.asked[p.ID]++
		}
		first[p] = consumer.AfterAll
		for i := len(ages) - 1; i >= int(l.start) && !time.Now().Add(-ages[i]).Before(t); i-- {
			first[p] = int64(i)
		}
	}
	return first, err
}

func (l *agedKafka) Range(_ context.Context, p consumer.Partition, _ [16]byte) (start, end int64, err error) {
	return l.start, int64(len(l.partitions[p.ID])), nil
}

func (l *agedKafka) Replay(_ context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool) {
	for i := range ranges {
		for r := &ranges[i]; r.Next < r.To; r.Next++ {
			if end := int64(len(l.partitions[r.ID])); r.Next < l.start || r.Next >= end {
				r.Err = &consumer.OutOfRangeError{Position: consumer.Position{Partition: r.Partition, Offset: r.Next}, Start: l.start, End: end}
				break
			}
			if !fn(r, &consumer.Record{Record: batch.Record{Offset: r.Next, Value: fmt.Appendf(nil, "%d/%d", r.ID, r.Next)}, User: []byte(user)}) {
				return
			}
		}
	}
}

// agedStream returns a stream over an agedKafka whose partitions have been read to their ends.
func agedStream(t *testing.T, kafka *agedKafka, limits Limits) (*clientStream, *partOutput) {
	t.Helper()
	hub := NewHub("event-type", nil)
	for id, ages := range kafka.partitions {
		hub.Begin(consumer.Partition{Topic: "shared", ID: int32(id)}, [16]byte{1}, int64(len(ages)))
	}
	out := new(partOutput)
	return newStream(t, streamOptions{hub: hub, kafka: kafka, out: out, heartbeat: time.Minute, limits: limits}), out
}

// received returns the records and gaps that the client received.
func (o *partOutput) received() (records, gaps []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kind := ""
	for lines := bufio.NewScanner(bytes.NewReader(o.text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "":
			kind = ""
		case name == "event":
			kind = value
		case name == "data" && kind == "":
			records = append(records, value)
		case name == "data" && kind == TypeGap:
			gaps = append(gaps, value)
		}
	}
	return records, gaps
}

const testTopicID = 1 // the first byte of the topic id

// gapOf returns the data of a gap event for partition 0.
func gapOf(reason consumer.GapReason, from, to int64) string {
	return fmt.Sprintf(`{"source":"shared","partition":0,"from":%d,"to":%d,"reason":%q}`, from, to, reason)
}

// TestLimits checks that a stream gets no more than the limits allow, for each origin of its cursor, and one
// gap for the records left out.
func TestLimits(t *testing.T) {
	known, other := "1~"+tag("shared")+newIncarnation([16]byte{testTopicID}).incarnationTag, "1~"+tag("shared")+"vvvvvv"
	const recreated = `{"source":"shared","reason":"recreated"}`
	starts := map[string]struct {
		streamRequest
		from int64 // the stream's position before the limits apply
		told []string
	}{
		"old id":                   {streamRequest{lastID: known + ".0-1"}, 2, nil},
		"offset beyond the end":    {streamRequest{lastID: known + ".0-999999"}, 0, []string{gapOf(consumer.GapUnknownID, 1_000_000, 0)}},
		"wrong incarnation":        {streamRequest{lastID: other + ".0-1"}, 0, []string{recreated}},
		"wrong, beyond the end":    {streamRequest{lastID: other + ".0-999999"}, 0, []string{recreated}},
		"partition missing":        {streamRequest{lastID: known}, 0, nil},
		"since=earliest":           {streamRequest{earliest: true}, 0, nil},
		"since, before the limits": {streamRequest{since: time.Date(1999, 12, 31, 18, 0, 0, 0, time.UTC)}, 4, nil}, // six hours before midnight, when synctest's clock starts
	}
	// Ten records, one for each hour. The last record is half an hour old.
	var ages []time.Duration
	for i := range 10 {
		ages = append(ages, time.Duration(9-i)*time.Hour+30*time.Minute)
	}
	for limit, c := range map[string]struct {
		Limits
		to int64
	}{
		"records":              {Limits{Records: 3}, 7},
		"age":                  {Limits{Age: 2 * time.Hour}, 8},
		"age that none is of":  {Limits{Age: time.Minute}, 10},
		"records and age":      {Limits{Records: 3, Age: 2 * time.Hour}, 8},
		"age and fewer":        {Limits{Records: 1, Age: 2 * time.Hour}, 9},
		"more than there is":   {Limits{Records: 100, Age: 100 * time.Hour}, 0},
		"records, all of them": {Limits{Records: 10}, 0},
	} {
		for name, start := range starts {
			t.Run(name+"/"+limit, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, out := agedStream(t, &agedKafka{partitions: [][]time.Duration{ages}}, c.Limits)
					s.start(start.streamRequest)
					want := start.told
					if start.from < c.to {
						want = append(slices.Clip(want), gapOf(consumer.GapReplayLimit, start.from, c.to))
					}
					var events []string
					for i := max(start.from, c.to); i < 10; i++ {
						events = append(events, fmt.Sprintf("0/%d", i))
					}
					got, gaps := out.received()
					if diff := cmp.Diff(want, gaps); diff != "" {
						t.Error("gaps:", diff)
					}
					if diff := cmp.Diff(events, got); diff != "" {
						t.Error("events:", diff)
					}
				})
			})
		}
	}
}

// TestLimitsOfAnOpenStream checks that limits do not apply to the replay of an open stream: they are for
// returning clients.
func TestLimitsOfAnOpenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kafka := &agedKafka{partitions: [][]time.Duration{make([]time.Duration, 10)}}
		s, out := agedStream(t, kafka, Limits{Records: 3, Age: time.Hour})
		s.start(streamRequest{lastID: "1~" + tag("shared") + newIncarnation([16]byte{testTopicID}).incarnationTag + ".0-0"})
		before, gaps := out.received()
		s.sub.requestCatchUp() // a full queue has the same effect
		kafka.partitions[0] = make([]time.Duration, 20)
		s.env.hub.Deliver(consumer.Partition{Topic: "shared"}, nil, 20)
		time.Sleep(2 * time.Hour)
		for i := range kafka.partitions[0] {
			kafka.partitions[0][i] = 2 * time.Hour
		}
		s.serveSlow()
		if events, after := out.received(); len(events) != len(before)+10 || len(after) != len(gaps) {
			t.Errorf("%q, %v; want ten more than %q", events, after, before)
		}
	})
}

// TestLimitsOfAShorterLog has a log that ends before the position up to which it was read, as after an unclean
// leader election. The stream must write one gap, and the log's real end must bound the replay.
func TestLimitsOfAShorterLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kafka := &agedKafka{partitions: [][]time.Duration{make([]time.Duration, 100)}}
		s, out := agedStream(t, kafka, Limits{Records: 3})
		kafka.partitions[0] = kafka.partitions[0][:20]
		s.start(streamRequest{lastID: "1~" + tag("shared") + newIncarnation([16]byte{testTopicID}).incarnationTag + ".0-90"})
		events, gaps := out.received()
		want := []string{gapOf(consumer.GapReplayLimit, 91, 97), gapOf(consumer.GapUnknownID, 97, 0), gapOf(consumer.GapReplayLimit, 0, 17)}
		if diff := cmp.Diff(want, gaps); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"0/17", "0/18", "0/19"}, events); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSinceAfterACut begins by a time while the leader of one of two partitions does not answer, and is cut
// before the leader answers. A stream that resumes with the id must get the records asked for, not everything
// retained. Meanwhile retention deletes records of the other partition that the first stream had still to
// send, and a gap must report them.
func TestSinceAfterACut(t *testing.T) {
	old, young := 3*time.Hour, time.Minute
	synctest.Test(t, func(t *testing.T) {
		kafka := &agedKafka{partitions: [][]time.Duration{{old, young, young}, {old, old, young}}}
		kafka.silence(1)
		s, out := agedStream(t, kafka, Limits{})
		s.start(streamRequest{since: time.Now().Add(-time.Hour)})
		_, text, _ := strings.Cut(string(out.text), "id: ")
		id, _, _ := strings.Cut(text, "\n") // the id of the first event, as if the client had been cut after this event
		kafka.silence()
		kafka.start = 2
		s, out = agedStream(t, kafka, Limits{})
		s.start(streamRequest{lastID: id})
		events, gaps := out.received()
		slices.Sort(events)
		if diff := cmp.Diff([]string{"0/2", "1/2"}, events); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{gapOf(consumer.GapRetention, 1, 2)}, gaps); diff != "" {
			t.Error(diff)
		}
	})
}

// TestSilentPartition begins by a time while the leader of one of three partitions does not answer, or answers
// from outdated metadata. The other partitions must continue, the silent one must follow later, and Kafka must
// not be asked about the others again meanwhile.
func TestSilentPartition(t *testing.T) {
	old, young := 3*time.Hour, time.Minute
	ages := []time.Duration{old, old, young}
	id := "1~" + tag("shared") + newIncarnation([16]byte{testTopicID}).incarnationTag + ".0-0.1-0.2-0"
	since := streamRequest{since: time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC)}
	for name, r := range map[string]streamRequest{"id": {lastID: id}, "since": since, "id, outdated": {lastID: id}, "since, outdated": since} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kafka := &agedKafka{partitions: [][]time.Duration{ages, ages, ages}, outdated: strings.Contains(name, "outdated")}
				kafka.silence(1)
				limits := Limits{Age: time.Hour}
				if r.lastID == "" {
					limits = Limits{}
				}
				s, out := agedStream(t, kafka, limits)
				s.sub.serve = func(*clientStream) { go s.serveSlow() } // the retry of the partition serves the stream
				s.start(r)
				if events, _ := out.received(); cmp.Diff([]string{"0/2", "2/2"}, events) != "" && cmp.Diff([]string{"2/2", "0/2"}, events) != "" {
					t.Errorf("got %q of the others", events)
				}
				kafka.silence(1)
				time.Sleep(5 * retryAfter)
				synctest.Wait()
				kafka.mu.Lock()
				if len(kafka.asked) > 0 {
					t.Errorf("asked again for %v", kafka.asked)
				}
				kafka.mu.Unlock()
				kafka.silence()
				time.Sleep(2 * retryAfter)
				synctest.Wait()
				events, gaps := out.received()
				if len(events) != 3 || events[2] != "1/2" {
					t.Errorf("got %q in the end", events)
				}
				if want := 3; r.lastID != "" && len(gaps) != want || r.lastID == "" && len(gaps) > 0 {
					t.Errorf("gaps: %v", gaps)
				}
			})
		})
	}
}
