package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth"
	"herald/consumer"
)

// TestHeaderFlood sends headers above the limit: in one line, in many lines, and without an end. The server
// refuses them.
func TestHeaderFlood(t *testing.T) {
	s := startSecured(t, nil)
	long := strings.Repeat("a", maxHeader+8<<10)
	for name, header := range map[string]string{
		"a cookie":       "Cookie: " + long + "\r\n",
		"authorization":  "Authorization: Bearer " + long + "\r\n",
		"an event id":    "Last-Event-ID: " + long + "\r\n",
		"small ones":     strings.Repeat("A: b\r\n", len(long)/4),
		"a request line": "",
	} {
		conn := dial(t, s.Addr().String())
		path := "/events"
		if header == "" {
			path += "?user=" + long
		}
		go func() { _, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, header) }() // may be cut off
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 431 ") && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("%s: %q, %v; want 431", name, line, err)
		}
	}
	conn := dial(t, s.Addr().String())
	sent := 0
	for piece := []byte(strings.Repeat("a", 4096)); sent < 100<<20; sent += len(piece) {
		if _, err := conn.Write(piece); err != nil {
			break
		}
	}
	if sent >= 100<<20 {
		t.Error("100 MiB of a header that does not end were taken")
	}
}

// TestLongestHeader sends the longest token and an event id of 64 KiB in one request, over HTTP/1.1 and HTTP/2. The
// request gets a stream.
func TestLongestHeader(t *testing.T) {
	s := startSecured(t, nil)
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "groups": strings.Repeat("g", 12_150)}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(testSecret)
	if err != nil || len(token) < 16_300 || len(token) > 16_384 {
		t.Fatalf("a token of %d bytes (%v)", len(token), err)
	}
	header := bearer(token)
	header.Set("Last-Event-ID", strings.Repeat("a", 64<<10))
	header.Set("Cookie", "other="+strings.Repeat("c", 4<<10))
	header.Set("User-Agent", strings.Repeat("u", 2<<10))
	for _, http2 := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!http2)
		protocols.SetUnencryptedHTTP2(http2)
		transport := &http.Transport{Protocols: protocols}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatalf("HTTP/2 %v: %v", http2, err)
		}
		if res.StatusCode != http.StatusOK || (res.ProtoMajor == 2) != http2 {
			t.Errorf("HTTP/2 %v: %s %s, want a stream", http2, res.Proto, res.Status)
		}
		_ = res.Body.Close()
		transport.CloseIdleConnections()
	}
}

// TestSlowHeaders (slow loris) sends a header byte by byte on many connections. The server closes each in
// time, and meanwhile it serves other clients.
func TestSlowHeaders(t *testing.T) {
	s := startImpatient(t, func(*Config) {})
	var conns []net.Conn
	var begun []time.Time
	for range 200 {
		begun = append(begun, time.Now())
		conns = append(conns, dial(t, s.Addr().String()))
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for text := "GET /events HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 10_000); ; text = text[1:] {
			for _, c := range conns {
				_, _ = io.WriteString(c, text[:1])
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	if status, body := call(t, http.MethodGet, "http://"+s.Addr().String()+"/events?user=alice", ""); status != http.StatusOK {
		t.Errorf("meanwhile: %d %s", status, body)
	}
	for i, c := range conns {
		if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("connection %d: %v, want it closed", i, err)
		}
		if took := time.Since(begun[i]); took < testReadTimeout {
			t.Errorf("connection %d: closed after %v, before the time was up", i, took)
		}
	}
	close(stop)
	<-done
}

// TestUnreadAnswers sends requests without a pause on one connection and reads none of their answers. The
// server closes the connection in time; a stream lives longer than that time.
func TestUnreadAnswers(t *testing.T) {
	const timeout = 300 * time.Millisecond
	s := startSecured(t, nil)
	if s.public.WriteTimeout == 0 || s.admin.WriteTimeout == 0 {
		t.Error("nothing bounds how long an answer takes")
	}
	hasty := httptest.NewUnstartedServer(s.public.Handler)
	hasty.Config.WriteTimeout = timeout
	hasty.Start()
	defer hasty.Close()
	address := hasty.Listener.Addr().String()
	stream := dial(t, address)
	if _, err := fmt.Fprintf(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", s.token(t, auth.Identity{User: "alice"})); err != nil {
		t.Fatal(err)
	}
	events := bufio.NewReader(stream)
	readUntil(t, events, "checkpoint")
	begun := time.Now()
	conn := dial(t, address)
	for deadline := begun.Add(20 * time.Second); ; {
		if _, err := io.WriteString(conn, strings.Repeat("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 1000)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection does not end")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection does not end")
		}
	}
	if err := stream.SetReadDeadline(time.Now().Add(3 * timeout)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(events); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of the stream %q: %v; want it to stay open", got, err)
	}
}

// TestUnreadBodies sends half a body with requests that the server answers without their body. No request
// holds its connection for the time that a request may take.
func TestUnreadBodies(t *testing.T) {
	s := startSecured(t, nil)
	patient := httptest.NewServer(s.public.Handler) // has no time-outs
	defer patient.Close()
	conns := make(map[string]net.Conn)
	for _, request := range []string{"POST /session", "DELETE /session", "POST /broadcast", "POST /nothing", "GET /events", "OPTIONS /session"} {
		for _, length := range []string{"Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n2\r\nha"} {
			conn := dial(t, patient.Listener.Addr().String())
			if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\n%s", request, length); err != nil {
				t.Fatal(err)
			}
			conns[request+" "+length] = conn
		}
	}
	for name, conn := range conns {
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
			t.Errorf("%q: %q, %v; want an answer and the connection closed", name, answer, err)
		}
	}
	status, _, body := send(t, http.MethodDelete, patient.URL+"/session", "all of it", nil)
	if status != http.StatusNoContent {
		t.Errorf("a body that ends: %d %s", status, body)
	}
}

