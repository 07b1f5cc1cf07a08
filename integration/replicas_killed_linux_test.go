package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tabs is how many EventSources a page opens. Over HTTP/1.1 a browser has six connections to a host.
const tabs = 7

// listenInTabs opens EventSources and counts what comes. The value of a record is "NUMBER NANOSECONDS".
const listenInTabs = `void (() => {
	window.streams = Array.from({ length: %d }, () => {
		const source = new EventSource("/events?user=alice");
		const stream = { source, opened: 0, numbers: [] };
		source.onopen = () => stream.opened++;
		source.onmessage = ({ data }) => stream.numbers.push(parseInt(data));
		return stream;
	});
})()`

// tabsState is what the EventSources of a page have.
type tabsState struct {
	Protocol string
	States   []int // readyState
	Opened   []int // answers with status 200
	Numbers  [][]int
}

const readTabs = `({
	Protocol: performance.getEntriesByType("navigation")[0].nextHopProtocol,
	States: streams.map((s) => s.source.readyState),
	Opened: streams.map((s) => s.opened),
	Numbers: streams.map((s) => s.numbers),
})`

// proxiedPage is a page in Chromium behind a proxy.
type proxiedPage struct {
	*proxied
	tab context.Context //nolint:containedctx // chromedp's tabs are contexts
}

func (p *proxiedPage) read(t *testing.T) tabsState {
	t.Helper()
	return evaluate[tabsState](t, p.tab, readTabs)
}

// wait waits until all of the page's EventSources satisfy ok. None may be closed.
func (p *proxiedPage) wait(t *testing.T, what string, ok func(s tabsState, tab int) bool) {
	t.Helper()
	var s tabsState
	waitWithin(t, patience, func() string { return fmt.Sprintf("%s: %s; the page has %+v", p.name, what, s) }, func(context.Context) bool {
		s = p.read(t)
		if slices.Contains(s.States, 2) {
			t.Fatalf("%s: %s: an EventSource is closed for good: %+v", p.name, what, s)
		}
		for i := range tabs {
			if !ok(s, i) {
				return false
			}
		}
		return true
	})
}

// counter writes numbered records for alice until it is stopped.
type counter struct {
	written atomic.Int64 // the last number that Kafka has acknowledged
	stop    chan struct{}
	done    sync.WaitGroup
}

