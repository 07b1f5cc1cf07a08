package consumer

import (
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"
)

// Partitioner is how the producers of a topic choose a record's partition by its key. The zero value
// is that of topics whose producers do not agree on one.
type Partitioner string

// The partitioners. Each puts all records of a key into one partition for a given number of
// partitions.
const (
	// Murmur2 is that of Kafka's Java client (BuiltInPartitioner.partitionForKey), franz-go, and of
	// librdkafka with partitioner=murmur2_random.
	Murmur2 Partitioner = "murmur2"
	// CRC32 is librdkafka's default (consistent_random) and so that of the clients built on it.
	CRC32 Partitioner = "crc32"
	// FNV1a is sarama's default (NewHashPartitioner) and that of kafka-go's Hash balancer.
	FNV1a Partitioner = "fnv1a"
)

var partitioners = []Partitioner{Murmur2, CRC32, FNV1a}

// set reads a partitioner as routes spell it.
func (p *Partitioner) set(text string) error {
	names := make([]string, 0, len(partitioners))
	for _, known := range partitioners {
		if text == string(known) {
			*p = known
			return nil
		}
		names = append(names, string(known))
	}
	return fmt.Errorf("partitioner %q: want %s", text, strings.Join(names, ", "))
}

// partition returns where a record with the key goes among count partitions, of which there is at
// least one. Records without a key, for which there is no rule, go anywhere. The zero Partitioner is
// taken for Murmur2, as one has to be chosen.
func (p Partitioner) partition(key []byte, count int) int32 {
	all := make([]int, count)
	for i := range all {
		all[i] = i
	}
	var balancer kafka.Balancer
	switch p {
	case CRC32:
		balancer = kafka.CRC32Balancer{}
	case FNV1a:
		balancer = &kafka.Hash{}
	default:
		balancer = kafka.Murmur2Balancer{}
	}
	return int32(balancer.Balance(kafka.Message{Key: key}, all...)) //nolint:gosec // less than count
}
