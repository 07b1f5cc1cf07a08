package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/twmb/franz-go/pkg/kadm"
)

// Passwords are long and unlike anything else, so that a log can be searched for them.
const (
	plainPassword    = "plain-pass-7Kq2" //nolint:gosec // of a broker that lives as long as the test
	scram256Password = "s256-pass-x91Lw" //nolint:gosec // as above
	scram512Password = "s512-pass-M0z4e" //nolint:gosec // as above
	wrongPassword    = "wrong-pass-bb3Y"
)

// secureBroker is a broker with a listener for each way to be authenticated. Its plain one is for
// the test, which may do everything.
type secureBroker struct {
	broker
	sasl, mutual string // addresses of the listeners: SASL_SSL, and TLS with a client's certificate
	ca           authority
	files        string // directory of what herald is given
}

var securely struct {
	once sync.Once
	secureBroker
	err error
}

func sharedSecureBroker(t *testing.T) *secureBroker {
	t.Helper()
	sharedBroker(t) // skips without Docker
	securely.once.Do(func() { securely.err = securely.open() })
	if securely.err != nil {
		t.Fatal(securely.err)
	}
	return &securely.secureBroker
}

func (b *secureBroker) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), kafkaStartTimeout)
	defer cancel()
	if err := dockerAnswers(ctx); err != nil {
		return err
	}
	var addresses [3]string
	for i := range addresses {
		var err error
		if addresses[i], err = unusedAddress(ctx); err != nil {
			return err
		}
	}
	b.addresses, b.sasl, b.mutual = addresses[:1], addresses[1], addresses[2]
	var err error
	if b.files, err = os.MkdirTemp("", "herald-integration-"); err != nil {
		return err
	}
	if b.ca, err = newAuthority(); err != nil {
		return err
	}
	other, err := newAuthority()
	if err != nil {
		return err
	}
	serverPEM, serverKey, err := b.ca.issue("localhost")
	if err != nil {
		return err
	}
	clientPEM, clientKey, err := b.ca.issue("herald")
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"ca.pem": b.ca.text, "other-ca.pem": other.text, "client.pem": clientPEM, "client.key": clientKey,
		"plain": []byte(plainPassword + "\n"), "scram256": []byte(scram256Password), "scram512": []byte(scram512Password + "\r\n"),
		"wrong": []byte(wrongPassword),
	} {
		if err := os.WriteFile(filepath.Join(b.files, name), text, 0o600); err != nil {
			return err
		}
	}
	file := func(path string, text []byte) testcontainers.ContainerFile {
		return testcontainers.ContainerFile{Reader: strings.NewReader(string(text)), ContainerFilePath: path, FileMode: 0o644}
	}
	b.container, err = testcontainers.Run(ctx, kafkaImage(),
		testcontainers.WithExposedPorts(kafkaPort, "9094/tcp", "9095/tcp"),
		publish(kafkaPort, b.addresses[0]), publish("9094/tcp", b.sasl), publish("9095/tcp", b.mutual),
		testcontainers.WithFiles(startScript(), file("/kafka-server.pem", append(serverKey, serverPEM...)), file("/kafka-ca.pem", b.ca.text)),
		testcontainers.WithEntrypoint("sh", kafkaStart), testcontainers.WithCmd(),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_ADVERTISED": b.addresses[0], "KAFKA_HOST": "localhost",
			"KAFKA_PROPERTIES": fmt.Sprintf(secureProperties, b.addresses[0], b.sasl, b.mutual, plainPassword),
			"KAFKA_FORMAT": fmt.Sprintf("--add-scram SCRAM-SHA-256=[name=scram256,password=%s] --add-scram SCRAM-SHA-512=[name=scram512,password=%s]",
				scram256Password, scram512Password),
		}))
	if err != nil {
		return fmt.Errorf("start a broker that authenticates: %w", err)
	}
	return b.connect(ctx)
}

const secureProperties = `
listeners=EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://localhost:9093,SASL://:9094,MUTUAL://:9095
advertised.listeners=EXTERNAL://%s,INTERNAL://localhost:19092,SASL://%s,MUTUAL://%s
listener.security.protocol.map=EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="%s";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=/kafka-server.pem
ssl.truststore.type=PEM
ssl.truststore.location=/kafka-ca.pem
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
`

// stopSecureBroker removes the container, if there is one.
func stopSecureBroker() error {
	if securely.files != "" {
		_ = os.RemoveAll(securely.files)
	}
	if securely.producer != nil {
		securely.producer.Close()
	}
	if securely.container == nil {
		return nil
	}
	return testcontainers.TerminateContainer(securely.container, testcontainers.StopTimeout(0))
}

// authority signs certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	text        []byte // PEM
}

func newAuthority() (a authority, err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return a, err
	}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "authority of a test " + rand.Text()[:8]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, a.key.Public(), a.key)
	a.text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a, err
}

