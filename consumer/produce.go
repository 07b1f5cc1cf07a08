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

// ErrNoTopic says that a topic does not exist. [Producer.Produce] returns it if the cluster does not create
// the topic of the record. [TableReader.Ready] returns it while the topic of the table does not exist.
var ErrNoTopic = errors.New("topic does not exist")

// createTimeout is how long Produce waits for a topic that is being created: Kafka's answer to the metadata
// request that creates a topic still says that the topic does not exist.
const createTimeout = 2 * time.Second

// produceIdle is how long an idle connection is kept. It is short because a record that is sent on a
// connection closed by a restarted broker may have been written or not, and only the caller can decide
// whether to send it again.
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
	TopicID    [16]byte // of the topic that the record went to (KIP-516); a local id ([IsLocalID]) if Kafka has not reported it
	Partitions int      // how many partitions the topic has
	Created    bool     // the topic did not exist before
}

// Producer writes single records and returns their positions. It is safe for concurrent use.
//
// It does not use kafka-go's Writer, which returns no offset, nor kafka.Client.Produce. The client's
// transport (v0.4.51) sends a record to the leader in its own copy of the metadata and refreshes this copy
// on a timer, while Producer sends each record to the leader in metadata that it has just asked for. After
// a new election the client would go on asking the old leader until its copy is refreshed.
type Producer struct {
	cluster *broker.Cluster
}

// NewProducer returns a producer for the cluster at brokers (host:port). tlsConfig and mechanism
// may be nil.
func NewProducer(brokers []string, tlsConfig *tls.Config, mechanism sasl.Mechanism) *Producer {
	return &Producer{broker.NewCluster(brokers, tlsConfig, mechanism, produceIdle)}
}

// Connections returns the number of connections to brokers that are open.
func (p *Producer) Connections() int { return p.cluster.Connections() }

// Renewals returns how many times the log-in of an open connection was renewed, and how many times that failed.
func (p *Producer) Renewals() (succeeded, failed int64) { return p.cluster.Renewals() }

// Close closes idle connections.
func (p *Producer) Close() { p.cluster.Close() }

// Produce writes one record, acknowledged by all in-sync replicas, and returns its position. The message's
// partitioner chooses the partition from the key; a record without a key may get any partition. A topic that
// does not exist is created if the cluster and the message allow it. Otherwise the error is [ErrNoTopic].
//
// After an error that is not a broker's answer (a time-out, a closed connection) the record may have been
// written all the same.
func (p *Producer) Produce(ctx context.Context, m Message) (Written, error) {
	ctx, cancel := context.WithTimeout(ctx, broker.RequestTimeout)
	defer cancel()
	create := false        // until a broker says that there is no topic, so that Created is right
	var createBy time.Time // until when Produce waits for the topic that it has asked for
	for {
		at, err := p.produce(ctx, m, create)
		at.Created = create
		missing := !m.Existing && errors.Is(err, ErrNoTopic)
		if missing && !create {
			create, createBy = true, time.Now().Add(createTimeout)
			continue
		}
		coming := missing && time.Now().Before(createBy)
		if err == nil || !coming && !retriable(err) {
			return at, err
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return Written{}, err
		}
	}
}

// retriable says whether a broker refused a record that it, or another broker, will soon accept.
func retriable(err error) bool {
	return errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.LeaderNotAvailable) ||
		errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kafka.BrokerNotAvailable) ||
		errors.Is(err, kerr.NotEnoughReplicas) // nothing was written, unlike NotEnoughReplicasAfterAppend
}

// produce tries once. With create, it asks the cluster to create a topic that does not exist.
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
	at := Written{Position: Position{part, got.BaseOffset}, TopicID: topic.ID, Partitions: len(topic.Leaders)}
	if at.TopicID == [16]byte{} {
		at.TopicID = unknownID
	}
	return at, nil
}

// choosePartition returns the partition of the record in a topic of count partitions.
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
