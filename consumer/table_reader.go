package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrUnread says that a topic holds records that a [TableReader] has not read yet.
var ErrUnread = errors.New("topic is not read to its end yet")

// How often a TableReader looks whether it has read its topic: while it reads, while it cannot read, and
// once it has read everything.
const (
	unreadInterval  = 20 * time.Millisecond
	problemInterval = 250 * time.Millisecond
	readInterval    = 5 * time.Second
)

// Table is a state that a compacted topic holds, such as the tokens that are revoked. A [TableReader]
// calls its methods, which must not block. Calls for different partitions may come at the same time.
type Table interface {
	// Apply applies a record of the topic with that id. A record may come twice, and after a later record
	// of its partition. It is valid until Apply returns.
	Apply(p Partition, topicID [16]byte, rec *Record)

	// Applied is called after one call of Apply or many.
	Applied()

	// Lose is called when records of the table cannot be read or were deleted before they were read live.
	Lose(p Partition, gap Gap)

	// Complete is called once every record that the topic held at the start was applied. It is called
	// again when the topic was deleted and created again and every record of the new topic was applied.
	// replaced are the ids of the topics that the name had before; their records no longer count.
	Complete(replaced [][16]byte)
}

// TableReader reads one topic whole, then follows it. It reads the topic with a [Consumer] of its own: the
// records before the end of the log by replay, later records live. A topic that is created again is
// read whole again.
type TableReader struct {
	topic    string
	consumer *Consumer
	sink     *tableSink

	mu       sync.Mutex
	complete bool  // Complete was called
	problem  error // why the topic is not read; nil if it is
}

// NewTableReader returns a reader of the topic for table. It uses cfg but for the routes.
func NewTableReader(cfg Config, topic string, table Table) (*TableReader, error) {
	cfg.Routes = []Route{{Topic: topic, Kind: Broadcast}}
	cfg.ReplayCacheBytes = -1 // each record is read once
	sink := newTableSink(table)
	c, err := New(cfg, sink)
	if err != nil {
		return nil, err
	}
	sink.replay, sink.log = c.Replay, c.log
	return &TableReader{topic: topic, consumer: c, sink: sink, problem: ErrUnread}, nil
}

// Run reads until ctx ends. Its error is [Consumer.Run]'s.
func (r *TableReader) Run(ctx context.Context) error {
	r.sink.start(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(ctx) })
	err := r.consumer.Run(ctx)
	watch.Wait()
	r.sink.wg.Wait()
	return err
}

// Connections returns the number of connections to brokers that are open.
func (r *TableReader) Connections() int { return r.consumer.Connections() }

// Renewals returns how many times the log-in of an open connection was renewed, and how many times that failed.
func (r *TableReader) Renewals() (succeeded, failed int64) { return r.consumer.Renewals() }

// Ready returns nil if the table is complete and changes to it are read. The error is [ErrUnread] while
// the topic is being read for the first time, wraps [ErrNoTopic] while the topic does not exist, or
// says what else is wrong.
func (r *TableReader) Ready() error {
	if err := r.consumer.Ready(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// watch finds out whether the topic is read, until ctx ends.
func (r *TableReader) watch(ctx context.Context) {
	for {
		topicID := r.sink.currentTopic()
		err := r.checkRead(ctx)
		wait := problemInterval
		switch {
		case err == nil:
			wait = readInterval
			r.completeTable(topicID)
		case errors.Is(err, ErrUnread):
			wait = unreadInterval
		}
		r.mu.Lock()
		if !errors.Is(err, ErrUnread) || !r.complete { // a partition added later takes a moment to be read
			r.problem = err
		}
		r.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-r.sink.begun:
		case <-ctx.Done():
			return
		}
	}
}

// completeTable calls Complete if the table does not know yet that the topic with that id was read.
func (r *TableReader) completeTable(topicID [16]byte) {
	replaced := r.sink.takeReplaced(topicID)
	r.mu.Lock()
	first := !r.complete
	r.complete = true
	r.mu.Unlock()
	if first || len(replaced) > 0 {
		r.sink.table.Complete(replaced)
	}
}

// checkRead returns nil if every record of the topic was applied, else an error that says why not.
func (r *TableReader) checkRead(ctx context.Context) error {
	if err := r.consumer.Ready(); err != nil { // it is ready once all partitions have begun
		return err
	}
	if r.consumer.Denied(r.topic) {
		return fmt.Errorf("topic %s may not be read: give our Kafka user the operations READ and DESCRIBE on it", r.topic)
	}
	starts, err := r.consumer.Starts(ctx, r.consumer.UserTopics(""))
	if err != nil {
		return fmt.Errorf("topic %s: %w", r.topic, err)
	}
	if len(starts) == 0 {
		return fmt.Errorf("%s: %w", r.topic, ErrNoTopic)
	}
	for p := range starts {
		if err := r.checkPartition(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// checkPartition returns nil if every record was applied that the partition held when checkPartition first
// asked for its end. The replay alone does not show that: a topic created after the reader started is
// read live from its start.
func (r *TableReader) checkPartition(ctx context.Context, p Partition) error {
	r.sink.mu.Lock()
	part := r.sink.partitions[p]
	if part == nil || !part.replayed {
		r.sink.mu.Unlock()
		return ErrUnread
	}
	topicID, endKnown := part.topicID, part.end >= 0
	r.sink.mu.Unlock()
	var end int64
	if !endKnown {
		var err error
		if _, end, err = r.consumer.Range(ctx, p, topicID); err != nil {
			return fmt.Errorf("partition %s: %w", p, err)
		}
	}
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	if !endKnown {
		part.end = end
	}
	if part.next < part.end {
		return ErrUnread
	}
	return nil
}
