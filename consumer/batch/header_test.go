package batch

import "testing"

// TestFirstOffsetOfAnOldMessage checks that FirstOffset does not take an old message set, which is shorter
// than the header of a batch, for a batch.
func TestFirstOffsetOfAnOldMessage(t *testing.T) {
	for size := 17; size < headerSize; size++ {
		if got := FirstOffset(make([]byte, size), 5); got != 5 {
			t.Errorf("FirstOffset of %d bytes is %d, want 5, the offset of the fetch", size, got)
		}
	}
}
