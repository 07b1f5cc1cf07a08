package consumer

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestContractDoubtEnds puts partitions in doubt, as metadata does that reports a topic missing or with more partitions.
// The doubt ends also in a partition without records, of which a fetch session has no news.
func TestContractDoubtEnds(t *testing.T) {
	k := newContract(t)
	name := k.topic(t, "doubt", 2)
	k.write(t, k.client, name, 0, "alice", "1", "2")
	c, _ := k.read(t, "doubt")
	time.Sleep(time.Second) // both partitions have an answer
	for id := range int32(2) {
		p := c.reader.livePartition(Partition{Topic: name, ID: id})
		p.doubt()
		waitFor(t, fmt.Sprint("no doubt about partition ", id), func() bool { return !p.isInDoubt() })
	}
}

// stage is what a broker answers about the only partition of the topic t, as far as it differs from the truth.
type stage struct {
	epoch int32 // of the leader
	end   int64 // of the log; -1: the true one
}

// play makes the broker answer by the stage. It accepts every epoch in fetches.
func play(b *kfake.Cluster, at *atomic.Pointer[stage]) {
	b.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		now := at.Load()
		switch req := req.(type) {
		case *kmsg.MetadataRequest:
			return now.metadata(b, req), nil, true
		case *kmsg.ListOffsetsRequest:
			if now.end >= 0 && req.Topics[0].Partitions[0].Timestamp == -1 {
				return now.offsets(req), nil, true
			}
		case *kmsg.FetchRequest:
			for i := range req.Topics {
				for j := range req.Topics[i].Partitions {
					req.Topics[i].Partitions[j].CurrentLeaderEpoch = -1
				}
			}
			if now.end >= 0 {
				return now.fetch(req), nil, true
			}
		}
		return nil, nil, false
	})
}

func (s *stage) metadata(b *kfake.Cluster, req *kmsg.MetadataRequest) kmsg.Response {
	host, port, _ := net.SplitHostPort(b.ListenAddrs()[0])
	number, _ := strconv.ParseInt(port, 10, 32)
	res := req.ResponseKind().(*kmsg.MetadataResponse)
	broker := kmsg.NewMetadataResponseBroker()
	broker.Host, broker.Port = host, int32(number)
	res.Brokers = append(res.Brokers, broker)
	for i := range req.Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = req.Topics[i].Topic
		part := kmsg.NewMetadataResponseTopicPartition()
		part.LeaderEpoch = s.epoch
		topic.Partitions = append(topic.Partitions, part)
		res.Topics = append(res.Topics, topic)
	}
	return res
}

func (s *stage) offsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	topic := kmsg.NewListOffsetsResponseTopic()
	topic.Topic = "t"
	part := kmsg.NewListOffsetsResponseTopicPartition()
	part.Offset = s.end
	topic.Partitions = append(topic.Partitions, part)
	res.Topics = append(res.Topics, topic)
	return res
}

func (s *stage) fetch(req *kmsg.FetchRequest) kmsg.Response {
	time.Sleep(50 * time.Millisecond)
	res := req.ResponseKind().(*kmsg.FetchResponse)
	if len(req.Topics) == 0 {
		res.ErrorCode = kerr.FetchSessionIDNotFound.Code
		return res
	}
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic = "t"
	part := kmsg.NewFetchResponseTopicPartition()
	part.HighWatermark, part.LastStableOffset, part.LogStartOffset = s.end, s.end, 0
	if req.Topics[0].Partitions[0].FetchOffset > s.end {
		part.ErrorCode = kerr.OffsetOutOfRange.Code
	}
	topic.Partitions = append(topic.Partitions, part)
	res.Topics = append(res.Topics, topic)
	return res
}

