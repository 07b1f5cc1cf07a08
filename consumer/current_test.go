package consumer

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// at returns a function for [Consumer.IsCurrent] of a stream that has come to these offsets. -1 stands for a partition
// that does not concern the stream.
func at(offsets ...int64) func(int32) (int64, bool) {
	return func(p int32) (int64, bool) { return offsets[p], offsets[p] >= 0 }
}

// becomes waits until check returns want, which may take longer than answers count.
func becomes(t *testing.T, what string, want bool, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); check() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not %t within 20 s", what, want)
		}
	}
}

// TestIsCurrent asks whether streams at several positions have all records of a topic, while the broker answers, and
// while its answers to live fetches fail in several ways.
func TestIsCurrent(t *testing.T) {
	t.Parallel()
	broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.SeedTopics(2, "t")}, nil, "t", "missing")
	id := broker.TopicInfo("t").TopicID
	ready(t, c)
	becomes(t, "two empty partitions", true, func() bool { return c.IsCurrent("t", id, at(0, 0)) })
	written := produce(t, producer, "t", "alice", "x").ID
	sink.wantLines(t, []string{"alice x"})
	all, none := []int64{0, 0}, []int64{0, 0}
	all[written]++
	becomes(t, "a record that was read", true, func() bool { return c.IsCurrent("t", id, at(all...)) })
	becomes(t, "a topic that does not exist", true, func() bool { return c.IsCurrent("missing", [16]byte{}, at()) })
	// The sink gets a record before the consumer notes where the log ends now.
	becomes(t, "a record that the stream lacks", false, func() bool { return c.IsCurrent("t", id, at(none...)) })
	other := []int64{0, 0}
	other[written] = -1
	for name, test := range map[string]struct {
		topic string
		id    [16]byte
		next  []int64
		want  bool
	}{
		"at the end":                     {"t", id, all, true},
		"after the end":                  {"t", id, []int64{5, 5}, true}, // another replica has read further
		"before the end":                 {"t", id, none, false},
		"the partition does not concern": {"t", id, other, true},
		"another incarnation":            {"t", [16]byte{1}, all, false},
		"no incarnation":                 {"t", [16]byte{}, all, false},
		"a topic that is not read":       {"u", id, all, false},
	} {
		check := func() bool { return c.IsCurrent(test.topic, test.id, at(test.next...)) }
		if test.want { // the last answer may have just become too old: wait for the next
			becomes(t, name, true, check)
		} else if check() {
			t.Errorf("%s: true", name)
		}
	}

	isCurrent := func() bool { return c.IsCurrent("t", id, at(all...)) }
	for name, answer := range map[string]func(*kmsg.FetchRequest) *kmsg.FetchResponse{
		"no answer": nil,
		"a partition with an error": func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			return partitionAnswer(req, id, written, kerr.NotLeaderForPartition.Code, 0)
		},
		"a log that goes on": func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			return partitionAnswer(req, id, written, 0, 10)
		},
		"a quota": func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			res := partitionAnswer(req, id, written, 0, 1)
			res.Topics, res.ThrottleMillis = nil, 50
			return res
		},
	} {
		becomes(t, "before "+name, true, isCurrent)
		var over atomic.Bool
		broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if over.Load() {
				return nil, nil, false
			}
			broker.KeepControl()
			if answer == nil {
				broker.SleepControl(func() {
					for !over.Load() {
						time.Sleep(time.Millisecond)
					}
				})
				return nil, nil, false
			}
			broker.SleepControl(func() { time.Sleep(20 * time.Millisecond) })
			return answer(req.(*kmsg.FetchRequest)), nil, true
		})
		becomes(t, name, false, isCurrent)
		over.Store(true)
		becomes(t, "after "+name, true, isCurrent)
	}
}

// partitionAnswer returns an answer to a fetch that has one partition without records.
func partitionAnswer(req *kmsg.FetchRequest, id [16]byte, partition int32, code int16, end int64) *kmsg.FetchResponse {
	res := req.ResponseKind().(*kmsg.FetchResponse)
	res.SessionID = req.SessionID
	topic := kmsg.NewFetchResponseTopic()
	topic.TopicID = id
	part := kmsg.NewFetchResponseTopicPartition()
	part.Partition, part.ErrorCode, part.HighWatermark, part.LastStableOffset = partition, code, end, end
	topic.Partitions = append(topic.Partitions, part)
	res.Topics = append(res.Topics, topic)
	return res
}
