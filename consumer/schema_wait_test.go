package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"herald/consumer/batch"
	"herald/consumer/format"
)

// gatedFormat is a format whose values are SCHEMA:JSON. It has a schema once [gatedFormat.open] was called. The value of the schema
// "bad" cannot be decoded.
type gatedFormat struct {
	mu      sync.Mutex
	schemas map[string]bool
	wakes   map[string][]func()
	decoded int
}

func newGatedFormat(schemas ...string) *gatedFormat {
	g := &gatedFormat{schemas: map[string]bool{"bad": true}, wakes: make(map[string][]func())}
	for _, s := range schemas {
		g.schemas[s] = true
	}
	return g
}

func (g *gatedFormat) Ready(r *batch.Record, wake func()) bool {
	schema, _, _ := strings.Cut(string(r.Value), ":")
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.schemas[schema] && wake != nil {
		g.wakes[schema] = append(g.wakes[schema], wake)
	}
	return g.schemas[schema]
}

func (g *gatedFormat) Decode(r *batch.Record) (format.Decoded, error) {
	schema, value, _ := bytes.Cut(r.Value, []byte(":"))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decoded++
	switch {
	case !g.schemas[string(schema)]:
		return format.Decoded{}, format.ErrNotReady
	case string(schema) == "bad":
		return format.Decoded{}, &format.Error{Reason: format.ReasonMismatch, Schema: "7", Err: errors.New("does not fit")}
	}
	return format.Decoded{Value: value}, nil
}

// open lets the gatedFormat have a schema.
func (g *gatedFormat) open(schema string) {
	g.mu.Lock()
	g.schemas[schema] = true
	wakes := g.wakes[schema]
	delete(g.wakes, schema)
	g.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

// startWithFormat runs a consumer of the routes, of which those with format=confluent-json have the gatedFormat as their format.
func startWithFormat(t *testing.T, broker *kfake.Cluster, g *gatedFormat, sink Sink, specs ...string) *Consumer {
	t.Helper()
	c := configured(t, broker.ListenAddrs(), sink, specs...)
	setFormat(c, g)
	run(t, c)
	ready(t, c)
	return c
}

// setFormat replaces the format of all routes that have one.
func setFormat(c *Consumer, f format.Format) {
	for topic := range c.reader.decoders {
		c.reader.decoders[topic] = newDecoder(&Route{Topic: topic}, f, c.metrics, c.log)
	}
}

// decodingLedger is a ledger that decodes the records.
type decodingLedger struct{ *ledger }

func (l decodingLedger) Deliver(p Partition, records []Record, next int64) {
	for i := range records {
		if err := records[i].Decode(); err != nil {
			records[i].Value = []byte("(undecodable)")
		}
	}
	l.ledger.Deliver(p, records, next)
}

func (l *ledger) copyLines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// TestPartitionWaitsForItsSchema checks live reading of a record whose schema is not there: the records before it arrive,
// the records after it wait, and the other partitions and topics continue. Once the schema is there, everything arrives
// in order and soon.
func TestPartitionWaitsForItsSchema(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]string{"shared": "t", "value": "t,user=json:/to", "broadcast": "t,kind=broadcast"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t, kfake.SeedTopics(2, "t"), kfake.SeedTopics(1, "other"))
			g, sink := newGatedFormat("1"), newLedger()
			c := startWithFormat(t, broker, g, decodingLedger{sink}, route+",format=confluent-json", "other")
			client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			write := func(topic string, partition int32, values ...string) {
				t.Helper()
				var records []*kgo.Record
				for _, value := range values {
					records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: []byte("alice"), Value: []byte(value)})
				}
				if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			user := "alice "
			if name == "broadcast" {
				user = "* "
			}
			lineOf := func(n string) string { return user + `{"to":"alice","n":` + n + "}" }
			value := func(n string) string { return `{"to":"alice","n":` + n + "}" }
			write("t", 0, "1:"+value("1"), "2:"+value("2"), "1:"+value("3"))
			write("t", 1, "1:"+value("4"))
			sink.sorted(t, 2)
			waitFor(t, "the partition waits", func() bool { n, _ := c.reader.countSchemaWaits(); return n == 1 })
			write("t", 0, "1:"+value("5"))
			write("t", 1, "1:"+value("6"))
			write("other", 0, "7")
			sink.sorted(t, 4)
			want := slices.Sorted(slices.Values([]string{lineOf("1"), lineOf("4"), lineOf("6"), "alice 7"}))
			if diff := cmp.Diff(want, sink.sorted(t, 4)); diff != "" {
				t.Errorf("while the partition waits (-want +got):\n%s", diff)
			}
			time.Sleep(1500 * time.Millisecond) // the fetch of the quiet partitions is a long one, and metadata may come
			opened := time.Now()
			g.open("2")
			waitFor(t, "all records arrive", func() bool { return len(sink.copyLines()) == 7 })
			took := time.Since(opened)
			t.Logf("arrived %v after the schema", took)
			if took > 20*time.Second {
				t.Errorf("the records arrived %v after the schema", took)
			}
			got := slices.DeleteFunc(sink.copyLines(), func(l string) bool {
				return !slices.Contains([]string{lineOf("1"), lineOf("2"), lineOf("3"), lineOf("5")}, l)
			})
			if diff := cmp.Diff([]string{lineOf("1"), lineOf("2"), lineOf("3"), lineOf("5")}, got); diff != "" {
				t.Errorf("in the order of offsets (-want +got):\n%s", diff)
			}
			if n, _ := c.reader.countSchemaWaits(); n > 0 || testutil.ToFloat64(c.metrics.undecodable.WithLabelValues("t", format.ReasonMismatch)) > 0 {
				t.Errorf("%d partitions wait", n)
			}
		})
	}
}

