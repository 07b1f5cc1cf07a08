package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// crossOriginPage signs in and opens a stream at a server of another origin, and notes how that ended. As libraries for
// tracing do, it adds headers to its request, which a preflight asks for.
const crossOriginPage = `void (async () => {
	window.result = "";
	const credentials = %[3]v;
	const headers = { Authorization: "Bearer %[2]s", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-ID": "1" };
	try {
		const answer = await fetch("%[1]s/session", { method: "POST", headers, credentials: credentials ? "include" : "same-origin" });
		if (!answer.ok) throw new Error(answer.status);
	} catch (error) {
		result = "not signed in";
		return;
	}
	const stream = new EventSource("%[1]s/events", { withCredentials: credentials });
	stream.onopen = () => result = "open";
	stream.onerror = () => { if (stream.readyState === EventSource.CLOSED) result = "closed"; };
})()`

// TestCrossOriginPage uses Herald from a page of another origin in Chromium. With the four things of
// stream/PROTOCOL.md, "Other origins", the page has a stream. Without one of them it has none, and the log says what is
// missing.
func TestCrossOriginPage(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	b := devBroker(t)
	secret := newSecretFile(t)
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice")
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!doctype html>") }))
	t.Cleanup(app.Close)
	byAddress := app.URL
	byName := strings.Replace(app.URL, "127.0.0.1", "localhost", 1)
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test",
		"--topic=notifications", "--jwt-secret-file="+secret, "--allow-origin="+byName, "--allow-header=X-Request-ID")
	h.Start()
	port := portOf(t, h.public)
	for _, test := range []struct {
		name, page, herald string
		credentials        bool
		result             string
		logged             []string // nothing: the log has no refusal
	}{
		{
			"without credentials", byName, "localhost", false, "closed",
			[]string{"method=GET route=/events", "origin=" + byName, "the browser sent no session cookie", "withCredentials: true"},
		},
		{
			"another host name", byName, "127.0.0.1", true, "closed",
			[]string{"method=GET route=/events", "origin=" + byName, "the browser sent no session cookie", "use one host name"},
		},
		{
			"an origin that is not listed", byAddress, "127.0.0.1", true, "not signed in",
			[]string{"method=OPTIONS route=/session", "origin=" + byAddress, "--allow-origin does not list the page's origin"},
		},
		{"all four things", byName, "localhost", true, "open", nil},
	} {
		time.Sleep(time.Second) // the log has one refusal a second
		before := len(h.printed.String())
		if err := drive(browser, chromedp.Navigate(test.page+"/")); err != nil {
			t.Fatal(err)
		}
		evaluate[any](t, browser, fmt.Sprintf(crossOriginPage, "http://"+test.herald+":"+port, token, test.credentials))
		waitFor(t, test.name+": a result", func(context.Context) bool { return evaluate[string](t, browser, "result") != "" })
		if got := evaluate[string](t, browser, "result"); got != test.result {
			t.Errorf("%s: %s, want %s", test.name, got, test.result)
		}
		log := func() string { return strings.ReplaceAll(h.printed.String()[before:], `\"`, `"`) }
		if test.logged == nil && strings.Contains(log(), "request refused") {
			t.Errorf("%s: the log has a refusal:\n%s", test.name, log())
		}
		for _, want := range test.logged {
			waitWithin(t, patience, func() string { return fmt.Sprintf("%s: the log has %s:\n%s", test.name, want, log()) },
				func(context.Context) bool { return strings.Contains(log(), want) })
		}
	}
}
