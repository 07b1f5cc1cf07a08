package broker

import "fmt"

// Partition names one partition of one topic.
type Partition struct {
	Topic string
	ID    int32
}

// String returns topic and partition as Kafka's own tools write them: "orders-3".
func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.ID) }
