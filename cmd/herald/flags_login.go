package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"herald/auth/textfile"
	"herald/cmd/herald/login"
)

// loginFlags say how Herald logs in to Kafka.
type loginFlags struct {
	KafkaSASLMechanism    string   `name:"kafka-sasl-mechanism" anycase:"" enum:",plain,scram-sha-256,scram-sha-512,oauthbearer" default:"" placeholder:"NAME" help:"SASL mechanism to log in to Kafka with, in any case: plain, scram-sha-256, scram-sha-512 or oauthbearer. Default: no log-in." group:"Kafka"`
	KafkaSASLUser         string   `name:"kafka-sasl-user" placeholder:"NAME" help:"User name for plain and SCRAM. Default: none." group:"Kafka"`
	KafkaSASLPasswordFile string   `name:"kafka-sasl-password-file" placeholder:"FILE" help:"File with the password of --kafka-sasl-user, one line of text. Default: none." group:"Kafka"`
	KafkaOAuthTokenFile   string   `name:"kafka-oauth-token-file" placeholder:"FILE" help:"File with the access token for oauthbearer, one line of text. Herald reads the file for each log-in, so that another program can renew the token. Default: none." group:"Kafka"`
	KafkaOAuthExtension   []string `name:"kafka-oauth-extension" placeholder:"NAME=VALUE" help:"Extensions that the broker wants beside the token, such as logicalCluster=lkc-1a2b3c (KIP-342). Default: none." group:"Kafka"`
}

// loginNames are the names of mechanisms, as flags write them.
const (
	loginPlain  = "plain"
	loginSHA256 = "scram-sha-256"
	loginSHA512 = "scram-sha-512"
	loginBearer = "oauthbearer"
)

// check returns an error for a flag of another mechanism, and for a flag that is missing.
func (l *loginFlags) check() error {
	user := l.KafkaSASLUser != "" || l.KafkaSASLPasswordFile != ""
	oauth := l.KafkaOAuthTokenFile != "" || len(l.KafkaOAuthExtension) > 0
	wantsUser := l.KafkaSASLMechanism == loginPlain || l.KafkaSASLMechanism == loginSHA256 || l.KafkaSASLMechanism == loginSHA512
	switch {
	case user && l.KafkaSASLMechanism == "":
		return errors.New("--kafka-sasl-user and --kafka-sasl-password-file need --kafka-sasl-mechanism")
	case user && !wantsUser:
		return fmt.Errorf("--kafka-sasl-user and --kafka-sasl-password-file have no effect with --kafka-sasl-mechanism=%s: leave them out", l.KafkaSASLMechanism)
	case wantsUser && (l.KafkaSASLUser == "" || l.KafkaSASLPasswordFile == ""):
		return fmt.Errorf("--kafka-sasl-mechanism=%s needs --kafka-sasl-user and --kafka-sasl-password-file", l.KafkaSASLMechanism)
	case oauth && l.KafkaSASLMechanism != loginBearer:
		return errors.New("the flags --kafka-oauth-… need --kafka-sasl-mechanism=oauthbearer")
	case l.KafkaSASLMechanism == loginBearer && l.KafkaOAuthTokenFile == "":
		return errors.New("--kafka-sasl-mechanism=oauthbearer needs --kafka-oauth-token-file")
	}
	return nil
}

// mechanism returns the mechanism and the contents of the files that it was made from. It returns nil without
// --kafka-sasl-mechanism, and if a flag is missing, which check refuses.
func (l *loginFlags) mechanism() (mechanism sasl.Mechanism, secret string, err error) {
	if l.KafkaSASLMechanism == "" || l.check() != nil {
		return nil, "", nil //nolint:nilerr // the commands call check before
	}
	if l.KafkaSASLMechanism == loginBearer {
		mechanism, err = l.bearer()
		return mechanism, "", err
	}
	password, err := textfile.ReadSecret(l.KafkaSASLPasswordFile)
	if err != nil {
		return nil, "", fmt.Errorf("--kafka-sasl-password-file: %w", err)
	}
	secret = string(password)
	switch l.KafkaSASLMechanism {
	case loginSHA256:
		mechanism, err = scram.Mechanism(scram.SHA256, l.KafkaSASLUser, secret)
	case loginSHA512:
		mechanism, err = scram.Mechanism(scram.SHA512, l.KafkaSASLUser, secret)
	default:
		mechanism = plain.Mechanism{Username: l.KafkaSASLUser, Password: secret}
	}
	if err != nil { // a character that SASLprep (RFC 4013) forbids
		return nil, "", fmt.Errorf("--kafka-sasl-user or its password: %w", err)
	}
	return mechanism, secret, nil
}

// bearer returns the mechanism oauthbearer. It reads the file of the token once, so that a missing one is found at the
// start.
func (l *loginFlags) bearer() (*login.Bearer, error) {
	source := login.File(l.KafkaOAuthTokenFile)
	if _, err := source.Read(); err != nil {
		return nil, err
	}
	mechanism, err := login.NewBearer(source, l.KafkaOAuthExtension)
	if err != nil {
		return nil, fmt.Errorf("--kafka-oauth-extension: %w", err)
	}
	return mechanism, nil
}

// noKerberos says why a mechanism is not there. Kerberos needs a library of its own, a ticket cache and a keytab.
const noKerberos = "; Herald does not speak Kerberos: give the broker a listener with one of these mechanisms"

// explainMechanism adds to the error of a name which is no mechanism of Herald, but one of Kafka.
func explainMechanism(name string) string {
	switch strings.ToLower(name) {
	case "gssapi", "kerberos":
		return noKerberos
	}
	return ""
}
