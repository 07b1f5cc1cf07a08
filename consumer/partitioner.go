package consumer

import (
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"

	"herald/consumer/spelling"
)

// Partitioner is the rule by which the producers of a topic choose a record's partition from its key. The
// zero value means that the rule is not known, or that producers use several.
type Partitioner string

// The partitioners. Each puts all records of a key into one partition for a given number of
// partitions.
const (
	// Murmur2 is the default of Kafka's Java client (BuiltInPartitioner.partitionForKey) and of franz-go,
	// and the rule of librdkafka with partitioner=murmur2_random.
	Murmur2 Partitioner = "murmur2"
	// CRC32 is the default of librdkafka (consistent_random) and of the clients built on it.
	CRC32 Partitioner = "crc32"
	// FNV1a is sarama's default (NewHashPartitioner) and the rule of kafka-go's Hash balancer.
	FNV1a Partitioner = "fnv1a"
)

var partitioners = []Partitioner{Murmur2, CRC32, FNV1a}

// parse sets the partitioner that the text of a route names.
func (p *Partitioner) parse(text string) error {
	names := make([]string, 0, len(partitioners))
	for _, known := range partitioners {
		if text == string(known) {
			*p = known
			return nil
		}
		names = append(names, string(known))
	}
	meant := strings.TrimSuffix(text, "_random") // as in librdkafka's names
	if meant == "consistent" {
		meant = string(CRC32)
	}
	return fmt.Errorf("partitioner %q: want %s%s", text, strings.Join(names, ", "), spelling.Suggest(meant, names))
}

// choose returns the partition of a record with the key in a topic of count partitions, at least one. A
// record without a key may get any partition. The zero Partitioner chooses like [Murmur2].
func (p Partitioner) choose(key []byte, count int) int32 {
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
