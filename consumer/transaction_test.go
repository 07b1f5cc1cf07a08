package consumer

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAbortedTransactions reads a log of interleaved transactions from each of its offsets. The
// broker's answer begins with the batch of the offset asked for and lists the aborted transactions
// that end behind it, in no order (KIP-98).
func TestAbortedTransactions(t *testing.T) {
	log := []struct {
		base int64
		data []byte
	}{
		{0, txn(0, 1, "aborted", "aborted")},
		{2, txn(2, 2, "p2 a", "p2 b")},
		{4, makeBatch(recordBatch{FirstOffset: 4, ProducerID: 1}, values("no transaction, for all its producer id")...)},
		{5, txn(5, 1, "aborted")},
		{6, marker(6, 1, false)},
		{7, txn(7, 1, "p1 a", "p1 b")},
		{9, marker(9, 2, true)},
		{10, marker(10, 1, true)},
		{11, txn(11, 3, "aborted", "aborted")},
		{13, txn(13, 1, "aborted")},
		{14, txn(14, 2, "p2 c")},
		{15, marker(15, 3, false)},
		{16, txn(16, 3, "aborted again")},
		{17, marker(17, 1, false)},
		{18, marker(18, 3, false)},
		{19, txn(19, 1, "p1 c")},
		{20, makeBatch(recordBatch{FirstOffset: 20, LastOffsetDelta: 1, ProducerID: 1, Attributes: attrTransaction})}, // emptied by compaction
		{22, marker(22, 1, true)},
		{23, simple(23, "no transaction")},
	}
	aborts := []struct{ producer, first, marker int64 }{{1, 0, 6}, {3, 11, 15}, {1, 13, 17}, {3, 16, 18}}
	committed := []int64{2, 3, 4, 7, 8, 14, 19, 23}
	var whole []byte
	for _, batch := range log {
		whole = append(whole, batch.data...)
	}
	for asked := range int64(24) {
		var data []byte
		for i := range log {
			if i == len(log)-1 || log[i+1].base > asked {
				data = append(data, log[i].data...)
			}
		}
		var all, list []abortedTxn
		for _, a := range aborts {
			all = append(all, abortedTxn{ProducerID: a.producer, FirstOffset: a.first})
			if a.marker >= asked {
				list = append(list, all[len(all)-1])
			}
		}
		reversed := slices.Clone(list)
		slices.Reverse(reversed)
		var want []int64
		for _, offset := range committed {
			if offset >= asked {
				want = append(want, offset)
			}
		}
		for name, b := range map[string]batches{
			"ascending list":         {data: data, next: asked, aborted: slices.Clone(list)},
			"descending list":        {data: data, next: asked, aborted: reversed},
			"more before than asked": {data: whole, next: asked, aborted: all},
		} {
			records, err := readAll(&b)
			var got []int64
			for _, r := range records {
				got = append(got, r.Offset)
				if strings.HasPrefix(string(r.Value), "aborted") {
					t.Errorf("offset %d, %s: an aborted record", asked, name)
				}
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" || b.next != 24 {
				t.Errorf("offset %d, %s: %v, next %d, want 24\n%s", asked, name, err, b.next, diff)
			}
		}
	}
}

// TestControlBatchesAreNoRecords wants nothing of control batches that are of unknown types or
// cannot be read: their content is the brokers' own.
func TestControlBatchesAreNoRecords(t *testing.T) {
	for name, body := range map[string][]byte{
		"a type of the future": appendRecords([]kmsg.Record{{Key: []byte{0, 9, 0, 9}}}),
		"null key":             appendRecords([]kmsg.Record{{}}),
		"short key":            appendRecords([]kmsg.Record{{Key: []byte{0, 0, 0}}}),
		"unreadable":           {0xff, 0xff},
		"nothing":              {},
	} {
		// Producer 1 has an aborted transaction, which no such batch ends.
		b := batches{aborted: []abortedTxn{{ProducerID: 1}}, data: slices.Concat(
			txn(0, 1, "aborted"),
			makeBatch(recordBatch{FirstOffset: 1, ProducerID: 1, NumRecords: 1, Attributes: attrControl | attrTransaction, Records: body}),
			txn(2, 1, "aborted"), simple(3, "x"),
		)}
		got, err := readAll(&b)
		if diff := cmp.Diff([]string{"3 x"}, summary(got)); err != nil || diff != "" || b.next != 4 {
			t.Errorf("%s: %v, next %d\n%s", name, err, b.next, diff)
		}
	}
}
