package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// soak is clients of two replicas of Herald on a cluster of three brokers, while all of them are
// killed, stopped and paused in turn, records are deleted and partitions added.
type soak struct {
	t         *testing.T
	c         *cluster
	users     []string
	replicas  [2]*herald
	faults    map[string]int
	cuts      atomic.Int64
	stalls    atomic.Int64
	stop      chan struct{} // closed when nothing more happens
	producers sync.WaitGroup

	shared   string             // the topic that gets more partitions
	fleeting map[*lane]*deleted // lanes whose old records are deleted

	mu    sync.Mutex
	lanes []*lane // no more after stop
}

// TestSoak wants each client to get each of its records once and in order per partition, whatever
// happens, or to be told of what was deleted before it came for it. HERALD_SOAK says how long things
// happen; it prints what has happened and what came of it.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
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
		s.producers.Go(func() { s.produce(l, s.c.producer) })
	}
	errs := make([]error, len(clients))
	var readers sync.WaitGroup
	for i, client := range clients {
		readers.Go(func() { errs[i] = s.read(client) })
	}
	var deleting error
	s.producers.Go(func() { deleting = s.deleteRecords() })
	end := time.Now().Add(length)
	for i := 0; time.Now().Before(end); i++ {
		if i%4 == 1 && i < 40 {
			s.addPartition()
		}
		s.fault()
		time.Sleep(rand.N(time.Second))
	}
	close(s.stop)
	s.producers.Wait()
	readers.Wait()
	for _, d := range s.fleeting {
		s.faults["records deleted"] += int(d.to)
	}
	if deleting != nil {
		t.Error(deleting)
	}
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	s.compare(clients)
}

// start makes the topics and starts both replicas.
func (s *soak) start() {
	t := s.t
	s.shared = s.c.newTopic(t, "shared", clusterSize)
	everyone, fleeting, own := s.c.newTopic(t, "everyone", 1), s.c.newTopic(t, "fleeting", 2), topicName(t, "own")
	for p := range int32(clusterSize) {
		s.lanes = append(s.lanes, &lane{name: fmt.Sprint("shared/", p), topic: s.shared, partition: p, keys: s.users})
	}
	s.lanes = append(s.lanes, &lane{name: "everyone", topic: everyone, keys: []string{""}})
	for p := range int32(2) {
		l := &lane{name: fmt.Sprint("fleeting/", p), topic: fleeting, partition: p, keys: s.users}
		s.lanes, s.fleeting[l] = append(s.lanes, l), new(deleted)
	}
	for _, user := range s.users {
		s.c.createTopic(t, own+"."+user, 1)
		s.lanes = append(s.lanes, &lane{name: "own." + user, topic: own + "." + user, keys: []string{user}})
	}
	group := topicName(t, "group")
	for i := range s.replicas {
		s.replicas[i] = startHerald(t, &s.c.broker, "--group="+group, fmt.Sprint("--replica=", i), "--max-queue-bytes=4096", "--retry=50ms",
			"--topic="+s.shared, "--topic="+fleeting, "--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")
	}
}

// lanesOf returns the lanes that the user has records in.
func (s *soak) lanesOf(user string) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.lanes), func(l *lane) bool { return !l.of(user) })
}

// produce writes numbered values until stop, then the last one for each key. A number that the killed
// broker did not confirm is in the log or not: clients are compared with the log.
func (s *soak) produce(l *lane, producer *kgo.Client) {
	padding := strings.Repeat("x", 1000)
	put := func(key, value string) {
		r := record(l.topic, key, l.name+" "+value+" "+padding[:rand.IntN(len(padding))])
		r.Partition = l.partition
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		defer cancel()
		if err := producer.ProduceSync(ctx, r).FirstErr(); err != nil && value == last {
			s.t.Errorf("produce to %s/%d: %v", l.topic, l.partition, err)
		}
	}
	for n := 0; ; n++ {
		select {
		case <-s.stop:
			for _, key := range l.keys {
				put(key, last)
			}
			return
		case <-time.After(rand.N(10 * time.Millisecond)):
			put(l.keys[n%len(l.keys)], fmt.Sprint(n))
		}
	}
}

// laneOf returns the lane's name, or "".
func (s *soak) laneOf(topic string, partition int32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if l.topic == topic && l.partition == partition {
			return l.name
		}
	}
	return ""
}

// addPartition gives the shared topic one more, and a producer.
func (s *soak) addPartition() {
	p := int32(0)
	for _, l := range s.lanes {
		if l.topic == s.shared {
			p++
		}
	}
	waitFor(s.t, "a partition is added", func(ctx context.Context) bool { // the broker asked may just be back
		_, _ = s.c.admin.UpdatePartitions(ctx, int(p)+1, s.shared)
		found, err := s.c.admin.ListTopics(ctx, s.shared)
		return err == nil && found.Error() == nil && len(found[s.shared].Partitions) > int(p)
	})
	s.faults["partition added"]++
	l := &lane{name: fmt.Sprint("shared/", p), topic: s.shared, partition: p, keys: s.users}
	s.mu.Lock()
	s.lanes = append(s.lanes, l)
	s.mu.Unlock()
	producer := s.c.newProducer(s.t, s.shared, p)
	s.producers.Go(func() { s.produce(l, producer) })
}

// fault lets something happen.
func (s *soak) fault() {
	h := s.replicas[rand.IntN(len(s.replicas))]
	n := s.c.nodes[rand.IntN(len(s.c.nodes))]
	kind := ""
	switch rand.IntN(5) {
	case 0, 1:
		kind = "herald killed"
		h.Kill()
		time.Sleep(rand.N(500 * time.Millisecond))
		h.Launch()
	case 2:
		kind = "herald stopped"
		h.Stop()
		h.Launch()
	case 3:
		kind = "herald paused"
		if err := h.command.Process.Signal(syscall.SIGSTOP); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(rand.N(2 * time.Second))
		if err := h.command.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatal(err)
		}
	case 4:
		kind = "broker killed"
		s.c.killNode(s.t, n)
		time.Sleep(rand.N(3 * time.Second))
		s.c.startNode(s.t, n)
	}
	s.faults[kind]++
}
