package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// modulePage opens one stream with the module, as its address says, and posts everything that the stream says.
const modulePage = `<!DOCTYPE html>
<meta charset="utf-8">
<title>Module</title>
<script type="module" onerror="setTimeout(() => location.reload(), 100)">
import { connect } from "/herald.js";
` + fetchAgain + `
const page = new URLSearchParams(location.search);
const control = page.get("control"), tab = "?tab=" + page.get("tab");
const options = JSON.parse(page.get("options"));
const waiting = [];
let posting = false, posted = 0;
async function report(kind, said = {}) {
	waiting.push({ kind, ...said });
	if (posting) return;
	posting = true;
	for (; waiting.length > 0; posted++) {
		await fetchAgain(control + "/reports" + tab + "&batch=" + posted, { method: "POST", body: JSON.stringify(waiting.splice(0)) });
	}
	posting = false;
}
addEventListener("error", (e) => report("error", { message: e.message }));
addEventListener("unhandledrejection", (e) => report("error", { message: String(e.reason) }));
options.token = async () => {
	const answer = await fetch(control + "/token" + tab, { method: "POST" });
	if (!answer.ok) throw new Error("token: " + answer.status);
	return answer.text();
};
const stream = window.stream = connect(page.get("url"), options);
stream.on("*", (e) => report("record", { id: e.id, lastEventId: stream.lastEventId, data: e.data }));
stream.on("gap", (gap) => report("gap", { message: JSON.stringify(gap) }));
stream.on("live", () => report("live"));
stream.on("state", (change) => report("state", change));
</script>
`

// framesPage opens and closes frames with modulePage, as the test orders. It stands for tabs in browsers that tests
// cannot drive: to the module, frames are tabs, because each has its own document, lock requests and channels.
const framesPage = `<!DOCTYPE html>
<title>Frames</title>
<script type="module">
` + fetchAgain + `
const control = new URLSearchParams(location.search).get("control");
const frames = {};
for (;;) {
	for (const { tab, address } of await (await fetchAgain(control + "/orders", { method: "POST" })).json()) {
		frames[tab]?.remove();
		if (address === "") continue;
		frames[tab] = document.createElement("iframe");
		frames[tab].src = address;
		document.body.append(frames[tab]);
	}
}
</script>
`

// site is the origin of pages that use the module. It relays their streams to herald through links. The pages report
// to another origin, so that the reports take none of the connections that a browser has for one host.
type site struct {
	t       *testing.T
	h       *herald
	secret  []byte
	pages   *httptest.Server
	control *httptest.Server
	orders  chan order // for framesPage
	relays  sync.WaitGroup

	mu    sync.Mutex
	links map[string]*link
	tabs  map[string]*tab
	drive tabDriver
}

// order tells framesPage to open a frame with the address, or to close the frame if there is no address.
type order struct {
	Tab     string `json:"tab"`
	Address string `json:"address"`
}

// tabDriver opens and closes tabs.
type tabDriver interface {
	open(t *testing.T, name, address string)
	close(t *testing.T, name string)
}

// newSite starts the site. Its pages and herald have the host name localhost. The secret file is herald's.
func newSite(t *testing.T, h *herald, secretFile string) *site {
	t.Helper()
	text, err := os.ReadFile(secretFile) //nolint:gosec // a file of the test
	if err != nil {
		t.Fatal(err)
	}
	s := &site{
		t: t, h: h, secret: []byte(strings.TrimSpace(string(text))), orders: make(chan order, 100),
		links: make(map[string]*link), tabs: make(map[string]*tab),
	}
	control := http.NewServeMux()
	control.HandleFunc("POST /reports", s.takeReports)
	control.HandleFunc("POST /token", s.giveToken)
	control.HandleFunc("POST /orders", s.giveOrders)
	s.control = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		control.ServeHTTP(w, r)
	}))
	pages := http.NewServeMux()
	pages.HandleFunc("GET /tab", servePage(modulePage))
	pages.HandleFunc("GET /frames", servePage(framesPage))
	pages.HandleFunc("GET /via/{link}/events", func(w http.ResponseWriter, r *http.Request) {
		s.relays.Add(1) // before the server forgets the connection
		defer s.relays.Done()
		r.URL.Path = "/events"
		s.link(r.PathValue("link")).relay(w, r)
	})
	pages.Handle("/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: h.public})
	}})
	s.pages = httptest.NewServer(pages)
	t.Cleanup(s.end)
	return s
}

func servePage(page string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	}
}

func (s *site) end() {
	close(s.orders)
	s.mu.Lock()
	for _, l := range s.links {
		l.cutAfter(func() int64 { return 0 })
	}
	s.mu.Unlock()
	s.pages.CloseClientConnections()
	s.pages.Close()
	s.control.CloseClientConnections()
	s.control.Close()
	s.relays.Wait()
}

// base returns the URL of the pages' origin.
func (s *site) base() string { return byName(s.pages.URL) }

// byName returns the URL with the host name localhost.
func byName(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) }

// link returns the link of that name.
func (s *site) link(name string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[name]
	if l == nil {
		l = &link{herald: s.h.public, wires: make(map[*wire]bool)}
		s.links[name] = l
	}
	return l
}

func (s *site) tab(r *http.Request) *tab {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tabs[r.URL.Query().Get("tab")]
}

func (s *site) takeReports(w http.ResponseWriter, r *http.Request) {
	var reports []tabReport
	if err := json.NewDecoder(r.Body).Decode(&reports); errors.Is(err, io.ErrUnexpectedEOF) {
		return // the tab has crashed, or is closed
	} else if err != nil {
		s.t.Errorf("a report: %v", err)
	}
	if b := s.tab(r); b != nil {
		b.take(r.URL.Query().Get("batch"), reports)
	}
	w.WriteHeader(http.StatusNoContent)
}

// giveToken answers with a token for the tab's user.
func (s *site) giveToken(w http.ResponseWriter, r *http.Request) {
	b := s.tab(r)
	if b == nil {
		http.NotFound(w, r)
		return
	}
	expires := time.Now().Add(b.life - 30*time.Second) // Herald accepts a token for 30 s longer, as clocks differ
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": b.user, "jti": b.tokenID(), "exp": expires.Unix()}).SignedString(s.secret)
	if err != nil {
		s.t.Error(err)
	}
	b.countToken()
	_, _ = io.WriteString(w, token)
}

// giveOrders answers with orders for framesPage as soon as there are any.
func (s *site) giveOrders(w http.ResponseWriter, r *http.Request) {
	list := []order{}
	select {
	case o, ok := <-s.orders:
		for ok {
			list = append(list, o)
			select {
			case o, ok = <-s.orders:
			default:
				ok = false
			}
		}
	case <-time.After(10 * time.Second):
	case <-r.Context().Done():
	}
	_ = json.NewEncoder(w).Encode(list)
}

// frames drives framesPage.
type frames struct{ site *site }

func (f frames) open(_ *testing.T, name, address string) { f.site.orders <- order{name, address} }
func (f frames) close(_ *testing.T, name string)         { f.site.orders <- order{name, ""} }

// openFrames opens the browser with the page of frames.
func (s *site) openFrames(t *testing.T, b *browser) {
	t.Helper()
	b.open(t, fmt.Sprintf("%s/frames?control=%s", s.base(), url.QueryEscape(s.control.URL)))
	s.drive = frames{s}
}
