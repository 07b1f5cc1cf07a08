package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// TestDemoPage uses the demo page of `herald dev` in Chromium as a person does. If HERALD_DEMO_URL is set, it
// uses the server at this URL.
func TestDemoPage(t *testing.T) {
	browser := startChromium(t)
	base := os.Getenv("HERALD_DEMO_URL")
	if base == "" {
		base = "http://" + startDev(t).public
	}
	driveDemoPage(t, browser, strings.TrimSuffix(base, "/"))
}

// driveDemoPage starts tasks and sends notifications. It then disconnects the page, reloads it, and navigates to
// another page and back, while records are produced. The page must show each record once, to its user only.
func driveDemoPage(t *testing.T, browser context.Context, base string) {
	t.Helper()
	alice := fmt.Sprintf("alice-%d", rand.Uint32()) // a user without earlier records
	bob := fmt.Sprintf("bob-%d", rand.Uint32())
	page := openDemo(t, browser, base, alice)
	other := openDemo(t, browser, base, bob)

	// Two tasks at once, by keyboard.
	page.do(
		chromedp.SetValue(firstPerson("task-seconds"), "20"), // the second task must still run after the reload
		chromedp.SendKeys(firstPerson("task-seconds"), "\r"))
	page.wait("the first task", func(s demoState) bool { return len(s.Tasks) == 1 })
	page.wait("a form that can be sent again", func(demoState) bool {
		return page.eval("document.querySelector('.person [data-part=task-form] [type=submit]').ariaDisabled !== 'true'")
	})
	page.do(
		chromedp.SetValue(firstPerson("task-name"), "Second <b>report</b>"),
		chromedp.SendKeys(firstPerson("task-name"), "\r"))
	page.wait("two tasks under way", func(s demoState) bool {
		return len(s.Tasks) == 2 && s.Tasks[0].Percent >= 10 && s.Tasks[1].Percent >= 10
	})

	// A notification from the page itself.
	page.send("one")
	page.wait("the notification one", shows("one"))

	// Cut the connection and reconnect. The record written meanwhile waits in Kafka.
	page.do(chromedp.Click(firstPerson("cut")))
	cut := page.wait("the cut", func(s demoState) bool { return s.Badge == "cut" })
	notify(t, base, "/users/"+alice+"/notifications?type=notification", "two")
	if diff := cmp.Diff(cut, page.state()); diff != "" {
		t.Errorf("the page changed while it was cut off (-before +after):\n%s", diff)
	}
	page.do(chromedp.Click(firstPerson("cut")))
	page.wait("the notification two", shows("two"))

	// Reload in the middle of the tasks.
	before := page.state()
	page.do(chromedp.Reload())
	after := page.wait("the reloaded page", func(s demoState) bool { return s.Badge == "open" })
	page.checkGoesOn(before, after)

	// Navigate to another page, and back.
	before = page.state()
	if before.Tasks[0].State != "running" {
		t.Errorf("task = %+v before leaving the page, want it still running", before.Tasks[0])
	}
	page.do(chromedp.Navigate("about:blank"))
	notify(t, base, "/users/"+alice+"/notifications?type=notification", "three")
	page.do(chromedp.Navigate(base + "/?user=" + alice))
	after = page.wait("the notification three", shows("three"))
	page.checkGoesOn(before, after)

	// A broadcast. The page must show markup as text.
	const markup = `<img src=x onerror="document.title='broken into'">`
	page.do(
		chromedp.Click(chromedp.CSS("#send-to label:has([value=all])")),
		chromedp.SetValue(chromedp.CSS("#send-type"), "notice.all"))
	page.send(markup)
	page.wait("the broadcast", shows(markup))
	notify(t, base, "/broadcast?type=notification", "for everyone")

	end := page.wait("the end of both tasks", func(s demoState) bool {
		return s.Tasks[0].State == "complete" && s.Tasks[1].State == "complete" && shows("for everyone")(s)
	})
	for _, task := range end.Tasks {
		if task.Percent != 100 || task.Records != task.Seq {
			t.Errorf("task = %+v, want 100 %% and as many records as the number of the last record", task)
		}
	}
	want := []string{"for everyone", markup, "three", "two", "one"}
	if diff := cmp.Diff(want, end.received()); diff != "" {
		t.Errorf("notifications shown (-want +got):\n%s", diff)
	}
	if c := end.Counters; c["twice"] != "0" || c["missing"] != "0" || c["gaps"] != "0" {
		t.Errorf("counters = %v, want nothing twice, missing or lost", c)
	}

	got := other.wait("the broadcast at "+bob, shows("for everyone"))
	if diff := cmp.Diff([]string{"for everyone", markup}, got.received()); diff != "" || len(got.Tasks) != 0 {
		t.Errorf("%s sees %d tasks and these notifications (-want +got):\n%s", bob, len(got.Tasks), diff)
	}
}

