package consumer

import "fmt"

// UnreadableError says that records of a partition cannot be read, because of
// [herald/consumer/batch.ErrCorrupt] or [herald/consumer/batch.ErrOldMessageFormat], and where to continue.
type UnreadableError struct {
	Position       // of the first record that cannot be read
	Next     int64 // the offset after the records that cannot be read
	err      error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s@%d: %v", e.Partition, e.Offset, e.err)
}

// Unwrap returns the reason.
func (e *UnreadableError) Unwrap() error { return e.err }

// readTries is how often a batch that cannot be read is fetched before it is left out. A broken
// connection or the failing disk of one replica may damage one answer and not the next.
const readTries = 3
