package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// padding makes values longer, some of them large events.
var padding = strings.Repeat("x", 64<<10)

// unsent is the error of franz-go for a partition that its metadata lacks, because a broker that was down may answer
// with outdated metadata. franz-go has not sent the record.
const unsent = "invalid record partitioning choice"

// put writes a value to the lane. If a killed broker does not confirm the record, the record may or may not be in
// the log; the test compares clients with the log.
func (s *soak) put(l *lane, producer *kgo.Client, key, value string) {
	size := rand.IntN(1000)
	if rand.IntN(30) == 0 {
		size = len(padding)/2 + rand.IntN(len(padding)/2)
	}
	r := record(l.topic, key, l.name+" "+value+" "+padding[:size])
	r.Partition = l.partition
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	err := producer.ProduceSync(ctx, r).FirstErr()
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), unsent) {
		time.Sleep(100 * time.Millisecond)
		err = producer.ProduceSync(ctx, r).FirstErr()
	}
	if err != nil && value == last {
		s.t.Errorf("produce to %s/%d: %v", l.topic, l.partition, err)
	}
	if d := s.fleeting[l]; d != nil && err == nil {
		d.note(r)
	}
}

// produce writes numbered values until stop, then the last one for each key.
func (s *soak) produce(l *lane, producer *kgo.Client) {
	for n := 0; ; n++ {
		select {
		case <-s.stop:
			if d := s.fleeting[l]; d != nil && d.byKafka {
				s.keepRecords(l.topic)
			}
			for _, key := range l.keys {
				s.put(l, producer, key, last)
			}
			return
		case <-time.After(rand.N(10 * time.Millisecond)):
			s.put(l, producer, l.keys[n%len(l.keys)], fmt.Sprint(n))
		}
	}
}

// produceInTransactions writes numbered values in transactions and aborts a third of them. If Kafka does not
// confirm the end of a transaction soon, a new producer with the same id replaces the old producer and thereby
// ends the transaction, because franz-go's client keeps asking a dead coordinator.
func (s *soak) produceInTransactions(l *lane) error {
	for n, stopped := 0, false; !stopped; {
		producer, err := s.newTransactional(l, 5*time.Second)
		if err != nil {
			return err
		}
		for err == nil && !stopped {
			select {
			case <-s.stop:
				stopped = true
			case <-time.After(rand.N(50 * time.Millisecond)):
				err = s.transaction(producer, rand.IntN(3) > 0, 5*time.Second, func() {
					for range 1 + rand.IntN(5) {
						s.put(l, producer, l.keys[n%len(l.keys)], fmt.Sprint(n))
						n++
					}
				})
			}
		}
		producer.Close()
	}
	producer, err := s.newTransactional(l, patience)
	if err != nil {
		return err
	}
	defer producer.Close()
	return s.transaction(producer, true, patience, func() {
		for _, key := range l.keys {
			s.put(l, producer, key, last)
		}
	})
}

func (s *soak) newTransactional(l *lane, patience time.Duration) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(s.c.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.AlwaysRetryEOF(), kgo.TransactionalID(l.topic), kgo.TransactionTimeout(10*time.Second), kgo.RecordDeliveryTimeout(patience))
}

// transaction puts within a transaction, which it commits or aborts.
func (s *soak) transaction(producer *kgo.Client, commit bool, patience time.Duration, put func()) error {
	if err := producer.BeginTransaction(); err != nil {
		return err
	}
	put()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return err
	}
	if !commit {
		s.happened("transaction aborted")
	}
	return nil
}
