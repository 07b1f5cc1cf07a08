package batch

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
)

type abortedTransaction = kmsg.FetchResponseTopicPartitionAbortedTransaction

// transactionLog is a log of interleaved transactions, with the first offset of each batch.
var transactionLog = []struct {
	base int64
	data []byte
}{
	{0, batchtest.Transaction(0, 1, "aborted", "aborted")},
	{2, batchtest.Transaction(2, 2, "p2 a", "p2 b")},
	{4, batchtest.Make(kmsg.RecordBatch{FirstOffset: 4, ProducerID: 1}, batchtest.Values("no transaction, for all its producer id")...)},
	{5, batchtest.Transaction(5, 1, "aborted")},
	{6, batchtest.Marker(6, 1, false)},
	{7, batchtest.Transaction(7, 1, "p1 a", "p1 b")},
	{9, batchtest.Marker(9, 2, true)},
	{10, batchtest.Marker(10, 1, true)},
	{11, batchtest.Transaction(11, 3, "aborted", "aborted")},
	{13, batchtest.Transaction(13, 1, "aborted")},
	{14, batchtest.Transaction(14, 2, "p2 c")},
	{15, batchtest.Marker(15, 3, false)},
	{16, batchtest.Transaction(16, 3, "aborted again")},
	{17, batchtest.Marker(17, 1, false)},
	{18, batchtest.Marker(18, 3, false)},
	{19, batchtest.Transaction(19, 1, "p1 c")},
	{20, batchtest.Make(kmsg.RecordBatch{FirstOffset: 20, LastOffsetDelta: 1, ProducerID: 1, Attributes: attrTransaction})}, // compaction emptied it
	{22, batchtest.Marker(22, 1, true)},
	{23, batchtest.Simple(23, "no transaction")},
}

// transactionAborts are the aborted transactions of transactionLog: the producer, the first offset and the
// offset of the abort marker.
var transactionAborts = []struct{ producer, first, marker int64 }{{1, 0, 6}, {3, 11, 15}, {1, 13, 17}, {3, 16, 18}}

// transactionCommitted are the offsets of the records in transactionLog that a consumer may read.
var transactionCommitted = []int64{2, 3, 4, 7, 8, 14, 19, 23}

// TestAbortedTransactionsAreLeftOut reads a log of interleaved transactions from each of its offsets, and
// checks that the reader returns the committed records only. A broker's answer begins with the batch that
// holds the requested offset, and lists the aborted transactions that end after this offset, in any order
// (KIP-98).
func TestAbortedTransactionsAreLeftOut(t *testing.T) {
	var whole []byte
	for _, batch := range transactionLog {
		whole = append(whole, batch.data...)
	}
	for asked := range int64(24) {
		var data []byte
		for i := range transactionLog {
			if i == len(transactionLog)-1 || transactionLog[i+1].base > asked {
				data = append(data, transactionLog[i].data...)
			}
		}
		var all, list []abortedTransaction
		for _, a := range transactionAborts {
			all = append(all, abortedTransaction{ProducerID: a.producer, FirstOffset: a.first})
			if a.marker >= asked {
				list = append(list, all[len(all)-1])
			}
		}
		reversed := slices.Clone(list)
		slices.Reverse(reversed)
		var want []int64
		for _, offset := range transactionCommitted {
			if offset >= asked {
				want = append(want, offset)
			}
		}
		for name, answer := range map[string]struct {
			data    []byte
			aborted []abortedTransaction
		}{
			"ascending list":            {data, slices.Clone(list)},
			"descending list":           {data, reversed},
			"batches before the offset": {whole, all},
		} {
			var r Reader
			r.Reset(answer.data, answer.aborted, asked)
			records, err := readAll(&r)
			r.Close()
			var got []int64
			for _, rec := range records {
				got = append(got, rec.Offset)
				if strings.HasPrefix(string(rec.Value), "aborted") {
					t.Errorf("offset %d, %s: read a record of an aborted transaction", asked, name)
				}
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" || r.next != 24 {
				t.Errorf("offset %d, %s: %v, next %d, want 24\n%s", asked, name, err, r.next, diff)
			}
		}
	}
}

// TestControlBatchesAreSkipped checks that the reader skips control batches of unknown types and control
// batches that cannot be read: their content is for brokers.
func TestControlBatchesAreSkipped(t *testing.T) {
	for name, body := range map[string][]byte{
		"a type of the future": batchtest.AppendRecords([]kmsg.Record{{Key: []byte{0, 9, 0, 9}}}),
		"null key":             batchtest.AppendRecords([]kmsg.Record{{}}),
		"short key":            batchtest.AppendRecords([]kmsg.Record{{Key: []byte{0, 0, 0}}}),
		"unreadable":           {0xff, 0xff},
		"nothing":              {},
	} {
		// None of these batches ends the aborted transaction of producer 1.
		var r Reader
		r.Reset(slices.Concat(
			batchtest.Transaction(0, 1, "aborted"),
			batchtest.Make(kmsg.RecordBatch{FirstOffset: 1, ProducerID: 1, NumRecords: 1, Attributes: attrControl | attrTransaction, Records: body}),
			batchtest.Transaction(2, 1, "aborted"), batchtest.Simple(3, "x"),
		), []abortedTransaction{{ProducerID: 1}}, 0)
		got, err := readAll(&r)
		r.Close()
		if diff := cmp.Diff([]string{"3 x"}, summary(got)); err != nil || diff != "" || r.next != 4 {
			t.Errorf("%s: %v, next %d\n%s", name, err, r.next, diff)
		}
	}
}
