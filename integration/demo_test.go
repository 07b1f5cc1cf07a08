package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// text returns what an element of the page shows.
func (p demoPage) text(id string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.getElementById('"+id+"').innerText"))
	if err != nil {
		p.t.Fatalf("read #%s: %v", id, err)
	}
	return text
}

// waitText waits until the element shows the text.
func (p demoPage) waitText(id, want string) {
	p.t.Helper()
	text := ""
	waitWithin(p.t, pagePatience, func() string { return fmt.Sprintf("#%s shows %q; it shows %q", id, want, text) }, func(context.Context) bool {
		text = p.text(id)
		return strings.Contains(text, want)
	})
}

// submit submits the form as its button does.
func (p demoPage) submit(form string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS("#" + form + " [type=submit]")))
}

// TestDemoPageAdvice makes mistakes on the page. The page must explain them.
func TestDemoPageAdvice(t *testing.T) {
	page := openDemo(t, startChromium(t), "http://"+startDev(t).public, strings.Repeat("é", 129))
	page.waitText("user-error", "é”, which is not possible here. The page shows alice instead. A user has 1 to 256 bytes")
	page.waitText("log-empty", "No notification yet.")

	page.do(chromedp.SetValue(chromedp.CSS("#send-value"), "{broken"))
	page.submit("send-form")
	page.waitText("send-result", "The value is not JSON")
	if got := page.state(); len(got.received()) != 0 {
		t.Errorf("%q was sent", got.received())
	}

	// A pause is no alarm.
	page.do(chromedp.Click(chromedp.CSS("#connected")))
	page.wait("the pause", func(s demoState) bool { return s.Badge == "paused" })
	page.waitText("badge", "paused")
	page.waitText("connected-hint", "You disconnected.")
	if page.eval("getComputedStyle(document.getElementById('badge')).color !== getComputedStyle(document.body).color") {
		t.Error("the badge of a pause has a colour of its own")
	}
	page.submit("task-form")
	page.waitText("task-result", "Connect to see it.")
	page.do(chromedp.SetValue(chromedp.CSS("#send-value"), `"now JSON"`))
	page.submit("send-form")
	page.waitText("send-result", "Connect to see it.")
	page.do(chromedp.Click(chromedp.CSS("#connected")))
	page.wait("what was sent", shows(`"now JSON"`))
}

// eval returns the value of a condition on the page.
func (p demoPage) eval(condition string) bool {
	p.t.Helper()
	holds, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](condition))
	if err != nil {
		p.t.Fatalf("%s: %v", condition, err)
	}
	return holds
}

// progressOf publishes a record of a task's progress, as the worker of a task does.
func (p demoPage) progressOf(base, task string, seq int) {
	p.t.Helper()
	publish(p.t, base+"/users/alice/notifications?type=task-progress", "application/json",
		fmt.Sprintf(`{"task":%q,"name":"Report","step":"Rendering","percent":%d,"state":"running","seq":%d}`, task, seq, seq))
}

// TestDemoPageTasks shows a task whose first records the page has missed, and whose worker then stops and
// continues. It also shows an event of a type that the page does not know.
func TestDemoPageTasks(t *testing.T) {
	base := "http://" + startDev(t).public
	page := openDemo(t, startChromium(t), base, "alice")
	page.progressOf(base, "a", 32)
	page.waitText("task-list", "1 record, joined late")
	page.waitText("task-list", "running")
	notify(t, base, "/users/alice/notifications?type=news", "read all about it")
	page.waitText("log-list", "news")
	page.wait("the news", shows("read all about it"))

	// Silence while the page is disconnected says nothing about the worker.
	page.do(chromedp.Click(chromedp.CSS("#connected")))
	time.Sleep(6 * time.Second) // longer than the page waits for news
	page.waitText("task-list", "running")
	page.progressOf(base, "a", 33)
	page.do(chromedp.Click(chromedp.CSS("#connected")))
	s := page.wait("the record written meanwhile", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Records == 2 })
	if s.Tasks[0].State != "running" {
		t.Errorf("task = %+v, want it running", s.Tasks[0])
	}

	page.wait("no news", func(s demoState) bool { return s.Tasks[0].State == "no news" })
	page.waitText("task-list", "No news for 6 s: its worker may have stopped")
	page.do(chromedp.Reload())
	page.waitText("task-list", "No news for")
	page.waitStream()
	page.progressOf(base, "a", 34)
	page.wait("the news of a worker that was only slow", func(s demoState) bool { return s.Tasks[0].State == "running" && s.Tasks[0].Records == 3 })
	if got := page.state().Counters["missing"]; got != "0" {
		t.Errorf("missing = %s, want 0", got)
	}
}