// TestReplayWaitsForASchema checks replays from memory and from Kafka: a record that its user wants ends the replay before
// it, until its schema is there. Replays of other users continue.
func TestReplayWaitsForASchema(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]string{"key": "t", "value": "t,user=json:/to"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t, kfake.SeedTopics(1, "t"))
			g, sink := newGatedFormat("1", "2"), newLedger()
			c := startWithFormat(t, broker, g, sink, route+",format=confluent-json")
			producer := NewProducer(broker.ListenAddrs(), nil, nil)
			defer producer.Close()
			for _, r := range [][2]string{{"alice", "1"}, {"bob", "1"}, {"alice", "2"}, {"bob", "1"}, {"alice", "1"}, {"alice", "bad"}} {
				produce(t, producer, "t", r[0], r[1]+`:{"to":"`+r[0]+`"}`)
			}
			p, id := Partition{Topic: "t", ID: 0}, topicID(t, c, "t")
			waitFor(t, "live reading has come to the end", func() bool { next, _ := c.reader.livePartition(p).position(); return next == 6 })
			for _, from := range []string{"memory", "Kafka"} {
				g.mu.Lock()
				delete(g.schemas, "2")
				g.mu.Unlock()
				replay := func(user string) (values []string, next int64, err error) {
					next, err = replayOne(t.Context(), c, p, id, user, 0, 6, func(r *Record) bool {
						if err := r.Decode(); err != nil {
							values = append(values, "(undecodable)")
						} else {
							values = append(values, string(r.Value))
						}
						return true
					})
					return values, next, err
				}
				values, next, err := replay("alice")
				if diff := cmp.Diff([]string{`{"to":"alice"}`}, values); diff != "" || next != 2 || !errors.Is(err, ErrNotReady) {
					t.Errorf("from %s: ended at %d with %v (-want +got):\n%s", from, next, err, diff)
				}
				if values, next, err := replay("bob"); from == "memory" || name == "key" {
					if diff := cmp.Diff([]string{`{"to":"bob"}`, `{"to":"bob"}`}, values); diff != "" || next != 6 || err != nil {
						t.Errorf("bob from %s: ended at %d with %v (-want +got):\n%s", from, next, err, diff)
					}
				} else if next != 2 || !errors.Is(err, ErrNotReady) { // the record may be bob's
					t.Errorf("bob from %s: ended at %d with %v", from, next, err)
				}
				g.open("2")
				wanted := []string{`{"to":"alice"}`, `{"to":"alice"}`, `{"to":"alice"}`, "(undecodable)"}
				if name == "value" {
					wanted = wanted[:3] // nobody knows whose record the last one is
				}
				if values, next, err := replay("alice"); cmp.Diff(wanted, values) != "" || next != 6 || err != nil {
					t.Errorf("from %s with the schema: ended at %d with %v and %v", from, next, err, values)
				}
				forgetTail(t, c, p)
			}
			if name == "value" && testutil.ToFloat64(c.metrics.ownerless.WithLabelValues("t", ownerlessUndecodable)) != 1 {
				t.Error("a record whose value names nobody, because it cannot be decoded, is not counted as ownerless")
			}
			if testutil.ToFloat64(c.metrics.errors.WithLabelValues(errorReplay)) > 0 {
				t.Error("a replay that waits for a schema counts as an error of Kafka")
			}
		})
	}
}

