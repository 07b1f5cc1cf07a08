package consumer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/broker"
)

// ErrNoTopic says that a record's topic does not exist and the cluster does not create it.
var ErrNoTopic = errors.New("topic does not exist")

// createTimeout is how long a topic that does not exist is waited for: Kafka answers the request
// that has it created as if it were not going to be.
const createTimeout = 2 * time.Second

// produceIdle is short, because a record sent on a connection that a restarted broker has closed may
// have been written or not, and only the caller can know whether to send it again.
const produceIdle = 3 * time.Second

// Message is a record to write.
type Message struct {
	Topic   string
	Key     []byte // nil: null; records with the same key go to the same partition
	Value   []byte // nil: null
	Headers []Header

	Partitioner Partitioner // how the key chooses the partition; default Murmur2
	Existing    bool        // the topic is not created if it does not exist
}

// Written is where a record went.
type Written struct {
	Position
	TopicID    [16]byte // of the topic that the record went to (KIP-516)
	Partitions int      // how many partitions the topic has
	Created    bool     // the topic did not exist before
}

// Producer writes single records and says where they went, which kafka-go's Writer does not. It
// is safe for concurrent use.
type Producer struct {
	cluster *broker.Cluster
}

// NewProducer returns a producer for the cluster at brokers (host:port). tlsConfig and mechanism
// may be nil.
func NewProducer(brokers []string, tlsConfig *tls.Config, mechanism sasl.Mechanism) *Producer {
	return &Producer{broker.NewCluster(brokers, tlsConfig, mechanism, produceIdle)}
}

// Close closes idle connections.
func (p *Producer) Close() { p.cluster.Close() }

// Produce writes one record, acknowledged by all in-sync replicas, and returns where it went. The
// partition follows from the key as the message's partitioner has it, and is any one without a key. A
// topic that does not exist is created where the cluster and the message allow it; otherwise the error is
// [ErrNoTopic].
//
// After an error that is not the broker's word (a time-out, a closed connection) the record may
// have been written all the same.
func (p *Producer) Produce(ctx context.Context, m Message) (Written, error) {
	ctx, cancel := context.WithTimeout(ctx, broker.RequestTimeout)
	defer cancel()
	wanted := time.Now().Add(createTimeout)
	create := false // not before it is known that there is no topic, for the caller to be told
	for {
		at, err := p.produce(ctx, m, create)
		at.Created = create
		missing := !m.Existing && errors.Is(err, ErrNoTopic)
		if missing && !create {
			create = true
			continue
		}
		coming := missing && time.Now().Before(wanted)
		if err == nil || !coming && !retriable(err) {
			return at, err
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return Written{}, err
		}
	}
}

// retriable says whether the broker refused a record that it, or another one, will soon take.
func retriable(err error) bool {
	return errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.LeaderNotAvailable) ||
		errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kafka.BrokerNotAvailable) ||
		errors.Is(err, kerr.NotEnoughReplicas) // nothing was written, unlike NotEnoughReplicasAfterAppend
}

// produce tries once. With create, a topic that does not exist is asked for.
func (p *Producer) produce(ctx context.Context, m Message, create bool) (Written, error) {
	found, err := p.cluster.FetchMetadata(ctx, []string{m.Topic}, create)
	if err != nil {
		return Written{}, err
	}
	topic := found[m.Topic]
	if topic.Missing() {
		return Written{}, fmt.Errorf("produce to %s: %w", m.Topic, ErrNoTopic)
	}
	if topic.Err != nil {
		return Written{}, topic.Err
	}
	part := choosePartition(m, len(topic.Leaders))
	if len(topic.Leaders) == 0 || topic.Leaders[part.ID] < 0 {
		return Written{}, fmt.Errorf("produce to %s: %w", part, kerr.LeaderNotAvailable)
	}
	batch, err := encode(m)
	if err != nil {
		return Written{}, fmt.Errorf("produce to %s: %w", part, err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Version = 9
	req.Acks = -1
	req.TimeoutMillis = int32(broker.RequestTimeout / time.Millisecond)
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = part.ID, batch
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.Partitions = m.Topic, append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	res, err := p.cluster.Request(ctx, topic.Leaders[part.ID], req, nil)
	if err != nil {
		return Written{}, err
	}
	answer := res.(*kmsg.ProduceResponse).Topics
	if len(answer) != 1 || len(answer[0].Partitions) != 1 {
		return Written{}, fmt.Errorf("produce to %s: no answer for it", part)
	}
	got := &answer[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return Written{}, fmt.Errorf("produce to %s: %w", part, err)
	}
	return Written{Position: Position{part, got.BaseOffset}, TopicID: topic.ID, Partitions: len(topic.Leaders)}, nil
}

// choosePartition says where the record goes in a topic with so many partitions.
func choosePartition(m Message, count int) Partition {
	if count == 0 {
		return Partition{Topic: m.Topic}
	}
	return Partition{Topic: m.Topic, ID: m.Partitioner.choose(m.Key, count)}
}

// encode returns the record as a batch of its own.
func encode(m Message) ([]byte, error) {
	record := protocol.Record{Time: time.Now()}
	if m.Key != nil {
		record.Key = protocol.NewBytes(m.Key)
	}
	if m.Value != nil {
		record.Value = protocol.NewBytes(m.Value)
	}
	for _, h := range m.Headers {
		record.Headers = append(record.Headers, protocol.Header{Key: h.Key, Value: h.Value})
	}
	set := protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(record)}
	var b bytes.Buffer
	if _, err := set.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b.Bytes()[4:], nil // without the size in front, which the request adds itself
}
