package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startHAProxy starts HAProxy in front of the address, and returns its own address. It sends requests of all clients
// over the same few connections. options are options of the server's line.
func startHAProxy(t *testing.T, behind, options string) string {
	t.Helper()
	const require = "HERALD_REQUIRE_HAPROXY"
	path, err := exec.LookPath("haproxy")
	if err != nil {
		notTested(t, require, "no haproxy: Herald behind it is not tested")
	}
	address, file := freeAddress(t), filepath.Join(t.TempDir(), "haproxy.cfg")
	config := fmt.Sprintf(`defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
	http-reuse always
frontend clients
	bind %s
	default_backend herald
backend herald
	server herald %s %s
`, address, behind, options)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	startProxy(t, address, path, "-db", "-f", file)
	return address
}

// startProxy starts a proxy of this machine in front of Herald, and waits until it answers at the address.
func startProxy(t *testing.T, address, program string, args ...string) {
	t.Helper()
	ended := launchProxy(t, program, args...)
	waitStatus(t, "http://"+address+"/", http.StatusNotFound, ended) // of Herald: it serves no page
}

// launchProxy starts a proxy without waiting, and returns a channel that is closed when the proxy has ended. The signal
// at the end of the test ends the proxy's workers, too.
func launchProxy(t *testing.T, program string, args ...string) <-chan struct{} {
	t.Helper()
	var printed output
	command := exec.Command(program, args...) //nolint:noctx // ended by a signal
	command.Env = append(os.Environ(), "HOME="+t.TempDir())
	command.Stdout, command.Stderr = &printed, &printed
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("%s\n%s", program, printed.String())
		}
	})
	return ended
}

// startKeepingNginx starts nginx in front of the address, which keeps its connections to it. It returns its own
// address.
func startKeepingNginx(t *testing.T, behind string) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		notTested(t, requireNginx, "no nginx: Herald behind it is not tested")
	}
	return startNginx(t, path, fmt.Sprintf("upstream herald { server %s; keepalive 4; }", behind), `location / {
	proxy_pass http://herald;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	proxy_buffering off;
	proxy_request_buffering off;
}`)
}

// smuggled are requests that hide a second one. HEAD stands for the lines "Host" and "Authorization" of the
// attacker, NEXT for the second request, which asks for the attacker's session.
var smuggled = []string{
	"GET /events HTTP/1.1\r\nHEAD\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 0\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 5\r\n\r\nhelloNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 999\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: chunked\r\n\r\n999\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhelloNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nNEXT",
	"GET /events HTTP/1.0\r\nHEAD\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
	"GET /events HTTP/1.0\r\nHEAD\r\nConnection: keep-alive\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\nNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nX: a\r\n\r\x0bNEXT",
	"GET /events HTTP/1.1\r\nHEAD\r\nX: a\x00\r\n\r\nNEXT",
	"GET http://evil/events HTTP/1.1\r\nHEAD\r\n\r\nNEXT",
	"HEAD /events HTTP/1.1\r\nHEAD\r\n\r\nNEXT",
	"POST /session HTTP/1.1\r\nHEAD\r\nContent-Length: 999\r\n\r\nNEXT",
	"POST /nothing HTTP/1.1\r\nHEAD\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
	"DELETE /session HTTP/1.1\r\nHEAD\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZNEXT",
}

// endsConnection reports whether HAProxy 2.6 answers the request by resetting an HTTP/2 stream that it has not opened.
// Then the whole connection must end (RFC 9113, section 5.1). "Not covered" of auth/SECURITY.md says so.
func endsConnection(text string) bool {
	return strings.Contains(text, "\x00") || strings.Contains(text, "websocket")
}

// TestProxiesKeepUsersApart has an attacker send requests that hide a second one, through proxies that send all
// clients' requests over the same connections. Another user asks for the session through the same proxy after each
// request and must always get the own one. The user's stream must stay open, and must carry nothing else.
func TestProxiesKeepUsersApart(t *testing.T) {
	b := devBroker(t)
	secret := newSecretFile(t)
	h := newProcess(t, "serve", "--brokers="+b.addresses[0], "--group="+topicName(t, "group"), "--replica=test", "--topic=notifications",
		"--jwt-secret-file="+secret, "--heartbeat=1s", "--log-level=debug")
	h.Start()
	mallory := "Host: localhost\r\nAuthorization: Bearer " + newToken(t, "--jwt-secret-file="+secret, "--user=mallory")
	bob := "Authorization: Bearer " + newToken(t, "--jwt-secret-file="+secret, "--user=bob")
	words := strings.NewReplacer("\r\nHEAD", "\r\n"+mallory, "NEXT", "GET /session HTTP/1.1\r\n"+mallory+"\r\n\r\n")
	for name, options := range map[string]string{"nginx": "", "HAProxy": "", "HAProxy, HTTP/2": "proto h2"} {
		t.Run(name, func(t *testing.T) {
			var address string
			if name == "nginx" {
				address = startKeepingNginx(t, h.public)
			} else {
				address = startHAProxy(t, h.public, options)
			}
			dial := func(text string) net.Conn {
				t.Helper()
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
				if err == nil {
					_, err = io.WriteString(conn, text)
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				_ = conn.SetDeadline(time.Now().Add(patience))
				return conn
			}
			stream := bufio.NewReader(dial("GET /events HTTP/1.1\r\nHost: localhost\r\n" + bob + "\r\n\r\n"))
			readTo := func(want string) (got string) {
				t.Helper()
				for !strings.Contains(got, want) {
					line, err := stream.ReadString('\n')
					if got += line; err != nil {
						t.Fatalf("bob's stream has %q: %v", got, err)
					}
				}
				return got
			}
			readTo("checkpoint")
			for _, text := range smuggled {
				if options == "proto h2" && endsConnection(text) {
					continue
				}
				attack := dial(words.Replace(text))
				for range 3 {
					a := mustSend(t, http.MethodGet, "http://"+address+"/session", "", strings.SplitN(bob, ": ", 2)...)
					if a.status != http.StatusOK || !strings.Contains(a.body, `"user":"bob"`) {
						t.Fatalf("after %q bob gets %d %s", text, a.status, a.body)
					}
				}
				_ = attack.Close()
			}
			b.produce(t, record("notifications", "mallory", "for mallory"), record("notifications", "bob", "for "+name))
			if got := readTo("for " + name); strings.Contains(got, "HTTP/1.") || strings.Contains(got, "mallory") {
				t.Errorf("bob's stream has %q", got)
			}
		})
	}
}
