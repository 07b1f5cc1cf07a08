package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// codeBlock returns a document's code block in the language; there must be exactly one.
func codeBlock(t *testing.T, document, language string) string {
	t.Helper()
	return codeBlocks(t, document, language, 1)[0]
}

// codeBlocks returns a document's code blocks in the language; there must be count.
func codeBlocks(t *testing.T, document, language string, count int) []string {
	t.Helper()
	text, err := os.ReadFile(document) //nolint:gosec // a document of this project
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(found[1]))
	}
	if len(blocks) != count {
		t.Fatalf("%s has %d blocks of %s, want %d", document, len(blocks), language, count)
	}
	return blocks
}

// readmePages returns the README's page with the module, and its page without the module.
func readmePages(t *testing.T) (module, eventSource string) {
	t.Helper()
	pages := codeBlocks(t, "../README.md", "html", 2)
	return pages[0], pages[1]
}

// startApp starts an app in front of Herald: it serves the page, answers requests for a token, and passes everything
// else on to Herald. It returns the app's URL, with the host name localhost, for the session cookie, and a function that
// cuts the app's connections.
func startApp(t *testing.T, h *herald, page, token string) (address string, cut func()) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage("<!doctype html>\n"+page))
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, token) })
	mux.Handle("/", &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: h.public})
		r.Out.Host = r.In.Host
	}})
	app := httptest.NewServer(mux)
	t.Cleanup(func() {
		app.CloseClientConnections()
		app.Close()
	})
	return byName(app.URL), app.CloseClientConnections
}

// TestReadmePages runs the pages of README.md, as they stand there, in Chromium: each signs in and shows the user's
// records, also after a cut. TestModule has what else the module does.
func TestReadmePages(t *testing.T) {
	browser := startChromium(t)
	b := devBroker(t)
	secret := newSecretFile(t)
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test",
		"--topic=notifications", "--jwt-secret-file="+secret, "--retry=200ms")
	h.Start()
	module, eventSource := readmePages(t)
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice")
	for _, test := range []struct {
		name, page string
		want       []string
	}{
		{"with the module", module, []string{`{"n":1}`, `"two"`}},
		{"without the module", eventSource, []string{`{"n":1}`, "two"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.waitForNoStream() // of the page before
			opened := h.Metric(`herald_streams_opened_total{start="now"}`)
			app, cut := startApp(t, h, test.page, token)
			if test.page == eventSource {
				signIn(t, browser, app)
			}
			if err := drive(browser, chromedp.Navigate(app+"/")); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a stream", func(context.Context) bool { return h.Metric(`herald_streams_opened_total{start="now"}`) > opened })
			h.waitState("alice", "live") // an earlier record may lie before the stream's beginning
			b.produce(t, record("notifications", "bob", "for bob"), record("notifications", "alice", `{"n":1}`))
			waitFor(t, "the first record", func(context.Context) bool { return len(shown(t, browser)) == 1 })
			if state := stateOf(t, browser); test.page == module && state != "open" {
				t.Errorf("the page shows the state %q, want open", state)
			}
			cut()
			b.produce(t, record("notifications", "alice", "two"))
			waitFor(t, "the second record", func(context.Context) bool { return len(shown(t, browser)) == 2 })
			if diff := cmp.Diff(test.want, shown(t, browser)); diff != "" {
				t.Errorf("the page shows (-want +got):\n%s", diff)
			}
		})
	}
}

// signIn gets the session cookie, as an app does before it opens an EventSource.
func signIn(t *testing.T, browser context.Context, app string) {
	t.Helper()
	if err := drive(browser, chromedp.Navigate(app+"/livez")); err != nil { // a page of the origin
		t.Fatal(err)
	}
	evaluate[any](t, browser, `void (async () => {
		`+fetchAgain+`
		const token = await (await fetchAgain("/token", { method: "POST" })).text();
		window.signedIn = (await fetchAgain("/session", { method: "POST", headers: { Authorization: "Bearer " + token } })).ok;
	})()`)
	waitFor(t, "a session", func(context.Context) bool { return evaluate[bool](t, browser, "window.signedIn === true") })
}

