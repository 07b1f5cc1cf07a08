package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"herald/auth"
	"herald/consumer"
)

// dial connects to the server without HTTP's help.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestHeaderFlood sends more header than anybody needs: in one line, in many, and without end.
func TestHeaderFlood(t *testing.T) {
	s := startSecured(t, nil)
	for name, header := range map[string]string{
		"one of 64 KiB":            "Cookie: " + strings.Repeat("a", 64<<10) + "\r\n",
		"authorization of 64 KiB":  "Authorization: Bearer " + strings.Repeat("a", 64<<10) + "\r\n",
		"20,000 small ones":        strings.Repeat("A: b\r\n", 20_000),
		"a request line of 64 KiB": "",
	} {
		conn := dial(t, s.publicListener.Addr().String())
		path := "/events"
		if header == "" {
			path += "?user=" + strings.Repeat("a", 64<<10)
		}
		go func() { _, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, header) }() // may be cut off
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 431 ") && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("%s: %q, %v; want 431", name, line, err)
		}
	}
	conn := dial(t, s.publicListener.Addr().String())
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

// TestSlowHeaders (slow loris) sends a header byte by byte on many connections: each is given up in
// time, and others are served meanwhile.
func TestSlowHeaders(t *testing.T) {
	s := startSecured(t, nil)
	var conns []net.Conn
	for range 200 {
		conns = append(conns, dial(t, s.publicListener.Addr().String()))
	}
	stop := make(chan struct{})
	var slow atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for text := "GET /events HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 10_000); ; text = text[1:] {
			for _, c := range conns {
				_, _ = io.WriteString(c, text[:1])
			}
			slow.Add(1)
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	if status, _, body := request(t, http.MethodGet, s.url+"/events", bearer(s.token(t, auth.Identity{User: "alice"}))); status != http.StatusOK {
		t.Errorf("meanwhile: %d %s", status, body)
	}
	for i, c := range conns {
		if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("connection %d: %v, want it closed", i, err)
		}
	}
	close(stop)
	<-done
	if slow.Load() < 10 {
		t.Errorf("closed after %d bytes, before the time was up", slow.Load())
	}
}

// TestUserIDs gives users' names that want to be somebody else's, or a file's, or a line of their own.
// They come by tokens that are good, and by the path.
func TestUserIDs(t *testing.T) {
	s := startSecured(t, func(set *settings) {
		set.Consumer.Routes = []consumer.Route{{Topic: "notifications.{user}", Kind: consumer.PerUser}}
	})
	shared := startSecured(t, func(set *settings) { set.Consumer.Routes = []consumer.Route{{Topic: "notifications"}} })
	publisher := bearer(s.token(t, auth.Identity{User: "service", Publish: true}))
	for name, test := range map[string]struct {
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
		"200 KiB":            {strings.Repeat("a", 200<<10), 0, 0}, // no token is so long
		"257 bytes":          {strings.Repeat("a", 257), 400, 400},
		"Cyrillic alice":     {"аlice", 403, 200},
		"fullwidth alice":    {"ａlice", 403, 200},
		"alice, zero width":  {"ali\u200bce", 403, 200},
		"alice, overridden":  {"\u202eecila", 403, 200},
		"alice with a space": {"alice ", 403, 200},
		"in another case":    {"Alice", 200, 200},
	} {
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
			t.Errorf("the log has a line of somebody's own: %q", line)
		}
	}
}

// TestLookAlikesAreOthers publishes for a user whose name looks like alice's.
func TestLookAlikesAreOthers(t *testing.T) {
	s := startSecured(t, func(set *settings) { set.Consumer.Routes = []consumer.Route{{Topic: "notifications"}} })
	publisher := bearer(s.token(t, auth.Identity{User: "service", Publish: true}))
	for _, user := range []string{"аlice", "ａlice", "ali\u200bce", "alice ", "Alice", "alice"} {
		if status, _, body := callWith(t, http.MethodPost, s.url+"/users/"+url.PathEscape(user)+"/notifications", "for "+user, publisher); status != http.StatusCreated {
			t.Fatalf("%q: %d %s", user, status, body)
		}
	}
	got := dataUntilWith(t, s.url+"/events?since=earliest", bearer(s.token(t, auth.Identity{User: "alice"})), "for alice")
	if len(got) != 1 {
		t.Errorf("alice gets %q", got)
	}
}

