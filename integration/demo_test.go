package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

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
	page := openDemo(t, startChromium(t), "http://"+startDev(t).public, "a b")
	page.waitText("user-error", "“a b”, which is not possible here. The page shows alice instead")
	page.waitText("types-shown", "message, notification, and task-progress")
	page.waitText("log-empty", "No notification yet.")

	page.do(chromedp.SetValue(chromedp.CSS("#send-value"), "{broken"))
	page.submit("send-form")
	page.waitText("send-result", "The value is not JSON")
	if got := page.state(); len(got.received()) != 0 {
		t.Errorf("%q was sent", got.received())
	}

	page.do(chromedp.Click(chromedp.CSS("#connected")))
	page.submit("task-form")
	page.waitText("task-result", "Connect to see it.")
	page.do(chromedp.SetValue(chromedp.CSS("#send-value"), `"now JSON"`))
	page.submit("send-form")
	page.waitText("send-result", "Connect to see it.")
	page.do(chromedp.Click(chromedp.CSS("#connected")))
	page.wait("what was sent", shows(`"now JSON"`))
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
