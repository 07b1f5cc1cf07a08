package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// soak runs clients of two replicas of Herald on a cluster of three brokers. Meanwhile it kills, stops and pauses
// replicas, kills brokers, cuts and stalls connections, deletes records, adds partitions and aborts transactions.
type soak struct {
	t         *testing.T
	c         *cluster
	users     []string
	replicas  [2]*herald
	proxies   [2]string // their addresses, each before a replica
	faults    map[string]int
	stop      chan struct{} // closed when nothing more happens
	producers sync.WaitGroup

	ends, resets, stalls atomic.Int64

	shared   string // the topic that gets more partitions
	homes    homes
	atomic   *lane              // written in transactions
	fleeting map[*lane]*deleted // lanes whose old records are deleted

	mu    sync.Mutex
	lanes []*lane // after stop, no lane and no key of a lane is added
}

// TestSoak disturbs every part of the system. Each client must receive each of its records once and in order
// within a partition, or a gap for records that were deleted before it received them. HERALD_SOAK sets how long
// the disturbances last. The test prints the disturbances and the result.
func TestSoak(t *testing.T) {
	length := 15 * time.Second
	if text := os.Getenv("HERALD_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := &soak{
		t: t, c: sharedCluster(t), users: []string{"alice", "bob", "carol", "dave"},
		faults: make(map[string]int), stop: make(chan struct{}), fleeting: make(map[*lane]*deleted),
	}
	s.start()
	var clients []*soakClient
	for i := range 20 {
		clients = append(clients, s.newClient(s.users[i%len(s.users)]))
	}
	for _, l := range s.lanes {
		if l != s.atomic && l.topic != s.homes.topic {
			s.producers.Go(func() { s.produce(l, s.c.producer) })
		}
	}
	s.settle(homesAtFirst)
	var deleting, committing error
	s.producers.Go(func() { deleting = s.deleteRecords() })
	s.producers.Go(func() { committing = s.produceInTransactions(s.atomic) })
	errs := make([]error, len(clients))
	var readers sync.WaitGroup
	for i, client := range clients {
		readers.Go(func() { errs[i] = s.read(client) })
	}
	end := time.Now().Add(length)
	brokers := make(chan struct{})
	go func() {
		defer close(brokers)
		for time.Until(end) > brokerStart {
			s.killBroker()
			time.Sleep(rand.N(2 * time.Second))
		}
	}()
	for i := 0; time.Now().Before(end); i++ {
		if i%8 == 1 && i < 80 {
			s.addPartition()
		}
		if i%8 == 5 && i < 80 {
			s.grow(clients)
		}
		s.disturb(i % 4)
		time.Sleep(rand.N(time.Second))
	}
	<-brokers
	close(s.stop)
	s.producers.Wait()
	s.endHomes()
	readers.Wait()
	if err := errors.Join(deleting, committing); err != nil {
		t.Error(err)
	}
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	s.compare(clients)
}

// homesAtFirst is how many partitions the topic with a partitioner begins with.
const homesAtFirst = 2

// start makes the topics and starts both replicas.
func (s *soak) start() {
	t := s.t
	add := func(name, topic string, partition int32, keys ...string) *lane {
		l := &lane{name: name, topic: topic, partition: partition, keys: keys}
		s.lanes = append(s.lanes, l)
		return l
	}
	s.shared, s.homes.topic = s.c.newTopic(t, "shared", clusterSize), s.c.newTopic(t, "homes", homesAtFirst)
	everyone, atomic, own := s.c.newTopic(t, "everyone", 1), s.c.newTopic(t, "atomic", 1), topicName(t, "own")
	fleeting, retained := s.c.newTopic(t, "fleeting", 2), s.c.broker.newTopic(t, "retained", 1, retention...)
	s.c.waitInSync(t, retained)
	for p := range int32(clusterSize) {
		add(fmt.Sprint("shared/", p), s.shared, p, s.users...)
	}
	add("everyone", everyone, 0, "")
	s.atomic = add("atomic", atomic, 0, s.users...)
	for p := range int32(2) {
		s.fleeting[add(fmt.Sprint("fleeting/", p), fleeting, p, s.users...)] = &deleted{records: make(map[int64]*kgo.Record)}
	}
	s.fleeting[add("retained", retained, 0, s.users...)] = &deleted{records: make(map[int64]*kgo.Record), byKafka: true}
	for _, user := range s.users {
		s.c.createTopic(t, own+"."+user, 1)
		add("own."+user, own+"."+user, 0, user)
	}
	group := topicName(t, "group")
	for i := range s.replicas {
		s.replicas[i] = startHerald(t, &s.c.broker, "--group="+group, fmt.Sprint("--replica=", i), "--max-queue-bytes=4096", "--retry=50ms",
			"--write-timeout="+soakWriteTimeout.String(), "--log-level=debug",
			"--topic="+s.shared, "--topic="+fleeting, "--topic="+retained, "--topic="+atomic, "--topic="+s.homes.topic+",partitioner=murmur2",
			"--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")
		s.proxies[i] = s.proxy(s.replicas[i].public)
	}
}

