package consumer

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/batch/batchtest"
	"herald/consumer/broker"
)

// fetchVersion names topics by id.
const fetchVersion = 13

// fetchResponse returns a broker's answer as bytes: the size, the correlation ID, no tags, and the
// response.
func fetchResponse(topicID [16]byte, parts ...kmsg.FetchResponseTopicPartition) []byte {
	res := kmsg.NewPtrFetchResponse()
	res.Version = fetchVersion
	topic := kmsg.NewFetchResponseTopic()
	topic.TopicID, topic.Partitions = topicID, parts
	res.Topics = append(res.Topics, topic)
	body := res.AppendTo([]byte{0, 0, 0, 1, 0})
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// idle returns a consumer that sends no requests, and its live partition t/0.
func idle(t *testing.T, topicID [16]byte) (*Consumer, *livePartition) {
	t.Helper()
	c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "t")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.reader.ctx = ctx
	f := &livePartition{Partition: Partition{Topic: "t", ID: 0}, route: &Route{Topic: "t"}, topicID: topicID, tail: c.reader.tail.Begin(0), follower: -1}
	c.reader.partitions[f.Partition] = f
	return c, f
}

// TestRecordsWithManyHeadersTakeLittleMemory checks that the consumer delivers a batch in parts if its
// records have the largest number of headers. These headers take twenty times as much memory as bytes in
// the batch.
func TestRecordsWithManyHeadersTakeLittleMemory(t *testing.T) {
	const count = 40
	headers := make([]kmsg.Header, batch.MaxHeaders)
	var records []kmsg.Record
	for i := range int32(count) {
		records = append(records, kmsg.Record{OffsetDelta: i, Headers: headers})
	}
	part := kmsg.NewFetchResponseTopicPartition()
	part.RecordBatches = batchtest.Make(kmsg.RecordBatch{}, records...)
	c, f := idle(t, [16]byte{1})
	before := allocated()
	if !c.reader.deliverPartition(&shard{}, f, &part, fetchPoint{0, -1}) || f.next != count {
		t.Errorf("next offset %d, want %d", f.next, count)
	}
	if got := allocated() - before; got > 32<<20 {
		t.Errorf("%d MiB allocated for a batch of %d MiB, want at most 32 MiB", got>>20, len(part.RecordBatches)>>20)
	}
}

// addFetchSeeds adds answers with records, errors and a preferred replica to the corpus.
func addFetchSeeds(f *testing.F, topicID [16]byte) {
	f.Helper()
	record, err := encode(Message{Key: []byte("alice"), Value: []byte("x"), Headers: []Header{{Key: "event-type", Value: []byte("news")}}})
	if err != nil {
		f.Fatal(err)
	}
	good := kmsg.NewFetchResponseTopicPartition()
	good.RecordBatches, good.HighWatermark, good.LastStableOffset = record, 1, 1
	f.Add(fetchResponse(topicID, good))
	moved := kmsg.NewFetchResponseTopicPartition()
	moved.ErrorCode = 6
	f.Add(fetchResponse(topicID, moved, good))
	nearer := kmsg.NewFetchResponseTopicPartition()
	nearer.PreferredReadReplica = 2
	f.Add(fetchResponse(topicID, nearer))
	aborted := good
	aborted.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 0}}
	f.Add(fetchResponse(topicID, aborted))
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1})
}

// FuzzFetchResponse passes any bytes as the answer to a fetch, to the live reader and to a replay. Nothing
// panics, hangs or moves an offset back, and the memory allocated stays in proportion to the answer and to
// the largest size that a batch may decompress to.
func FuzzFetchResponse(f *testing.F) {
	topicID := [16]byte{1}
	addFetchSeeds(f, topicID)
	f.Fuzz(func(t *testing.T, answer []byte) {
		size := uint64(len(answer))
		most := allocated() + 48<<20 + 1024*size + 4*min(batch.MaxSize, 32<<10*size) // the buffer of a batch grows by doubling; zstd makes up to 32 KiB of one byte
		req := kmsg.NewPtrFetchRequest()
		req.Version = fetchVersion
		var buf []byte
		message, err := broker.ReadResponse(bytes.NewReader(answer), req, 1, &buf)
		if cap(buf) > 2*len(answer)+8<<20 {
			t.Fatalf("the read buffer has %d bytes for an answer of %d bytes", cap(buf), len(answer))
		}
		if err != nil {
			return
		}
		c, fd := idle(t, topicID)
		ctx := c.reader.ctx
		res := message.(*kmsg.FetchResponse)
		want := map[topicIDPartition]int64{{topicID, 0}: 0}
		asked, _ := foresee(want, res)
		if want[topicIDPartition{topicID, 0}] < 0 {
			t.Fatalf("foresee sets the negative offset %d", want[topicIDPartition{topicID, 0}])
		}
		var replays []*chunk
		for i := range res.Topics {
			for j := range res.Topics[i].Partitions {
				source := newChunkReader(c.scans.fetcher, zone{logID: logID{fd.Partition, topicID}})
				k, err := source.newChunk(ctx, 0, &res.Topics[i].Partitions[j])
				if err == nil && k != nil {
					replays = append(replays, k)
				}
			}
		}
		c.reader.deliverResponse(&shard{}, map[topicIDPartition]*livePartition{{topicID, 0}: fd}, res, asked)
		if fd.next < 0 {
			t.Fatalf("the next offset is %d, want none below 0", fd.next)
		}
		for _, k := range replays {
			if k.next <= 0 {
				t.Fatalf("a chunk that begins at offset 0 ends at %d", k.next)
			}
		}
		if now := allocated(); now > most {
			t.Fatalf("%d bytes above the bound allocated for an answer of %d bytes", now-most, len(answer))
		}
	})
}

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