// issue returns a certificate for the name on this machine, and its key in PKCS #8, as PEM.
func (a authority) issue(name string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), err
}

// at returns the broker with the listener as the only address that herald is told of.
func (b *secureBroker) at(address string) *broker {
	listener := b.broker
	listener.addresses = []string{address}
	return &listener
}

// checkNoSecret looks for what must not be in a log.
func checkNoSecret(t *testing.T, h *herald) {
	t.Helper()
	for _, secret := range []string{plainPassword, scram256Password, scram512Password, wrongPassword, "PRIVATE KEY"} {
		if strings.Contains(h.printed.String(), secret) {
			t.Errorf("the log has the secret %q", secret)
		}
	}
}

// saslFlags authenticate by TLS and the mechanism.
func (b *secureBroker) saslFlags(mechanism, user, passwordFile string) []string {
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"), "--kafka-sasl-mechanism=" + mechanism,
		"--kafka-sasl-user=" + user, "--kafka-sasl-password-file=" + filepath.Join(b.files, passwordFile),
	}
}

// mutualFlags authenticate by a certificate.
func (b *secureBroker) mutualFlags() []string {
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"),
		"--kafka-cert-file=" + filepath.Join(b.files, "client.pem"), "--kafka-key-file=" + filepath.Join(b.files, "client.key"),
	}
}

// TestSecureListeners serves from brokers that want TLS and each SASL mechanism or a certificate.
func TestSecureListeners(t *testing.T) {
	b := sharedSecureBroker(t)
	for name, test := range map[string]struct {
		address string
		flags   []string
	}{
		"PLAIN":         {b.sasl, b.saslFlags("plain", "plain", "plain")},
		"SCRAM-SHA-256": {b.sasl, b.saslFlags("scram-sha-256", "scram256", "scram256")},
		"SCRAM-SHA-512": {b.sasl, append(b.saslFlags("scram-sha-512", "scram512", "scram512"), "--kafka-server-name=localhost")},
		"certificate":   {b.mutual, b.mutualFlags()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for a commit
			topic := b.newTopic(t, "shared", 1)
			h := startHerald(t, b.at(test.address), append(test.flags, "--topic="+topic, "--enable-publish", "--log-level=debug")...)
			alice := openStream(t, h, "alice")
			b.produce(t, record(topic, "alice", "hello"))
			if got := alice.Record().Data; got != "hello" {
				t.Errorf("got %q, want hello", got)
			}
			post(t, h, "/users/alice/notifications", "posted", topic)
			if got := alice.Record().Data; got != "posted" {
				t.Errorf("got %q, want what was posted", got)
			}
			waitFor(t, "an offset is committed", func(context.Context) bool { return h.Metric(`herald_kafka_commits_total{result="ok"}`) > 0 })
			checkNoSecret(t, h)
		})
	}
}

// TestInsecureMistakes starts herald with what an operator may get wrong. It goes on trying, and the
// log and /readyz say in one line what is the matter: what the broker has answered, if it has, and
// never a connection that was closed in its place.
func TestInsecureMistakes(t *testing.T) {
	b := sharedSecureBroker(t)
	topic := b.newTopic(t, "shared", 1)
	ca := func(name string) string { return "--kafka-ca-file=" + filepath.Join(b.files, name) }
	for name, test := range map[string]struct {
		address string
		flags   []string
		want    string
	}{
		"wrong password, PLAIN":         {b.sasl, b.saslFlags("plain", "plain", "wrong"), "Invalid username or password (see --kafka-sasl-user"},
		"unknown user, PLAIN":           {b.sasl, b.saslFlags("plain", "nobody", "plain"), "Invalid username or password (see --kafka-sasl-user"},
		"wrong password, SCRAM-SHA-256": {b.sasl, b.saslFlags("scram-sha-256", "scram256", "wrong"), "invalid credentials with SASL mechanism SCRAM-SHA-256 (see --kafka-sasl-user"},
		"wrong password, SCRAM-SHA-512": {b.sasl, b.saslFlags("scram-sha-512", "scram512", "wrong"), "invalid credentials with SASL mechanism SCRAM-SHA-512 (see --kafka-sasl-user"},
		"user of another mechanism":     {b.sasl, b.saslFlags("scram-sha-512", "scram256", "scram256"), "invalid credentials with SASL mechanism SCRAM-SHA-512 (see --kafka-sasl-user"},
		"no user":                       {b.sasl, []string{"--kafka-tls", ca("ca.pem")}, "add --kafka-sasl-mechanism"},
		"unknown authority":             {b.mutual, []string{"--kafka-tls", ca("other-ca.pem")}, "unknown authority"},
		"authorities of the system":     {b.mutual, []string{"--kafka-tls"}, "--kafka-ca-file"},
		"wrong server name":             {b.mutual, append(b.mutualFlags(), "--kafka-server-name=other.example"), "not other.example"},
		"no certificate":                {b.mutual, []string{"--kafka-tls", ca("ca.pem")}, "certificate required"},
		"plain text to TLS":             {b.mutual, nil, "Add --kafka-tls"},
		"plain text to TLS and SASL":    {b.sasl, nil, "Add --kafka-tls"},
		"TLS to plain text":             {b.addresses[0], []string{"--kafka-tls", ca("ca.pem")}, "eave --kafka-tls out"},
		"SASL to a listener without":    {b.mutual, append(b.mutualFlags(), b.saslFlags("plain", "plain", "plain")[2:]...), "leave --kafka-sasl-mechanism out"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHerald(t, b.at(test.address), append(test.flags, "--topic="+topic)...)
			h.Launch()
			h.WaitNotReady()
			waitFor(t, "two attempts", func(context.Context) bool { return h.Metric(`herald_kafka_errors_total{kind="contact"}`) >= 2 })
			_, ready := read(t, "http://"+h.admin+"/readyz")
			t.Logf("readyz: %s\nlog: %s", ready, h.printed.String())
			if !strings.Contains(ready, test.want) {
				t.Errorf("/readyz says %q, which does not name the cause: %q", ready, test.want)
			}
			var warnings []string
			for line := range strings.Lines(h.printed.String()) {
				if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
					warnings = append(warnings, line)
				}
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], test.want) {
				t.Errorf("the log says %q, want one line that names the cause: %q", warnings, test.want)
			}
			if authenticated := strings.Contains(test.want, "--kafka-sasl-user"); authenticated {
				for _, other := range []string{"EOF", "connection closed"} {
					if strings.Contains(ready+strings.Join(warnings, ""), other) {
						t.Errorf("/readyz says %q, the log %q: %s is not the cause", ready, warnings, other)
					}
				}
			}
			checkNoSecret(t, h)
		})
	}
}

