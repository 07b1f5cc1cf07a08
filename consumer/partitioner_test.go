package consumer

import (
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPartitionersAreThoseOfTheClients compares them with what franz-go and sarama do by default, and
// CRC-32 with librdkafka's rule (rd_kafka_msg_partitioner_consistent): keys of text, UTF-8 and bytes of
// any kind. The clients that are not Go are asked in integration.
func TestPartitionersAreThoseOfTheClients(t *testing.T) {
	keys := [][]byte{[]byte("a"), []byte(" "), []byte("alice"), []byte("user@example.com"), []byte("Zoë"), []byte("日本語"), {0}, {0xff}, {0x80, 0x81, 0x82, 0x83, 0x84}, []byte(strings.Repeat("long", 1000))}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		key := make([]byte, 1+random.IntN(40))
		for i := range key {
			key[i] = byte(random.IntN(256))
		}
		keys = append(keys, key)
	}
	franz := kgo.StickyKeyPartitioner(nil).ForTopic("orders")
	hash := sarama.NewHashPartitioner("orders")
	for _, count := range []int{1, 2, 3, 7, 50, 1000} {
		for _, key := range keys {
			if got, want := Murmur2.partition(key, count), franz.Partition(&kgo.Record{Key: key}, count); int(got) != want {
				t.Errorf("murmur2 of %q over %d: %d, franz-go has %d", key, count, got, want)
			}
			want, err := hash.Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}, int32(count))
			if got := FNV1a.partition(key, count); err != nil || got != want {
				t.Errorf("fnv1a of %q over %d: %d, sarama has %d (%v)", key, count, got, want, err)
			}
			if got, want := CRC32.partition(key, count), crc32.ChecksumIEEE(key)%uint32(count); uint32(got) != want {
				t.Errorf("crc32 of %q over %d: %d, want %d", key, count, got, want)
			}
		}
	}
}
