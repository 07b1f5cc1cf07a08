package bench

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// stalledLife is how long a stalled stream lasts before it is opened anew: servers end those
	// that take nothing, Herald after its write timeout of 10 s, and it would not come to know.
	stalledLife = 8 * time.Second
	// stalledFill is written to each stalled user every stalledEvery, in bytes: it fills what the
	// kernels buffer in the first seconds and the server's queue later. It is written to a part of the
	// users at a time: a burst would delay what is measured in Kafka, in front of the server.
	stalledFill  = 16 << 10
	stalledEvery = 500 * time.Millisecond
	stalledParts = 50
)

// holdStalled keeps the stalled streams full and stalled until ctx ends.
func (r *run) holdStalled(ctx context.Context, w *writer) {
	stalled := r.streams[r.cfg.Streams:]
	var fill []*kgo.Record
	if !r.cfg.Broadcast { // whose records fill them anyway
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
					s.lastID = nil // else it would have the server replay more each time, which is another load
					r.queue <- s
				}
			}
			turn = (turn + 1) % 16
		}
	}
}

// cut ends a connection. It tells whether there was one.
func (r *run) cut(s *client) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	return s.disconnect()
}
