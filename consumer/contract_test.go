package consumer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// contract is a cluster that the contract is tested on.
type contract struct {
	addresses []string
	client    *kgo.Client // with the partition of each record given
	admin     *kadm.Client
	run       string // begins the names of topics and groups
	inProcess bool
}

// TestContract is what a consumer promises on any cluster, with one body for all: it runs on the
// in-process broker or, if HERALD_TEST_BROKERS names one, on a cluster that is there, as the
// integration tests have it do on Apache Kafka.
func TestContract(t *testing.T) {
	t.Parallel()
	k := &contract{run: fmt.Sprintf("contract%d.", time.Now().UnixNano())}
	if list := os.Getenv("HERALD_TEST_BROKERS"); list != "" {
		k.addresses = strings.Split(list, ",")
	} else {
		broker, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(broker.Close)
		k.addresses, k.inProcess = broker.ListenAddrs(), true
	}
	k.client = k.connect(t)
	k.admin = kadm.NewClient(k.client)
	for name, test := range map[string]func(*testing.T, *contract){
		"routes": contractRoutes, "batches": contractBatches, "transactions": contractTransactions, "retention": contractRetention,
		"partitions added": contractPartitionsAdded, "topic created again": contractRecreated, "topic deleted": contractDeleted,
		"group": contractGroup, "fair": contractFair,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &contract{k.addresses, k.client, k.admin, k.run + strings.ReplaceAll(name, " ", "-") + ".", k.inProcess})
		})
	}
}

// connect returns a client whose records have their partitions given and wait for no others.
func (k *contract) connect(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(k.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic creates a topic and returns its name.
func (k *contract) topic(t *testing.T, name string, partitions int32) string {
	t.Helper()
	if _, err := k.admin.CreateTopic(t.Context(), partitions, 1, nil, k.run+name); err != nil {
		t.Fatal(err)
	}
	return k.run + name
}

// read runs a consumer of the routes, each a topic's name without k.run, and waits until all topics
// are read.
func (k *contract) read(t *testing.T, specs ...string) (*Consumer, *ledger) {
	t.Helper()
	routes := []string{"group=" + k.run + "group"}
	for _, spec := range specs {
		routes = append(routes, k.run+spec)
	}
	sink := newLedger()
	c, _ := startWith(t, k.addresses, sink, routes...)
	ready(t, c)
	return c, sink
}

// write writes records of a user, one for each value, and returns their lines.
func (k *contract) write(t *testing.T, client *kgo.Client, topic string, partition int32, user string, values ...string) []string {
	t.Helper()
	var lines []string
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(user), Value: []byte(value)})
		lines = append(lines, user+" "+value)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce to %s/%d: %v", topic, partition, err)
	}
	return lines
}

// replayed checks that a replay of all of the partition has these lines of the user.
func (k *contract) replayed(t *testing.T, c *Consumer, topic, user string, want []string) {
	t.Helper()
	p, id := Partition{topic, 0}, topicID(t, c, topic)
	start, end, err := c.Range(t.Context(), p, id)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for at := start; at < end; {
		next, err := replayOne(t.Context(), c, p, id, user, at, end, func(r *Record) bool {
			got = append(got, line(r))
			return true
		})
		if err != nil || next <= at {
			t.Fatalf("replay of %s from %d to %d ends at %d: %v", p, at, end, next, err)
		}
		at = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replay of %s for %s (-want +got):\n%.2000s", p, user, diff)
	}
}

