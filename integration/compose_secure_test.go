package integration

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestComposeSecure starts deploy/secure/compose.yaml as the comment at the top of the file says: prepare.sh makes
// certificates and the issuer's key, issuer.sh serves the key set, and herald token makes a token. The test then
// does what a browser does: it exchanges the token for a cookie and opens a stream with the cookie.
func TestComposeSecure(t *testing.T) {
	t.Parallel()
	if err := pull(kafkaImage()); err != nil {
		notTested(t, requireDocker, "deploy/secure, without a Docker engine or an image of Kafka. "+err.Error())
	}
	s := &composed{command: composeCommand(t), project: "herald-test-" + strings.ToLower(rand.Text()[:12]), files: []string{"../deploy/secure/compose.yaml"}}
	dir := t.TempDir()
	prepare := exec.CommandContext(t.Context(), "../deploy/secure/prepare.sh", dir)
	prepare.Env = append(os.Environ(), "HERALD="+heraldBinary(t))
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("prepare.sh: %v\n%s", err, out)
	}
	keys := portOf(t, freeAddress(t))
	issuer := exec.CommandContext(t.Context(), "../deploy/secure/issuer.sh", dir, keys) // ended with the test
	if err := issuer.Start(); err != nil {
		t.Fatalf("issuer.sh: %v", err)
	}
	t.Cleanup(func() { _ = issuer.Wait() })
	public, admin, broker := freeAddress(t), freeAddress(t), freeAddress(t)
	s.start(t,
		"HERALD_KAFKA_IMAGE="+kafkaImage(), "HERALD_IMAGE="+buildImage(t), "SECURE_DIR="+dir, "SECURE_UID="+strconv.Itoa(os.Getuid()),
		"JWKS_URL=https://host.docker.internal:"+keys+"/jwks.json",
		"HERALD_PORT="+portOf(t, public), "HERALD_ADMIN_PORT="+portOf(t, admin), "KAFKA_PORT="+portOf(t, broker))
	waitStatus(t, "http://"+admin+"/readyz", http.StatusOK, nil) // the key set has been fetched

	text, err := os.ReadFile(filepath.Join(dir, "ca.pem")) //nolint:gosec // the test's own
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	ask := func(method, path string, header ...string) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "https://"+public+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
	args := []string{"--jwt-key-file=" + filepath.Join(dir, "issuer.key"), "--user=alice", "--publish", "--jwt-issuer=https://issuer.example"}
	token := newToken(t, append(args, "--jwt-audience=herald")...)
	for name, bad := range map[string]string{
		"no token":            "",
		"another's audience":  newToken(t, append(args, "--jwt-audience=shop")...),
		"no audience":         newToken(t, args...),
		"a changed signature": token[:len(token)-6] + "AAAAAA",
	} {
		if got := ask(http.MethodGet, "/events", "Authorization", "Bearer "+bad).StatusCode; got != http.StatusUnauthorized { //nolint:bodyclose // closed at the end of the test
			t.Errorf("%s: %d, want 401", name, got)
		}
	}
	signedIn := ask(http.MethodPost, "/session", "Authorization", "Bearer "+token) //nolint:bodyclose // closed at the end of the test
	cookies := signedIn.Cookies()
	if signedIn.StatusCode != http.StatusOK || len(cookies) != 1 || !cookies[0].Secure || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("POST /session: %d %v", signedIn.StatusCode, signedIn.Header)
	}
	if page := ask(http.MethodGet, "/"); page.StatusCode != http.StatusOK || !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'self'") { //nolint:bodyclose // closed at the end of the test
		t.Errorf("GET /: %d %v", page.StatusCode, page.Header)
	}
	stream := ask(http.MethodGet, "/events", "Cookie", cookies[0].Name+"="+cookies[0].Value, "Sec-Fetch-Site", "same-origin")
	if stream.StatusCode != http.StatusOK || stream.ProtoMajor != 2 {
		t.Fatalf("GET /events by the cookie: %d %s", stream.StatusCode, stream.Proto)
	}
	timer := time.AfterFunc(2*patience, func() { _ = stream.Body.Close() })
	defer timer.Stop()
	events := &eventReader{r: bufio.NewReader(stream.Body)}
	if e, err := events.next(); err != nil || e.Type != "checkpoint" {
		t.Fatalf("the stream begins with %+v, %v", e, err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1), kgo.AlwaysRetryEOF(), kgo.RecordDeliveryTimeout(patience))
	if err != nil {
		t.Fatalf("producer: %v", err)
	}
	defer producer.Close()
	for _, r := range []*kgo.Record{record("notifications", "bob", "not alice's"), record("notifications", "alice", "hello")} {
		if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	for {
		e, err := events.next()
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if strings.Contains(e.Data, "not alice's") {
			t.Error("alice received bob's record")
		}
		if e.Data == "hello" {
			break
		}
	}
}
