package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// sevenTabs are tabs that share a stream.
type sevenTabs struct {
	lanes   []*lane
	written int // records in each lane
	tabs    []*tab
	first   []int // number of the first record that each tab gets
}

// openSeven opens seven tabs of one user while records come and the stream is cut. Over HTTP/1.1 the browser has six
// connections for the host; the tabs need one. Each tab starts where its options say: now, at the earliest record,
// or after an event that another tab has stored.
func (m *moduleTest) openSeven(t *testing.T) *sevenTabs {
	t.Helper()
	s := &sevenTabs{lanes: m.lanes(t, "seven")}
	t.Run("seven tabs", func(t *testing.T) {
		m.write(t, s.lanes, 0, 1)
		f := m.startFlow(t, s.lanes, 2, 20*time.Millisecond)
		l := m.site.link("seven")
		for range 5 {
			s.add(m.site.openTab(t, "seven", tabOptions{Share: true}), anyNumber)
			l.cut(false)
		}
		s.add(m.site.openTab(t, "seven", tabOptions{Share: true, Since: "earliest"}), 0)
		l.cut(true)
		waitFor(t, "the first tab has records", func(context.Context) bool { return len(s.tabs[0].all("record")) > 1 })
		stored := s.tabs[0].all("record")
		from := stored[len(stored)/2]
		seventh := m.site.openTab(t, "seven", tabOptions{Share: true, LastEventID: from.LastEventID})
		s.add(seventh, anyNumber)
		s.written = f.end()
		s.check(t)
		checkContinues(t, stored[:len(stored)/2+1], seventh.all("record"))
		l.waitOneStream(t)
		waitFor(t, "herald has one stream", func(context.Context) bool { return m.h.Metric("herald_streams") == 1 })
		waitFor(t, "one tab owns the stream", func(context.Context) bool { return len(s.owners()) == 1 })
	})
	return s
}

func (s *sevenTabs) add(b *tab, first int) {
	s.tabs, s.first = append(s.tabs, b), append(s.first, first)
}

// check checks the records of each tab.
func (s *sevenTabs) check(t *testing.T) {
	t.Helper()
	for i, b := range s.tabs {
		b.check(t, s.lanes, s.first[i], s.written)
	}
}

// owners returns the tabs that own the stream.
func (s *sevenTabs) owners() []*tab {
	return slices.DeleteFunc(slices.Clone(s.tabs), func(b *tab) bool { return b.state().Shared != "owner" })
}

// checkContinues checks that a tab that was opened with the last event id of earlier records begins with the next
// records of each lane.
func checkContinues(t *testing.T, earlier, records []tabReport) {
	t.Helper()
	next, checked := make(map[string]int), make(map[string]bool)
	for _, r := range slices.Concat(earlier, records) {
		var name string
		var n int
		if _, err := fmt.Sscan(r.Data, &name, &n); err != nil {
			t.Fatal(err)
		}
		if want, known := next[name]; known && n != want && !checked[name] {
			t.Errorf("after the stored id comes %s %d, want number %d", name, n, want)
			checked[name] = true
		}
		next[name] = n + 1
	}
}

// openThree opens three tabs that share a stream while records come. It returns the owner and the others.
func (m *moduleTest) openThree(t *testing.T, name string) (s *sevenTabs, f *flow, owner *tab, others []*tab) {
	t.Helper()
	s = &sevenTabs{lanes: m.lanes(t, name)}
	for range 3 {
		s.add(m.site.openTab(t, name, tabOptions{Share: true}), 0)
	}
	f = m.startFlow(t, s.lanes, 0, 30*time.Millisecond)
	waitFor(t, "a tab owns the stream", func(context.Context) bool { return len(s.owners()) == 1 })
	owner = s.owners()[0]
	others = slices.DeleteFunc(slices.Clone(s.tabs), func(b *tab) bool { return b == owner })
	return s, f, owner, others
}

// awaitOwner waits until one of the tabs owns the stream and gets records.
func awaitOwner(t *testing.T, what string, tabs []*tab) *tab {
	t.Helper()
	var owner *tab
	begun := time.Now()
	waitWithin(t, patience, func() string { return what + ": another tab owns the stream" }, func(context.Context) bool {
		i := slices.IndexFunc(tabs, func(b *tab) bool { return b.state().Shared == "owner" && b.state().State == "open" })
		if i >= 0 {
			owner = tabs[i]
		}
		return i >= 0
	})
	t.Logf("%s: another tab took over after %v", what, time.Since(begun).Round(time.Millisecond))
	return owner
}

