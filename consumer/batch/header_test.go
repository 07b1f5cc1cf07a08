package batch

import "testing"

// TestFirstOffsetOfAnOldMessage does not take an old message set, which is shorter than the header of a
// batch, for a batch.
func TestFirstOffsetOfAnOldMessage(t *testing.T) {
	for size := 17; size < headerSize; size++ {
		if got := FirstOffset(make([]byte, size), 5); got != 5 {
			t.Errorf("%d bytes begin at %d, want the 5 that was asked for", size, got)
		}
	}
}