// startStaged starts a broker without topic ids, and a consumer that has read five records of an epoch.
func startStaged(t *testing.T, epoch int32) (at *atomic.Pointer[stage], c *Consumer, sink *ledger, producer *Producer, read []string) {
	t.Helper()
	b := newBroker(t, kfake.MaxVersions(kversion.V2_1_0()), kfake.SeedTopics(1, "t"))
	at = new(atomic.Pointer[stage])
	at.Store(&stage{epoch, -1})
	play(b, at)
	c, sink, producer = startAt(t, b, "t")
	ready(t, c)
	read = sequence(t, producer, "t", "alice", "a", 5)
	sink.wantLines(t, read)
	return at, c, sink, producer, read
}

// TestOutdatedEpoch has a broker report, and accept, an earlier epoch than before, as a broker does that the controller
// does not reach. The topic is not another one for that.
func TestOutdatedEpoch(t *testing.T) {
	t.Parallel()
	at, c, sink, producer, want := startStaged(t, 5)
	id := topicID(t, c, "t")
	time.Sleep(1500 * time.Millisecond)
	for _, epoch := range []int32{4, 5, 4} {
		at.Store(&stage{epoch, -1})
		for range 8 {
			c.topics.doubt("t")
			time.Sleep(260 * time.Millisecond)
		}
		want = append(want, sequence(t, producer, "t", "alice", fmt.Sprint("b", len(want)), 3)...)
		sink.wantLines(t, sortedCopy(want))
	}
	if topicID(t, c, "t") != id {
		t.Error("the topic counts as created again")
	}
}

// TestDoubtEndsAfterCut cuts the end of a log off, as an unclean election does. Then nothing is written. Streams can read
// the partition again.
func TestDoubtEndsAfterCut(t *testing.T) {
	t.Parallel()
	at, c, sink, _, _ := startStaged(t, 5)
	time.Sleep(1500 * time.Millisecond)
	p := c.reader.livePartition(Partition{Topic: "t"})
	at.Store(&stage{6, 3})
	p.doubt()
	c.topics.doubt("t")
	if gap := sink.waitGap(t); gap.Reason != GapUnknownID || gap.To != 3 {
		t.Errorf("gap %+v", gap)
	}
	waitFor(t, "no doubt", func() bool { return !p.isInDoubt() })
	if _, end, err := c.Range(t.Context(), p.Partition, p.topicID); err != nil || end != 3 {
		t.Errorf("end %d, error %v", end, err)
	}
}

// TestFollowerLagsBehind has a follower answer without the last record. Live reading returns to the leader, and does not
// take the topic for another one.
func TestFollowerLagsBehind(t *testing.T) {
	t.Parallel()
	_, c, _, _, _ := startStaged(t, 5)
	p := c.reader.livePartition(Partition{Topic: "t"})
	c.reader.mu.Lock()
	p.follower, p.preferred = 7, time.Now()
	c.reader.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.reader.denyLocked(p)
	c.reader.mu.Lock()
	defer c.reader.mu.Unlock()
	if p.follower >= 0 || p.denials > 0 {
		t.Errorf("follower %d, %d denials", p.follower, p.denials)
	}
}

// TestBrokerWithoutBrokers has a broker report that nothing exists, as one does that has just started.
func TestBrokerWithoutBrokers(t *testing.T) {
	t.Parallel()
	b := newBroker(t, kfake.SeedTopics(1, "own.alice"))
	var left atomic.Int32
	left.Store(3)
	b.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		asks, ok := req.(*kmsg.MetadataRequest)
		if !ok || len(asks.Topics) == 0 || left.Add(-1) < 0 {
			return nil, nil, false
		}
		res := asks.ResponseKind().(*kmsg.MetadataResponse)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.ErrorCode = asks.Topics[0].Topic, kerr.UnknownTopicOrPartition.Code
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	c, sink, producer := startAt(t, b, "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if c.topics.idOf("own.alice") == [16]byte{} {
		t.Error("the topic counts as missing")
	}
	sink.wantLines(t, sequence(t, producer, "own.alice", "alice", "a", 2))
}