// read returns the status and the text of the address's answer.
func read(t *testing.T, address string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatalf("GET %s: %v", address, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("GET %s: %v", address, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", address, err)
	}
	return response.StatusCode, string(text)
}

// TestTopicDenied takes the right to read a topic away for a while, and the right to know of it.
func TestTopicDenied(t *testing.T) {
	for name, allowed := range map[string][]kadm.ACLOperation{"read": {kadm.OpDescribe}, "all": nil} {
		t.Run(name, func(t *testing.T) {
			b := sharedSecureBroker(t)
			denied, other := b.newTopic(t, "denied", 2), b.newTopic(t, "other", 1)
			h := startHerald(t, b.at(b.sasl), append(b.saslFlags("scram-sha-256", "scram256", "scram256"), "--topic="+denied, "--topic="+other)...)
			alice := openStream(t, h, "alice")
			b.produce(t, record(denied, "alice", "allowed"))
			if got := alice.Record().Data; got != "allowed" {
				t.Errorf("got %q, want the record of the topic that is allowed", got)
			}
			rule := func() *kadm.ACLBuilder {
				return kadm.NewACLs().Topics(denied).ResourcePatternType(kadm.ACLPatternLiteral)
			}
			rules := []*kadm.ACLBuilder{rule().Operations(kadm.OpRead).Deny("User:scram256").DenyHosts("*")}
			if allowed != nil { // a topic with one rule denies what no rule allows
				rules = append(rules, rule().Operations(allowed...).Allow("User:scram256").AllowHosts("*"))
			}
			for _, r := range slices.Backward(rules) {
				if made, err := b.admin.CreateACLs(t.Context(), r); err != nil || made[0].Err != nil {
					t.Fatalf("create ACL: %v, %+v", err, made)
				}
			}
			waitFor(t, "the denial is counted", func(context.Context) bool { return h.Metric(`herald_kafka_errors_total{kind="denied"}`) > 0 })
			// A fetch that was allowed may still wait for records, of the other topic too.
			b.produce(t, record(other, "alice", "ends that fetch"))
			alice.Values(1)
			b.produce(t, record(denied, "alice", "while denied"), record(other, "alice", "other"))
			if got := alice.Record().Data; got != "other" {
				t.Errorf("got %q, want the record of the other topic", got)
			}
			var lines []string
			for line := range strings.Lines(h.printed.String()) {
				if strings.Contains(line, "level=ERROR") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], denied) {
				t.Errorf("the log has these errors, want one that names the topic:\n%s", strings.Join(lines, ""))
			}
			for _, r := range rules {
				if gone, err := b.admin.DeleteACLs(t.Context(), r); err != nil || len(gone) != 1 || len(gone[0].Deleted) != 1 {
					t.Fatalf("delete ACL: %v, %+v", err, gone)
				}
			}
			if got := alice.Record().Data; got != "while denied" {
				t.Errorf("got %q, want what was written while the topic was denied", got)
			}
		})
	}
}
