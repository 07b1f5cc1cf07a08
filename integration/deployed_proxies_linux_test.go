package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// requireTools is the environment variable that makes a missing tool of a deployment a failure.
const requireTools = "HERALD_REQUIRE_TOOLS"

// deployedProxies are the proxies with a configuration in deploy/proxies.
var deployedProxies = []deployedProxy{
	{
		name: "nginx", file: "nginx.conf", require: requireNginx,
		replace: []string{
			"listen 443", "listen ADDRESS", "/run/nginx.pid", "DIR/pid",
			"http {\n", "http { client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;\n",
			"error_log", "daemon off; error_log",
		},
		args: []string{"-e", "stderr", "-c"},
	},
	{
		name: "haproxy", file: "haproxy.cfg", require: "HERALD_REQUIRE_HAPROXY", plain: true,
		replace: []string{"bind :443", "bind PLAIN\n    bind ADDRESS"},
		args:    []string{"-db", "-f"},
	},
	{
		name: "caddy", file: "Caddyfile", require: requireTools,
		replace: []string{"herald.example.com {", "https://ADDRESS, https://localhost:PORT {\n\tbind 127.0.0.1", "\n{\n", "\n{\n\tadmin off\n\tauto_https disable_redirects\n"},
		args:    []string{"run", "--adapter", "caddyfile", "--config"},
	},
	{
		name: "envoy", file: "envoy.yaml", require: "HERALD_REQUIRE_ENVOY", remedy: "; run make check-envoy",
		replace: []string{"address: 0.0.0.0", "address: 127.0.0.1", "port_value: 443", "port_value: PORT"},
		args:    []string{"--concurrency", "1", "--disable-hot-restart", "-c"},
	},
}

// deployedProxy is a proxy with its configuration in deploy/proxies.
type deployedProxy struct {
	name    string   // of the program, too
	file    string   // in deploy/proxies
	require string   // environment variable that makes a missing program a failure
	remedy  string   // what to do about a missing program
	plain   bool     // it also has an address without TLS, PLAIN, where some proxies hold events back
	replace []string // texts of the file, each with its replacement, which may name ADDRESS, PORT, PLAIN and DIR
	args    []string // arguments before the file
}

// replicaAddresses are the addresses of two replicas: two hosts with the same ports, as in the configurations.
type replicaAddresses struct{ publicPort, adminPort string }

func newReplicaAddresses(t *testing.T) replicaAddresses {
	t.Helper()
	return replicaAddresses{portOf(t, freeAddress(t)), portOf(t, freeAddress(t))}
}

func (a replicaAddresses) host(replica int) string   { return fmt.Sprint("127.0.0.", 2+replica) }
func (a replicaAddresses) public(replica int) string { return a.host(replica) + ":" + a.publicPort }
func (a replicaAddresses) admin(replica int) string  { return a.host(replica) + ":" + a.adminPort }

// proxied is a proxy that runs.
type proxied struct {
	name    string
	address string
	plain   string      // address without TLS; "": none
	tls     *tls.Config // of its clients
	http1   bool        // send uses HTTP/1.1, not HTTP/2
}

// installedProxies returns the proxies that this machine has. A subtest reports each that it does not have.
func installedProxies(t *testing.T) (installed []deployedProxy) {
	t.Helper()
	for _, d := range deployedProxies {
		t.Run(d.name, func(t *testing.T) {
			if _, err := exec.LookPath(d.name); err != nil {
				notTested(t, d.require, "no "+d.name+": its configuration in deploy/proxies is not tested"+d.remedy)
			}
			installed = append(installed, d)
		})
	}
	return installed
}

