package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// moduleHeartbeat is the servers' --heartbeat. A stream is stale after 2.5 of it.
const moduleHeartbeat = time.Second

// moduleTest is a server, a site with the module, and a browser.
type moduleTest struct {
	kafka       *broker
	h           *herald
	site        *site
	shared, own string // topics; own is the route's part before the user
	revocations string
}

// TestModule uses the module stream/client/herald.js in browsers, through links that cut it, go silent, or lose the
// server. Each tab must get each record once and in order.
func TestModule(t *testing.T) {
	for _, b := range []*browser{&chromium, &firefox, &webKit} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel() // mostly they wait
			b.require(t, "the module")
			m := startModuleTest(t)
			if b == &chromium {
				m.site.drive = startTabs(t)
			} else {
				m.site.openFrames(t, b)
			}
			tabs := m.openSeven(t)
			m.runAll(t, b)
			m.killServer(t, tabs)
			if b != &webKit { // it keeps no Secure cookie of http://localhost
				t.Run("session", m.testSession) // last: a request with the cookie and another token is refused
			}
		})
	}
}

func startModuleTest(t *testing.T) *moduleTest {
	t.Helper()
	kafka := sharedBroker(t)
	secret := newSecretFile(t)
	m := &moduleTest{
		kafka: kafka, shared: kafka.newTopic(t, "shared", 2), own: topicName(t, "own"),
		revocations: kafka.newTopic(t, "revocations", 1, "cleanup.policy", "compact"),
	}
	m.h = newProcess(t, "serve", "--brokers="+strings.Join(kafka.addresses, ","), "--group="+topicName(t, "group"), "--replica=test",
		"--topic="+m.shared, "--topic="+m.own+".{user}", "--jwt-secret-file="+secret, "--revocation-topic="+m.revocations,
		"--retry=50ms", fmt.Sprint("--heartbeat=", moduleHeartbeat))
	m.site = newSite(t, m.h, secret)
	m.h.args = append(m.h.args, "--allow-origin="+m.site.base())
	m.h.Start()
	return m
}

// lanes returns lanes with records for the user, after the user's own topic has been created.
func (m *moduleTest) lanes(t *testing.T, user string) []*lane {
	t.Helper()
	m.kafka.createTopic(t, m.own+"."+user, 1)
	return []*lane{
		{name: "shared/0", topic: m.shared, keys: []string{user}},
		{name: "shared/1", topic: m.shared, partition: 1, keys: []string{user}},
		{name: "own", topic: m.own + "." + user, keys: []string{""}},
	}
}

// flow writes to lanes all the time.
type flow struct {
	lanes   []*lane
	written int // records in each lane
	stop    chan struct{}
	done    sync.WaitGroup
}

// startFlow writes to each lane every pace, starting with the number first.
func (m *moduleTest) startFlow(t *testing.T, lanes []*lane, first int, pace time.Duration) *flow {
	t.Helper()
	f := &flow{lanes: lanes, written: first, stop: make(chan struct{})}
	f.done.Go(func() {
		for {
			select {
			case <-f.stop:
				return
			case <-t.Context().Done():
				return
			case <-time.After(pace):
			}
			for _, l := range lanes {
				if err := m.kafka.producer.ProduceSync(t.Context(), l.record(f.written)).FirstErr(); err != nil {
					if t.Context().Err() == nil {
						t.Errorf("produce: %v", err)
					}
					return
				}
			}
			f.written++
		}
	})
	t.Cleanup(f.done.Wait) // the test's context has ended
	return f
}

// end stops writing and returns the number of records in each lane.
func (f *flow) end() int {
	close(f.stop)
	f.done.Wait()
	return f.written
}

// write writes the record of the number to each lane.
func (m *moduleTest) write(t *testing.T, lanes []*lane, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		for _, l := range lanes {
			m.kafka.produce(t, l.record(n))
		}
	}
}

// runAll runs the tests that disturb no other, each with its own user and link. At most five streams are open at a time
// beside the seven tabs' stream: over HTTP/1.1 a browser has six connections to a host.
func (m *moduleTest) runAll(t *testing.T, b *browser) {
	t.Helper()
	runAtOnce(t, map[string]func(*testing.T){
		"cut": m.testCuts, "silent": m.testSilence, "token": m.testToken, "revoked": m.testRevoked, "closed": m.testClosedOwner,
	})
	if b == &chromium {
		runAtOnce(t, map[string]func(*testing.T){"crashed": m.testCrashedOwner, "frozen": m.testFrozenTabs, "hung": m.testHungOwner})
	}
}

func runAtOnce(t *testing.T, tests map[string]func(*testing.T)) {
	t.Helper()
	var all sync.WaitGroup
	for name, test := range tests {
		all.Go(func() { t.Run(name, test) })
	}
	all.Wait()
}

// moduleCuts is how often testCuts cuts the stream.
const moduleCuts = 25

