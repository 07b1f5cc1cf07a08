package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// text returns what an element of the page shows. Its name is an id, or a part of the first person's panel.
func (p demoPage) text(name string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("(document.getElementById('"+name+"') ?? document.querySelector('.person [data-part="+name+"]'))?.innerText ?? ''"))
	if err != nil {
		p.t.Fatalf("read %s: %v", name, err)
	}
	return text
}

// waitText waits until the element shows the text.
func (p demoPage) waitText(name, want string) {
	p.t.Helper()
	text := ""
	waitWithin(p.t, pagePatience, func() string { return fmt.Sprintf("%s shows %q; it shows %q", name, want, text) }, func(context.Context) bool {
		text = p.text(name)
		return strings.Contains(text, want)
	})
}

// submit submits the form as its button does.
func (p demoPage) submit(form string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(form + " [type=submit]")))
}

// startTask starts a task of the first person.
func (p demoPage) startTask() {
	p.t.Helper()
	p.submit(".person:first-child [data-part=task-form]")
}

// TestDemoPageAdvice makes mistakes on the page. The page must explain them.
func TestDemoPageAdvice(t *testing.T) {
	t.Parallel()
	page := openDemo(t, startChromium(t), "http://"+startDev(t).public, strings.Repeat("é", 129))
	page.waitText("user-error", "é”, which is not possible here. The page shows alice instead. A user has 1 to 256 bytes")
	page.waitText("items-empty", "No notification yet.")

	page.send(" ")
	page.waitText("send-result", "Write a text first.")
	if got := page.state(); len(got.received()) != 0 {
		t.Errorf("%q was sent", got.received())
	}

	// A cut on purpose is no alarm.
	page.do(chromedp.Click(firstPerson("cut")))
	page.wait("the cut", func(s demoState) bool { return s.Badge == "cut" })
	page.waitText("badge", "Cut")
	page.waitText("outcome", "Records now wait in Kafka.")
	if page.eval("getComputedStyle(document.querySelector('[data-part=badge]')).color !== getComputedStyle(document.body).color") {
		t.Error("the badge of a cut has a colour of its own")
	}
	page.startTask()
	page.waitText("task-result", "Reconnect to see it.")
	page.send("now a text")
	page.waitText("outcome", "2 records wait in Kafka.")
	page.do(chromedp.Click(firstPerson("cut")))
	page.wait("what was sent", shows("now a text"))
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
	t.Parallel()
	base := "http://" + startDev(t).public
	page := openDemo(t, startChromium(t), base, "alice")
	notify(t, base, "/users/alice/notifications?type=news", "read all about it")
	page.waitText("items", "news")
	page.wait("the news", shows("read all about it"))
	seq := 31
	publishNext := func() {
		seq++
		page.progressOf(base, "a", seq)
	}
	// runs writes a record, and then looks. If it looks too late, on a busy machine, it writes another one.
	runs := func(what string) {
		t.Helper()
		for {
			written := time.Now()
			publishNext()
			s := page.wait("the record", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Seq == seq })
			if s.Tasks[0].State == "running" {
				return
			}
			if time.Since(written) < 5*time.Second { // the page waits as long for news
				t.Fatalf("%s: task = %+v, want it running", what, s.Tasks[0])
			}
		}
	}
	runs("joined late")
	page.waitText("tasks", "joined late")

	// Silence while the page is disconnected says nothing about the worker.
	page.do(chromedp.Click(firstPerson("cut")))
	page.wait("the cut", func(s demoState) bool { return s.Badge == "cut" })
	before := page.state().Tasks[0].State
	time.Sleep(6 * time.Second) // longer than the page waits for news
	if got := page.state().Tasks[0].State; got != before {
		t.Errorf("the task was %s when the page was cut, and is %s later", before, got)
	}
	publishNext()
	page.do(chromedp.Click(firstPerson("cut")))
	runs("connected again")

	page.wait("no news", func(s demoState) bool { return s.Tasks[0].State == "no news" })
	page.waitText("tasks", " s: its worker may have stopped")
	page.do(chromedp.Reload())
	page.waitText("tasks", "No news")
	page.waitStream()
	runs("the worker was only slow")
	if s := page.state().Tasks[0]; s.Records != s.Seq-31 {
		t.Errorf("task = %+v, want a record for each number from 32", s)
	}
	if got := page.state().Counters["missing"]; got != "0" {
		t.Errorf("missing = %s, want 0", got)
	}
}

