package consumer

import (
	"context"
	"fmt"
	"strings"

	"herald/consumer/broker"
)

// checkCompacted returns an error if Kafka deletes records of the topic by age or size. Such a topic loses the latest
// record of a key. checkCompacted returns nil if Kafka does not say: the right to ask (DESCRIBE_CONFIGS) is not among
// the rights that Herald needs.
func checkCompacted(ctx context.Context, cluster *broker.Cluster, topic string) error {
	policy, err := cluster.FetchTopicConfig(ctx, topic, "cleanup.policy")
	if err != nil || !strings.Contains(policy, "delete") {
		return nil //nolint:nilerr // see above
	}
	return fmt.Errorf("topic %s has cleanup.policy=%s, so Kafka deletes its records by age or size: set cleanup.policy=compact", topic, policy)
}

// CheckCompacted returns an error if Kafka deletes records of the topic by age or size, and nil if Kafka does not say.
func (p *Producer) CheckCompacted(ctx context.Context, topic string) error {
	return checkCompacted(ctx, p.cluster, topic)
}

// CheckCompacted returns an error if Kafka deletes records of the table's topic by age or size, and nil if Kafka does
// not say.
func (r *TableReader) CheckCompacted(ctx context.Context) error {
	return checkCompacted(ctx, r.consumer.cluster, r.topic)
}
