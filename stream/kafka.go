package stream

import (
	"context"
	"time"

	"herald/consumer"
)

// Kafka is the part of a consumer that streams use. [consumer.Consumer] implements it.
type Kafka interface {
	Join(ctx context.Context, user string) (topics []consumer.UserTopic, err error)
	Leave(user string)
	Replay(ctx context.Context, user string, ranges []consumer.Range, fn func(*consumer.Range, *consumer.Record) bool)
	Delivered(p consumer.Partition, topicID [16]byte, next int64)
	DeliveredTo(ctx context.Context, user string) (map[consumer.Partition]int64, error)
	Since(ctx context.Context, partitions []consumer.Partition, t time.Time) (map[consumer.Partition]int64, error)
	Confirm(ctx context.Context, topic string, topicID [16]byte) error
	Range(ctx context.Context, p consumer.Partition, topicID [16]byte) (start, end int64, err error)
	IsCurrent(topic string, topicID [16]byte, next func(partition int32) (offset int64, ok bool)) bool
}
