package integration

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// deleted is what a lane's log has held.
type deleted struct {
	records []*kgo.Record // all of them, when they were looked at last
	to      int64         // the log starts here, or before where the broker did not answer
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
	for {
		until, cancel := context.WithTimeout(s.t.Context(), 500*time.Millisecond+rand.N(time.Second))
		for until.Err() == nil { // errors pass: brokers are killed
			fetches := reader.PollFetches(until)
			for l, d := range s.fleeting {
				fetches.EachPartition(func(p kgo.FetchTopicPartition) {
					if p.Topic == l.topic && p.Partition == l.partition {
						d.note(p.Records)
					}
				})
			}
		}
		cancel()
		select {
		case <-s.stop:
			return nil
		default:
		}
		for l, d := range s.fleeting {
			if len(d.records) > 0 {
				d.to = max(d.to, d.records[len(d.records)-1].Offset-rand.Int64N(30))
				var offsets kadm.Offsets
				offsets.Add(kadm.Offset{Topic: l.topic, Partition: l.partition, At: d.to, LeaderEpoch: -1})
				_, _ = s.c.admin.DeleteRecords(s.t.Context(), offsets) // the next time will do
			}
		}
	}
}

// note adds those of the log's records that are new.
func (d *deleted) note(log []*kgo.Record) {
	next := int64(0)
	if n := len(d.records); n > 0 {
		next = d.records[n-1].Offset + 1
	}
	for _, r := range log {
		if r.Offset >= next {
			d.records = append(d.records, r)
		}
	}
}
