package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"herald/cmd/herald/visible"
)

// newTestAddresses returns a finder that trusts 10.0.0.0/8 and fd00::/8 and reads the header, and its log.
func newTestAddresses(tb testing.TB, header string) (*clientAddresses, *logBuffer) {
	tb.Helper()
	log := new(logBuffer)
	cfg := DefaultConfig()
	cfg.Logger, cfg.TrustedProxyHeader = slog.New(slog.NewTextHandler(log, nil)), header
	cfg.TrustedProxies = []string{"10.0.0.0/8", "fd00::/8", "::ffff:172.16.0.0/108"}
	a, err := newClientAddresses(&cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return a, log
}

// addressOf returns the address of a client whose request comes from the peer, with these lines of the header.
func addressOf(a *clientAddresses, peer, header string, lines ...string) string {
	r := &http.Request{RemoteAddr: peer, Header: http.Header{}}
	for _, line := range lines {
		r.Header.Add(header, line)
	}
	return a.of(r)
}

// TestXForwardedFor reads addresses in every form that proxies write.
func TestXForwardedFor(t *testing.T) {
	const proxy = "10.0.0.1"
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"an address":                       {[]string{"203.0.113.7"}, "203.0.113.7"},
		"with a port":                      {[]string{"203.0.113.7:51007"}, "203.0.113.7"},
		"IPv6":                             {[]string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 written at length":           {[]string{"2001:0DB8:0:0:0:0:0:7"}, "2001:db8::7"},
		"IPv6 in brackets":                 {[]string{"[2001:db8::7]"}, "2001:db8::7"},
		"IPv6 with a port":                 {[]string{"[2001:db8::7]:51007"}, "2001:db8::7"},
		"IPv6 with a zone":                 {[]string{"[fe80::7%eth0]:51007"}, "fe80::7"},
		"IPv4 in brackets":                 {[]string{"[203.0.113.7]:51007"}, "203.0.113.7"},
		"IPv4 in IPv6's notation":          {[]string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"the same with a port":             {[]string{"[::ffff:203.0.113.7]:51007"}, "203.0.113.7"},
		"quotes":                           {[]string{`"[2001:db8::7]:51007"`}, "2001:db8::7"},
		"white space":                      {[]string{" \t203.0.113.7\t , 10.0.0.2 "}, "203.0.113.7"},
		"a proxy before the proxy":         {[]string{"203.0.113.7:51007, 10.0.0.2:443"}, "203.0.113.7"},
		"several lines":                    {[]string{"203.0.113.7", "[fd00::2]:443", "10.0.0.2, 172.16.0.3"}, "203.0.113.7"},
		"a proxy in IPv6's notation":       {[]string{"203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		"a forged address":                 {[]string{"192.0.2.66", "192.0.2.67, 203.0.113.7:51007"}, "203.0.113.7"},
		"forged proxies":                   {[]string{"192.0.2.66, 10.0.0.9, 203.0.113.7"}, "203.0.113.7"},
		"only proxies":                     {[]string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"no header":                        {nil, proxy},
		"unknown":                          {[]string{"192.0.2.66, unknown"}, proxy},
		"a hidden name":                    {[]string{"192.0.2.66, _hidden"}, proxy},
		"a host name":                      {[]string{"192.0.2.66, client.example"}, proxy},
		"nothing":                          {[]string{"192.0.2.66, "}, proxy},
		"an empty line":                    {[]string{"192.0.2.66", ""}, proxy},
		"rubbish behind an inner proxy":    {[]string{"192.0.2.66, rubbish, 10.0.0.2"}, "10.0.0.2"},
		"rubbish that a client sent":       {[]string{"rubbish, 203.0.113.7"}, "203.0.113.7"},
		"a port that is none":              {[]string{"203.0.113.7:http"}, proxy},
		"an empty port":                    {[]string{"203.0.113.7:"}, proxy},
		"a long port":                      {[]string{"203.0.113.7:512345"}, proxy},
		"an open bracket":                  {[]string{"[2001:db8::7"}, proxy},
		"text after a bracket":             {[]string{"[2001:db8::7]51007"}, proxy},
		"an address of three numbers":      {[]string{"203.0.113"}, proxy},
		"Forwarded's form":                 {[]string{"for=203.0.113.7"}, proxy},
		"one more proxy than there can be": {[]string{"203.0.113.7" + strings.Repeat(",10.0.0.2", maxHops)}, "203.0.113.7"},
	} {
		a, log := newTestAddresses(t, headerXForwardedFor)
		if got := addressOf(a, proxy+":443", "X-Forwarded-For", test.lines...); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		stopped := !slices.Contains([]string{"203.0.113.7", "2001:db8::7", "fe80::7", "10.0.0.3"}, test.want) && name != "no header"
		if warned := log.String() != ""; warned != stopped {
			t.Errorf("%s: logged %q, want a warning: %v", name, log, stopped)
		}
	}
}

// TestForgedHeaders sends headers that say nothing about the client: from a client that is not a trusted proxy, and
// the header that is not read.
func TestForgedHeaders(t *testing.T) {
	for name, test := range map[string]struct{ read, peer, header, value, want string }{
		"no trusted proxy":             {headerXForwardedFor, "192.0.2.1:5100", "X-Forwarded-For", "203.0.113.7", "192.0.2.1"},
		"no trusted proxy, IPv6":       {headerForwarded, "[2001:db8::1%eth0]:5100", "Forwarded", "for=203.0.113.7", "2001:db8::1"},
		"IPv4 in IPv6's notation":      {headerXForwardedFor, "[::ffff:192.0.2.1]:5100", "X-Forwarded-For", "203.0.113.7", "192.0.2.1"},
		"a proxy in IPv6's notation":   {headerXForwardedFor, "[::ffff:10.0.0.1]:5100", "X-Forwarded-For", "203.0.113.7", "203.0.113.7"},
		"Forwarded, which is not read": {headerXForwardedFor, "10.0.0.1:5100", "Forwarded", "for=203.0.113.7", "10.0.0.1"},
		"X-Forwarded-For, the same":    {headerForwarded, "10.0.0.1:5100", "X-Forwarded-For", "203.0.113.7", "10.0.0.1"},
		"another header":               {headerXForwardedFor, "10.0.0.1:5100", "X-Real-Ip", "203.0.113.7", "10.0.0.1"},
		"a Unix socket":                {headerXForwardedFor, "@", "X-Forwarded-For", "203.0.113.7", "unix"},
	} {
		a, _ := newTestAddresses(t, test.read)
		if got := addressOf(a, test.peer, test.header, test.value); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestAddressWarnings causes each warning many times. The log has each once, with a hostile text cut short.
func TestAddressWarnings(t *testing.T) {
	for name, test := range map[string]struct{ header, value, want string }{
		"not an address":      {"X-Forwarded-For", "\x1b[2J\u202e" + strings.Repeat("a", 80<<10), `header=X-Forwarded-For element=\x1b[2J\u202eaaaa`},
		"no characters":       {"X-Forwarded-For", strings.Repeat("\x80", 1000), `element=\x80\x80`},
		"the header not read": {"Forwarded", "for=203.0.113.7", "header=Forwarded header_read=X-Forwarded-For setting=TrustedProxyHeader"},
	} {
		a, log := newTestAddresses(t, headerXForwardedFor)
		for range 3 {
			addressOf(a, "10.0.0.1:443", test.header, test.value)
		}
		got := log.String()
		if strings.Count(got, "\n") != 1 || !strings.Contains(got, test.want) || !strings.Contains(got, "proxy=10.0.0.1") || len(got) > 800 {
			t.Errorf("%s: logged %q, want one short line with %q", name, got, test.want)
		}
	}
}

// TestAddressesOfALongHeader sends a header with as many proxies as fit into it. Herald reads the first ones only.
func TestAddressesOfALongHeader(t *testing.T) {
	for header, element := range map[string]string{headerXForwardedFor: ",10.0.0.2", headerForwarded: `,for="10.0.0.2"`} {
		a, _ := newTestAddresses(t, header)
		line := strings.TrimPrefix(strings.Repeat(element, maxHeader/len(element)), ",")
		if got := addressOf(a, "10.0.0.1:443", header, strings.Replace(line, "10.0.0.2", "203.0.113.7", 1)); got != "10.0.0.2" {
			t.Errorf("%s: %s, want a proxy: the client is more than %d proxies away", header, got, maxHops)
		}
	}
}

// BenchmarkClientAddress finds the address in headers of 80 KiB.
func BenchmarkClientAddress(b *testing.B) {
	for _, test := range []struct{ name, header, line string }{
		{"one", headerXForwardedFor, "203.0.113.7:51007"},
		{"proxies", headerXForwardedFor, strings.Repeat("10.0.0.2,", 9000) + "10.0.0.2"},
		{"no_comma", headerXForwardedFor, strings.Repeat("a", 80<<10)},
		{"forwarded", headerForwarded, `for="203.0.113.7:51007"`},
		{"forwarded_proxies", headerForwarded, strings.Repeat(`for="10.0.0.2",`, 5400) + "for=10.0.0.2"},
		{"forwarded_backslashes", headerForwarded, `for="` + strings.Repeat(`\\\"`, 20<<10) + `"`},
		{"forwarded_pairs", headerForwarded, strings.Repeat("a=b;", 20<<10)},
	} {
		b.Run(test.name, func(b *testing.B) {
			a, _ := newTestAddresses(b, test.header)
			r := &http.Request{RemoteAddr: "10.0.0.1:443", Header: headers(test.header, test.line)}
			b.ReportAllocs()
			for b.Loop() {
				a.of(r)
			}
		})
	}
}

// FuzzClientAddress lets a client begin a line, to which two proxies append. Whatever the client has sent,
// Herald must take the address that the outer proxy has seen.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"", "for=192.0.2.66", `for=192.0.2.66;x="`, `"`, `\`, `for="\`, ",", "unknown", `for="a,b";`, "10.0.0.9", "[", "\x00\xff", strings.Repeat("\x80", 200), strings.Repeat("\u65e5", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for header, appended := range map[string][]string{
			headerXForwardedFor: {"203.0.113.7", "203.0.113.7:51007, 10.0.0.2", `"203.0.113.7:51007",[fd00::2]:443`},
			headerForwarded:     {"for=203.0.113.7", `for="203.0.113.7:51007", for=10.0.0.2`, `by="[fd00::1]";for=203.0.113.7,for="[fd00::2]:443";host="a,\"b"`},
		} {
			for _, end := range appended {
				a, _ := newTestAddresses(t, header)
				if got := addressOf(a, "10.0.0.1:443", header, sent+", "+end); got != "203.0.113.7" {
					t.Errorf("%q in %s before %s: %q, want 203.0.113.7", sent, header, end, got)
				}
				if got := addressOf(a, "10.0.0.1:443", header, sent, end); got != "203.0.113.7" {
					t.Errorf("%q in a line of its own before %s: %q, want 203.0.113.7", sent, end, got)
				}
			}
		}
		if got := visible.Excerpt(sent); len(got) > 10*visible.MaxExcerpt || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) { // \U0010ffff
			t.Errorf("%q is logged as %q", sent, got)
		}
		for _, parse := range []func(string) (netip.Addr, bool){parseNode, parseForwarded} {
			if at, ok := parse(sent); ok != at.IsValid() || at.Is4In6() || at.Zone() != "" {
				t.Errorf("%q: %v, %v", sent, at, ok)
			}
		}
	})
}

// TestLimitsBehindAProxy sends requests of several people through a proxy, which writes each person's address with a
// port. Every limit by address counts each person separately, and the log names the person's address.
func TestLimitsBehindAProxy(t *testing.T) {
	for name, test := range map[string]struct{ header, first, second, same, logged string }{
		"X-Forwarded-For":       {"X-Forwarded-For", "203.0.113.1:51001", "203.0.113.2:51002", "203.0.113.1:51003", "203.0.113.1"},
		"X-Forwarded-For, IPv6": {"X-Forwarded-For", "[2001:db8:0:1::1]:51001", "[2001:db8:0:2::1]:51002", "2001:db8:0:1::ffff", "2001:db8:0:1::1"},
		"Forwarded":             {"Forwarded", `for="203.0.113.1:51001"`, `for="203.0.113.2:51002";proto=http`, "for=203.0.113.1", "203.0.113.1"},
		"Forwarded, IPv6":       {"Forwarded", `for="[2001:db8:0:1::1]:51001"`, `for="[2001:db8:0:2::1]"`, `for="[2001:db8:0:1::2]:51001"`, "2001:db8:0:1::1"},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(logBuffer)
			srv, _ := startServerWith(t, func(cfg *Config) {
				cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
				cfg.TrustedProxies, cfg.TrustedProxyHeader = []string{"127.0.0.0/8"}, strings.ToLower(test.header)
				cfg.MaxStreamsPerAddress, cfg.PublishRate, cfg.PublishBurst, cfg.Demo = 1, 0.001, 2, true
			})
			url := "http://" + srv.Addr().String()
			hold := func(from string) string { // opens a stream that stays open, and returns its first event
				t.Helper()
				conn := dial(t, srv.Addr().String())
				_, _ = fmt.Fprintf(conn, "GET /events?user=alice HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n", test.header, from)
				text := make([]byte, 0, 4096)
				for !strings.Contains(string(text), "event: ") || !strings.HasSuffix(string(text), "\n") {
					n, err := conn.Read(text[len(text):cap(text)])
					if text = text[:len(text)+n]; err != nil {
						t.Fatalf("%q: %v", text, err)
					}
				}
				_, event, _ := strings.Cut(string(text), "event: ")
				event, _, _ = strings.Cut(event, "\n")
				return event
			}
			post := func(from string) int {
				t.Helper()
				status, _, _ := send(t, http.MethodPost, url+"/broadcast", "x", headers(test.header, from))
				return status
			}
			if got, want := []string{hold(test.first), hold(test.second), hold(test.same)}, []string{"checkpoint", "checkpoint", "end"}; !slices.Equal(got, want) {
				t.Errorf("streams begin with %v, want %v", got, want)
			}
			if got, want := []int{post(test.first), post(test.same), post(test.first), post(test.second)}, []int{201, 201, 429, 201}; !slices.Equal(got, want) {
				t.Errorf("notifications get %v, want %v", got, want)
			}
			var tasks []int
			for i := range 9 { // demo.maxOwn is 8
				from := []string{test.first, test.same}[i%2]
				h := headers(test.header, from, "Content-Type", "application/json")
				status, _, _ := send(t, http.MethodPost, url+"/demo/tasks", `{"user":"alice","name":"x","seconds":60}`, h)
				tasks = append(tasks, status)
			}
			if want := slices.Repeat([]int{202}, 8); !slices.Equal(tasks[:8], want) || tasks[8] != 429 {
				t.Errorf("tasks get %v, want 8 times 202 and then 429", tasks)
			}
			if status, _, _ := send(t, http.MethodGet, url+"/events?user=a/b", "", headers(test.header, test.first)); status != http.StatusForbidden {
				t.Errorf("%d, want 403", status)
			}
			if !strings.Contains(log.String(), "remote="+test.logged+" ") {
				t.Errorf("the log lacks remote=%s:\n%s", test.logged, log)
			}
		})
	}
}

