package consumer

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
	"herald/consumer/broker"
)

// TestWrongMetadataIsNotBelieved has a broker answer one metadata request with metadata that has a wrong bit. No
// record is lost, and the consumer follows the true metadata afterwards: the leaders of the partitions change.
func TestWrongMetadataIsNotBelieved(t *testing.T) {
	for name, change := range map[string]func(*kmsg.MetadataResponse){
		"another id": func(m *kmsg.MetadataResponse) { m.Topics[0].TopicID[3] ^= 4 },
		"one more partition": func(m *kmsg.MetadataResponse) {
			m.Topics[0].Partitions = append(m.Topics[0].Partitions, kmsg.MetadataResponseTopicPartition{Partition: 3, Leader: 1})
		},
		"one partition less":       func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions = m.Topics[0].Partitions[:2] },
		"no partition":             func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions = nil },
		"a partition twice":        func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions[2].Partition = 1 },
		"a partition below 0":      func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions[1].Partition = math.MinInt32 },
		"a leader that is unknown": func(m *kmsg.MetadataResponse) { m.Topics[0].Partitions[1].Leader = 1 << 20 },
		"another name":             func(m *kmsg.MetadataResponse) { *m.Topics[0].Topic = "u" },
		"no topic of this name":    func(m *kmsg.MetadataResponse) { m.Topics[0].ErrorCode = kerr.UnknownTopicOrPartition.Code },
		"no brokers":               func(m *kmsg.MetadataResponse) { m.Brokers = nil },
		"another port":             func(m *kmsg.MetadataResponse) { m.Brokers[0].Port = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, c, sink, producer := startOn(t, []kfake.Opt{kfake.NumBrokers(2)}, []string{"t"}, "t")
			ready(t, c)
			want := sequence(t, producer, "t", "alice", "a", 3)
			id := topicID(t, c, "t")
			var wrong atomic.Int32
			broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
				broker.KeepControl()
				if topics := req.(*kmsg.MetadataRequest).Topics; len(topics) != 1 || wrong.Add(1) > 1 {
					return nil, nil, false
				}
				res := trueMetadata(broker, req, id, 3)
				change(res)
				return res, nil, true
			})
			waitFor(t, "the metadata is asked for", func() bool { c.topics.doubt("t"); return wrong.Load() > 3 })
			for range 3 {
				broker.ShufflePartitionLeaders()
				want = append(want, sequence(t, producer, "t", "alice", "b", 3)...)
				sink.wantLines(t, sortedCopy(want))
			}
		})
	}
}

// trueMetadata returns a broker's answer about one topic.
func trueMetadata(broker *kfake.Cluster, req kmsg.Request, id [16]byte, partitions int) *kmsg.MetadataResponse {
	res := req.ResponseKind().(*kmsg.MetadataResponse)
	for node, address := range broker.ListenAddrs() {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID = int32(node)
		host, port, _ := net.SplitHostPort(address)
		number, _ := strconv.ParseInt(port, 10, 32)
		b.Host, b.Port = host, int32(number)
		res.Brokers = append(res.Brokers, b)
	}
	topic := kmsg.NewMetadataResponseTopic()
	topic.Topic, topic.TopicID = new("t"), id
	for i := range int32(partitions) {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader = i, broker.LeaderFor("t", i)
		topic.Partitions = append(topic.Partitions, p)
	}
	res.Topics = append(res.Topics, topic)
	return res
}