func contractRoutes(t *testing.T, k *contract) {
	shared, all := k.topic(t, "shared", 3), k.topic(t, "all", 1)
	c, sink := k.read(t, "shared", "all,kind=broadcast", "own.{user}")
	topics, err := c.Join(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	own := k.run + "own.alice"
	if diff := cmp.Diff([]string{all, own, shared}, sortedCopy(topics)); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
	k.topic(t, "own.alice", 1)
	want := k.write(t, k.client, own, 0, "alice", "first ever")
	for p := range int32(3) {
		want = append(want, k.write(t, k.client, shared, p, "alice", fmt.Sprint("shared ", p))...)
	}
	k.write(t, k.client, all, 0, "alice", "for everyone")
	want = append(want, "* for everyone")
	sink.wantLines(t, sortedCopy(want))
	k.replayed(t, c, own, "alice", want[:1])
}

// contractBatches writes batches of several sizes in each codec.
func contractBatches(t *testing.T, k *contract) {
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	var want []string
	for codec := range len(compressions) {
		client := k.connect(t, kgo.ProducerBatchCompression(compressions[codec]), kgo.ProducerLinger(100*time.Millisecond)) // a call makes one batch
		for _, size := range []int{1, 10, 1000, 1} {
			var values []string
			for i := range size {
				values = append(values, fmt.Sprintf("%d: %d of %d %s", codec, i, size, strings.Repeat("x", i)))
			}
			want = append(want, k.write(t, client, topic, 0, "alice", values...)...)
			k.write(t, client, topic, 0, "bob", "not hers")
		}
	}
	sink.sorted(t, len(want)+4*len(compressions))
	got := slices.DeleteFunc(slices.Clone(sink.lines), func(line string) bool { return line == "bob not hers" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("live (-want +got):\n%.2000s", diff)
	}
	k.replayed(t, c, topic, "alice", want)
}

// contractTransactions has two transactions at a time on one partition, and records of none between
// them; one aborts, or both, or none.
func contractTransactions(t *testing.T, k *contract) {
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	var clients []*kgo.Client
	for i := range 2 {
		clients = append(clients, k.connect(t, kgo.TransactionalID(fmt.Sprint(k.run, i))))
	}
	var want []string
	for round, commits := range [][]kgo.TransactionEndTry{{false, true}, {true, false}, {false, false}, {true, true}} {
		for _, client := range clients {
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 3 {
			for i, client := range clients {
				lines := k.write(t, client, topic, 0, "alice", fmt.Sprint(round, ": ", n, " of ", i))
				if commits[i] {
					want = append(want, lines...)
				}
			}
			want = append(want, k.write(t, k.client, topic, 0, "alice", fmt.Sprint(round, ": ", n, " of none"))...)
		}
		for i, client := range clients {
			if err := client.EndTransaction(t.Context(), commits[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	want = append(want, k.write(t, k.client, topic, 0, "alice", "last")...)
	sink.sorted(t, len(want))
	if diff := cmp.Diff(want, sink.lines); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	k.replayed(t, c, topic, "alice", want)
}

// contractRetention deletes records and wants what is lost told, and the rest.
func contractRetention(t *testing.T, k *contract) {
	topic := k.topic(t, "t", 1)
	c, sink := k.read(t, "t")
	want := k.write(t, k.client, topic, 0, "alice", "0", "1", "2", "3")
	sink.wantLines(t, want)
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: topic, At: 3})
	if answer, err := k.admin.DeleteRecords(t.Context(), before); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	_, err := replayOne(t.Context(), c, Partition{topic, 0}, topicID(t, c, topic), "alice", 0, 4, func(*Record) bool { return true })
	gone, _ := errors.AsType[*OutOfRangeError](err)
	if diff := cmp.Diff(&OutOfRangeError{Position{Partition{topic, 0}, 0}, 3, 4}, gone); diff != "" {
		t.Errorf("replay of what is gone (-want +got):\n%s", diff)
	}
	k.replayed(t, c, topic, "alice", want[3:])
}

func contractPartitionsAdded(t *testing.T, k *contract) {
	topic := k.topic(t, "t", 1)
	_, sink := k.read(t, "t")
	if answer, err := k.admin.CreatePartitions(t.Context(), 3, topic); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	var want []string
	for p := range int32(4) {
		want = append(want, k.write(t, k.client, topic, p, "alice", fmt.Sprint("in ", p))...)
	}
	sink.wantLines(t, want)
}

// contractRecreated wants a topic that was deleted and created again told, and all of the new one.
func contractRecreated(t *testing.T, k *contract) {
	topic, other := k.topic(t, "t", 1), k.topic(t, "other", 1)
	_, sink := k.read(t, "t", "other")
	sink.wantLines(t, k.write(t, k.client, topic, 0, "alice", "0 old", "1 old", "2 old"))
	k.deleteTopic(t, topic)
	k.topic(t, "t", 1)
	client := k.connect(t) // the other one knows the old topic
	k.write(t, client, topic, 0, "alice", "3 new", "4 new")
	k.write(t, k.client, other, 0, "alice", "5 other")
	if diff := cmp.Diff([]string{"alice 0 old", "alice 1 old", "alice 2 old", "alice 3 new", "alice 4 new", "alice 5 other"}, sink.sorted(t, 6)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if gap := sink.waitGap(t); gap.Reason != GapRecreated || len(sink.gaps) != 1 {
		t.Errorf("gaps %+v, want one: %s", sink.gaps, GapRecreated)
	}
}

// contractDeleted deletes a topic: the others go on.
func contractDeleted(t *testing.T, k *contract) {
	topic, other := k.topic(t, "t", 1), k.topic(t, "other", 1)
	_, sink := k.read(t, "t", "other")
	want := k.write(t, k.client, topic, 0, "alice", "0")
	sink.wantLines(t, want)
	k.deleteTopic(t, topic)
	for i := range 3 {
		want = append(want, k.write(t, k.client, other, 0, "alice", fmt.Sprint(i+1))...)
		sink.wantLines(t, want)
		pause(t.Context(), turnInterval)
	}
	k.topic(t, "t", 1)
	k.write(t, k.connect(t), topic, 0, "alice", "4, of the new one")
	sink.sorted(t, 5)
}

func (k *contract) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	if _, err := k.admin.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found, err := k.admin.ListTopics(t.Context(), topic)
		if err == nil && !found.Has(topic) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s is still there: %v", topic, err)
		}
	}
}

// contractGroup looks at the group as Kafka's tools do.
func contractGroup(t *testing.T, k *contract) {
	topic, own := k.topic(t, "t", 2), k.topic(t, "own.alice", 1)
	c, sink := k.read(t, "t", "own.{user}")
	if _, err := c.Join(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	group := k.run + "group"
	k.write(t, k.client, topic, 1, "alice", "0", "1")
	k.write(t, k.client, own, 0, "alice", "2", "3", "4")
	sink.sorted(t, 5)
	c.Delivered(Partition{own, 0}, 2)
	for name, want := range map[string]map[Partition]int64{
		group + ".one":       {{topic, 0}: 0, {topic, 1}: 2},
		group + ".delivered": {{own, 0}: 2},
	} {
		var got map[Partition]int64
		for deadline := time.Now().Add(60 * time.Second); !cmp.Equal(want, got); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("committed offsets of %s (-want +got):\n%s", name, cmp.Diff(want, got))
				break
			}
			offsets, err := k.admin.FetchOffsets(t.Context(), name)
			if err != nil {
				continue
			}
			got = make(map[Partition]int64)
			offsets.Each(func(o kadm.OffsetResponse) { got[Partition{o.Topic, o.Partition}] = o.At })
		}
	}
	lags, err := k.admin.Lag(t.Context(), group+".one", group+".delivered")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{group + ".one": 0, group + ".delivered": 1} {
		if lag := lags[name]; lag.Error() != nil || lag.Lag.Total() != want {
			t.Errorf("group %s has a lag of %d, want %d: %v", name, lag.Lag.Total(), want, lag.Error())
		}
	}
}

// scale weighs what it is given and has something done when the first of it comes.
type scale struct {
	*ledger
	first  func()
	begun  sync.Once
	weight int // bytes of all others
	before int // such bytes when the record of near came
	near   string
	came   chan struct{}
}

func (s *scale) Deliver(p Partition, records []Record, _ int64) {
	if len(records) == 0 {
		return
	}
	s.begun.Do(s.first)
	if p.Topic == s.near {
		s.before = s.weight
		close(s.came)
		return
	}
	for i := range records {
		s.weight += len(records[i].Value)
	}
}

// contractFair has partitions that are far behind, by many times what an answer holds, and another
// that gets a record while they are read: it does not wait for all of theirs.
func contractFair(t *testing.T, k *contract) {
	const records, size = 48, 1 << 20
	partitions := int32(3)
	if k.inProcess { // that broker's answers always begin with the same partitions; KIP-227 wants turns
		partitions = 1
	}
	far, near := k.topic(t, "far", partitions), k.topic(t, "near", 1)
	client := k.connect(t, kgo.ProducerBatchMaxBytes(1<<20+1<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := strings.Repeat("x", size-1<<10)
	for p := range partitions {
		for range records {
			k.write(t, client, far, p, "alice", value)
		}
	}
	sink := &scale{ledger: newLedger(), near: near, came: make(chan struct{})}
	sink.first = func() { k.write(t, k.client, near, 0, "alice", "in time") }
	c := configured(t, k.addresses, sink, "group="+k.run+"group", far, near)
	c.topics[far].settle(true) // as if it had been known and missing: it is read from its start
	run(t, c)
	select {
	case <-sink.came:
	case <-time.After(20 * time.Second):
		t.Fatal("the record of the partition that is not behind does not come")
	}
	// An answer is being delivered, another one is on its way, and the third has the record.
	if bound := 3 * int(c.cfg.FetchMaxBytes); sink.before > bound {
		t.Errorf("%d bytes of other partitions came first, want %d at most of %d", sink.before, bound, int(partitions)*records*size)
	}
}
