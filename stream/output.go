package stream

import (
	"sync"
	"sync/atomic"
	"time"
)

// output writes a stream's bytes to its client. One goroutine at a time uses it, except for cut.
type output interface {
	// send writes as many of the buffer's bytes as the client takes without waiting. It returns the rest, in the
	// form that finish expects. The buffer begins with headroom.
	send(b []byte) (rest []byte, err error)

	// sendLarge writes a large event in the same way. Other streams may write the same event at the same time.
	sendLarge(l *large) (rest []byte, err error)

	// finish writes the rest and waits until the client has taken all of it. The error is
	// os.ErrDeadlineExceeded if the client takes nothing for the write time-out.
	finish(rest []byte) error

	// close ends the response. The client can distinguish a clean end from a cut. whole is false if the client cannot
	// have got all of a response that should end cleanly.
	close(clean bool) (whole bool)

	// leave is called last, when nothing counts the stream any more. The handler of a connection that carries other
	// streams may return now. net/http then runs the connection's next request, so the streams of a connection are
	// never more than its handlers.
	leave()

	// cut closes the connection. It may be called while another goroutine writes.
	cut()
}

// headroom is the number of bytes at the start of a buffer that the output uses for the head of an HTTP chunk.
const headroom = 10

// writePiece is the number of bytes that a client must take within the write time-out to count as alive.
const writePiece = 16 << 10

// keepBuffer is the largest size of a buffer that returns to the pool, in bytes.
const keepBuffer = 64 << 10

// newBufferSize is the size of a new buffer, in bytes.
const newBufferSize = 4 << 10

var buffers = sync.Pool{New: func() any {
	return &buffer{b: make([]byte, headroom, newBufferSize), shard: bufferCount.Add(1)}
}}

var bufferCount atomic.Uint32

// buffer holds bytes on their way to a client. A stream has a buffer only while it writes.
type buffer struct {
	b          []byte
	checkpoint lastCheckpoint
	live       []recordTimes  // of the live records among the events
	written    time.Duration  // when the write of the events began, as [delays] tells the time
	waits      bool           // the client did not take all bytes at once
	shard      uint32         // of [delays]
	traces     []*recordTrace // of the events whose records are traced
}

// lastCheckpoint is the last checkpoint of a buffer. If it ends the buffer, another checkpoint takes its place.
type lastCheckpoint struct {
	from, to int
	data     checkpointData
}

func newBuffer() *buffer { return buffers.Get().(*buffer) } //nolint:forcetypeassert // nothing else is in there

func (b *buffer) free() {
	if cap(b.b) <= keepBuffer {
		b.b, b.checkpoint, b.live, b.waits, b.traces = b.b[:headroom], lastCheckpoint{}, b.live[:0], false, nil
		buffers.Put(b)
	}
}
