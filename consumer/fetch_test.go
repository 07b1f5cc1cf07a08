package consumer

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchResponse is what a broker sends: size, correlation id, no tags, and the response.
func fetchResponse(topicID [16]byte, parts ...kmsg.FetchResponseTopicPartition) []byte {
	res := kmsg.NewPtrFetchResponse()
	res.Version = fetchVersion
	topic := kmsg.NewFetchResponseTopic()
	topic.TopicID, topic.Partitions = topicID, parts
	res.Topics = append(res.Topics, topic)
	body := res.AppendTo([]byte{0, 0, 0, 1, 0})
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// FuzzFetchResponse has a broker answer a fetch with anything: nothing panics, hangs or goes back.
func FuzzFetchResponse(f *testing.F) {
	topicID := [16]byte{1}
	batch, err := encode(Message{Key: []byte("alice"), Value: []byte("x"), Headers: []Header{{"event-type", []byte("news")}}})
	if err != nil {
		f.Fatal(err)
	}
	good := kmsg.NewFetchResponseTopicPartition()
	good.RecordBatches, good.HighWatermark, good.LastStableOffset = batch, 1, 1
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

	f.Fuzz(func(t *testing.T, answer []byte) {
		req := kmsg.NewPtrFetchRequest()
		req.Version = fetchVersion
		var buf []byte
		broker := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(answer), io.Discard}
		message, err := (&exchange{req: req, buf: &buf}).RawExchange(broker)
		if cap(buf) > 2*len(answer)+8<<20 {
			t.Fatalf("%d bytes allocated for an answer of %d", cap(buf), len(answer))
		}
		if err != nil {
			return
		}
		c := &Consumer{log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil), sink: newLedger(), topics: make(map[string]*topic), wake: make(chan struct{}, 1), cluster: new(cluster)}
		c.reader = newReader(c)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.reader.ctx = ctx
		fd := &feed{Partition: Partition{"t", 0}, route: &Route{Topic: "t"}, topicID: topicID, follower: -1}
		c.reader.feeds[fd.Partition] = fd
		c.reader.deliver(&shard{}, map[place]*feed{{topicID, 0}: fd}, message.(*reply).Response.(*kmsg.FetchResponse), nil)
		if fd.next < 0 {
			t.Fatalf("next offset %d", fd.next)
		}
	})
}