// testCuts cuts a busy stream after random numbers of bytes.
func (m *moduleTest) testCuts(t *testing.T) {
	t.Helper()
	lanes := m.lanes(t, "cut")
	tab := m.site.openTab(t, "cut", tabOptions{})
	defer tab.close(t)
	tab.link.cutAfter(func() int64 {
		if rand.IntN(5) == 0 {
			return rand.Int64N(500) // in the first events
		}
		return 2000 + rand.Int64N(3000) // mostly after the stream was live: others make the module wait longer
	})
	f := m.startFlow(t, lanes, 0, 50*time.Millisecond)
	waitWithin(t, 2*patience, func() string { return fmt.Sprintf("%d cuts; got %+v", moduleCuts, tab.link.counts()) },
		func(context.Context) bool { return tab.link.counts().cuts >= moduleCuts })
	tab.link.cutAfter(nil)
	written := f.end()
	tab.check(t, lanes, 0, written)
	t.Logf("%d records over %d cuts", written*len(lanes), tab.link.counts().cuts)
}

// testSilence makes the path silent, first for the open connection, then for a new connection, too. The stream is
// stale after 2.5 heartbeats, and resumes as soon as a connection works.
func (m *moduleTest) testSilence(t *testing.T) {
	t.Helper()
	const stale, slack = 5 * moduleHeartbeat / 2, 20 * time.Second // without the heartbeat's time it would be stale after 37.5 s
	lanes := m.lanes(t, "silent")
	tab := m.site.openTab(t, "silent", tabOptions{})
	defer tab.close(t)
	begun := time.Now()
	tab.link.silence(false)
	m.write(t, lanes, 0)
	tab.check(t, lanes, 0, 1)
	if took := time.Since(begun); took > stale+slack {
		t.Errorf("the stream resumed %v after the path had gone silent, want %v", took, stale)
	}
	before := tab.link.counts().streams
	tab.link.silence(true)
	waitFor(t, "the page gives up a connection without an answer", func(context.Context) bool { return tab.link.counts().streams >= before+2 })
	m.write(t, lanes, 1)
	tab.link.hear()
	tab.check(t, lanes, 0, 2)
	tab.waitState(t, "open")
	saw := false
	for _, r := range tab.all("state") {
		saw = saw || r.State == "stale"
	}
	if !saw {
		t.Errorf("states %+v, want stale among them", tab.all("state"))
	}
}

// neverStale keeps the module from connecting again while a busy machine is silent, in milliseconds.
const neverStale = 600_000

// testToken lets tokens expire. The page gets a new token once for each, and the stream continues.
func (m *moduleTest) testToken(t *testing.T) {
	t.Helper()
	lanes := m.lanes(t, "token")
	tab := m.site.newTab("token")
	tab.life = 8 * time.Second
	tab.open(t, tabOptions{StaleAfter: neverStale})
	defer tab.close(t)
	tab.waitLive(t)
	f := m.startFlow(t, lanes, 0, 50*time.Millisecond)
	waitFor(t, "two tokens have expired", func(context.Context) bool { return tab.countTokens() >= 3 })
	tab.check(t, lanes, 0, f.end())
	waitFor(t, "as many streams as tokens", func(context.Context) bool { return tab.link.counts().streams == tab.countTokens() })
}

// testRevoked revokes the token. The stream ends, and the module does not try again.
func (m *moduleTest) testRevoked(t *testing.T) {
	t.Helper()
	tab := m.site.openTab(t, "revoked", tabOptions{StaleAfter: neverStale})
	defer tab.close(t)
	if out, complaints, err := runHerald(t, "revoke", "--brokers="+m.kafka.addresses[0], "--topic="+m.revocations, "--token-id="+tab.tokenID()); err != nil {
		t.Fatalf("herald revoke: %v\n%s%s", err, out, complaints)
	}
	if got := tab.waitState(t, "signed-out"); got.Reason != "revoked" {
		t.Errorf("%+v, want the reason revoked", got)
	}
	time.Sleep(2 * time.Second) // many times --retry
	if n := tab.link.counts().streams; n != 1 {
		t.Errorf("%d streams, want 1: the token stays revoked", n)
	}
}

// testSession streams from another origin by the session cookie. The module renews the session before it expires,
// and no request for a stream is refused.
func (m *moduleTest) testSession(t *testing.T) {
	t.Helper()
	lanes := m.lanes(t, "session")
	tab := m.site.newTab("session")
	tab.life, tab.url = 8*time.Second, byName("http://"+m.h.public)+"/events"
	tab.open(t, tabOptions{Session: true})
	defer tab.close(t)
	tab.waitLive(t)
	f := m.startFlow(t, lanes, 0, 50*time.Millisecond)
	expired := m.h.Metric(`herald_streams_ended_total{reason="token-expired"}`)
	waitFor(t, "a stream ends with its token", func(context.Context) bool {
		return m.h.Metric(`herald_streams_ended_total{reason="token-expired"}`) > expired
	})
	tab.check(t, lanes, 0, f.end())
	for _, r := range tab.all("state") {
		if r.Reason == "401" || r.State == "signed-out" {
			t.Errorf("%+v, want no refused request", r)
		}
	}
}

// killServer kills the server and starts it again. The tabs, which share a stream, get the records of the outage.
func (m *moduleTest) killServer(t *testing.T, tabs *sevenTabs) {
	t.Helper()
	t.Run("killed server", func(t *testing.T) {
		m.h.Kill()
		m.write(t, tabs.lanes, tabs.written, tabs.written+1)
		time.Sleep(time.Second) // some attempts fail
		m.h.Start()
		m.write(t, tabs.lanes, tabs.written+2)
		tabs.written += 3
		tabs.check(t)
	})
}