// TestWrongOffsetOfABatchIsNotBelieved has a broker answer every other fetch with a batch whose offset is wrong. Each
// record arrives once, live and in a replay.
func TestWrongOffsetOfABatchIsNotBelieved(t *testing.T) {
	const batches, records = 20, 10
	values := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	for name, test := range map[string]struct {
		place int // of the wrong batch in the answer
		by    int64
	}{
		"the first, far too high":    {0, 1 << 50},
		"the first, too high":        {0, 64},
		"the first, slightly high":   {0, 1},
		"the first, too low":         {0, -64},
		"a later one, far too high":  {2, 1 << 50},
		"a later one, too high":      {2, 64},
		"a later one, slightly high": {2, 1},
		"a later one, slightly low":  {2, -1},
		"a later one, too low":       {2, -16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log []byte
			var want []string
			for i := range int64(batches) {
				log = append(log, batchtest.Simple(i*records, values...)...)
				for _, v := range values {
					want = append(want, " "+v)
				}
			}
			var fetches atomic.Int64
			_, c, sink, _ := readForged(t, func(partition int32, offset int64) []byte {
				if partition != 0 {
					return nil
				}
				answer := slices.Clone(from(log, offset))
				rest := answer
				for range test.place {
					if len(rest) > 0 {
						rest = rest[12+binary.BigEndian.Uint32(rest[8:]):]
					}
				}
				if len(rest) > 0 && fetches.Add(1)%2 == 1 {
					wrong := int64(binary.BigEndian.Uint64(rest)) + test.by
					binary.BigEndian.PutUint64(rest, uint64(max(0, wrong)))
				}
				return answer
			})
			sink.wantLines(t, sortedCopy(want))
			if test.place == 0 && test.by < 0 {
				return // a replay may begin within a batch, see chunkReader.confirms
			}
			forgetTail(t, c, Partition{Topic: "t", ID: 0})
			var got []string
			_, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", 0, batches*records, func(r *Record) bool {
				got = append(got, line(r))
				return true
			})
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("the replay ends with %v; records:\n%s", err, diff)
			}
		})
	}
}

// TestCompactedLogCostsTwoMoreFetches reads a log in which compaction has removed batches: no checksum covers the
// offset of a batch, so the first jump must be confirmed.
func TestCompactedLogCostsTwoMoreFetches(t *testing.T) {
	t.Parallel()
	var log []byte
	var want []string
	for i := range int64(50) {
		log = append(log, batchtest.Simple(i*100, "a")...)
		want = append(want, " a")
	}
	f, c, sink, _ := readForged(t, func(partition int32, offset int64) []byte {
		if partition != 0 {
			return nil
		}
		return from(log, offset)
	})
	sink.wantLines(t, want)
	forgetTail(t, c, Partition{Topic: "t", ID: 0})
	got := 0
	_, err := replayOne(t.Context(), c, Partition{Topic: "t", ID: 0}, topicID(t, c, "t"), "", 0, 4901, func(*Record) bool { got++; return true })
	if got != 50 || err != nil {
		t.Errorf("the replay has %d records and ends with %v, want 50", got, err)
	}
	for kind, fetches := range map[string]map[int64]int{"live": first(f.fetches(4901)), "replay": second(f.fetches(4901))} {
		count := 0
		for _, n := range fetches {
			count += n
		}
		if count > 3 {
			t.Errorf("%s: %d fetches, want 3", kind, count)
		}
	}
}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }

// TestReplayRefusesAnotherPartitionsAnswer has a broker answer fetches for a user's own topic with the records of
// another topic. The user gets none of them.
func TestReplayRefusesAnotherPartitionsAnswer(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "n.alice", "n.bob"))
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "n.{user}")
	run(t, c)
	for _, user := range []string{"alice", "bob"} {
		finishes(t, "Join", joining(t, c, user))
	}
	write := partitioned(t, broker)
	write("n.alice", 0, "", "for alice")
	write("n.bob", 0, "", "for bob")
	sink.wantLines(t, []string{"alice for alice", "bob for bob"})
	alice := Partition{Topic: "n.alice", ID: 0}
	forgetTail(t, c, alice)
	var wrong atomic.Int32
	broker.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		fetch := req.(*kmsg.FetchRequest)
		if fetch.SessionEpoch != -1 || wrong.Add(1) > 1 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.FetchResponse)
		part := kmsg.NewFetchResponseTopicPartition()
		part.RecordBatches = batchtest.Simple(0, "for bob")
		res.Topics = []kmsg.FetchResponseTopic{{TopicID: topicID(t, c, "n.bob"), Partitions: []kmsg.FetchResponseTopicPartition{part}}}
		return res, nil, true
	})
	var got []string
	replay := func() error {
		_, err := replayOne(t.Context(), c, alice, topicID(t, c, "n.alice"), "alice", 0, 1, func(r *Record) bool { got = append(got, line(r)); return true })
		return err
	}
	if err := replay(); err == nil || len(got) > 0 {
		t.Errorf("records %q and error %v, want an error", got, err)
	}
	if err := replay(); err != nil || !slices.Equal(got, []string{"alice for alice"}) {
		t.Errorf("records %q and error %v, want the user's record", got, err)
	}
}