// TestDemoPageWithoutKafka kills the server while a task runs, and then its broker. The page must say what works
// and what does not, and leave no error after both have returned.
func TestDemoPageWithoutKafka(t *testing.T) {
	address := freeAddress(t)
	kafka := newProcess(t, "dev", "--kafka-listen="+address, "--data-dir="+t.TempDir())
	kafka.Start()
	h := newHerald(t, &broker{addresses: []string{address}}, "--topic=notifications", "--enable-publish", "--demo")
	h.Start()
	page := openDemo(t, startChromium(t), "http://"+h.public, "alice")
	page.waitText("badge", "connected")
	page.submit("task-form")
	page.wait("a task under way", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Percent >= 5 })

	h.Kill()
	page.waitText("badge", "reconnecting")
	page.submit("send-form")
	page.waitText("send-result", "The server did not answer.")
	h.Start()
	page.wait("a stream", func(s demoState) bool { return s.Badge == "open" })
	page.wait("that the task has no worker", func(s demoState) bool { return s.Tasks[0].State == "no news" })
	page.wait("no error", func(demoState) bool { return page.text("send-result") == "" })

	kafka.Kill()
	page.waitText("badge", "connected · Kafka is down")
	if page.eval("document.getElementById('badge').dataset.state === 'open'") {
		t.Error("the badge is green while Kafka is down")
	}
	screenshot(t, page, "without-kafka")
	kafka.Start()
	page.wait("a stream that works", func(s demoState) bool { return s.Badge == "open" })
	page.do(chromedp.SetValue(chromedp.CSS("#send-value"), `"after all"`))
	page.submit("send-form")
	page.wait("what was sent", shows(`"after all"`))
}

// TestDemoPageFits wants the newest task and the newest event on the screen of a laptop and of a phone, without
// scrolling, beside older ones.
func TestDemoPageFits(t *testing.T) {
	base := "http://" + startDev(t).public
	page := openDemo(t, startChromium(t), base, "alice")
	for i := range 8 {
		page.progressOf(base, fmt.Sprint("task", i), 1)
		notify(t, base, "/users/alice/notifications?type=news", fmt.Sprint("news ", i))
	}
	page.wait("the last news", shows("news 7"))
	for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
		page.do(chromedp.EmulateViewport(size[0], size[1]))
		for _, newest := range []string{".task", ".entry"} {
			page.wait(fmt.Sprintf("%s within %v", newest, size), func(demoState) bool {
				return page.eval("document.querySelector('" + newest + "').getBoundingClientRect().bottom <= innerHeight && scrollY === 0")
			})
		}
		if !page.eval("document.documentElement.scrollWidth <= innerWidth") {
			t.Errorf("at %v the page is wider than the screen", size)
		}
		screenshot(t, page, fmt.Sprintf("fits-%d", size[0]))
	}
}

// TestDemoPageAfterRestart restarts herald dev, which keeps its records in memory, while the page is open.
func TestDemoPageAfterRestart(t *testing.T) {
	browser, dev := startChromium(t), startDev(t)
	page := openDemo(t, browser, "http://"+dev.public, "alice")
	page.submit("task-form")
	page.wait("a task under way", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Percent >= 5 })
	dev.End(os.Interrupt)
	dev.Start()
	page.wait("the loss", func(s demoState) bool { return s.Badge == "open" && s.Tasks[0].State == "lost" })
	page.waitText("log-list", "the topic was made again; what it held is gone.")
	page.submit("task-form")
	page.wait("a new task", func(s demoState) bool { return len(s.Tasks) == 2 && s.Tasks[0].Percent >= 5 })
}

// TestDemoPageInSixTabs opens six streams, which use all connections that a browser opens to one host.
func TestDemoPageInSixTabs(t *testing.T) {
	browser, dev := startChromium(t), startDev(t)
	var page demoPage
	for range 6 {
		page = openDemo(t, browser, "http://"+dev.public, "alice")
	}
	page.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error { // the tab may be in the background
		_, err := chromedp.Evaluate[any]("document.querySelector('#task-form [type=submit]').click()")(ctx, target)
		return err
	}))
	page.waitText("task-result", "six connections")
}