// TestRecordsOfAbsentUsersAreNotDecoded checks that reading decodes no record, unless its value names its user.
func TestRecordsOfAbsentUsersAreNotDecoded(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	g, sink := newGatedFormat("1"), newLedger()
	startWithFormat(t, broker, g, sink, "t,format=confluent-json")
	producer := NewProducer(broker.ListenAddrs(), nil, nil)
	defer producer.Close()
	for range 3 {
		produce(t, producer, "t", "alice", "1:{}")
	}
	sink.sorted(t, 3)
	if g.decoded > 0 {
		t.Errorf("%d records were decoded", g.decoded)
	}
}

// growingFormat makes values of 1 MiB that name alice.
type growingFormat struct{}

func (growingFormat) Ready(*batch.Record, func()) bool { return true }

func (growingFormat) Decode(*batch.Record) (format.Decoded, error) {
	return format.Decoded{Value: append(bytes.Repeat([]byte(" "), 1<<20), `{"to":"alice"}`...)}, nil
}

// sizeSink notes the most bytes of values in one delivery.
type sizeSink struct {
	*ledger
	most int
}

func (s *sizeSink) Deliver(p Partition, records []Record, next int64) {
	size := 0
	for i := range records {
		size += len(records[i].Value)
	}
	s.most = max(s.most, size)
	s.ledger.Deliver(p, records, next)
}

// TestDecodedValuesOfADeliveryAreBounded reads small values, written at once, that are large once they are decoded.
func TestDecodedValuesOfADeliveryAreBounded(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(1, "t"))
	sink := &sizeSink{ledger: newLedger()}
	c := configured(t, broker.ListenAddrs(), sink, "t,user=json:/to,format=confluent-json")
	setFormat(c, growingFormat{})
	run(t, c)
	ready(t, c)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	written := make([]*kgo.Record, 30)
	for i := range written {
		written[i] = &kgo.Record{Topic: "t", Value: []byte("v")}
	}
	if err := client.ProduceSync(t.Context(), written...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	sink.sorted(t, len(written))
	if sink.most > maxDecoded+2<<20 {
		t.Errorf("a delivery had %d bytes of values", sink.most)
	}
}

// TestManyNewSchemas checks a backlog of which each record has a new schema, in a partition beside a quiet one. The records
// that were fetched are not fetched again. Their copies are dropped, also if the partition ends while it waits.
func TestManyNewSchemas(t *testing.T) {
	t.Parallel()
	broker := newBroker(t, kfake.SeedTopics(2, "t"))
	g, sink := newGatedFormat(), newLedger()
	c := startWithFormat(t, broker, g, decodingLedger{sink}, "t,format=confluent-json")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	var want []string
	for i := range 20 {
		records = append(records, &kgo.Record{Topic: "t", Key: []byte("alice"), Value: fmt.Appendf(nil, "%d:%d", i, i)})
		want = append(want, fmt.Sprintf("alice %d", i))
	}
	records = append(records, &kgo.Record{Topic: "t", Key: []byte("alice"), Value: []byte("never:1")})
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	fetches := broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Partitions: []int32{0}, Observe: true, Count: -1})
	for i := range 20 {
		waitFor(t, "the partition waits", func() bool { return g.isWanted(fmt.Sprint(i)) })
		g.open(fmt.Sprint(i))
	}
	waitFor(t, "all records arrive", func() bool { return len(sink.copyLines()) == len(want) })
	if n := fetches.Hits(); n > 10 { // a machine that stalls for schemaWaitQuiet costs one
		t.Errorf("%d fetches for 20 schemas", n)
	}
	if diff := cmp.Diff(want, sink.copyLines()); diff != "" {
		t.Errorf("in the order of offsets (-want +got):\n%s", diff)
	}
	waitFor(t, "the last record waits", func() bool { return g.isWanted("never") })
	if c.reader.kept.Load() == 0 {
		t.Log("the machine has stalled for so long that the copy was dropped before the partition ended")
	}
	c.reader.removePartition(Partition{Topic: "t", ID: 0})
	waitFor(t, "the copy is dropped", func() bool { return c.reader.kept.Load() == 0 })
}

// isWanted reports whether somebody waits for the schema.
func (g *gatedFormat) isWanted(schema string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.wakes[schema]) > 0
}