// userIDs are the names of TestUserIDs and the statuses of their streams.
var userIDs = map[string]struct {
	user           string
	perUser, keyed int // status of the stream where the user is in the topic's name, and where it is the key
}{
	"alice":              {"alice", 200, 200},
	"NUL":                {"alice\x00", 400, 400},
	"CR LF":              {"alice\r\nSet-Cookie: a=b", 400, 400},
	"LF":                 {"alice\nevent: gap", 400, 400},
	"next line of C1":    {"alice\u0085", 400, 400},
	"slash":              {"alice/bob", 403, 200},
	"dots":               {"../alice", 403, 200},
	"braces":             {"{user}", 403, 200},
	"comma":              {"alice,bob", 403, 200},
	"200 KiB":            {strings.Repeat("a", 200<<10), 0, 0}, // a token of this length exceeds the limit of the header
	"257 bytes":          {strings.Repeat("a", 257), 400, 400},
	"Cyrillic alice":     {"аlice", 403, 200},
	"fullwidth alice":    {"ａlice", 403, 200},
	"alice, zero width":  {"ali\u200bce", 403, 200},
	"alice, overridden":  {"\u202eecila", 403, 200},
	"alice with a space": {"alice ", 403, 200},
	"in another case":    {"Alice", 200, 200},
}

// TestUserIDs uses names that resemble another user's name, a path or a header line, in valid tokens and in
// the path. Each gets the status of its row, and no name adds a line to the log.
func TestUserIDs(t *testing.T) {
	s := startSecured(t, func(set *Config) {
		set.Consumer.Routes = []consumer.Route{{Topic: "notifications.{user}", Kind: consumer.PerUser}}
	})
	shared := startSecured(t, func(set *Config) { set.Consumer.Routes = []consumer.Route{{Topic: "notifications"}} })
	publisher := bearer(s.token(t, auth.Identity{User: "service", Publish: true}))
	for name, test := range userIDs {
		for _, v := range []struct {
			server *secured
			want   int
		}{{s, test.perUser}, {shared, test.keyed}} {
			if v.want == 0 {
				continue
			}
			claims := jwt.MapClaims{"sub": test.user, "exp": time.Now().Add(time.Hour).Unix()}
			token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(strings.Repeat("k", 32)))
			if err != nil {
				t.Fatal(err)
			}
			status, header, body := request(t, http.MethodGet, v.server.url+"/events", bearer(token))
			if status != v.want {
				t.Errorf("%s: stream %d %s, want %d", name, status, body, v.want)
			}
			if header.Get("Set-Cookie") != "" || strings.Contains(body, "event: gap") {
				t.Errorf("%s: %v %s", name, header, body)
			}
		}
		status, _, body := request(t, http.MethodPost, s.url+"/users/"+url.PathEscape(test.user)+"/notifications", publisher)
		want := http.StatusBadRequest
		switch {
		case test.perUser == http.StatusForbidden:
			want = http.StatusForbidden
		case test.perUser == http.StatusOK:
			want = http.StatusCreated
		case len(test.user) > maxHeader:
			want = http.StatusRequestHeaderFieldsTooLarge
		}
		if status != want {
			t.Errorf("%s: publish %d %s, want %d", name, status, body, want)
		}
	}
	for line := range strings.Lines(s.log.String() + shared.log.String()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a client added a line to the log: %q", line)
		}
	}
}

// TestLookAlikesAreOthers publishes for users whose names look like alice's. Alice gets her own notification
// only.
func TestLookAlikesAreOthers(t *testing.T) {
	s := startSecured(t, func(set *Config) { set.Consumer.Routes = []consumer.Route{{Topic: "notifications"}} })
	publisher := bearer(s.token(t, auth.Identity{User: "service", Publish: true}))
	for _, user := range []string{"аlice", "ａlice", "ali\u200bce", "alice ", "Alice", "alice"} {
		if status, _, body := send(t, http.MethodPost, s.url+"/users/"+url.PathEscape(user)+"/notifications", "for "+user, publisher); status != http.StatusCreated {
			t.Fatalf("%q: %d %s", user, status, body)
		}
	}
	got := dataUntilWith(t, s.url+"/events?since=earliest", bearer(s.token(t, auth.Identity{User: "alice"})), "for alice")
	if len(got) != 1 {
		t.Errorf("alice gets %q", got)
	}
}

// TestForeignPageOpensNoOpenStream opens streams as pages of other sites do, on a server that authenticates nobody. The
// page may not read the stream, but a stream that opens could end another one of its user.
func TestForeignPageOpensNoOpenStream(t *testing.T) {
	srv, _ := startServerWith(t, func(cfg *Config) { cfg.AllowOrigin = []string{"https://app.example"} })
	url := "http://" + srv.Addr().String()
	for name, test := range map[string]struct {
		header http.Header
		status int
	}{
		"EventSource of another site":   {headers("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), 403},
		"EventSource of an old browser": {headers("Origin", "https://evil.example"), 403},
		"image of another site":         {headers("Sec-Fetch-Site", "cross-site"), 403},
		"sandboxed frame":               {headers("Origin", "null", "Sec-Fetch-Site", "cross-site"), 403},
		"allowed page":                  {headers("Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"), 200},
		"own page":                      {headers("Sec-Fetch-Site", "same-origin"), 200},
		"own page with its origin":      {headers("Origin", url), 200},
		"typed address":                 {headers("Sec-Fetch-Site", "none"), 200},
		"program":                       {nil, 200},
	} {
		if status, _, body := request(t, http.MethodGet, url+"/events?user=alice", test.header); status != test.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, test.status)
		}
	}
}
