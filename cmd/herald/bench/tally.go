package bench

import (
	"slices"
	"sort"
)

// tally records which numbers of a sequence 1, 2, 3 … have arrived. In the zero value none has.
type tally struct {
	last    uint64 // the highest number that has arrived
	missing []span // the numbers below last that have not arrived, ascending
}

// span holds the numbers from first to end-1.
type span struct{ first, end uint64 }

// verdict classifies a number that has arrived.
type verdict uint8

const (
	inOrder verdict = iota
	outOfOrder
	again
)

// add records that a number has arrived.
func (t *tally) add(n uint64) verdict {
	if n > t.last {
		if n > t.last+1 {
			t.missing = append(t.missing, span{t.last + 1, n})
		}
		t.last = n
		return inOrder
	}
	i := sort.Search(len(t.missing), func(i int) bool { return t.missing[i].end > n })
	if i == len(t.missing) || n < t.missing[i].first {
		return again
	}
	gap := t.missing[i]
	t.missing = slices.Delete(t.missing, i, i+1)
	if n+1 < gap.end {
		t.missing = slices.Insert(t.missing, i, span{n + 1, gap.end})
	}
	if gap.first < n {
		t.missing = slices.Insert(t.missing, i, span{gap.first, n})
	}
	return outOfOrder
}

// lost returns how many of the numbers 1 to sent have not arrived.
func (t *tally) lost(sent uint64) uint64 {
	lost := sent - min(t.last, sent)
	for _, m := range t.missing {
		lost += m.end - m.first
	}
	return lost
}
