package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TopicMetadata is what the cluster says about one topic.
type TopicMetadata struct {
	ID      [16]byte // zero if the broker does not know ids
	Leaders []int32  // the broker that leads each partition; -1 for none
	Epochs  []int32  // the epoch of each partition's leader (KIP-320); -1 if the broker does not know epochs
	Err     error    // why the topic cannot be read; nil if it can
	Rights  Rights   // only from [Cluster.DescribeTopics]
}

// Missing reports whether the cluster is sure that the topic does not exist.
func (t *TopicMetadata) Missing() bool {
	return errors.Is(t.Err, kerr.UnknownTopicOrPartition)
}

// errNoBrokers says that a broker has just started, and has not heard from the controller which brokers there are.
var errNoBrokers = errors.New("the broker knows no brokers yet")

// FetchMetadata returns the metadata of the named topics, and learns which brokers the cluster has. With
// no names it does only the latter, and shows that a broker answers. With create, the broker creates
// topics that do not exist if it allows that (auto.create.topics.enable).
func (c *Cluster) FetchMetadata(ctx context.Context, names []string, create bool) (map[string]TopicMetadata, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = create
	return c.requestMetadata(ctx, req, names)
}

// DescribeTopics is [Cluster.FetchMetadata] with the rights that this client has on each topic (KIP-430). It creates
// no topic.
func (c *Cluster) DescribeTopics(ctx context.Context, names []string) (map[string]TopicMetadata, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	return c.requestMetadata(ctx, req, names)
}

func (c *Cluster) requestMetadata(ctx context.Context, req *kmsg.MetadataRequest, names []string) (map[string]TopicMetadata, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	req.Topics = []kmsg.MetadataRequestTopic{} // empty: no topics; nil would mean all topics
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = new(name)
		req.Topics = append(req.Topics, topic)
	}
	res, err := c.RequestAny(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(res.(*kmsg.MetadataResponse).Brokers) == 0 { // it would report that no topic exists
		return nil, errNoBrokers
	}
	hosts := c.roster.update(res.(*kmsg.MetadataResponse).Brokers)
	topics := make(map[string]TopicMetadata, len(names))
	for _, t := range res.(*kmsg.MetadataResponse).Topics {
		if t.Topic == nil {
			continue
		}
		m := TopicMetadata{ID: t.TopicID, Leaders: make([]int32, len(t.Partitions)), Epochs: make([]int32, len(t.Partitions)), Rights: Rights(t.AuthorizedOperations)}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			m.Err = fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		for i := range m.Leaders {
			m.Leaders[i], m.Epochs[i] = -1, -1
		}
		for _, p := range t.Partitions {
			_, listed := hosts[p.Leader] // Kafka names only leaders that it lists
			if listed && p.Partition >= 0 && int(p.Partition) < len(m.Leaders) {
				m.Leaders[p.Partition], m.Epochs[p.Partition] = p.Leader, p.LeaderEpoch
			}
		}
		topics[*t.Topic] = m
	}
	return topics, nil
}

// FetchTopicConfig returns the value of one setting of a topic. Kafka wants the right DESCRIBE_CONFIGS on the topic.
func (c *Cluster) FetchTopicConfig(ctx context.Context, topic, setting string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{setting}
	req.Resources = append(req.Resources, resource)
	res, err := c.RequestAny(ctx, req)
	if err != nil {
		return "", err
	}
	for _, r := range res.(*kmsg.DescribeConfigsResponse).Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return "", fmt.Errorf("settings of topic %s: %w", topic, err)
		}
		for _, config := range r.Configs {
			if config.Name == setting && config.Value != nil {
				return *config.Value, nil
			}
		}
	}
	return "", fmt.Errorf("settings of topic %s: no %s in the answer", topic, setting)
}