// TestLongThrottleIsBounded checks that Herald does not wait for weeks because a broker says so.
func TestLongThrottleIsBounded(t *testing.T) {
	res := kmsg.NewFetchResponse()
	for ms, want := range map[int32]time.Duration{math.MinInt32: 0, 0: 0, 500: 500 * time.Millisecond, math.MaxInt32: maxThrottle} {
		if res.ThrottleMillis = ms; throttle(&res) != want {
			t.Errorf("%d ms: waits for %v, want %v", ms, throttle(&res), want)
		}
	}
}

// TestTableReadsOnAfterAWrongOutOfRange has a replay for a table end with the error that an offset is out of range
// although the log holds it. The table is complete only once all records were applied.
func TestTableReadsOnAfterAWrongOutOfRange(t *testing.T) {
	t.Parallel()
	s := newTableSink(&keyTable{topics: make(map[[16]byte]map[string]string)})
	p := Partition{Topic: "t", ID: 0}
	s.partitions[p] = &tablePartition{}
	s.log = slog.New(slog.DiscardHandler)
	var begun []int64
	s.replay = func(_ context.Context, _ string, ranges []Range, _ func(*Range, *Record) bool) {
		begun = append(begun, ranges[0].Next)
		if ranges[0].Next = 10; len(begun) == 1 {
			ranges[0].Next, ranges[0].Err = 4, &OutOfRangeError{Start: 0, End: 10}
		}
	}
	if !s.replayBefore(t.Context(), Range{Partition: p, To: 10}) || !slices.Equal(begun, []int64{0, 4}) {
		t.Errorf("replays from %v, want from 0 and 4", begun)
	}
	begun = nil
	s.replay = func(_ context.Context, _ string, ranges []Range, _ func(*Range, *Record) bool) {
		begun = append(begun, ranges[0].Next)
		ranges[0].Next, ranges[0].Err = 7, &OutOfRangeError{Start: 0, End: 7} // the log was cut
	}
	if !s.replayBefore(t.Context(), Range{Partition: p, To: 10}) || len(begun) != 1 {
		t.Errorf("replays from %v, want one replay of a log that was cut", begun)
	}
}

// TestWrongLogStartIsForgotten has a broker report once that a log starts far after its end. Records that Kafka
// deletes later leave the tail all the same.
func TestWrongLogStartIsForgotten(t *testing.T) {
	c, live := idle(t, [16]byte{1})
	shard := newShard(shardKey{})
	deliver := func(start int64, batches []byte) {
		part := kmsg.NewFetchResponseTopicPartition()
		part.LogStartOffset, part.RecordBatches = start, batches
		c.reader.deliverPartition(shard, live, &part, fetchPoint{0, -1})
	}
	deliver(1<<40, batchtest.Simple(0, "a"))
	deliver(0, batchtest.Simple(1, "b", "c"))
	deliver(2, batchtest.Simple(3, "d"))
	if from := live.tail.From(); from != 2 {
		t.Errorf("the tail begins at %d, want 2, where the log starts", from)
	}
}

// TestOneWrongVersionDoesNotEndTheServer has a broker claim once that it lacks requests that Herald needs.
func TestOneWrongVersionDoesNotEndTheServer(t *testing.T) {
	t.Parallel()
	for _, wrong := range []int32{1, 1000} {
		b := newBroker(t, kfake.SeedTopics(1, "t"))
		var asked atomic.Int32
		b.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
			b.KeepControl()
			if asked.Add(1) <= 1 || asked.Load() > 1+wrong { // kafka-go asks first
				return nil, nil, false
			}
			res := req.ResponseKind().(*kmsg.ApiVersionsResponse)
			res.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: int16(kmsg.Fetch), MaxVersion: 12}}
			return res, nil, true
		})
		c := configured(t, b.ListenAddrs(), newLedger(), "t")
		err := c.cluster.CheckVersions(t.Context())
		c.cluster.Close()
		if unsupported := errors.Is(err, broker.ErrUnsupported); unsupported != (wrong > 1) {
			t.Errorf("%d wrong answers: error %v", wrong, err)
		}
	}
}
