package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestInterleavedTransactions writes to one partition with two transactional producers and one producer without
// transactions, in turn. In each round, none, one or both of the transactions are aborted.
func TestInterleavedTransactions(t *testing.T) {
	t.Parallel()
	b := sharedBroker(t)
	topic := b.newTopic(t, "transactions", 1)
	h := startHerald(t, b, "--topic="+topic)
	live := openStream(t, h, "alice")
	start := live.LastID
	var clients [2]*kgo.Client
	for i := range clients {
		client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(fmt.Sprint(topic, i)), kgo.ProducerLinger(0))
		if err != nil {
			t.Fatalf("transactional producer: %v", err)
		}
		defer client.Close()
		clients[i] = client
	}
	var want []string
	for round, commits := range [][2]kgo.TransactionEndTry{{false, true}, {true, false}, {false, false}, {true, true}, {false, true}} {
		for _, client := range clients {
			if err := client.BeginTransaction(); err != nil {
				t.Fatalf("begin transaction: %v", err)
			}
		}
		for n := range 10 {
			for i, client := range clients {
				value := fmt.Sprintf("round %d, producer %d, commit %t, %d", round, i, commits[i], n)
				if err := client.ProduceSync(t.Context(), record(topic, "alice", value)).FirstErr(); err != nil {
					t.Fatalf("produce in a transaction: %v", err)
				}
				if commits[i] {
					want = append(want, value)
				}
			}
			value := fmt.Sprintf("round %d, no transaction, %d", round, n)
			b.produce(t, record(topic, "alice", value), record(topic, "bob", value))
			want = append(want, value)
		}
		for i := range clients { // in every other round, the transaction that began last ends first
			i ^= round & 1
			if err := clients[i].EndTransaction(t.Context(), commits[i]); err != nil {
				t.Fatalf("end transaction: %v", err)
			}
		}
	}
	if diff := cmp.Diff(want, live.Values(len(want))); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	live.LastID = start
	live.Reconnect()
	if diff := cmp.Diff(want, live.Values(len(want))); diff != "" {
		t.Errorf("by replay (-want +got):\n%s", diff)
	}
	b.produce(t, record(topic, "alice", "last"))
	if got := live.Record().Data; got != "last" {
		t.Errorf("got %q after the transactions, want the last record", got)
	}
}

// TestAllCodecsAreRead writes batches of one and of a thousand records in each of Kafka's codecs to one
// partition, with headers and users mixed.
func TestAllCodecsAreRead(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "codecs", 1)
	h := startHerald(t, b, "--topic="+topic+",user=header:owner")
	live := openStream(t, h, "alice")
	start := live.LastID
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	type got struct{ Type, Data string }
	var want []got
	for name, codec := range codecs {
		for _, size := range []int{1, 1000, 1} {
			client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.ProducerBatchCompression(codec),
				kgo.ProducerLinger(100*time.Millisecond)) // so that all records of a call are in one batch
			if err != nil {
				t.Fatalf("producer: %v", err)
			}
			var batch []*kgo.Record
			for n := range size {
				value := fmt.Sprintf("%s %d/%d %s", name, n, size, strings.Repeat("x", n))
				r := &kgo.Record{Topic: topic, Value: []byte(value), Headers: []kgo.RecordHeader{
					{Key: "event-type", Value: []byte("hidden")},
					{Key: "", Value: nil},
					{Key: "owner", Value: []byte("bob")},
					{Key: "bytes", Value: []byte{0, 255, 10}},
					{Key: "event-type", Value: []byte(name)},
					{Key: "owner", Value: []byte("alice")},
				}}
				if n%3 == 1 { // of several headers with one name, the last one counts
					r.Headers = append(r.Headers, kgo.RecordHeader{Key: "owner", Value: []byte("bob")})
				} else {
					want = append(want, got{name, value})
				}
				batch = append(batch, r)
			}
			err = client.ProduceSync(t.Context(), batch...).FirstErr()
			client.Close()
			if err != nil {
				t.Fatalf("produce %s: %v", name, err)
			}
		}
	}
	read := func(how string) {
		var all []got
		for range want {
			e := live.Record()
			all = append(all, got{e.Type, e.Data})
		}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Errorf("%s (-want +got):\n%.2000s", how, diff)
		}
	}
	read("live")
	live.LastID = start
	live.Reconnect()
	read("by replay")
}