// testClosedOwner closes the tab that owns the stream, and the next owner.
func (m *moduleTest) testClosedOwner(t *testing.T) {
	t.Helper()
	s, f, owner, others := m.openThree(t, "closed")
	owner.close(t)
	next := awaitOwner(t, "closed", others)
	next.close(t)
	last := slices.DeleteFunc(others, func(b *tab) bool { return b == next })
	awaitOwner(t, "closed again", last)
	defer last[0].close(t)
	last[0].check(t, s.lanes, 0, f.end())
}

// testCrashedOwner crashes the process of the tab that owns the stream.
func (m *moduleTest) testCrashedOwner(t *testing.T) {
	t.Helper()
	s, f, owner, others := m.openThree(t, "crashed")
	m.tabsOfChromium().crash(t, owner.name)
	awaitOwner(t, "crashed", others)
	s.tabs, s.first = others, []int{0, 0}
	s.written = f.end()
	s.check(t)
	for _, b := range s.tabs {
		b.close(t)
	}
}

// testFrozenTabs freezes the tab that owns the stream, and then another tab, and thaws them.
func (m *moduleTest) testFrozenTabs(t *testing.T) {
	t.Helper()
	s, f, owner, others := m.openThree(t, "frozen")
	tabs := m.tabsOfChromium()
	tabs.freeze(t, owner.name, true)
	next := awaitOwner(t, "frozen", others)
	tabs.freeze(t, owner.name, false)
	follower := slices.DeleteFunc(others, func(b *tab) bool { return b == next })[0]
	tabs.freeze(t, follower.name, true)
	time.Sleep(time.Second) // records come
	tabs.freeze(t, follower.name, false)
	s.written = f.end()
	s.check(t)
	owner.link.waitOneStream(t)
	for _, b := range s.tabs {
		b.close(t)
	}
}

// testHungOwner makes the script of the tab that owns the stream run for longer than the other tabs wait: 2.5 heartbeats,
// and 2 to 8 s for its answer. Another tab takes the stream, and the first tab becomes a follower.
func (m *moduleTest) testHungOwner(t *testing.T) {
	t.Helper()
	s, f, owner, others := m.openThree(t, "hung")
	m.tabsOfChromium().hang(t, owner.name, 25*moduleHeartbeat) // the others may be late on a busy machine
	awaitOwner(t, "hung", others)
	waitFor(t, "the tab that hung is a follower", func(context.Context) bool { return owner.state().Shared == "follower" })
	s.written = f.end()
	s.check(t)
	for _, b := range s.tabs {
		b.close(t)
	}
}

// chromiumTabs drives tabs of Chromium.
type chromiumTabs struct {
	t       *testing.T      // the test with the browser: its tabs outlive the tests that open them
	browser context.Context //nolint:containedctx // chromedp's browsers and tabs are contexts
	mu      sync.Mutex
	tabs    map[string]context.Context
	cancels map[string]context.CancelFunc
}

func startTabs(t *testing.T) *chromiumTabs {
	t.Helper()
	return &chromiumTabs{t: t, browser: startChromium(t), tabs: make(map[string]context.Context), cancels: make(map[string]context.CancelFunc)}
}

func (m *moduleTest) tabsOfChromium() *chromiumTabs { return m.site.drive.(*chromiumTabs) }

func (c *chromiumTabs) open(t *testing.T, name, address string) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(c.browser)
	c.t.Cleanup(cancel)
	if err := drive(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tabs[name], c.cancels[name] = ctx, cancel //nolint:fatcontext // chromedp's tabs are contexts
}

func (c *chromiumTabs) tab(name string) (context.Context, context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tabs[name], c.cancels[name]
}

func (c *chromiumTabs) close(_ *testing.T, name string) {
	_, cancel := c.tab(name)
	cancel()
}

// crash ends the process that renders the tab.
func (c *chromiumTabs) crash(t *testing.T, name string) {
	t.Helper()
	tab, _ := c.tab(name)
	ctx, cancel := context.WithTimeout(tab, time.Second)
	defer cancel()
	_, _ = chromedp.Call(ctx, page.Crash, struct{}{}) // there is nobody left to answer
}

// freeze freezes the tab, as a browser does with tabs in the background, or thaws it.
func (c *chromiumTabs) freeze(t *testing.T, name string, frozen bool) {
	t.Helper()
	state := page.SetWebLifecycleStateStateActive
	if frozen {
		state = page.SetWebLifecycleStateStateFrozen
	}
	tab, _ := c.tab(name)
	if _, err := chromedp.Call(tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
		t.Fatal(err)
	}
}

// hang makes a script of the tab run for the time.
func (c *chromiumTabs) hang(t *testing.T, name string, d time.Duration) {
	t.Helper()
	tab, _ := c.tab(name)
	script := fmt.Sprintf("setTimeout(() => { const end = Date.now() + %d; while (Date.now() < end); })", d.Milliseconds())
	if err := chromedp.Do(tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Evaluate[int](script)(ctx, target)
		return err
	})); err != nil {
		t.Fatal(err)
	}
}
