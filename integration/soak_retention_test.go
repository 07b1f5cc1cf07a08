package integration

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// deleted holds the records that a lane's log has contained, for a lane whose old records are deleted by requests or
// by Kafka's retention.
type deleted struct {
	byKafka bool

	mu      sync.Mutex
	records map[int64]*kgo.Record // by offset
	to      int64                 // the log starts here, or earlier if the broker did not answer
}

// retention is the configuration of the topic from which Kafka itself deletes records. Its records are compressed
// to a tenth.
var retention = []string{"segment.ms", "1000", "retention.bytes", "2000", "file.delete.delay.ms", "100"}

// note adds records.
func (d *deleted) note(records ...*kgo.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		d.records[r.Offset] = r
	}
}

// start returns an offset that is never below the present start of the log.
func (d *deleted) start() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byKafka {
		return math.MaxInt64 // known in the end
	}
	return d.to
}

// until notes that the log starts at this offset or will do so in a moment.
func (d *deleted) until(start int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = max(d.to, start)
}

// deleteRecords notes what the fleeting logs hold and deletes most of it, as retention does, until stop.
func (s *soak) deleteRecords() error {
	at := make(map[string]map[int32]kgo.Offset)
	for l := range s.fleeting {
		if at[l.topic] == nil {
			at[l.topic] = make(map[int32]kgo.Offset)
		}
		at[l.topic][l.partition] = kgo.NewOffset().AtStart()
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.c.addresses...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumePartitions(at))
	if err != nil {
		return err
	}
	defer reader.Close()
	read := make(map[*lane]int64)
	for {
		until, cancel := context.WithTimeout(s.t.Context(), 500*time.Millisecond+rand.N(time.Second))
		for until.Err() == nil { // errors pass: brokers are killed
			reader.PollFetches(until).EachPartition(func(p kgo.FetchTopicPartition) {
				for l, d := range s.fleeting {
					if n := len(p.Records); n > 0 && p.Topic == l.topic && p.Partition == l.partition {
						d.note(p.Records...)
						read[l] = p.Records[n-1].Offset
					}
				}
			})
		}
		cancel()
		select {
		case <-s.stop:
			return nil
		default:
		}
		for l, d := range s.fleeting {
			if !d.byKafka && read[l] > 0 {
				d.until(read[l] - rand.Int64N(30))
				var offsets kadm.Offsets
				offsets.Add(kadm.Offset{Topic: l.topic, Partition: l.partition, At: d.start(), LeaderEpoch: -1})
				_, _ = s.c.admin.DeleteRecords(s.t.Context(), offsets) // the next round tries again
			}
		}
	}
}

// keepRecords ends the retention of the topic. Otherwise Kafka could delete the last record of one user before a slow client
// gets it, because the last records of the other users begin new segments.
func (s *soak) keepRecords(topic string) {
	keep := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.bytes", Value: new("-1")}}
	for ctx := s.t.Context(); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) { // errors pass: brokers are killed
		if altered, err := s.c.admin.AlterTopicConfigs(ctx, keep, topic); err == nil {
			if _, err := altered.On(topic, nil); err == nil && altered[0].Err == nil {
				return
			}
		}
	}
}

// ended returns all records that the lane's log has contained, and the start of the log at the end of the test.
func (s *soak) ended(l *lane) (records []*kgo.Record, start int64) {
	records = s.c.recordsOf(s.t, l.topic, l.partition)
	d := s.fleeting[l]
	if d == nil {
		return records, 0
	}
	d.note(records...)
	if d.byKafka {
		waitFor(s.t, "the start of the log", func(ctx context.Context) bool {
			starts, err := s.c.admin.ListStartOffsets(ctx, l.topic)
			at, ok := starts.Lookup(l.topic, l.partition)
			if err != nil || !ok || at.Err != nil {
				return false
			}
			d.until(at.Offset)
			return true
		})
	}
	records = records[:0]
	for _, r := range d.records {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	return records, d.to
}
