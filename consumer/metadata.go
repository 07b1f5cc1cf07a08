package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataVersion carries topic ids (KIP-516). Kafka 2.8 or later.
const metadataVersion = 10

// topicMetadata is what the cluster says of one topic.
type topicMetadata struct {
	id      [16]byte
	leaders []int32 // by partition; -1 without a leader
	err     error   // why the topic cannot be read
}

// missing says that the cluster is sure there is no such topic.
func (t *topicMetadata) missing() bool {
	return errors.Is(t.err, kerr.UnknownTopicOrPartition)
}

// metadata asks about the named topics; none is a sign of life only. With create, topics that do
// not exist are created where the broker allows it.
func (c *cluster) metadata(ctx context.Context, names []string, create bool) (map[string]topicMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = metadataVersion
	req.AllowAutoTopicCreation = create
	req.Topics = []kmsg.MetadataRequestTopic{} // empty: none; nil would mean all
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = new(name)
		req.Topics = append(req.Topics, topic)
	}
	res, err := c.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	c.brokers.set(res.(*kmsg.MetadataResponse).Brokers)
	topics := make(map[string]topicMetadata, len(names))
	for _, t := range res.(*kmsg.MetadataResponse).Topics {
		if t.Topic == nil {
			continue
		}
		m := topicMetadata{id: t.TopicID, leaders: make([]int32, len(t.Partitions))}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			m.err = fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		for i := range m.leaders {
			m.leaders[i] = -1
		}
		for _, p := range t.Partitions {
			if p.Partition >= 0 && int(p.Partition) < len(m.leaders) {
				m.leaders[p.Partition] = p.Leader
			}
		}
		topics[*t.Topic] = m
	}
	return topics, nil
}
