package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"herald/cmd/herald/tail"
)

// receiver is a client that reads one user's streams, each for a short time, and compares the records that it
// gets with the records written. A record's value is its source, its user and a number: "shared u1 17".
type receiver struct {
	user string

	mu    sync.Mutex
	id    string         // the id of the last event
	last  map[string]int // by source: the number received last
	gaps  int
	wrong []string // records that were not the next ones of their source
	alien []string // records of others
}

// receive reads streams until ctx ends.
func (r *receiver) receive(ctx context.Context, url string) {
	for life := time.Duration(1); ctx.Err() == nil; life = life%4 + 1 {
		r.readStream(ctx, url, life*600*time.Millisecond)
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (r *receiver) readStream(ctx context.Context, url string, life time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events?user="+r.user, nil)
	if err != nil {
		panic(err) // the address is the server's
	}
	if r.id != "" {
		req.Header.Set("Last-Event-ID", r.id)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, res.Body) // herald asks to come back later
		return
	}
	events := tail.NewEventReader(bufio.NewReader(res.Body), "")
	for {
		e, err := events.Next()
		if err != nil {
			return
		}
		r.note(e.Type, e.Data, e.ID)
	}
}

// note compares an event with the last one of its source.
func (r *receiver) note(kind, data, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		r.id = id
	}
	switch kind {
	case "checkpoint", "end":
		return
	case "gap":
		r.gaps++
		return
	}
	var source, user string
	var number int
	if _, err := fmt.Sscanf(data, "%s %s %d", &source, &user, &number); err != nil || user != r.user && user != "everyone" {
		r.alien = append(r.alien, data)
		return
	}
	if last, ok := r.last[source]; ok && number != last+1 {
		r.wrong = append(r.wrong, fmt.Sprintf("%s after %d", data, last))
	}
	r.last[source] = number
}

// has reports whether the receiver has the record that was written last of each source.
func (r *receiver) has(written map[string]int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last["shared"] == written["shared "+r.user] && r.last["own"] == written["own "+r.user] && r.last["all"] == written["all everyone"]
}

// recordWriter writes numbered records through connections that nobody damages.
type recordWriter struct {
	client  *kgo.Client
	written map[string]int // by source and user: the number written last
}

func (w *recordWriter) write(t *testing.T, topic, source, user string) {
	t.Helper()
	w.written[source+" "+user]++
	value := fmt.Appendf(nil, "%s %s %d", source, user, w.written[source+" "+user])
	if err := w.client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte(user), Value: value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func (w *recordWriter) writeAll(t *testing.T, user string) {
	t.Helper()
	w.write(t, "notifications", "shared", user)
	w.write(t, "notifications."+user, "own", user)
	w.write(t, "announcements", "all", "everyone")
}

// TestCorruptAnswersOfABroker damages one in seven answers of two brokers for some seconds, while clients read their
// streams and come back. The server does not crash, and its memory is bounded. Once the answers are whole again, each
// client has each of its records once and in order, unless a gap says otherwise, and no record of another user.
//
// HERALD_CORRUPT is how long the answers are damaged (1h), HERALD_CORRUPT_SEED chooses another damage.
func TestCorruptAnswersOfABroker(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("HERALD_CORRUPT"))
	if err != nil {
		length = 5 * time.Second
	}
	seed, _ := strconv.ParseUint(os.Getenv("HERALD_CORRUPT_SEED"), 10, 64)
	network := newCorrupter(seed)
	broker, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1), kfake.ListenFn(network.listen),
		kfake.SeedTopics(3, "notifications"), kfake.SeedTopics(1, "announcements"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	srv := newServer(t, broker, func(cfg *Config) { cfg.Consumer.ReplayCacheBytes = 256 << 10 }) // so that replays read from Kafka
	run(t, srv)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ClientID("writer"), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := &recordWriter{client, make(map[string]int)}
	receivers := openReceivers(t, w, "http://"+srv.Addr().String())

	network.rate.Store(150)
	var memory runtime.MemStats
	for begun, i := time.Now(), 0; time.Since(begun) < length; i++ {
		w.writeAll(t, receivers[i%len(receivers)].user)
		if runtime.ReadMemStats(&memory); memory.HeapInuse > 1<<30 {
			t.Fatalf("%d MB of memory after %v", memory.HeapInuse>>20, time.Since(begun))
		}
		time.Sleep(10 * time.Millisecond)
	}
	network.rate.Store(0)
	t.Logf("damaged answers: %v", network.counts())
	for _, r := range receivers {
		w.writeAll(t, r.user)
	}
	healed := time.Now()
	for _, r := range receivers {
		for !r.has(w.written) {
			if time.Sleep(10 * time.Millisecond); time.Since(healed) > 2*time.Minute { // a damaged throttle time delays one request by a minute
				t.Fatalf("%s lacks its last records after two minutes", r.user)
			}
		}
		r.mu.Lock()
		if len(r.alien) > 0 || r.gaps == 0 && len(r.wrong) > 0 { // a batch that was damaged three times in a row is a gap
			t.Errorf("%s got the records of others %.1000q, and records that were not the next ones %.1000q", r.user, r.alien, r.wrong)
		}
		t.Logf("%s: %d gaps", r.user, r.gaps)
		r.mu.Unlock()
	}
}

// openReceivers runs five clients until the test ends, and waits until each has had a record of each source.
func openReceivers(t *testing.T, w *recordWriter, url string) (receivers []*receiver) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		clients.Wait()
	})
	for i := range 5 {
		r := &receiver{user: fmt.Sprint("u", i), last: make(map[string]int)}
		receivers = append(receivers, r)
		w.write(t, "notifications."+r.user, "own", r.user) // creates the topic
		clients.Go(func() { r.receive(ctx, url) })
	}
	for _, r := range receivers {
		await(t, r.user+" has an event id", true, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return strings.Contains(r.id, "~")
		})
	}
	for _, r := range receivers {
		w.writeAll(t, r.user)
	}
	for _, r := range receivers {
		await(t, r.user+" has its first records", true, func() bool { return r.has(w.written) })
	}
	return receivers
}
