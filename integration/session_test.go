package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// devBroker is the broker of a herald dev: what these tests are about needs no other.
func devBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{addresses: []string{freeAddress(t)}}
	dev := newProcess(t, "dev", "--kafka-listen="+b.addresses[0])
	dev.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.producer.Close)
	return b
}

// newSecured returns a herald that wants tokens, with TLS and the demo page. It is not started yet.
func newSecured(t *testing.T, b *broker, args ...string) *herald {
	t.Helper()
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := ca.issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"cert.pem": certificate, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newProcess(t, "serve", append([]string{
		"--brokers=" + strings.Join(b.addresses, ","), "--group=" + topicName(t, "group"), "--replica=test",
		"--tls-cert-file=" + filepath.Join(dir, "cert.pem"), "--tls-key-file=" + filepath.Join(dir, "key.pem"),
		"--enable-publish", "--demo", "--log-level=debug",
	}, args...)...)
}

// urls collects what a tab asks for, and the protocols that the answers come by.
type urls struct {
	mu        sync.Mutex
	asked     []string
	protocols map[string]string
}

func (u *urls) listen(ctx context.Context) error {
	return chromedp.Listen(ctx, func(event any) {
		u.mu.Lock()
		defer u.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			u.asked = append(u.asked, e.Request.URL)
		case *network.EventResponseReceived:
			u.protocols[e.Response.URL] = e.Response.Protocol
		}
	})
}

// TestDemoPageSignIn signs in on the demo page of herald serve, streams by the cookie, signs out, and
// signs in as somebody else. No token may be in a URL, in the log, in what scripts can read, or in
// the browser's history.
func TestDemoPageSignIn(t *testing.T) {
	t.Parallel()
	b := devBroker(t)
	browser := startChromium(t, chromedp.Flag("ignore-certificate-errors", true))
	secret := newSecretFile(t)
	topic := b.newTopic(t, "shared", 1)
	h := newSecured(t, b, "--topic="+topic, "--jwt-secret-file="+secret)
	h.Start()
	alice := newToken(t, "--jwt-secret-file="+secret, "--user=alice", "--publish")
	bob := newToken(t, "--jwt-secret-file="+secret, "--user=bob")

	ctx, _ := newTab(t, browser)
	page := demoPage{t: t, ctx: ctx}
	seen := urls{protocols: make(map[string]string)}
	if err := seen.listen(ctx); err != nil {
		t.Fatal(err)
	}
	page.do(chromedp.Navigate("https://" + h.public + "/"))
	page.waitText("sign-in", "This server wants a token")
	screenshot(t, page, "sign-in")
	page.signIn("nonsense")
	page.waitText("sign-in-result", "The token is not a signed JWT")
	page.signIn(alice)
	page.waitText("signed-in", "alice")
	page.waitStream()
	page.send("to myself")
	page.wait("what was sent", shows("to myself"))
	screenshot(t, page, "signed-in")

	// The session lives on without the token.
	page.do(chromedp.Reload())
	page.waitText("signed-in", "alice")
	b.produce(t, record(topic, "alice", "after the reload"), record(topic, "bob", "not hers"))
	page.checkNoToken(alice)

	page.send("still here")
	page.wait("what was sent", shows("still here"))
	if got := page.state().received(); !slices.Contains(got, "after the reload") || slices.Contains(got, "not hers") {
		t.Errorf("the page shows %q", got)
	}

	page.press("sign-out")
	page.waitText("sign-in", "Sign in")
	page.do(chromedp.Reload())
	page.waitText("sign-in", "Sign in")
	page.signIn(bob)
	page.waitText("signed-in", "bob")
	page.waitStream()
	page.waitText("people", "may not publish")
	b.produce(t, record(topic, "alice", "not his"), record(topic, "bob", "his"))
	page.wait("bob's", shows("his"))
	if got := page.state().received(); len(got) != 1 {
		t.Errorf("bob's page shows %q", got)
	}
	screenshot(t, page, "bob")
	page.checkNoToken(alice, bob)

	seen.mu.Lock()
	defer seen.mu.Unlock()
	streams := 0
	for _, u := range seen.asked {
		for _, token := range []string{alice, bob} {
			if strings.Contains(u, token) || strings.Contains(u, token[:40]) {
				t.Errorf("a URL has a token: %s", u)
			}
		}
		if strings.Contains(u, "/events") {
			streams++
		}
	}
	if streams < 3 {
		t.Errorf("%d streams among %q", streams, seen.asked)
	}
	for u, protocol := range seen.protocols {
		if protocol != "h2" {
			t.Errorf("%s came by %s, want HTTP/2", u, protocol)
		}
	}
	for _, token := range []string{alice, bob} {
		if strings.Contains(h.printed.String(), token[:40]) || strings.Contains(h.printed.String(), token[len(token)-20:]) {
			t.Error("the log has a token")
		}
	}
	h.Stop()
}

// signedIn starts herald and its broker and returns a demo page on which alice has signed in, with a token made
// with these arguments.
func signedIn(t *testing.T, token ...string) (b *broker, h *herald, topic, secret string, page demoPage) {
	t.Helper()
	b = devBroker(t)
	browser := startChromium(t, chromedp.Flag("ignore-certificate-errors", true))
	secret = newSecretFile(t)
	topic = b.newTopic(t, "shared", 1)
	h = newSecured(t, b, "--topic="+topic, "--jwt-secret-file="+secret)
	h.Start()
	ctx, _ := newTab(t, browser)
	page = demoPage{t: t, ctx: ctx}
	page.do(chromedp.Navigate("https://" + h.public + "/"))
	page.waitText("sign-in", "Sign in")
	page.signIn(newToken(t, append([]string{"--jwt-secret-file=" + secret, "--user=alice"}, token...)...))
	page.waitText("signed-in", "alice")
	page.waitStream()
	return b, h, topic, secret, page
}

