package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicName returns a name that no other test and no other run uses.
func topicName(t *testing.T, name string) string {
	t.Helper()
	test := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name())
	return test + "-" + name + "-" + rand.Text()[:8]
}

// createTopic creates the topic with the number of partitions and entries of its configuration
// (name, value, …).
func (b *broker) createTopic(t *testing.T, topic string, partitions int, entries ...string) {
	t.Helper()
	config := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: b.replicas}
	for i := 0; i+1 < len(entries); i += 2 {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: entries[i], ConfigValue: entries[i+1]})
	}
	// A broker that a busy machine has not run for seconds answers late, or leaves its cluster for a time. Then the topic
	// may exist after a request that has failed.
	var last error
	waitWithin(t, patience, func() string { return fmt.Sprintf("create topic %s: %v", topic, last) }, func(ctx context.Context) bool {
		answer, err := b.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
		if err == nil {
			err = answer.Errors[topic]
		}
		if err == nil || last != nil && errors.Is(err, kafka.TopicAlreadyExists) {
			return true
		}
		last = err
		return false
	})
}

// newTopic creates a topic of its own for the test.
func (b *broker) newTopic(t *testing.T, name string, partitions int, entries ...string) string {
	t.Helper()
	topic := topicName(t, name)
	b.createTopic(t, topic, partitions, entries...)
	return topic
}

// produce writes the records, each to the partition that it names, one after the other.
func (b *broker) produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	for _, r := range records {
		if err := b.producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatalf("produce to %s/%d: %v", r.Topic, r.Partition, err)
		}
	}
}

// record makes a record for partition 0.
func record(topic, key, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
}

// inPartition sets the partition of the record and returns the record.
func inPartition(partition int32, r *kgo.Record) *kgo.Record {
	r.Partition = partition
	return r
}

// recordsOf returns the partition's records from the first to the end, as another client reads them.
func (b *broker) recordsOf(t *testing.T, topic string, partition int32) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatalf("consumer: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := b.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("end of %s/%d: %v", topic, partition, err)
	}
	end, _ := ends.Lookup(topic, partition)
	var records []*kgo.Record
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s/%d: %v", topic, partition, err)
		}
		for _, r := range fetches.Records() {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		}
	}
	return records
}