// TestTrustInEverybodyIsWarnedOf wants a warning if a network of trusted proxies holds all addresses.
func TestTrustInEverybodyIsWarnedOf(t *testing.T) {
	for network, want := range map[string]bool{"0.0.0.0/0": true, "::/0": true, "::ffff:0.0.0.0/96": true, "10.0.0.0/8": false, "fd00::/8": false} {
		log := new(logBuffer)
		cfg := DefaultConfig()
		cfg.Logger, cfg.TrustedProxies = slog.New(slog.NewTextHandler(log, nil)), []string{network}
		if _, err := newClientAddresses(&cfg); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "level=WARN msg=\"EVERY CLIENT CAN FORGE ITS ADDRESS"); got != want {
			t.Errorf("%s: warned %v, want %v", network, got, want)
		}
	}
}

// TestTrustedProxySettings checks values of the two settings.
func TestTrustedProxySettings(t *testing.T) {
	for _, test := range []struct {
		proxies []string
		header  string
		want    string // in the error; empty: valid
	}{
		{nil, headerXForwardedFor, ""},
		{[]string{"10.0.0.0/8", "2001:db8::/32"}, headerForwarded, ""},
		{nil, headerForwarded, "TrustedProxyHeader needs TrustedProxies"},
		{nil, "x-real-ip", "want x-forwarded-for or forwarded"},
		{[]string{"10.0.0.1"}, headerXForwardedFor, "TrustedProxies 10.0.0.1: want networks, did you mean 10.0.0.1/32?"},
		{[]string{"2001:db8::1"}, headerXForwardedFor, "TrustedProxies 2001:db8::1: want networks, did you mean 2001:db8::1/128?"},
		{[]string{"10.0.0.5/8"}, headerXForwardedFor, "TrustedProxies 10.0.0.5/8: this is an address in a network, did you mean the address, 10.0.0.5/32, or the network, 10.0.0.0/8?"},
		{[]string{"proxy.example"}, headerXForwardedFor, "TrustedProxies proxy.example: want networks such as 10.0.0.0/8"},
	} {
		cfg := DefaultConfig()
		cfg.TrustedProxies, cfg.TrustedProxyHeader = test.proxies, test.header
		if err := cfg.Validate(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v %s: %v, want %q", test.proxies, test.header, err, test.want)
		}
	}
}
