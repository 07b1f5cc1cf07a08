package integration

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestDevFrontEnd serves the page of README.md on another port than `herald dev`, with the one change that the
// page's comment describes: the address of Herald. The page signs in, and shows a record of the topic that the
// flag names.
func TestDevFrontEnd(t *testing.T) {
	browser := startChromium(t)
	secret := newSecretFile(t)
	kafka := freeAddress(t)
	dev := newProcess(t, "dev", "--kafka-listen="+kafka, "--jwt-secret-file="+secret, "--topic=orders,user=header:owner")
	dev.Start()
	t.Cleanup(func() { dev.End(os.Interrupt) })
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice")

	address := "http://localhost:" + portOf(t, dev.public) // the same host name as the page's, for the cookie
	page := strings.Replace(readmeBlock(t, "html"), "location.origin;", `"`+address+`";`, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, token) })
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	if err := chromedp.Do(browser, chromedp.Navigate(strings.Replace(app.URL, "127.0.0.1", "localhost", 1)+"/")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the page is connected", func(context.Context) bool { return stateOf(t, browser) == "connected" })
	produce := []string{"produce", "--brokers=" + kafka, "--topic=orders,user=header:owner"}
	for _, user := range []string{"bob", "alice"} {
		if _, complaints, err := runHerald(t, append(produce, "--user="+user, "for "+user)...); err != nil {
			t.Fatalf("herald produce: %v\n%s", err, complaints)
		}
	}
	waitFor(t, "the record", func(context.Context) bool { return slices.Equal(shown(t, browser), []string{"for alice"}) })
}
