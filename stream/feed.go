package stream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"herald/consumer"
)

// Log is what streams need of Kafka; [consumer.Consumer] is one.
type Log interface {
	Join(ctx context.Context, user string) (topics []string, err error)
	Leave(user string)
	Replay(ctx context.Context, p consumer.Partition, user string, from, to int64, fn func(*consumer.Record) bool) (int64, error)
	Range(ctx context.Context, p consumer.Partition) (start, end int64, err error)
}

// checkpointAfter is how many offsets a quiet stream's position may move before it is told.
const checkpointAfter = 10_000

// feed is one open stream: it brings the client from its cursor to now and keeps it there. It is
// used by one goroutine.
type feed struct {
	hub       *Hub
	log       Log
	sub       *subscription
	out       *writer
	heartbeat time.Duration

	topics []feedTopic
	at     cursor // what was written, or considered and not for this user
	told   cursor // what the last id said
	buf    []byte
}

// begin sets the cursor from the client's last event id and writes the first checkpoint.
func (f *feed) begin(ctx context.Context, lastID string) error {
	now, topics := f.hub.seam(f.sub.topics)
	f.topics, f.at = topics, now
	if lastID != "" {
		saved, err := decodeID(lastID)
		if err != nil {
			f.tellGap(gapData{Reason: consumer.GapUnknownID})
		} else if err := f.restore(ctx, saved, now); err != nil {
			return err
		}
	}
	f.checkpoint()
	return f.flush()
}

// restore moves the cursor to where an id says.
func (f *feed) restore(ctx context.Context, saved map[string]savedSource, now cursor) error {
	f.at = make(cursor, len(now))
	for _, t := range f.topics {
		source, known := saved[t.tag]
		for p, end := range now {
			if p.Topic != t.name {
				continue
			}
			next := source.next[p.ID]
			switch {
			case !known:
				next = end // a topic the client had no promise of
			case source.incarnation != t.incarnation && len(source.next) > 0:
				f.gap(p, consumer.Gap{From: next, To: 0, Reason: consumer.GapRecreated})
				next = 0
			case next > end:
				var err error
				if next, err = f.beyond(ctx, p, next); err != nil {
					return err
				}
			}
			f.at[p] = next
		}
	}
	return nil
}

// beyond deals with a cursor past what was read here: another replica may be ahead of this one,
// or the log does not hold that offset, and what is retained comes from its start.
func (f *feed) beyond(ctx context.Context, p consumer.Partition, next int64) (int64, error) {
	for {
		start, end, err := f.log.Range(ctx, p)
		if err == nil && next <= end {
			return next, nil
		}
		if err == nil {
			f.gap(p, consumer.Gap{From: next, To: start, Reason: consumer.GapUnknownID})
			return start, nil
		}
		if err := f.idle(ctx); err != nil {
			return 0, err
		}
	}
}

func (f *feed) gap(p consumer.Partition, g consumer.Gap) {
	f.tellGap(gapData{p.Topic, p.ID, g.From, g.To, g.Reason})
}

func (f *feed) tellGap(g gapData) {
	f.hub.metrics.gaps.WithLabelValues(string(g.Reason)).Inc()
	f.buf = appendOwn(f.buf, typeGap, "", g)
}

func (f *feed) checkpoint() {
	f.buf = appendOwn(f.buf, typeCheckpoint, f.id(), struct{}{})
}

// id encodes the cursor and notes that the client will have been told it.
func (f *feed) id() string {
	f.told = maps.Clone(f.at)
	return encodeID(f.topics, f.at)
}

func (f *feed) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	err := f.out.write(f.buf)
	f.buf = f.buf[:0]
	return err
}

