package integration

import (
	"fmt"
	"maps"
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
// killed, stopped and paused in turn.
type soak struct {
	t        *testing.T
	c        *cluster
	replicas [2]*herald
	lanes    []*lane
	faults   map[string]int
	cuts     atomic.Int64
}

// soakClient is one client. It is cut at random bytes, reads by fits and starts, and comes back to
// either replica.
type soakClient struct {
	*eventSource
	user string
	got  map[string][]string // values by lane
	left map[string]bool     // lanes that have not ended
	gaps []string
}

// TestSoak wants each client to get each of its records once and in order per partition, whatever
// happens. HERALD_SOAK says how long things happen; it prints what has happened and what came of it.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv("HERALD_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := &soak{t: t, c: sharedCluster(t), faults: make(map[string]int)}
	users := []string{"alice", "bob", "carol", "dave"}
	s.start(users)
	var clients []*soakClient
	for i := range 20 {
		clients = append(clients, s.newClient(users[i%len(users)]))
	}
	stop := make(chan struct{})
	var producers, readers sync.WaitGroup
	for _, l := range s.lanes {
		producers.Go(func() { s.produce(l, stop) })
	}
	errs := make([]error, len(clients))
	for i, client := range clients {
		readers.Go(func() { errs[i] = s.read(client) })
	}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(rand.N(time.Second)) {
		s.fault()
	}
	close(stop)
	producers.Wait()
	readers.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	s.compare(clients)
}

// start makes the topics and starts both replicas.
func (s *soak) start(users []string) {
	t := s.t
	shared, everyone, own := s.c.newTopic(t, "shared", clusterSize), s.c.newTopic(t, "everyone", 1), topicName(t, "own")
	for p := range int32(clusterSize) {
		s.lanes = append(s.lanes, &lane{name: fmt.Sprint("shared/", p), topic: shared, partition: p, keys: users})
	}
	s.lanes = append(s.lanes, &lane{name: "everyone", topic: everyone, keys: []string{""}})
	for _, user := range users {
		s.c.createTopic(t, own+"."+user, 1)
		s.lanes = append(s.lanes, &lane{name: "own." + user, topic: own + "." + user, keys: []string{user}})
	}
	group := topicName(t, "group")
	for i := range s.replicas {
		s.replicas[i] = startHerald(t, &s.c.broker, "--group="+group, fmt.Sprint("--replica=", i), "--max-queue-bytes=4096", "--retry=50ms",
			"--topic="+shared, "--topic="+own+".{user}", "--topic="+everyone+",kind=broadcast")
	}
}

// newClient returns a client that has had its first checkpoint.
func (s *soak) newClient(user string) *soakClient {
	c := &soakClient{eventSource: openStream(s.t, s.replicas[0], user), user: user, got: make(map[string][]string), left: make(map[string]bool)}
	for _, l := range s.lanes {
		if l.of(user) {
			c.left[l.name] = true
		}
	}
	return c
}

// produce writes numbered values until stop, then the last one for each key. A number that the killed
// broker did not confirm is in the log or not: clients are compared with the log.
func (s *soak) produce(l *lane, stop <-chan struct{}) {
	put := func(key, value string) {
		r := record(l.topic, key, l.name+" "+value)
		r.Partition = l.partition
		if err := s.c.producer.ProduceSync(s.t.Context(), r).FirstErr(); err != nil && value == last {
			s.t.Errorf("produce to %s/%d: %v", l.topic, l.partition, err)
		}
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			for _, key := range l.keys {
				put(key, last)
			}
			return
		case <-time.After(rand.N(10 * time.Millisecond)):
			put(l.keys[n%len(l.keys)], fmt.Sprint(n))
		}
	}
}

// read reads until all lanes have ended.
func (s *soak) read(c *soakClient) error {
	c.Cut() // the checkpoint is all that it needs
	for deadline := time.Now().Add(time.Hour); len(c.left) > 0; {
		e, err := c.read()
		switch {
		case err != nil || e.Type == "end":
			s.cuts.Add(1)
			c.limit = 200 + rand.Int64N(20_000)
			c.url = "http://" + s.replicas[rand.IntN(len(s.replicas))].public + "/events?user=" + c.user
			for c.connect() != nil { // the replica is down
				time.Sleep(rand.N(200 * time.Millisecond))
				c.url = "http://" + s.replicas[rand.IntN(len(s.replicas))].public + "/events?user=" + c.user
				if time.Now().After(deadline) {
					return err
				}
			}
		case e.Type == "gap":
			c.gaps = append(c.gaps, e.Data)
		case e.Type == "message":
			name, value, _ := strings.Cut(e.Data, " ")
			c.got[name] = append(c.got[name], value)
			if value == last {
				delete(c.left, name)
			}
			if rand.IntN(200) == 0 {
				time.Sleep(rand.N(300 * time.Millisecond))
			}
		}
	}
	return nil
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

// compare compares what each client has got with the log.
func (s *soak) compare(clients []*soakClient) {
	log := make(map[string][]*kgo.Record)
	for _, l := range s.lanes {
		log[l.name] = s.c.recordsOf(s.t, l.topic, l.partition)
	}
	events, lost, twice, outOfOrder, gaps := 0, 0, 0, 0, 0
	for i, c := range clients {
		for _, g := range c.gaps {
			gaps++
			s.t.Errorf("client %d was told of a gap: %s", i, g)
		}
		for _, l := range s.lanes {
			place := make(map[string]int)
			for _, rec := range log[l.name] {
				if key := string(rec.Key); l.of(c.user) && (key == c.user || key == "") {
					_, value, _ := strings.Cut(string(rec.Value), " ")
					place[value] = int(rec.Offset)
				}
			}
			seen := make(map[string]bool)
			before := -1
			for _, value := range c.got[l.name] {
				events++
				at, ok := place[value]
				switch {
				case !ok:
					s.t.Errorf("client %d, %s: %q is not for it", i, l.name, value)
				case seen[value]:
					twice++
				case at < before:
					outOfOrder++
				}
				seen[value] = true
				before = max(before, at)
			}
			lost += len(place) - len(seen)
		}
	}
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(s.faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, s.faults[kind]))
	}
	line := fmt.Sprintf("%d clients, %d events, %d cuts; %s; lost %d, twice %d, out of order %d, gaps %d",
		len(clients), events, s.cuts.Load(), strings.Join(faults, ", "), lost, twice, outOfOrder, gaps)
	s.t.Log(line)
	if lost+twice+outOfOrder > 0 {
		s.t.Error(line)
	}
}
