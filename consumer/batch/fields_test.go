package batch

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch/batchtest"
)

// TestFieldsAreDecodedAsTheyWere encodes and decodes records that a reader has read, which keep the bytes of their
// batch, and the same records without these bytes.
func TestFieldsAreDecodedAsTheyWere(t *testing.T) {
	records := batchtest.Values("first", "", "third")
	records[0].Key, records[0].TimestampDelta64 = []byte("key"), 5
	records[1].Value = nil
	records[2].Headers = []kmsg.Header{{Key: "event-type", Value: []byte("news")}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
	r := readerOf(t, batchtest.Make(kmsg.RecordBatch{FirstOffset: 7, FirstTimestamp: 1_700_000_000_000}, records...), 7)
	read, err := readAll(r)
	if err != nil || len(read) != len(records) || read[0].encoded == nil {
		t.Fatalf("%d records are read, with %v", len(read), err)
	}
	var d FieldsDecoder
	for _, rec := range read {
		bare := rec
		bare.encoded = nil
		b, again := AppendFields(nil, &rec), AppendFields(nil, &bare)
		if !slices.Equal(b, again) || len(b) != FieldsSize(&rec) || len(b) != FieldsSize(&bare) {
			t.Errorf("record %d: %d bytes with the batch's bytes, %d without; foreseen were %d and %d", rec.Offset, len(b), len(again), FieldsSize(&rec), FieldsSize(&bare))
		}
		got := Record{}
		d.Decode(b, &got)
		got.Offset, got.Time = rec.Offset, rec.Time
		if diff := cmp.Diff(rec, got, cmpopts.IgnoreUnexported(Record{}), cmpopts.EquateEmpty()); diff != "" || (got.Value == nil) != (rec.Value == nil) || (got.Key == nil) != (rec.Key == nil) {
			t.Errorf("record %d (-want +got):\n%s", rec.Offset, diff)
		}
	}
}
