package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
)

// TestKafkaGo checks that kafka-go's requests work on this broker, and that the broker keeps its records over a
// restart. kafka-go's request versions are the lowest that Kafka 4 supports.
func TestKafkaGo(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "records", 2)
	var want []string
	write := func(value string) {
		t.Helper()
		produceWithKafkaGo(t, b, topic, 1, value)
		want = append(want, value)
	}
	check := func() {
		t.Helper()
		if diff := cmp.Diff(want, readAll(t, b, topic, 1)); diff != "" {
			t.Errorf("%s/1 (-want +got):\n%s", topic, diff)
		}
	}
	write("one")
	write("two")
	check()
	commitThroughGroup(t, b, topic, 1, 2)
	if b.container == nil {
		t.Log("HERALD_TEST_BROKERS is set: the broker is not restarted")
		return
	}
	b.stop(t, 30*time.Second)
	b.start(t)
	check()
	write("three")
	check()
}

// untilAccepted sends a request, and tries again while the broker answers with a temporary error: a broker answers 6 (not
// the leader) for a moment after it has started or after the partition was created.
func untilAccepted(t *testing.T, what string, send func() error) {
	t.Helper()
	var err error
	waitWithin(t, patience, func() string { return fmt.Sprintf("%s is accepted; last %v", what, err) }, func(context.Context) bool {
		err = send()
		var refused kafka.Error
		if err != nil && (!errors.As(err, &refused) || !refused.Temporary()) {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// produceWithKafkaGo writes a record.
func produceWithKafkaGo(t *testing.T, b *broker, topic string, partition int, value string) {
	t.Helper()
	untilAccepted(t, fmt.Sprintf("a record for %s/%d", topic, partition), func() error {
		answer, err := b.client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte(value))}),
		})
		if err == nil {
			err = answer.Error
		}
		return err
	})
}

// readAll fetches the partition from its start to its end.
func readAll(t *testing.T, b *broker, topic string, partition int) []string {
	t.Helper()
	var values []string
	for offset := int64(0); ; {
		var answer *kafka.FetchResponse
		untilAccepted(t, fmt.Sprintf("fetch %s/%d@%d", topic, partition, offset), func() (err error) {
			answer, err = b.client.Fetch(t.Context(), &kafka.FetchRequest{
				Topic: topic, Partition: partition, Offset: offset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second,
			})
			if err == nil {
				err = answer.Error
			}
			return err
		})
		for {
			r, err := answer.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("read %s/%d@%d: %v", topic, partition, offset, err)
			}
			value, err := kafka.ReadAll(r.Value)
			if err != nil {
				t.Fatalf("value of %s/%d@%d: %v", topic, partition, r.Offset, err)
			}
			values = append(values, string(value))
			offset = r.Offset + 1
		}
		if offset >= answer.HighWatermark {
			return values
		}
	}
}

// commitThroughGroup joins a group as its only member and commits the offset.
func commitThroughGroup(t *testing.T, b *broker, topic string, partition int, offset int64) {
	t.Helper()
	id := topicName(t, "group")
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: id, Brokers: b.addresses, Topics: []string{topic}, JoinGroupBackoff: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatalf("consumer group: %v", err)
	}
	defer group.Close() //nolint:errcheck // leaving is a courtesy
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		generation, err := group.Next(ctx)
		if err == nil {
			err = generation.CommitOffsets(map[string]map[int]int64{topic: {partition: offset}})
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("commit %s/%d@%d: %v", topic, partition, offset, err)
		}
	}
	answer, err := b.client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: id, Topics: map[string][]int{topic: {partition}}})
	if err != nil {
		t.Fatalf("committed offset of %s/%d: %v", topic, partition, err)
	}
	got := fmt.Sprint(answer.Topics[topic][0].CommittedOffset)
	if want := fmt.Sprint(offset); got != want {
		t.Errorf("committed offset of %s/%d = %s, want %s", topic, partition, got, want)
	}
}