// TestKeySet serves with a key set that is away at first: the server is not ready, a stream is told to
// come again and a notification to try again. Then the keys come.
func TestKeySet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(path); err != nil {
		t.Fatal(err)
	}
	signer, err := auth.LoadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	signer.Issuer, signer.Audience = "https://issuer.example", []string{"herald"}
	set, err := signer.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var there atomic.Bool
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(set)
	}))
	defer issuer.Close()
	flags := authFlags{JWKSURL: issuer.URL, JWKSRefresh: time.Minute, JWTUserClaim: "sub", JWTIssuer: "https://issuer.example", JWTAudience: []string{"herald"}}
	srv, _ := startServerWith(t, func(s *settings) {
		if s.access, err = flags.access("127.0.0.1:0", s.logger()); err != nil {
			t.Fatal(err)
		}
	})
	public, admin := "http://"+srv.publicListener.Addr().String(), "http://"+srv.adminListener.Addr().String()
	token, err := signer.Sign(auth.Identity{User: "alice", Publish: true, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "status 503") {
		t.Errorf("/readyz without keys: %d %s, want 503 and why", status, body)
	}
	status, header, body := request(t, http.MethodGet, public+"/events", bearer(token))
	if status != http.StatusOK || header.Get("Content-Type") != "text/event-stream" || !strings.Contains(body, "retry: ") || !strings.Contains(body, "keys-unavailable") {
		t.Errorf("stream without keys: %d %v %s, want it told to come again", status, header, body)
	}
	if status, header, body := request(t, http.MethodPost, public+"/broadcast", bearer(token)); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("publish without keys: %d %v %s, want 503 and when to try again", status, header, body)
	}
	if status, _, body := request(t, http.MethodGet, public+"/events", nil); status != http.StatusUnauthorized {
		t.Errorf("stream without a token: %d %s, want 401 whatever the keys", status, body)
	}
	there.Store(true)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _, body := request(t, http.MethodGet, public+"/events", bearer(token)); status == http.StatusOK && strings.Contains(body, "checkpoint") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("stream, when the keys have come: %d %s", status, body)
		}
	}
	if status, _, body := request(t, http.MethodGet, admin+"/readyz", nil); status != http.StatusOK {
		t.Errorf("/readyz with keys: %d %s", status, body)
	}
	if _, _, text := request(t, http.MethodGet, admin+"/metrics", nil); !strings.Contains(text, `herald_jwks_fetches_total{result="ok"} 1`) {
		t.Error("no metric of the key set")
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iss": "https://issuer.example", "aud": "herald"}
	forged := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	var keys struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(set, &keys); err != nil {
		t.Fatal(err)
	}
	forged.Header["kid"] = keys.Keys[0].Kid
	text, err := forged.SignedString(stranger)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := request(t, http.MethodGet, public+"/events", bearer(text)); status != http.StatusUnauthorized {
		t.Errorf("another's signature under a good kid: %d %s", status, body)
	}
}

// TestTokenCommand makes a token with each kind of key by herald token, and takes it.
func TestTokenCommand(t *testing.T) {
	dir := t.TempDir()
	secret, key := filepath.Join(dir, "secret"), filepath.Join(dir, "key.pem")
	for _, args := range [][]string{{"token", "--new-secret=" + secret}, {"token", "--new-key=" + key}} {
		if code, stderr := start(t, args...); code != 0 {
			t.Fatalf("%q: %d %s", args, code, stderr)
		}
	}
	for flag, keys := range map[string]func() (auth.Keys, error){
		"--jwt-key-file=" + key: func() (auth.Keys, error) { return auth.PublicKeys(key + ".pub") },
		"--jwt-secret-file=" + secret: func() (auth.Keys, error) {
			text, err := auth.LoadSecretFile(secret, nil)
			if err != nil {
				return nil, err
			}
			return auth.Secret(text)
		},
	} {
		verifier, err := keys()
		if err != nil {
			t.Fatal(err)
		}
		j, err := auth.NewJWT(auth.JWTConfig{Keys: verifier, Issuer: "me", Audiences: []string{"herald"}})
		if err != nil {
			t.Fatal(err)
		}
		token := printed(t, "token", flag, "--user=alice", "--id=7", "--publish", "--types=a,b", "--topics=c", "--jwt-issuer=me", "--jwt-audience=herald")
		id, err := j.Verify(t.Context(), strings.TrimSpace(token))
		if err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		if got := fmt.Sprint(id.User, id.ID, id.Publish, id.Types, id.Topics); got != "alice7true [a b] [c]" {
			t.Errorf("%s: %s", flag, got)
		}
	}
	if set := printed(t, "token", "--key-set", "--jwt-key-file="+key); !strings.Contains(set, `"kty": "EC"`) || strings.Contains(set, `"d"`) {
		t.Errorf("key set %s", set)
	}
}

// printed runs the program and returns its standard output.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	code, stderr := start(t, args...)
	os.Stdout = stdout
	_ = w.Close()
	text, err := io.ReadAll(r)
	if code != 0 || err != nil {
		t.Fatalf("herald %q: %d %s (%v)", args, code, stderr, err)
	}
	return string(text)
}

// keyPair writes a certificate for localhost and its key.
func keyPair(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := selfSigned(t, key, serial)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	replace(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return cert
}

// replace puts a new file in the place of the old one.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