// idle writes a heartbeat and waits a moment, when Kafka has no answer.
func (f *feed) idle(ctx context.Context) error {
	f.buf = append(f.buf, ":\n"...)
	if err := f.flush(); err != nil {
		return err
	}
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run delivers until ctx ends or the client is gone. The error is ctx's cause or the write's.
func (f *feed) run(ctx context.Context) error {
	if err := f.catchUp(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(f.heartbeat)
	defer ticker.Stop()
	for {
		// Read before the queue is taken: all records before these positions are in it.
		now := f.hub.positions(f.sub.topics)
		for p := range now {
			f.meet(p)
		}
		queue, lagging := f.sub.take()
		f.send(queue)
		if err := f.flush(); err != nil {
			return err
		}
		if lagging {
			if err := f.catchUp(ctx); err != nil {
				return err
			}
			continue
		}
		for p, next := range now {
			f.at[p] = max(f.at[p], next)
		}
		select {
		case <-f.sub.wake:
		case <-ticker.C:
			f.beat()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// beat keeps the connection alive; now and then with the position a quiet stream has come to.
func (f *feed) beat() {
	moved := int64(0)
	for p, next := range f.at {
		moved += next - f.told[p]
	}
	if moved >= checkpointAfter {
		f.checkpoint()
		return
	}
	f.buf = append(f.buf, ":\n"...)
}

// send writes queued items into the buffer, each with the cursor after it as its id.
func (f *feed) send(queue []item) {
	for _, it := range queue {
		switch {
		case it.gap != nil:
			f.gap(it.partition, *it.gap)
			f.at[it.partition] = it.gap.To
			_, f.topics = f.hub.seam(f.sub.topics)
		case it.offset >= f.at[it.partition]:
			f.event(it.partition, it.offset, it.body)
			f.hub.metrics.events.WithLabelValues("live").Inc()
		}
	}
}

// meet takes a partition that appeared while the stream was open into its cursor. Its topic may
// be new as well, and ids name topics by their topic id.
func (f *feed) meet(p consumer.Partition) {
	if _, known := f.at[p]; !known {
		f.at[p] = 0
		_, f.topics = f.hub.seam(f.sub.topics)
	}
}

func (f *feed) event(p consumer.Partition, offset int64, body []byte) {
	f.meet(p)
	f.at[p] = offset + 1
	f.buf = append(f.buf, "id: "...)
	f.buf = append(f.buf, f.id()...)
	f.buf = append(f.buf, '\n')
	f.buf = append(f.buf, body...)
}

// catchUp replays from the cursor to where live delivery takes over.
func (f *feed) catchUp(ctx context.Context) error {
	f.sub.rejoin()
	seam, topics := f.hub.seam(f.sub.topics)
	f.topics = topics
	parts := make([]consumer.Partition, 0, len(seam))
	for p := range seam {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b consumer.Partition) int { return int(a.ID - b.ID) })
	for _, p := range parts {
		for f.at[p] < seam[p] {
			if err := f.replay(ctx, p, seam[p]); err != nil {
				return err
			}
		}
	}
	return nil
}

// replay writes one buffer's worth of p's records, or as much as is found until a heartbeat is due.
func (f *feed) replay(ctx context.Context, p consumer.Partition, to int64) error {
	slice, cancel := context.WithTimeout(ctx, f.heartbeat)
	defer cancel()
	next, err := f.log.Replay(slice, p, f.sub.user, f.at[p], to, func(r *consumer.Record) bool {
		if r.Value == nil {
			return true
		}
		if len(f.buf) > 0 && len(f.buf)+len(r.Value) > f.sub.maxBytes {
			return false
		}
		f.event(p, r.Offset, appendRecord(nil, r, f.hub.typeHeader))
		f.hub.metrics.events.WithLabelValues("replay").Inc()
		return true
	})
	f.at[p] = max(f.at[p], next)
	lost, isLost := errors.AsType[*consumer.OutOfRangeError](err)
	bad, isBad := errors.AsType[*consumer.UnreadableError](err)
	switch {
	case isBad:
		f.gap(p, consumer.Gap{From: bad.Offset, To: bad.Next, Reason: consumer.GapUnreadable})
		f.at[p] = bad.Next
	case isLost && lost.Offset < lost.Start:
		f.gap(p, consumer.Gap{From: lost.Offset, To: lost.Start, Reason: consumer.GapRetention})
		f.at[p] = lost.Start
	case isLost:
		f.gap(p, consumer.Gap{From: f.at[p], To: to, Reason: consumer.GapUnknownID})
		f.at[p] = to
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && slice.Err() == nil:
		return f.idle(ctx)
	case err != nil:
		f.buf = append(f.buf, ":\n"...)
	}
	return f.flush()
}