// shown returns the items that a page of the README shows.
func shown(t *testing.T, browser context.Context) []string {
	t.Helper()
	return evaluate[[]string](t, browser, `[...document.querySelectorAll("#list li")].map((item) => item.textContent)`)
}

// stateOf returns the state that a page of the README shows, or "".
func stateOf(t *testing.T, browser context.Context) string {
	t.Helper()
	return evaluate[string](t, browser, `document.getElementById("state")?.textContent ?? ""`)
}

// requireNginx is the environment variable that makes a missing nginx a failure.
const requireNginx = "HERALD_REQUIRE_NGINX"

// TestReadmeNginx runs nginx with the lines of README.md in front of Herald. An event arrives at once. While
// Herald is down, a request for a stream is answered with an empty stream and a reconnection time, a poll for JSON
// gets an error, and a native EventSource stays open and continues when Herald is back.
func TestReadmeNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		notTested(t, requireNginx, "no nginx: the README's lines for a proxy are not tested")
	}
	browser := startChromium(t)
	b := devBroker(t)
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test",
		"--topic=notifications", "--insecure-no-auth", "--retry=200ms")
	h.Start()
	base := "http://" + startNginx(t, nginx, "", strings.ReplaceAll(codeBlock(t, "../README.md", "nginx"), "127.0.0.1:8080", h.public))

	const listen = `void (() => {
		window.shown = [];
		window.stream = new EventSource("/events?user=alice");
		stream.onmessage = (event) => shown.push(event.data);
	})()`
	if err := drive(browser, chromedp.Navigate(base+"/")); err != nil { // Herald's 404: a page of the origin
		t.Fatal(err)
	}
	evaluate[any](t, browser, listen)
	waitFor(t, "the stream is open", func(context.Context) bool { return evaluate[int](t, browser, "stream.readyState") == 1 })
	h.waitState("alice", "live") // an earlier record may lie before the stream's beginning
	b.produce(t, record("notifications", "alice", "first"))
	waitFor(t, "the first record", func(context.Context) bool { return len(evaluate[[]string](t, browser, "shown")) == 1 })

	h.Kill()
	status, header, body := getFrom(t, base+"/events?user=alice")
	if diff := cmp.Diff([]string{"200", "text/event-stream; charset=utf-8", "no-store, no-transform", ":\nretry: 5000\n"}, []string{fmt.Sprint(status), header.Get("Content-Type"), header.Get("Cache-Control"), body}); diff != "" {
		t.Errorf("the answer while Herald is down (-want +got):\n%s", diff)
	}
	if poll := mustSend(t, http.MethodGet, base+"/events?user=alice&wait=0", "", "Accept", "application/json"); poll.status != http.StatusServiceUnavailable {
		t.Errorf("a poll for JSON while Herald is down: %+v, want 503", poll)
	}
	waitFor(t, "the browser has asked again", func(context.Context) bool { return evaluate[int](t, browser, "stream.readyState") == 0 })
	b.produce(t, record("notifications", "alice", "during the outage"))
	h.Start()
	waitFor(t, "the record of the outage", func(context.Context) bool { return len(evaluate[[]string](t, browser, "shown")) == 2 })
	if diff := cmp.Diff([]string{"first", "during the outage"}, evaluate[[]string](t, browser, "shown")); diff != "" {
		t.Errorf("the stream has (-want +got):\n%s", diff)
	}
}

// evaluate returns the value of a JavaScript expression in the page.
func evaluate[T any](t *testing.T, browser context.Context, expression string) T {
	t.Helper()
	value, err := chromedp.Run(browser, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// getFrom returns the answer to a GET of the URL.
func getFrom(t *testing.T, address string) (status int, header http.Header, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// startNginx starts nginx with the lines in a server block, and with other blocks beside it. It returns the server's
// address.
func startNginx(t *testing.T, path, blocks, lines string) string {
	t.Helper()
	address, dir := freeAddress(t), t.TempDir()
	config := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
%[4]s
	server {
		listen %[2]s;
%[3]s
	}
}
`, dir, address, lines, blocks)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	startProxy(t, address, path, "-e", "stderr", "-c", file)
	return address
}
