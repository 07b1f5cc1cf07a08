package integration

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestDevFrontEnd serves the page of README.md on another port than `herald dev`, with the one change that the
// README describes: the address of Herald. The page signs in, and shows a record of the topic that the flag names.
func TestDevFrontEnd(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	secret := newSecretFile(t)
	kafka := freeAddress(t)
	dev := newProcess(t, "dev", "--kafka-listen="+kafka, "--jwt-secret-file="+secret, "--topic=orders,user=header:owner")
	dev.Start()
	t.Cleanup(func() { dev.End(os.Interrupt) })
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice")

	address := byName("http://" + dev.public)
	page, _ := readmePages(t)
	page = strings.NewReplacer(`"/herald.js"`, `"`+address+`/herald.js"`, `"/events"`, `"`+address+`/events"`).Replace(page)
	app, _ := startApp(t, dev, page, token)
	if err := drive(browser, chromedp.Navigate(app+"/")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the page has a stream", func(context.Context) bool { return stateOf(t, browser) == "open" })
	produce := []string{"produce", "--brokers=" + kafka, "--topic=orders,user=header:owner"}
	for _, user := range []string{"bob", "alice"} {
		if _, complaints, err := runHerald(t, append(produce, "--user="+user, "for "+user)...); err != nil {
			t.Fatalf("herald produce: %v\n%s", err, complaints)
		}
	}
	waitFor(t, "the record", func(context.Context) bool { return slices.Equal(shown(t, browser), []string{`"for alice"`}) })
}
