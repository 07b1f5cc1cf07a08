package batch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/consumer/batch/batchtest"
)

// TestOldMessageSetsAreReportedOnce checks that the reader returns one error for adjacent old message sets,
// and returns the records before and after these sets.
func TestOldMessageSetsAreReportedOnce(t *testing.T) {
	for magic := range int8(2) {
		sets := slices.Concat(batchtest.Old(magic, 12345, "a"), batchtest.Old(1-magic, 12346, "b"), batchtest.Old(magic, 12349, "c")) // compaction has left a hole
		for name, test := range map[string]struct {
			data []byte
			next int64
			want []string
		}{
			"with a batch after them": {slices.Concat(sets, batchtest.Simple(12351, "after")), 12351, []string{"12351 after"}},
			"and no batch":            {sets, 12350, nil},
			"the last one cut off":    {slices.Concat(sets, batchtest.Old(magic, 12350, "d")[:17]), 12351, nil},
			"all cut off":             {sets[:17], 12346, nil},
			"of no length":            {slices.Concat(sets[:8], make([]byte, 4), sets[12:]), 12346, nil},
		} {
			data := slices.Concat(batchtest.Simple(12344, "before"), test.data)
			r := readerOf(t, data, 12344)
			got, err := readAll(r)
			if !errors.Is(err, ErrOldMessageFormat) || !strings.Contains(err.Error(), "12345") || !strings.Contains(err.Error(), fmt.Sprint("magic ", magic)) {
				t.Errorf("magic %d, %s: %v, want ErrOldMessageFormat with magic and offset", magic, name, err)
			}
			if diff := cmp.Diff([]string{"12344 before"}, summary(got)); diff != "" || r.next != 12345 || r.NextReadable() != test.next {
				t.Errorf("magic %d, %s: next %d, continues from %d, want 12345 and %d\n%s", magic, name, r.next, r.NextReadable(), test.next, diff)
			}
			r.SkipTo(r.NextReadable())
			got, err = readAll(r)
			if diff := cmp.Diff(test.want, summary(got)); err != nil || diff != "" {
				t.Errorf("magic %d, %s: after the old sets %v\n%s", magic, name, err, diff)
			}
			if end := EndOffset(data, 12344); end > r.next {
				t.Errorf("magic %d, %s: EndOffset is %d, but %d comes next", magic, name, end, r.next)
			}
			// Old sets before the requested offset make no error.
			r = readerOf(t, test.data, test.next)
			if got, err := readAll(r); err != nil || len(got) != len(test.want) {
				t.Errorf("magic %d, %s, asked for the offset after them: %v, error %v", magic, name, summary(got), err)
			}
		}
	}
}

// TestWrongMagicIsCorrupt checks a batch whose magic has a flipped bit, which the CRC does not cover. The batch does
// not count as a message set of an old version, which nobody would fetch again.
func TestWrongMagicIsCorrupt(t *testing.T) {
	for bit := range 8 {
		data := batchtest.Simple(0, "a", "b")
		data[magicAt] ^= 1 << bit
		var r Reader
		r.Reset(data, nil, 0)
		var rec Record
		if more, err := r.Next(&rec); more || !errors.Is(err, ErrCorrupt) {
			t.Errorf("magic %d: %v and error %v, want %v", data[magicAt], more, err, ErrCorrupt)
		}
	}
}
