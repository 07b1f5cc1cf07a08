package integration

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// startChromium returns a context for tabs of a fresh headless Chromium.
func startChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := chromium.require(t, "the demo page")
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true))
	options = append(options, more...)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	ctx, cancelTimeout := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancelTimeout)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	steady(t, ctx)
	return ctx
}

// trying is a function for pages. It makes another fetch of fetch, which tries again if the request failed: Chromium lets
// requests fail when the machine's network changes, and each container that another test starts is such a change. The
// server may get a request several times.
const trying = `const trying = (fetch, most) => async (...request) => {
	for (let tries = 1; ; tries++) {
		try {
			return await fetch(...request);
		} catch (error) {
			if (tries === most || !(error instanceof TypeError)) throw error;
			await new Promise((again) => setTimeout(again, 100));
		}
	}
};
`

// fetchAgain is for pages of the tests.
const fetchAgain = trying + `const fetchAgain = trying(fetch, 600);
`

// steadyPage is for pages of Herald. This script runs in a document before the scripts of the page, and loads the page
// again if one of its scripts is missing. It tries a request less often than fetchAgain, so that the page still sees that
// a server does not answer.
const steadyPage = `{
	` + trying + `
	globalThis.fetch = trying(fetch, 5);
	addEventListener("error", (e) => {
		if (e.target instanceof HTMLScriptElement) setTimeout(() => location.reload(), 100);
	}, true);
}`

// newTab opens a tab whose documents run steadyPage.
func newTab(t *testing.T, browser context.Context) (tab context.Context, closeTab func()) {
	t.Helper()
	tab, closeTab = chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	if err := drive(tab); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	steady(t, tab)
	return tab, closeTab
}

func steady(t *testing.T, tab context.Context) {
	t.Helper()
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: steadyPage}); err != nil {
		t.Fatalf("a script for new documents: %v", err)
	}
}

// drive makes the steps one after the other. It loads a page again if Chromium gave the load up because the machine's
// network had changed, as with fetchAgain.
func drive(tab context.Context, steps ...chromedp.Action[chromedp.Void]) error {
	if err := chromedp.Do(tab); err != nil { // opens the tab
		return err
	}
	for _, step := range steps {
		err := chromedp.Do(tab, step)
		for range 10 {
			if err == nil || !strings.Contains(err.Error(), "net::ERR_NETWORK_CHANGED") {
				break
			}
			err = chromedp.Do(tab, step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
