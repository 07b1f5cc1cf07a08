package consumer

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// count returns how many errors of the kind the metrics have counted.
func count(c *Consumer, kind string) float64 {
	return testutil.ToFloat64(c.metrics.errors.WithLabelValues(kind))
}

// doors are the listeners of a cluster's brokers. A door that is shut closes its connections and accepts
// none, as if its broker did not run.
type doors []*door

type door struct {
	net.Listener
	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func (d *doors) listen() kfake.Opt {
	return kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address) //nolint:noctx // kfake's signature has none
		one := &door{Listener: l}
		*d = append(*d, one)
		return one, err
	})
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		shut := d.shut
		if shut {
			_ = conn.Close()
		} else {
			d.conns = append(d.conns, conn)
		}
		d.mu.Unlock()
		if !shut {
			return conn, nil
		}
	}
}

func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	d.conns = nil
}

// manyTopics is the number of topics that broker 1 leads. Broker 0 leads the topic "other".
const manyTopics = 10

// heardOn starts a consumer on two brokers. It has five sessions with broker 1, for the topics of ten
// users, and one session with broker 0. heardOn forgets the lines that the consumer logs while it starts.
func heardOn(t *testing.T, listen kfake.Opt) (*kfake.Cluster, *Consumer, *ledger, *said) {
	t.Helper()
	topics := []string{"other"}
	for i := range manyTopics {
		topics = append(topics, fmt.Sprint("n.", i))
	}
	broker := newBroker(t, kfake.NumBrokers(2), kfake.SeedTopics(1, topics...), listen)
	moveAll(t, broker, 1)
	if err := broker.MoveTopicPartition("other", 0, 0); err != nil {
		t.Fatal(err)
	}
	sink := newLedger()
	c := configured(t, broker.ListenAddrs(), sink, "other", "n.{user}")
	c.reader.sessionPartitions = 2
	c.reader.brokerLog.window = 5 * time.Second
	c.reader.stallAfter = time.Hour
	log := hear(t, c)
	run(t, c)
	for i := range manyTopics {
		finishes(t, "Join", joining(t, c, fmt.Sprint(i)))
	}
	log.forget()
	return broker, c, sink, log
}

func moveAll(t *testing.T, broker *kfake.Cluster, to int32) {
	t.Helper()
	for i := range manyTopics {
		if err := broker.MoveTopicPartition(fmt.Sprint("n.", i), 0, to); err != nil {
			t.Fatal(err)
		}
	}
}

// all writes a record to each of the topics and waits for it.
func (l *ledger) all(t *testing.T, broker *kfake.Cluster) {
	t.Helper()
	l.mu.Lock()
	had := len(l.lines)
	l.mu.Unlock()
	write := partitioned(t, broker)
	write("other", 0, "a", "x")
	for i := range manyTopics {
		write(fmt.Sprint("n.", i), 0, "", "x")
	}
	l.sorted(t, had+1+manyTopics)
}

const (
	lineFailed = "WARN broker cannot be read; retrying broker=%d sessions=%d partitions=%d topic=%s partition=0 offset=%d error=Fetch to broker %[1]d at …: …"
	lineAgain  = "INFO broker is read again broker=%d sessions=%d partitions=%d"
)

// wantFailedOnce checks that the log reports once that broker 1 failed and once that it is read again, and
// that the other broker answered all the time.
func wantFailedOnce(t *testing.T, c *Consumer, log *said) {
	t.Helper()
	again := fmt.Sprintf(lineAgain, 1, 5, manyTopics)
	log.wait(t, again)
	log.only(t, fmt.Sprintf(lineFailed, 1, 5, manyTopics, "n.…", 1), again)
	if up, contact := testutil.ToFloat64(c.metrics.up), count(c, "contact"); up != 1 || contact != 0 {
		t.Errorf("herald_kafka_up is %v and %v contact errors are counted, want 1 and 0: one broker answered all the time", up, contact)
	}
}

// TestBrokerRestartIsLoggedOnce checks that a restart of a broker with five sessions makes two log lines.
func TestBrokerRestartIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var doors doors
	broker, c, sink, log := heardOn(t, doors.listen())
	sink.all(t, broker)
	doors[1].set(true)
	waitFor(t, "fetches fail", func() bool { return count(c, "fetch") > 20 })
	doors[1].set(false)
	sink.all(t, broker)
	wantFailedOnce(t, c, log)
}

// TestSilentBrokerIsLoggedOnce checks that a broker with five sessions, which stops answering until fetches
// time out, makes two log lines.
func TestSilentBrokerIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var hearing ears
	broker, c, sink, log := heardOn(t, hearing.listen())
	sink.all(t, broker)
	hearing[1].Store(true)
	waitFor(t, "fetches fail", func() bool { return count(c, "fetch") > 5 })
	hearing[1].Store(false)
	sink.all(t, broker)
	wantFailedOnce(t, c, log)
}

