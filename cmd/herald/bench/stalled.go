package bench

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// stalledLife is how long a stalled stream lasts before the tool opens it again. Servers end streams
	// that do not read, Herald after its write timeout of 10 s, and a stalled stream would not notice.
	stalledLife = 8 * time.Second
	// stalledFill is the size in bytes of the record that each stalled user gets every stalledEvery. The
	// records first fill the buffers of the kernels and then the server's queue. They are written to a
	// part of the users at a time: a burst would delay the measured records in Kafka, before the server.
	stalledFill  = 16 << 10
	stalledEvery = 500 * time.Millisecond
	stalledParts = 50
)

// holdStalled keeps the stalled streams full and stalled until ctx ends.
func (r *run) holdStalled(ctx context.Context, w *writer) {
	stalled := r.streams[r.cfg.Streams:]
	var fill []*kgo.Record
	if !r.cfg.Broadcast { // a broadcast's records fill the stalled streams too
		for _, user := range r.users[r.readers():] {
			if record := r.cfg.Record(user); record != nil {
				fill = append(fill, record)
			}
		}
	}
	filling := time.NewTicker(stalledEvery / stalledParts)
	defer filling.Stop()
	renewal := time.NewTicker(stalledLife / 16)
	defer renewal.Stop()
	part := (len(stalled) + 15) / 16
	for turn, filled := 0, 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-filling.C:
			for i := filled; i < len(fill); i += stalledParts {
				w.produce(fill[i], value{run: r.id, sent: time.Now().UnixNano()}, stalledFill)
			}
			filled = (filled + 1) % stalledParts
		case <-renewal.C:
			from := min(turn*part, len(stalled))
			for _, s := range stalled[from:min(from+part, len(stalled))] {
				if r.cut(s) {
					s.lastID = nil // with an id the server would replay more records each time
					r.queue <- s
				}
			}
			turn = (turn + 1) % 16
		}
	}
}

// cut ends the stream's connection. It reports whether the stream had one.
func (r *run) cut(s *client) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	return s.disconnectLocked()
}