// TestDemoPageWithoutKafka kills the server while a task runs, and then its broker. The page must say what works
// and what does not, and leave no error after both have returned.
func TestDemoPageWithoutKafka(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	kafka := newProcess(t, "dev", "--kafka-listen="+address, "--data-dir="+t.TempDir())
	kafka.Start()
	h := newHerald(t, &broker{addresses: []string{address}}, "--topic=notifications", "--enable-publish", "--demo")
	h.Start()
	page := openDemo(t, startChromium(t), "http://"+h.public, "alice")
	page.waitText("badge", "Live")
	page.startTask()
	page.wait("a task under way", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Percent >= 5 })

	h.Kill()
	page.waitText("badge", "Reconnecting")
	page.submit("#send-form")
	page.waitText("send-result", "The server did not answer.")
	h.Start()
	page.wait("a stream", func(s demoState) bool { return s.Badge == "open" })
	page.wait("that the task has no worker", func(s demoState) bool { return s.Tasks[0].State == "no news" })
	page.wait("no error", func(demoState) bool { return page.text("send-result") == "" })

	kafka.Kill()
	page.waitText("badge", "Kafka is unreachable")
	if page.eval("document.querySelector('.person').dataset.state === 'open'") {
		t.Error("the badge is green while Kafka is down")
	}
	screenshot(t, page, "without-kafka")
	kafka.Start()
	page.wait("a stream that works", func(s demoState) bool { return s.Badge == "open" })
	page.send("after all")
	page.wait("what was sent", shows("after all"))
}

// TestDemoPageFits wants the newest task and the newest event on the screen of a laptop and of a phone, without
// scrolling, beside older ones.
func TestDemoPageFits(t *testing.T) {
	t.Parallel()
	base := "http://" + startDev(t).public
	page := openDemo(t, startChromium(t), base, "alice")
	for i := range 8 {
		page.progressOf(base, fmt.Sprint("task", i), 1)
		notify(t, base, "/users/alice/notifications?type=news", fmt.Sprint("news ", i))
	}
	page.wait("the last news", shows("news 7"))
	for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
		page.do(chromedp.EmulateViewport(size[0], size[1]))
		for _, newest := range []string{".task", ".item"} {
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
	t.Parallel()
	browser, dev := startChromium(t), startDev(t)
	page := openDemo(t, browser, "http://"+dev.public, "alice")
	page.startTask()
	page.wait("a task under way", func(s demoState) bool { return len(s.Tasks) == 1 && s.Tasks[0].Percent >= 5 })
	dev.End(os.Interrupt)
	dev.Start()
	page.wait("the loss", func(s demoState) bool { return s.Badge == "open" && s.Tasks[0].State == "lost" })
	page.waitText("items", "the topic was made again; what it held is gone.")
	page.startTask()
	page.wait("a new task", func(s demoState) bool { return len(s.Tasks) == 2 && s.Tasks[0].Percent >= 5 })
}

// TestDemoPageInTabs opens seven tabs, which use one stream for each of their two people: over HTTP/1.1, a browser
// opens six connections to one host. Each tab shows each record once.
func TestDemoPageInTabs(t *testing.T) {
	t.Parallel()
	browser, dev := startChromium(t), startDev(t)
	base := "http://" + dev.public
	var pages []demoPage
	for range 7 {
		pages = append(pages, openDemo(t, browser, base, "alice"))
	}
	first, last := pages[0], pages[len(pages)-1]
	first.waitText("shared", "This tab holds the connection for 6 other tabs.")
	last.waitText("shared", "This tab shares its connection with 6 other tabs.")
	waitFor(t, "herald has one stream for each of the two people", func(context.Context) bool { return dev.Metric("herald_streams") == 2 })
	notify(t, base, "/users/alice/notifications", "to all tabs")
	for _, page := range pages {
		if s := page.wait("the record", shows("to all tabs")); len(s.Log) != 1 {
			t.Errorf("a tab shows %+v", s.Log)
		}
	}
}

// TestDemoPageCountsWhatACutMissed cuts a person's connection, writes 28 records for the person, and reconnects. The page's own account, and what it shows, must agree with Kafka.
func TestDemoPageCountsWhatACutMissed(t *testing.T) {
	t.Parallel()
	kafka := freeAddress(t)
	dev := newProcess(t, "dev", "--kafka-listen="+kafka)
	dev.Start()
	b := &broker{addresses: []string{kafka}}
	page := openDemo(t, startChromium(t), "http://"+dev.public, "alice")
	page.send("before")
	page.wait("the record before", shows("before"))
	page.do(chromedp.Click(firstPerson("cut")))
	page.wait("the cut", func(s demoState) bool { return s.Badge == "cut" })
	page.do(chromedp.Click(firstPerson("burst")))
	page.waitText("outcome", "28 records wait in Kafka.")
	page.waitText("counter", "Cut for ")
	page.do(chromedp.Click(firstPerson("cut")))
	page.waitText("outcome", "Missed 28, caught up 28 in ")
	page.waitText("outcome", ", none twice.")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.producer.Close)
	var want []string
	for partition := range int32(3) { // the records of a user are in one of them
		for _, r := range b.recordsOf(t, "notifications", partition) {
			want = append(want, fmt.Sprintf("notifications-%d@%d %s", partition, r.Offset, r.Value))
		}
	}
	slices.Reverse(want)
	var got []string
	for _, item := range page.state().Log {
		got = append(got, item.Pos+" "+item.Value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records on the page, newest first (-in Kafka +on the page):\n%s", diff)
	}
	if len(got) != 29 {
		t.Errorf("%d records, want the record before the cut and 28", len(got))
	}
}