// start starts the proxy with its file, where only addresses and paths differ, in front of the replicas. It waits until
// the proxy answers.
func (d *deployedProxy) start(t *testing.T, at replicaAddresses) *proxied {
	t.Helper()
	text, err := os.ReadFile("../deploy/proxies/" + d.file)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxied{name: d.name, address: freeAddress(t)}
	if d.plain {
		p.plain = freeAddress(t)
	}
	dir := t.TempDir()
	config := string(text)
	common := []string{"/etc/herald/tls", "DIR", "herald-1", at.host(0), "herald-2", at.host(1), "8080", at.publicPort}
	for pairs := append(common, d.replace...); len(pairs) > 0; pairs = pairs[2:] {
		if !strings.Contains(config, pairs[0]) {
			t.Fatalf("%s has no %q", d.file, pairs[0])
		}
		config = strings.ReplaceAll(config, pairs[0], pairs[1])
	}
	config = strings.NewReplacer("8081", at.adminPort, "ADDRESS", p.address, "PORT", portOf(t, p.address), "PLAIN", p.plain, "DIR", dir).Replace(config)
	certificate, key, authority := issueLocal(t)
	p.tls = &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS12}
	for name, content := range map[string]string{d.file: config, "cert.pem": certificate, "key.pem": key, "haproxy.pem": certificate + key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ended := launchProxy(t, d.name, append(slices.Clone(d.args), filepath.Join(dir, d.file))...)
	waitFor(t, d.name+" answers", func(ctx context.Context) bool {
		select {
		case <-ended:
			t.Fatalf("%s ended", d.name)
		default:
		}
		conn, err := (&tls.Dialer{Config: p.tls}).DialContext(ctx, "tcp", p.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// issueLocal returns a certificate for localhost, its key, and the pool with its authority.
func issueLocal(t *testing.T) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	authority, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	c, k, err := authority.issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.text)
	return string(c), string(k), pool
}

// send sends a request and returns the answer.
func (p *proxied) send(t *testing.T, method, path string, headers ...string) (status int, header http.Header, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://"+p.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.tls, ForceAttemptHTTP2: !p.http1, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s %s: %v", p.name, method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s %s: %v", p.name, method, path, err)
	}
	return response.StatusCode, response.Header, string(text)
}

// checkLater checks the proxy's answers on /events while no replica answers: an empty stream, which pages of other
// origins may read, too, and an error to a poll for JSON.
func (p *proxied) checkLater(t *testing.T) {
	t.Helper()
	const origin = "https://app.example.com"
	status, header, body := p.send(t, http.MethodGet, "/events?user=alice", "Origin", origin)
	if allowed := header.Get("Access-Control-Allow-Origin"); allowed != origin || header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%s without a replica allows the origin %q, want %q with credentials", p.name, allowed, origin)
	}
	got := []string{fmt.Sprint(status), header.Get("Content-Type"), header.Get("Cache-Control"), regexp.MustCompile(`[1-4]\d{3}`).ReplaceAllString(body, "N")}
	if diff := cmp.Diff([]string{"200", "text/event-stream; charset=utf-8", "no-store, no-transform", ":\nretry: N\n"}, got); diff != "" {
		t.Errorf("%s answers without a replica (-want +got):\n%s", p.name, diff)
	}
	if status, _, _ := p.send(t, http.MethodGet, "/events?user=alice", "Accept", "application/json"); status < 502 || status > 504 {
		t.Errorf("%s answers a poll for JSON without a replica with %d, want 502, 503 or 504", p.name, status)
	}
}

// checkClient checks that Herald takes the client's address from the proxy, and nothing that the client has made up. It
// also checks that an event id of the greatest length passes.
func (p *proxied) checkClient(t *testing.T, client string, replicas []*herald) {
	t.Helper()
	const forged = "203.0.113.66"
	s := newStream(t, "", "")
	s.url, s.tls, s.dialer.LocalAddr, s.forwardedFor = "https://"+p.address+"/events", p.tls, &net.TCPAddr{IP: net.ParseIP(client)}, forged
	logged := func(text string) bool {
		return slices.ContainsFunc(replicas, func(h *herald) bool { return strings.Contains(h.printed.String(), "remote="+text) })
	}
	waitFor(t, p.name+" passes the client's address on", func(context.Context) bool {
		_ = s.connect() // refused, because no user is named; the log has such a line at most once a second
		return logged(client)
	})
	if logged(forged) {
		t.Errorf("%s: a client can forge its address", p.name)
	}
	s.url, s.LastID = "https://"+p.address+"/events?user=alice", strings.Repeat("z", 48<<10)
	s.Connect()
	if e := s.Event(); e.Type != "gap" { // Herald does not know the id
		t.Errorf("%s: an id of 48 KiB gets %+v, want a gap", p.name, e)
	}
	s.Cut()
}