// lanesOf returns the lanes that the user has records in.
func (s *soak) lanesOf(user string) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.lanes), func(l *lane) bool { return !l.of(user) })
}

// laneOf returns the lane of the partition, nil if there is none.
func (s *soak) laneOf(topic string, partition int32) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if l.topic == topic && l.partition == partition {
			return l
		}
	}
	return nil
}

// addPartition gives the shared topic one more, and a producer.
func (s *soak) addPartition() {
	p := int32(0)
	for _, l := range s.lanes {
		if l.topic == s.shared {
			p++
		}
	}
	s.happened("partition added")
	s.addPartitionTo(s.shared, int(p))
	l := &lane{name: fmt.Sprint("shared/", p), topic: s.shared, partition: p, keys: s.users}
	s.mu.Lock()
	s.lanes = append(s.lanes, l)
	s.mu.Unlock()
	producer := s.c.newProducer(s.t, s.shared, p)
	s.producers.Go(func() { s.produce(l, producer) })
}

// addPartitionTo adds a partition to a topic that has count partitions.
func (s *soak) addPartitionTo(topic string, count int) {
	waitFor(s.t, "a partition is added", func(ctx context.Context) bool { // the broker asked may just be back
		_, _ = s.c.admin.UpdatePartitions(ctx, count+1, topic)
		found, err := s.c.admin.ListTopics(ctx, topic)
		return err == nil && found.Error() == nil && len(found[topic].Partitions) > count
	})
}

// brokerStart is about how long a broker takes to start.
const brokerStart = 10 * time.Second

// withZooKeeper matches the images in whose clusters the first node runs ZooKeeper (deploy/kafka/start.sh).
var withZooKeeper = regexp.MustCompile(`:([12]|3\.[0-2])\.`)

// killBroker kills a broker and starts it again after a while.
func (s *soak) killBroker() {
	nodes := s.c.nodes[:]
	if withZooKeeper.MatchString(kafkaImage()) {
		nodes = nodes[1:] // without ZooKeeper, brokers keep outdated metadata until it is back
	}
	n := nodes[rand.IntN(len(nodes))]
	s.c.killNode(s.t, n)
	time.Sleep(rand.N(3 * time.Second))
	s.c.startNode(s.t, n)
	s.happened("broker killed")
}

// disturb kills, stops or pauses a replica.
func (s *soak) disturb(how int) {
	h := s.replicas[rand.IntN(len(s.replicas))]
	switch how {
	case 0, 2:
		h.Kill()
		time.Sleep(rand.N(500 * time.Millisecond))
		h.Launch()
		s.happened("herald killed")
	case 1:
		waitStatus(s.t, "http://"+h.admin+"/livez", http.StatusOK, h.ended) // SIGTERM would kill a process that has just begun
		h.Stop()
		h.Launch()
		s.happened("herald stopped")
	case 3:
		if err := h.command.Process.Signal(syscall.SIGSTOP); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(rand.N(2 * time.Second))
		if err := h.command.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatal(err)
		}
		s.happened("herald paused")
	}
}

// happened counts a fault.
func (s *soak) happened(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[kind]++
}
