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
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// readmeBlock returns the README's code block in the language; there must be exactly one.
func readmeBlock(t *testing.T, language string) string {
	t.Helper()
	return codeBlock(t, "../README.md", language)
}

// codeBlock returns a document's code block in the language; there must be exactly one.
func codeBlock(t *testing.T, document, language string) string {
	t.Helper()
	text, err := os.ReadFile(document) //nolint:gosec // a document of this project
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllSubmatch(text, -1)
	if len(blocks) != 1 {
		t.Fatalf("%s has %d blocks of %s, want 1", document, len(blocks), language)
	}
	return string(blocks[0][1])
}

// appServer is an app in front of Herald: it serves the README's page, issues tokens that live for a few
// seconds, and passes everything else on to Herald.
type appServer struct {
	*httptest.Server
	down     atomic.Bool  // answers 502 as a proxy does whose upstream is down
	failed   atomic.Int64 // answers with 502 to requests for a stream
	sessions atomic.Int64 // sessions that Herald gave
	refused  atomic.Int64 // streams that Herald answered with a status other than 200
}

// tokenLife is how long Herald accepts a token of appServer.
const tokenLife = 8 * time.Second

func startAppServer(t *testing.T, page string, h *herald, secret []byte) *appServer {
	t.Helper()
	a := new(appServer)
	front := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: h.public})
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			switch {
			case r.Request.URL.Path == "/session" && r.StatusCode == http.StatusOK:
				a.sessions.Add(1)
			case r.Request.URL.Path == "/events" && r.StatusCode != http.StatusOK:
				a.refused.Add(1)
			}
			return nil
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		expires := time.Now().Add(tokenLife - 30*time.Second) // Herald accepts a token for 30 s longer, as clocks differ
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": expires.Unix()}).SignedString(secret)
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, token)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if a.down.Load() {
			if r.URL.Path == "/events" {
				a.failed.Add(1)
			}
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		front.ServeHTTP(w, r)
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

// TestReadmePage runs the page of README.md, as it stands there, in Chromium. It signs in, shows what is
// written, renews its session before the session expires, opens a new stream after a proxy's 502, and
// shows each record once.
func TestReadmePage(t *testing.T) {
	browser := startChromium(t)
	b := devBroker(t)
	secret := []byte("a secret of the test, 32 bytes+++")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test",
		"--topic=notifications", "--jwt-secret-file="+file, "--retry=200ms")
	h.Start()
	app := startAppServer(t, readmeBlock(t, "html"), h, secret)

	var want []string
	write := func(value string) {
		t.Helper()
		b.produce(t, record("notifications", "bob", "for bob"), record("notifications", "alice", value))
		want = append(want, value)
	}
	show := func(what string) {
		t.Helper()
		waitFor(t, what, func(context.Context) bool { return slices.Contains(shown(t, browser), want[len(want)-1]) })
	}
	if err := chromedp.Do(browser, chromedp.Navigate(strings.Replace(app.URL, "127.0.0.1", "localhost", 1)+"/")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the page is connected", func(context.Context) bool { return stateOf(t, browser) == "connected" })
	write("first")
	show("the first record")

	// The first token expires, and its stream ends. The session was renewed before that, so no request for
	// a stream is refused.
	ended := func() float64 { return h.Metric(`herald_streams_ended_total{reason="token-expired"}`) }
	waitFor(t, "the first stream ends with its token", func(context.Context) bool { return ended() >= 1 })
	if n := app.sessions.Load(); n < 2 {
		t.Errorf("%d sessions when the first token expired, want the renewed one, too", n)
	}
	write("with the renewed session")
	show("a record after the renewal")
	if n := app.refused.Load(); n > 0 {
		t.Errorf("Herald refused %d streams, want none: the session is renewed in time", n)
	}

	// A proxy cuts the stream and answers 502. The browser gives up; the page does not.
	app.down.Store(true)
	app.CloseClientConnections()
	waitFor(t, "the browser gets a 502", func(context.Context) bool { return app.failed.Load() > 0 })
	write("during the outage")
	waitFor(t, "the page shows that it is not connected", func(context.Context) bool {
		state := stateOf(t, browser)
		return state != "connected" && state != "reconnecting"
	})
	app.down.Store(false)
	show("the record of the outage")
	write("last")
	show("the last record")
	if diff := cmp.Diff(want, shown(t, browser)); diff != "" {
		t.Errorf("the page shows (-want +got):\n%s", diff)
	}
}

// shown returns the items that the README's page shows.
func shown(t *testing.T, browser context.Context) []string {
	t.Helper()
	items, err := chromedp.Run(browser, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#list li")].map((item) => item.textContent)`))
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// stateOf returns the state that the README's page shows.
func stateOf(t *testing.T, browser context.Context) string {
	t.Helper()
	text, err := chromedp.Run(browser, chromedp.Evaluate[string](`document.getElementById("state").textContent`))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// requireNginx is the environment variable that makes a missing nginx a failure.
const requireNginx = "HERALD_REQUIRE_NGINX"

// TestReadmeNginx runs nginx with the lines of README.md in front of Herald. An event arrives at once. While
// Herald is down, a request for a stream is answered with an empty stream and a reconnection time, and a
// native EventSource stays open and continues when Herald is back.
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
	base := "http://" + startNginx(t, nginx, "", strings.ReplaceAll(readmeBlock(t, "nginx"), "127.0.0.1:8080", h.public))

	const listen = `void (() => {
		window.shown = [];
		window.stream = new EventSource("/events?user=alice");
		stream.onmessage = (event) => shown.push(event.data);
	})()`
	if err := chromedp.Do(browser, chromedp.Navigate(base+"/")); err != nil { // Herald's 404: a page of the origin
		t.Fatal(err)
	}
	evaluate[any](t, browser, listen)
	waitFor(t, "the stream is open", func(context.Context) bool { return evaluate[int](t, browser, "stream.readyState") == 1 })
	b.produce(t, record("notifications", "alice", "first"))
	waitFor(t, "the first record", func(context.Context) bool { return len(evaluate[[]string](t, browser, "shown")) == 1 })

	h.Kill()
	status, header, body := getFrom(t, base+"/events?user=alice")
	if diff := cmp.Diff([]string{"200", "text/event-stream; charset=utf-8", "no-store, no-transform", ":\nretry: 5000\n"}, []string{fmt.Sprint(status), header.Get("Content-Type"), header.Get("Cache-Control"), body}); diff != "" {
		t.Errorf("the answer while Herald is down (-want +got):\n%s", diff)
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
