package broker

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestWrongCountOfAFetchTakesNoMemory decodes responses to a fetch that claim a million elements, and a response with
// each kind of element.
func TestWrongCountOfAFetchTakesNoMemory(t *testing.T) {
	const size = 1 << 20
	part := kmsg.NewFetchResponseTopicPartition()
	part.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1, FirstOffset: 2}, {ProducerID: 3, FirstOffset: 4}}
	part.RecordBatches = bytes.Repeat([]byte{1}, 300)
	part.CurrentLeader.LeaderID, part.CurrentLeader.LeaderEpoch = 1, 2 // a tagged field
	whole := kmsg.FetchResponse{Version: FetchVersion, Topics: []kmsg.FetchResponseTopic{{Partitions: []kmsg.FetchResponseTopicPartition{part, part}}, {}}}
	million := binary.AppendUvarint(nil, size)
	head := make([]byte, 10) // throttle time, error, session
	topic := append(bytes.Clone(head), append([]byte{2}, make([]byte, 16)...)...)
	partition := append(append(bytes.Clone(topic), 2), make([]byte, 30)...)
	for name, test := range map[string]struct {
		body  []byte
		wrong bool
	}{
		"each kind of element":           {whole.AppendTo(nil), false},
		"a million topics":               {append(bytes.Clone(head), million...), true},
		"a million partitions":           {append(bytes.Clone(topic), million...), true},
		"a million aborted transactions": {append(bytes.Clone(partition), million...), true},
	} {
		body := append(append([]byte{0}, test.body...), make([]byte, size)...) // the tags of the header
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res := &kmsg.FetchResponse{Version: FetchVersion}
		err := decodeResponse(res, body)
		runtime.ReadMemStats(&after)
		if (err != nil) != test.wrong {
			t.Errorf("%s: error %v, want an error: %v", name, err, test.wrong)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size {
			t.Errorf("%s: %d bytes allocated", name, allocated)
		}
		if !test.wrong && len(res.Topics[0].Partitions[1].RecordBatches) != 300 {
			t.Errorf("%s: decoded as %+v", name, res)
		}
	}
}