// demoState is what the page shows of its first person.
type demoState struct {
	Badge       string
	LastEventID string
	Tasks       []struct { // newest first
		ID      string
		Percent int
		State   string
		Records int
		Seq     int
	}
	Log      []struct{ Type, Value, Pos string } // notifications and gaps, newest first
	Counters map[string]string
}

const readDemoState = `(() => {
	const person = document.querySelector('.person');
	if (!person) return {};
	const all = (selector, read) => [...person.querySelectorAll(selector)].map(read);
	const text = (element, part) => element.querySelector('[data-part=' + part + ']').textContent;
	return {
		Badge: person.dataset.state,
		LastEventID: text(person, 'last-event-id'),
		Tasks: all('.task', (e) => ({
			ID: e.dataset.task,
			Percent: e.querySelector('progress').value,
			State: text(e, 'state').toLowerCase(),
			Records: parseInt(text(e, 'received')),
			Seq: Number(e.dataset.seq),
		})),
		Log: all('.item', (e) => ({ Type: text(e, 'type'), Value: text(e, 'value'), Pos: text(e, 'pos') })),
		Counters: Object.fromEntries(all('[data-count]', (e) => [e.dataset.count, e.textContent])),
	};
})()`

// received returns the values on the page.
func (s demoState) received() []string {
	var values []string
	for _, item := range s.Log {
		values = append(values, item.Value)
	}
	return values
}

// shows returns a condition: the page shows the value.
func shows(value string) func(demoState) bool {
	return func(s demoState) bool { return slices.Contains(s.received(), value) }
}

// demoPage is a tab with the demo page. Its methods are about the first person on it.
type demoPage struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp's tabs are contexts
}

// firstPerson selects a part of the first person's panel.
func firstPerson(part string) chromedp.CSS {
	return chromedp.CSS(".person:first-child [data-part=" + part + "]")
}

// send sends a text by the page's form.
func (p demoPage) send(text string) {
	p.t.Helper()
	p.do(chromedp.SetValue(chromedp.CSS("#send-value"), text))
	p.submit("#send-form")
}

// brokenConnection matches what Chromium itself prints when a server has ended or the machine's network has changed.
var brokenConnection = regexp.MustCompile(`^Failed to load resource: net::ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)_`)

// openDemo opens a tab and waits for its stream. Another error on the tab's console fails the test, for example a
// violation of the Content-Security-Policy.
func openDemo(t *testing.T, browser context.Context, base, user string) demoPage {
	t.Helper()
	ctx, cancel := newTab(t, browser)
	p := demoPage{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var reading sync.WaitGroup
	reading.Go(func() {
		for message, err := range messages {
			if err != nil {
				return // the tab is closed
			}
			if (message.Type == chromedp.ConsoleError || message.Type == chromedp.ConsoleException) && !brokenConnection.MatchString(message.Text) {
				t.Errorf("console of %s: %s", user, message.Text)
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
	})
	p.do(chromedp.Navigate(base + "/?user=" + url.QueryEscape(user)))
	p.waitStream()
	return p
}

func (p demoPage) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := drive(p.ctx, steps...); err != nil {
		p.t.Fatalf("drive the page: %v", err)
	}
}

// state reads what the page shows. A page that is being unloaded shows nothing.
func (p demoPage) state() demoState {
	p.t.Helper()
	s, err := chromedp.Run(p.ctx, chromedp.Evaluate[demoState](readDemoState))
	if err != nil {
		p.t.Fatalf("read the page: %v", err)
	}
	return s
}

// waitStream waits until the page's first stream has begun. The page receives all records written after that.
func (p demoPage) waitStream() {
	p.t.Helper()
	p.wait("a stream that has begun", func(s demoState) bool { return s.Badge == "open" && strings.Contains(s.LastEventID, "~") })
}

// pagePatience is how long a test waits for a change on a page. A page waits up to 30 s before it connects again.
const pagePatience = 90 * time.Second

// wait waits until the page's state satisfies ok, and returns the state.
func (p demoPage) wait(what string, ok func(demoState) bool) demoState {
	p.t.Helper()
	var s demoState
	waitWithin(p.t, pagePatience, func() string { return fmt.Sprintf("%s; the page shows %+v", what, s) }, func(context.Context) bool {
		s = p.state()
		return ok(s)
	})
	return s
}

// checkGoesOn checks that a page after a reload or a visit elsewhere shows everything that it showed before, or
// more.
func (p demoPage) checkGoesOn(before, after demoState) {
	p.t.Helper()
	for i, task := range before.Tasks {
		if again := after.Tasks[i]; again.ID != task.ID || again.Percent < task.Percent || again.Records < task.Records {
			p.t.Errorf("task = %+v, before it was %+v: want it to continue", again, task)
		}
	}
	had, has := before.received(), after.received()
	if len(has) < len(had) || !slices.Equal(has[len(has)-len(had):], had) {
		p.t.Errorf("notifications = %q, before they were %q: want these and newer ones", has, had)
	}
}

// notify produces a text through the server's API.
func notify(t *testing.T, base, path, text string) {
	t.Helper()
	publish(t, base+path, "text/plain", text)
}