func startCounter(t *testing.T, b *broker, topic string) *counter {
	t.Helper()
	c := &counter{stop: make(chan struct{})}
	c.done.Go(func() {
		for n := int64(1); ; n++ {
			if err := b.producer.ProduceSync(t.Context(), record(topic, "alice", fmt.Sprint(n, " ", time.Now().UnixNano()))).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
			c.written.Store(n)
			select {
			case <-c.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(c.end)
	return c
}

// end ends the counter; a second call does nothing.
func (c *counter) end() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.done.Wait()
}

// caughtUp waits until every EventSource has a record that is written from now on.
func (c *counter) caughtUp(t *testing.T, what string, pages []*proxiedPage) {
	t.Helper()
	next := int(c.written.Load()) + 2
	for _, p := range pages {
		p.wait(t, what, func(s tabsState, tab int) bool {
			numbers := s.Numbers[tab]
			return len(numbers) > 0 && numbers[len(numbers)-1] >= next
		})
	}
}

// delay opens a new stream at each address and returns the median time from the record's creation to its arrival.
func delay(t *testing.T, streams map[string]*eventSource) map[string]time.Duration {
	t.Helper()
	const records = 50
	medians := make(map[string]time.Duration)
	var mu sync.Mutex
	var reading sync.WaitGroup
	for name, s := range streams {
		s.LastID = ""
		s.Reconnect()
		reading.Go(func() {
			var ages []time.Duration
			for len(ages) < records {
				e, err := s.read()
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if e.Type == "checkpoint" {
					continue
				}
				var n, at int64
				if _, err := fmt.Sscan(e.Data, &n, &at); err != nil {
					t.Errorf("%s: %+v: %v", name, e, err)
					return
				}
				ages = append(ages, time.Since(time.Unix(0, at)))
			}
			s.Cut()
			slices.Sort(ages)
			mu.Lock()
			defer mu.Unlock()
			medians[name] = ages[records/2]
		})
	}
	reading.Wait()
	return medians
}

// checkDelay checks that no proxy holds events back, as HAProxy without TLS does for 200 ms without option http-no-delay. A
// busy machine may delay a proxy's events, too, so a slow proxy gets further tries.
func checkDelay(t *testing.T, pages []*proxiedPage, replica *herald) {
	t.Helper()
	streams := map[string]*eventSource{"none": newStream(t, replica.public, "alice")}
	for _, p := range pages {
		s := newStream(t, "", "")
		s.url, s.tls = "https://"+p.address+"/events?user=alice", p.tls
		streams[p.name] = s
		if p.plain != "" {
			streams[p.name+" without TLS"] = newStream(t, p.plain, "alice")
		}
	}
	const tries = 5
	for try := 1; try <= tries && len(streams) > 1; try++ {
		medians := delay(t, streams)
		for name, d := range medians {
			t.Logf("from the record's creation to its arrival, proxy %s: median %v", name, d)
			switch extra := d - medians["none"]; {
			case extra > 60*time.Millisecond && try == tries:
				t.Errorf("%s adds %v to an event, want much less", name, extra)
			case extra <= 60*time.Millisecond && name != "none":
				delete(streams, name)
			}
		}
	}
}

// TestReplicasKilledBehindProxies runs nginx, HAProxy and Caddy with their files in deploy/proxies in front of two
// replicas. Pages in Chromium have EventSources through each proxy, while records are written. One replica is killed,
// and then both. No EventSource may close, and each must get every record once and in order.
func TestReplicasKilledBehindProxies(t *testing.T) {
	t.Parallel()
	b, at := sharedBroker(t), newReplicaAddresses(t)
	browser := startChromium(t, chromedp.Flag("ignore-certificate-errors", true))
	topic, group := b.newTopic(t, "shared", 1), topicName(t, "group")
	var replicas []*herald
	for i := range 2 {
		replicas = append(replicas, newProcessAt(t, at.public(i), at.admin(i), "serve", "--brokers="+strings.Join(b.addresses, ","),
			"--group="+group, "--replica="+at.host(i), "--topic="+topic, "--insecure-no-auth", "--trusted-proxies=127.0.0.1/32", "--retry=200ms"))
	}
	startAll(replicas)
	var pages []*proxiedPage
	installed := installedProxies(t)
	for _, d := range installed {
		p := openBehind(t, browser, d.start(t, at))
		p.listen(t, replicas)
		pages = append(pages, p)
	}
	plain := openBehindPlain(t, browser, at, installed)
	c := startCounter(t, b, topic)
	c.caughtUp(t, "all tabs have streams", pages)
	for i, p := range pages {
		if protocol := p.read(t).Protocol; protocol != "h2" {
			t.Errorf("%s: the page came by %s, want h2", p.name, protocol)
		}
		p.checkClient(t, fmt.Sprint("127.0.0.", 10+i), replicas)
	}
	checkDelay(t, pages, replicas[0])

	opened := openedOf(t, pages)
	replicas[0].Kill()
	c.caughtUp(t, "one replica is killed", pages)
	for i, p := range pages {
		if now := p.read(t).Opened; slices.Equal(opened[i], now) {
			t.Errorf("%s: no EventSource had its stream on the killed replica", p.name)
		}
	}

	replicas[1].Kill()
	for i, before := range openedOf(t, pages) {
		pages[i].checkLater(t)
		pages[i].wait(t, "the proxy's answer while both replicas are down", func(s tabsState, tab int) bool { return s.Opened[tab] > before[tab] })
	}
	plain.waitClosed(t)
	startAll(replicas)
	c.caughtUp(t, "both replicas are back", pages)
	c.end()
	for _, p := range pages {
		p.checkNumbers(t, int(c.written.Load()))
	}
}

func startAll(replicas []*herald) {
	for _, h := range replicas {
		h.Launch()
	}
	for _, h := range replicas {
		h.WaitReady()
	}
}

// openBehind opens a tab with a page that comes through the proxy. The page has no stream yet.
func openBehind(t *testing.T, browser context.Context, p *proxied) *proxiedPage {
	t.Helper()
	tab, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	page := &proxiedPage{proxied: p, tab: tab}
	if err := drive(tab, chromedp.Navigate("https://"+byName(p.address)+"/")); err != nil { // Herald's 404: a page of the origin
		t.Fatal(err)
	}
	return page
}

// listen opens the page's EventSources. It opens them again until one has its stream on the first replica, because a
// proxy may take this replica for dead while the machine is busy.
func (p *proxiedPage) listen(t *testing.T, replicas []*herald) {
	t.Helper()
	count := func() (first, all float64) {
		first = replicas[0].Metric("herald_streams")
		return first, first + replicas[1].Metric("herald_streams")
	}
	first, all := count()
	waitFor(t, p.name+" opens a stream on the first replica", func(context.Context) bool {
		evaluate[any](t, p.tab, fmt.Sprintf(listenInTabs, tabs))
		waitFor(t, p.name+" opens all streams", func(context.Context) bool { _, now := count(); return now == all+tabs })
		if now, _ := count(); now > first {
			return true
		}
		evaluate[any](t, p.tab, "streams.forEach((s) => s.source.close())")
		waitFor(t, p.name+" closes the streams", func(context.Context) bool { _, now := count(); return now == all })
		return false
	})
}

// openBehindPlain opens a page behind nginx without the line about errors, so that the page gets nginx's own 502. It
// returns nil if this machine has no nginx.
func openBehindPlain(t *testing.T, browser context.Context, at replicaAddresses, installed []deployedProxy) *proxiedPage {
	t.Helper()
	i := slices.IndexFunc(installed, func(d deployedProxy) bool { return d.name == "nginx" })
	if i < 0 {
		return nil
	}
	d := installed[i]
	d.replace = append(slices.Clone(d.replace), "error_page 502 503 504 = @later;", "")
	p := openBehind(t, browser, d.start(t, at))
	evaluate[any](t, p.tab, fmt.Sprintf(listenInTabs, tabs))
	return p
}

// waitClosed waits until all of the page's EventSources are closed for good. If not, the test shows nothing: a browser
// would then need none of what the configurations do about errors.
func (p *proxiedPage) waitClosed(t *testing.T) {
	t.Helper()
	if p == nil {
		return
	}
	waitFor(t, "a proxy's 502 closes the EventSources", func(context.Context) bool {
		return !slices.ContainsFunc(p.read(t).States, func(state int) bool { return state != 2 })
	})
}

func openedOf(t *testing.T, pages []*proxiedPage) (opened [][]int) {
	t.Helper()
	for _, p := range pages {
		opened = append(opened, p.read(t).Opened)
	}
	return opened
}

// checkNumbers checks that each EventSource has every number from its first to the last, once and in order.
func (p *proxiedPage) checkNumbers(t *testing.T, last int) {
	t.Helper()
	p.wait(t, "the last record", func(s tabsState, tab int) bool { return slices.Contains(s.Numbers[tab], last) })
	for tab, numbers := range p.read(t).Numbers {
		for i, n := range numbers {
			if n != numbers[0]+i {
				t.Errorf("%s: tab %d has record %d after %d: a record is missing, repeated or out of order", p.name, tab, n, numbers[i-1])
				break
			}
		}
	}
}
