package consumer

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

var partitionCounts = []int{1, 2, 3, 7, 50, 1000}

// saramaVectors has the partition of each key for each of partitionCounts, as NewHashPartitioner of
// github.com/IBM/sarama v1.61.1 chooses it. saramaDigests has, for each of partitionCounts, the CRC-32
// (IEEE) of the partitions of all partitionerKeys, as big-endian numbers of 4 bytes one after another. Both
// were generated once with that version; they change only if sarama changes its default.
var (
	saramaVectors = map[string][]int32{
		"a":                          {0, 0, 0, 6, 26, 76},
		" ":                          {0, 1, 1, 4, 9, 159},
		"alice":                      {0, 1, 2, 5, 17, 817},
		"user@example.com":           {0, 1, 2, 5, 9, 909},
		"Zoë":                        {0, 0, 1, 1, 6, 956},
		"日本語":                        {0, 1, 1, 4, 45, 945},
		"\x00":                       {0, 1, 0, 5, 1, 351},
		"\xff":                       {0, 0, 2, 0, 6, 606},
		"\x80\x81\x82\x83\x84":       {0, 1, 0, 2, 41, 191},
		strings.Repeat("long", 1000): {0, 1, 1, 3, 25, 875},
	}
	saramaDigests = []uint32{0x8c627b95, 0x579785f7, 0x118acf5a, 0x4f588db9, 0x3d41fcd4, 0x1c15dfa9}
)

// partitionerKeys returns keys of text, of UTF-8 and of random bytes.
func partitionerKeys() [][]byte {
	keys := [][]byte{[]byte("a"), []byte(" "), []byte("alice"), []byte("user@example.com"), []byte("Zoë"), []byte("日本語"), {0}, {0xff}, {0x80, 0x81, 0x82, 0x83, 0x84}, []byte(strings.Repeat("long", 1000))}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		key := make([]byte, 1+random.IntN(40))
		for i := range key {
			key[i] = byte(random.IntN(256))
		}
		keys = append(keys, key)
	}
	return keys
}

// TestPartitionersChooseLikeTheClients compares Murmur2 with franz-go's default, FNV1a with sarama's
// default, and CRC32 with librdkafka's rule (rd_kafka_msg_partitioner_consistent). The integration tests
// compare the clients that are not written in Go.
func TestPartitionersChooseLikeTheClients(t *testing.T) {
	franz := kgo.StickyKeyPartitioner(nil).ForTopic("orders")
	for i, count := range partitionCounts {
		var chosen []byte
		for _, key := range partitionerKeys() {
			if got, want := Murmur2.choose(key, count), franz.Partition(&kgo.Record{Key: key}, count); int(got) != want {
				t.Errorf("murmur2 of %q with %d partitions is %d, franz-go has %d", key, count, got, want)
			}
			got := FNV1a.choose(key, count)
			if vector := saramaVectors[string(key)]; vector != nil && got != vector[i] {
				t.Errorf("fnv1a of %q with %d partitions is %d, sarama has %d", key, count, got, vector[i])
			}
			chosen = binary.BigEndian.AppendUint32(chosen, uint32(got))
			if got, want := CRC32.choose(key, count), crc32.ChecksumIEEE(key)%uint32(count); uint32(got) != want {
				t.Errorf("crc32 of %q with %d partitions is %d, want %d", key, count, got, want)
			}
		}
		if got := crc32.ChecksumIEEE(chosen); got != saramaDigests[i] {
			t.Errorf("fnv1a with %d partitions: the digest of all choices is %08x, sarama's is %08x", count, got, saramaDigests[i])
		}
	}
}
