package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// secureBroker is a broker with a listener for each way to authenticate. The tests use its plain listener, whose
// clients may do everything.
type secureBroker struct {
	broker
	sasl, mutual string // addresses of the listeners: SASL_SSL, and TLS with a client's certificate
	short        string // address of another listener of SASL_SSL, whose sessions last for sessionLifetime

	// advertise, which may be nil, returns what the listeners advertise instead of their addresses.
	advertise func(plain, sasl, mutual string) [3]string
	ca        authority
	issuer    *issuer // of the tokens for OAUTHBEARER
	files     string  // directory of the certificates, keys and passwords for herald
}

// theSecureBroker is the broker of all tests of authentication and rights.
var theSecureBroker shared[secureBroker]

func sharedSecureBroker(t *testing.T) *secureBroker {
	t.Helper()
	sharedBroker(t) // skips without Docker
	b, err := theSecureBroker.get((*secureBroker).open)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *secureBroker) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), kafkaStartTimeout)
	defer cancel()
	if err := dockerAnswers(ctx); err != nil {
		return err
	}
	var addresses [4]string
	for i := range addresses {
		var err error
		if addresses[i], err = unusedAddress(ctx); err != nil {
			return err
		}
	}
	b.addresses, b.sasl, b.mutual, b.short = addresses[:1], addresses[1], addresses[2], addresses[3]
	advertised := [3]string(addresses[:3])
	if b.advertise != nil {
		advertised = b.advertise(addresses[0], addresses[1], addresses[2])
	}
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
	if b.issuer, err = newIssuer(); err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"ca.pem": b.ca.text, "other-ca.pem": other.text, "client.pem": clientPEM, "client.key": clientKey,
		"plain": []byte(plainPassword + "\n"), "scram256": []byte(scram256Password), "scram512": []byte(scram512Password + "\r\n"),
		"wrong": []byte(wrongPassword), "client-secret": []byte(clientSecret + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(b.files, name), text, 0o600); err != nil {
			return err
		}
	}
	file := func(path string, text []byte) testcontainers.ContainerFile {
		return testcontainers.ContainerFile{Reader: strings.NewReader(string(text)), ContainerFilePath: path, FileMode: 0o644}
	}
	b.container, err = testcontainers.Run(ctx, kafkaImage(),
		testcontainers.WithExposedPorts(kafkaPort, "9094/tcp", "9095/tcp", "9096/tcp"),
		bindPort(kafkaPort, b.addresses[0]), bindPort("9094/tcp", b.sasl), bindPort("9095/tcp", b.mutual), bindPort("9096/tcp", b.short),
		testcontainers.WithFiles(startScript(), file("/kafka-server.pem", append(serverKey, serverPEM...)), file("/kafka-ca.pem", b.ca.text), file("/kafka-keys.json", b.issuer.keySet())),
		testcontainers.WithEntrypoint("sh", kafkaStart), testcontainers.WithCmd(),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_ADVERTISED": b.addresses[0], "KAFKA_HOST": "localhost",
			"KAFKA_HEAP_OPTS":  "-Xms256m -Xmx512m -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:///kafka-keys.json",
			"KAFKA_PROPERTIES": fmt.Sprintf(secureProperties, advertised[0], advertised[1], advertised[2], b.short, sessionLifetime().Milliseconds(), plainPassword),
			"KAFKA_FORMAT": fmt.Sprintf("--add-scram SCRAM-SHA-256=[name=scram256,password=%s] --add-scram SCRAM-SHA-512=[name=scram512,password=%s]",
				scram256Password, scram512Password),
		}))
	if err != nil {
		return fmt.Errorf("start a broker that authenticates: %w", err)
	}
	return b.connect(ctx)
}

const secureProperties = `
listeners=EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://localhost:9093,SASL://:9094,MUTUAL://:9095,SHORT://:9096
advertised.listeners=EXTERNAL://%[1]s,INTERNAL://localhost:19092,SASL://%[2]s,MUTUAL://%[3]s,SHORT://%[4]s
listener.security.protocol.map=EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,SHORT:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.short.plain.connections.max.reauth.ms=%[5]d
listener.name.short.scram-sha-256.connections.max.reauth.ms=%[5]d
listener.name.short.scram-sha-512.connections.max.reauth.ms=%[5]d
listener.name.short.oauthbearer.connections.max.reauth.ms=%[5]d
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="%[6]s" user_plain2="%[6]s";
listener.name.short.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="%[6]s" user_plain2="%[6]s";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.short.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.short.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.short.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.short.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url=file:///kafka-keys.json
sasl.oauthbearer.expected.audience=kafka
sasl.oauthbearer.clock.skew.seconds=0
ssl.keystore.type=PEM
ssl.keystore.location=/kafka-server.pem
ssl.truststore.type=PEM
ssl.truststore.location=/kafka-ca.pem
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
`

// reauthenticationVariable sets how long TestReauthentication runs, such as 5m. Sessions then last for eleven seconds, so
// that Herald logs in again about every ten seconds.
const reauthenticationVariable = "HERALD_REAUTHENTICATION"

// sessionLifetime is how long a log-in lasts at the listener [secureBroker.short] (connections.max.reauth.ms).
func sessionLifetime() time.Duration {
	if os.Getenv(reauthenticationVariable) != "" {
		return 11 * time.Second
	}
	return 2 * time.Second
}

// remove removes the container and the files, if there are any.
func (b *secureBroker) remove() error {
	if b.files != "" {
		_ = os.RemoveAll(b.files)
	}
	return b.broker.remove()
}

// at returns the broker with one of its listeners as the only address.
func (b *secureBroker) at(address string) *broker {
	listener := b.broker
	listener.addresses = []string{address}
	return &listener
}

// saslFlags returns the flags with which herald authenticates by the SASL mechanism over TLS.
func (b *secureBroker) saslFlags(mechanism, user, passwordFile string) []string {
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"), "--kafka-sasl-mechanism=" + mechanism,
		"--kafka-sasl-user=" + user, "--kafka-sasl-password-file=" + filepath.Join(b.files, passwordFile),
	}
}

// mutualFlags returns the flags with which herald authenticates by a certificate.
func (b *secureBroker) mutualFlags() []string {
	return []string{
		"--kafka-tls", "--kafka-ca-file=" + filepath.Join(b.files, "ca.pem"),
		"--kafka-cert-file=" + filepath.Join(b.files, "client.pem"), "--kafka-key-file=" + filepath.Join(b.files, "client.key"),
	}
}
