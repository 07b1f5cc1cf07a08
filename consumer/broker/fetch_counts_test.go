package broker

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestWrongCountOfAFetchTakesNoMemory decodes, in each version, responses to a fetch that claim a million elements, and
// a response with each kind of element.
func TestWrongCountOfAFetchTakesNoMemory(t *testing.T) {
	const size = 1 << 20
	part := kmsg.NewFetchResponseTopicPartition()
	part.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 2}, {ProducerID: 3, FirstOffset: 4}}
	part.RecordBatches = bytes.Repeat([]byte{1}, 300)
	part.CurrentLeader.LeaderID, part.CurrentLeader.LeaderEpoch = 1, 2 // a tagged field
	topic := kmsg.FetchResponseTopic{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{part, part}}
	for version := spoken[kmsg.Fetch].lowest; version <= 13; version++ {
		whole := kmsg.FetchResponse{Version: version, Topics: []kmsg.FetchResponseTopic{topic, {}}}
		// The elements of an array stand between its count, of width bytes, and its end.
		million, one, width, end := binary.BigEndian.AppendUint32(nil, size), []byte{0, 0, 0, 1}, 4, 0
		if version >= 12 {
			million, one, width, end = binary.AppendUvarint(nil, size), []byte{2}, 1, 1 // tags
		}
		empty := kmsg.FetchResponse{Version: version}
		head := empty.AppendTo(nil)
		head = head[:len(head)-width-end]
		bare := kmsg.FetchResponse{Version: version, Topics: []kmsg.FetchResponseTopic{{}}}
		inTopic := bare.AppendTo(nil)
		inTopic = inTopic[:len(inTopic)-width-2*end]
		inPartition := append(append(bytes.Clone(inTopic), one...), make([]byte, 22)...)
		if version >= 5 {
			inPartition = append(inPartition, make([]byte, 8)...)
		}
		for name, test := range map[string]struct {
			body  []byte
			wrong bool
		}{
			"each kind of element":           {whole.AppendTo(nil), false},
			"a million topics":               {append(bytes.Clone(head), million...), true},
			"a million partitions":           {append(bytes.Clone(inTopic), million...), true},
			"a million aborted transactions": {append(bytes.Clone(inPartition), million...), true},
		} {
			res := &kmsg.FetchResponse{Version: version}
			body := append(test.body, make([]byte, size)...)
			if res.IsFlexible() {
				body = append([]byte{0}, body...) // the tags of the header
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := decodeResponse(res, body)
			runtime.ReadMemStats(&after)
			if (err != nil) != test.wrong {
				t.Errorf("v%d, %s: error %v, want an error: %v", version, name, err, test.wrong)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size {
				t.Errorf("v%d, %s: %d bytes allocated", version, name, allocated)
			}
			if !test.wrong && len(res.Topics[0].Partitions[1].RecordBatches) != 300 {
				t.Errorf("v%d, %s: decoded as %+v", version, name, res)
			}
		}
	}
}