// TestDemoPageWithoutHTTPS signs in over plain HTTP by a name that is not loopback's: the browser does
// not keep the cookie, and the page says why.
func TestDemoPageWithoutHTTPS(t *testing.T) {
	t.Parallel()
	b := devBroker(t)
	browser := startChromium(t, chromedp.Flag("host-resolver-rules", "MAP herald.test 127.0.0.1"))
	secret := newSecretFile(t)
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--topic="+b.newTopic(t, "shared", 1), "--jwt-secret-file="+secret, "--enable-publish", "--demo")
	h.Start()
	ctx, _ := newTab(t, browser)
	page := demoPage{t: t, ctx: ctx}
	_, port, _ := strings.Cut(h.public, ":")
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice")
	page.do(chromedp.Navigate("http://herald.test:" + port + "/"))
	page.waitText("sign-in", "Sign in")
	page.signIn(token)
	page.waitText("sign-in-result", "the browser did not keep the cookie because this page is not served over HTTPS")
	screenshot(t, page, "without-https")

	// On loopback it does.
	page.do(chromedp.Navigate("http://localhost:" + port + "/"))
	page.waitText("sign-in", "Sign in")
	page.signIn(token)
	page.waitText("signed-in", "alice")
}

// TestDemoPageAfterAnotherSignIn has somebody else sign in by the same browser while the page is open: when its
// stream is opened again, the page stops, and shows nothing of theirs.
func TestDemoPageAfterAnotherSignIn(t *testing.T) {
	t.Parallel()
	b, h, topic, secret, page := signedIn(t)
	b.produce(t, record(topic, "alice", "first"))
	page.wait("alice's", shows("first"))

	write := func(value string) {
		for _, user := range []string{"alice", "bob"} {
			b.produce(t, record(topic, user, value+" of "+user))
		}
	}
	// When alice opens the stream again, the page continues.
	page.press("cut")
	write("second")
	page.press("cut")
	page.wait("alice's", shows("second of alice"))

	page.press("cut")
	if _, err := chromedp.Run(page.ctx, chromedp.Evaluate[any](`{ `+fetchAgain+` void fetchAgain("session", {method: "POST", headers: {Authorization: "Bearer `+
		newToken(t, "--jwt-secret-file="+secret, "--user=bob")+`"}}).then(() => { document.title = "swapped"; }) }`)); err != nil {
		t.Fatal(err)
	}
	page.wait("the other cookie", func(demoState) bool { return page.eval("document.title === 'swapped'") })
	write("third")
	page.press("cut")
	page.waitText("sign-in-result", "now signed in as bob; this page was alice")
	if got := page.state().received(); slices.ContainsFunc(got, func(value string) bool { return strings.Contains(value, "bob") || strings.Contains(value, "third") }) {
		t.Errorf("alice's page shows %q", got)
	}
	page.do(chromedp.Reload())
	page.waitText("signed-in", "bob")
	h.Stop()
}

// TestDemoPageSessionEnds lets the token expire while the page is open. The page must ask alice to sign in again
// and then continue where it stopped.
func TestDemoPageSessionEnds(t *testing.T) {
	t.Parallel()
	b, _, topic, secret, page := signedIn(t, "--ttl=1s") // and 30 s, as clocks differ
	b.produce(t, record(topic, "alice", "before"))
	page.wait("the record before", shows("before"))
	waitWithin(t, patience, func() string { return fmt.Sprintf("the page asks to sign in again; it shows %+v", page.state()) },
		func(context.Context) bool { return strings.Contains(page.text("sign-in-result"), "session has ended") })
	screenshot(t, page, "session-ended")
	b.produce(t, record(topic, "alice", "meanwhile"))
	page.signIn(newToken(t, "--jwt-secret-file="+secret, "--user=alice"))
	page.wait("the record meanwhile", shows("meanwhile"))
	if got := fmt.Sprint(page.state().Counters); !strings.Contains(got, "twice:0") || !strings.Contains(got, "gaps:0") {
		t.Errorf("counters %s", got)
	}
}

// press clicks a part of the first person's panel by script. The click may remove the panel, and Chromium does not always
// answer a click of the mouse then.
func (p demoPage) press(part string) {
	p.t.Helper()
	p.eval(`(document.querySelector('` + string(firstPerson(part)) + `').click(), true)`)
}

// signIn pastes the token and submits.
func (p demoPage) signIn(token string) {
	p.t.Helper()
	p.do(chromedp.SetValue(chromedp.CSS("#token"), token))
	p.submit("#sign-in-form")
}

// checkNoToken looks where a script could find the tokens.
func (p demoPage) checkNoToken(tokens ...string) {
	p.t.Helper()
	const everything = `[location.href, document.cookie, document.referrer, JSON.stringify(sessionStorage), JSON.stringify(localStorage),
		document.documentElement.outerHTML, ...[...document.querySelectorAll('input, textarea')].map((e) => e.value)].join('\n')`
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](everything))
	if err != nil {
		p.t.Fatalf("read the page: %v", err)
	}
	for _, token := range tokens {
		if strings.Contains(text, token) {
			p.t.Error("a script on the page can read the token")
		}
	}
	if !strings.Contains(text, "Herald") {
		p.t.Errorf("read %q, which is not a page", text)
	}
}

// screenshot saves what the page looks like where HERALD_TEST_SCREENSHOTS says.
func screenshot(t *testing.T, p demoPage, name string) {
	t.Helper()
	dir := os.Getenv("HERALD_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600); err != nil { //nolint:gosec // where the developer says
		t.Fatal(err)
	}
}