// TestOutageOfAllBrokersIsLoggedOnce checks that an outage of all brokers makes one pair of log lines for
// Kafka and one for each broker.
func TestOutageOfAllBrokersIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var doors doors
	broker, c, sink, log := heardOn(t, doors.listen())
	sink.all(t, broker)
	for _, door := range doors {
		door.set(true)
	}
	waitFor(t, "up is 0", func() bool { return testutil.ToFloat64(c.metrics.up) == 0 })
	waitFor(t, "fetches and questions fail", func() bool { return count(c, "fetch") > 20 && count(c, "contact") > 2 })
	for _, door := range doors {
		door.set(false)
	}
	sink.all(t, broker)
	again := []string{"INFO kafka answers brokers=[…]", fmt.Sprintf(lineAgain, 0, 1, 1), fmt.Sprintf(lineAgain, 1, 5, manyTopics)}
	for _, line := range again {
		log.wait(t, line)
	}
	log.only(t, append(again, "WARN kafka does not answer; streams stay open, retrying brokers=[…] error=…",
		fmt.Sprintf(lineFailed, 0, 1, 1, "other", 1), fmt.Sprintf(lineFailed, 1, 5, manyTopics, "n.…", 1))...)
	if up := testutil.ToFloat64(c.metrics.up); up != 1 {
		t.Errorf("herald_kafka_up is %v, want 1", up)
	}
}

// TestMovedLeadersAreLoggedOnce checks that one log line reports all partitions of five sessions when
// another broker becomes their leader.
func TestMovedLeadersAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var c *Consumer
	var log *said
	if !t.Run("moved", func(t *testing.T) {
		var doors doors
		var broker *kfake.Cluster
		var sink *ledger
		broker, c, sink, log = heardOn(t, doors.listen())
		c.reader.brokerLog.mu.Lock()
		c.reader.brokerLog.window = time.Hour // until the consumer stops, at the end of this subtest
		c.reader.brokerLog.mu.Unlock()
		sink.all(t, broker)
		moveAll(t, broker, 0)
		sink.all(t, broker)
	}) {
		return
	}
	line := "INFO partitions cannot be read; retrying broker=1 partitions=… topic=n.… partition=0 offset=1 error=NOT_LEADER_FOR_PARTITION: …"
	log.only(t, line)
	if log.count(strings.Replace(line, "partitions=…", "partitions=1", 1)) > 0 {
		t.Error("the line reports one partition, want all partitions that moved")
	}
	if n := count(c, errorMoved); n < 2 {
		t.Errorf("%v errors of kind moved are counted, want one for each partition", n)
	}
}

// TestDeletedTopicIsLogged checks the log lines for a topic that is deleted and created again.
func TestDeletedTopicIsLogged(t *testing.T) {
	t.Parallel()
	var doors doors
	broker, c, sink, log := heardOn(t, doors.listen())
	sink.all(t, broker)
	if err := broker.DeleteTopic("other"); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"INFO partitions cannot be read; retrying broker=0 partitions=1 topic=other partition=0 offset=1 error=UNKNOWN_TOPIC_…",
		"WARN topic does not exist; it will be read from its start once it does topic=other",
	}
	for _, line := range lines {
		log.wait(t, line)
	}
	if err := broker.CreateTopic("other", 1, nil); err != nil {
		t.Fatal(err)
	}
	sink.all(t, broker)
	log.only(t, append(lines, "WARN topic was deleted and created again topic=other")...)
	if n := count(c, errorGone); n == 0 {
		t.Error("the metrics count no error of kind gone")
	}
}

// TestAddedPartitionsAreLogged checks that one log line reports the partitions added to a topic.
func TestAddedPartitionsAreLogged(t *testing.T) {
	t.Parallel()
	var doors doors
	broker, _, sink, log := heardOn(t, doors.listen())
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if answer, err := kadm.NewClient(client).CreatePartitions(t.Context(), 3, "other"); err != nil || answer.Error() != nil {
		t.Fatal(err, answer.Error())
	}
	line := "INFO partitions were added to the topic topic=other from=1 to=4"
	log.wait(t, line)
	sink.all(t, broker)
	log.only(t, line)
}

// TestIntermittentFailuresAreLoggedOnce checks that failures of one session make one log line while other
// sessions are answered. The broker counts as read again only after failureMemory without a failure.
func TestIntermittentFailuresAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := configured(t, []string{"127.0.0.1:1"}, newLedger(), "t")
		log := hear(t, c)
		r := c.reader
		r.ctx = t.Context()
		fails := func() { r.recordFailure(1, 0, Position{Partition{Topic: "t", ID: 2}, 3}, io.EOF) }
		for range 10 {
			fails()
			r.brokerLog.recordAnswer(1)
			time.Sleep(fetchBackoff)
			r.brokerLog.recordAnswer(1)
			r.brokerLog.recordAnswer(2)
		}
		first := "WARN broker cannot be read; retrying broker=1 sessions=0 partitions=0 topic=t partition=2 offset=3 error=EOF"
		log.only(t, first)
		time.Sleep(failureMemory)
		r.brokerLog.recordAnswer(1)
		r.brokerLog.recordAnswer(1)
		log.only(t, first, "INFO broker is read again broker=1 sessions=0 partitions=0")
		log.forget()
		fails()
		log.only(t, first)
	})
}
