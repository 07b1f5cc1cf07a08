package main

import (
	"context"
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
	KafkaSASLMechanism         string   `name:"kafka-sasl-mechanism" anycase:"" enum:",plain,scram-sha-256,scram-sha-512,oauthbearer,aws-msk-iam" default:"" placeholder:"NAME" help:"SASL mechanism to log in to Kafka with, in any case: plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam (Amazon MSK, with the credentials that the AWS SDK finds). Default: no log-in." group:"Kafka"`
	KafkaSASLUser              string   `name:"kafka-sasl-user" placeholder:"NAME" help:"User name for plain and SCRAM. Default: none." group:"Kafka"`
	KafkaSASLPasswordFile      string   `name:"kafka-sasl-password-file" placeholder:"FILE" help:"File with the password of --kafka-sasl-user, one line of text. Default: none." group:"Kafka"`
	KafkaOAuthTokenFile        string   `name:"kafka-oauth-token-file" placeholder:"FILE" help:"File with the access token for oauthbearer, one line of text. Herald reads the file for each log-in, so that another program can renew the token. Default: none." group:"Kafka"`
	KafkaOAuthTokenURL         string   `name:"kafka-oauth-token-url" placeholder:"URL" help:"URL of the token endpoint from which Herald gets access tokens for oauthbearer by client credentials (RFC 6749). A token is renewed before it ends. Default: none." group:"Kafka"`
	KafkaOAuthClientID         string   `name:"kafka-oauth-client-id" placeholder:"NAME" help:"Client id for --kafka-oauth-token-url. Default: none." group:"Kafka"`
	KafkaOAuthClientSecretFile string   `name:"kafka-oauth-client-secret-file" placeholder:"FILE" help:"File with the secret of --kafka-oauth-client-id, one line of text. Default: none." group:"Kafka"`
	KafkaOAuthScope            string   `name:"kafka-oauth-scope" placeholder:"TEXT" help:"Scope to ask --kafka-oauth-token-url for; several are separated by spaces. Default: none is sent." group:"Kafka"`
	KafkaOAuthAudience         string   `name:"kafka-oauth-audience" placeholder:"TEXT" help:"Parameter audience to send to --kafka-oauth-token-url, which some issuers want. Default: none is sent." group:"Kafka"`
	KafkaOAuthCAFile           string   `name:"kafka-oauth-ca-file" placeholder:"FILE" help:"PEM file of the authorities that may sign the certificate of --kafka-oauth-token-url. Default: the authorities of the system." group:"Kafka"`
	InsecureKafkaOAuthHTTP     bool     `name:"insecure-kafka-oauth-http" help:"Allow --kafka-oauth-token-url to begin with http:// and name another machine. Everybody on the way can read the secret and the token, so this is for networks that you trust. Default: https only, except on this machine." group:"Kafka"`
	KafkaOAuthExtension        []string `name:"kafka-oauth-extension" placeholder:"NAME=VALUE" help:"Extensions that the broker wants beside the token, such as logicalCluster=lkc-1a2b3c (KIP-342). Default: none." group:"Kafka"`
	KafkaAWSRegion             string   `name:"kafka-aws-region" placeholder:"NAME" help:"AWS region of the cluster, for aws-msk-iam. Default: the region in the broker's name, or else the region that the AWS SDK finds." group:"Kafka"`
}

// The values of --kafka-sasl-mechanism.
const (
	loginPlain  = "plain"
	loginSHA256 = "scram-sha-256"
	loginSHA512 = "scram-sha-512"
	loginBearer = "oauthbearer"
	loginIAM    = "aws-msk-iam"
)

// check returns an error for a flag that the mechanism does not use, and for a missing flag.
func (l *loginFlags) check() error {
	user := l.KafkaSASLUser != "" || l.KafkaSASLPasswordFile != ""
	wantsUser := l.KafkaSASLMechanism == loginPlain || l.KafkaSASLMechanism == loginSHA256 || l.KafkaSASLMechanism == loginSHA512
	switch {
	case user && l.KafkaSASLMechanism == "":
		return errors.New("--kafka-sasl-user and --kafka-sasl-password-file need --kafka-sasl-mechanism")
	case user && !wantsUser:
		return fmt.Errorf("--kafka-sasl-user and --kafka-sasl-password-file have no effect with --kafka-sasl-mechanism=%s: leave them out", l.KafkaSASLMechanism)
	case wantsUser && (l.KafkaSASLUser == "" || l.KafkaSASLPasswordFile == ""):
		return fmt.Errorf("--kafka-sasl-mechanism=%s needs --kafka-sasl-user and --kafka-sasl-password-file", l.KafkaSASLMechanism)
	}
	if l.KafkaAWSRegion != "" && l.KafkaSASLMechanism != loginIAM {
		return errors.New("--kafka-aws-region needs --kafka-sasl-mechanism=aws-msk-iam")
	}
	return l.checkOAuth()
}

// checkOAuth checks the flags of oauthbearer. A token comes from a file or from an endpoint.
func (l *loginFlags) checkOAuth() error {
	credentials := l.KafkaOAuthTokenURL != "" || l.KafkaOAuthClientID != "" || l.KafkaOAuthClientSecretFile != "" ||
		l.KafkaOAuthScope != "" || l.KafkaOAuthAudience != "" || l.KafkaOAuthCAFile != "" || l.InsecureKafkaOAuthHTTP
	given := credentials || l.KafkaOAuthTokenFile != "" || len(l.KafkaOAuthExtension) > 0
	switch {
	case given && l.KafkaSASLMechanism != loginBearer:
		return errors.New("the flags --kafka-oauth-… need --kafka-sasl-mechanism=oauthbearer")
	case l.KafkaSASLMechanism != loginBearer:
		return nil
	case credentials && l.KafkaOAuthTokenFile != "":
		return errors.New("--kafka-oauth-token-file and --kafka-oauth-token-url with its flags exclude each other: the token comes from a file or from an endpoint")
	case !credentials && l.KafkaOAuthTokenFile == "":
		return errors.New("--kafka-sasl-mechanism=oauthbearer needs --kafka-oauth-token-file, or --kafka-oauth-token-url, --kafka-oauth-client-id and --kafka-oauth-client-secret-file")
	case credentials && (l.KafkaOAuthTokenURL == "" || l.KafkaOAuthClientID == "" || l.KafkaOAuthClientSecretFile == ""):
		return errors.New("--kafka-oauth-token-url, --kafka-oauth-client-id and --kafka-oauth-client-secret-file go together")
	}
	return nil
}

// mechanism makes the SASL mechanism. contents has the text of each file that was read for it, by the name of the flag.
// The mechanism is nil without --kafka-sasl-mechanism, and if check refuses the flags.
func (l *loginFlags) mechanism(ctx context.Context) (mechanism sasl.Mechanism, contents map[string]string, err error) {
	if l.KafkaSASLMechanism == "" || l.check() != nil {
		return nil, nil, nil //nolint:nilerr // the commands call check before
	}
	contents = make(map[string]string)
	switch l.KafkaSASLMechanism {
	case loginBearer:
		mechanism, err = l.bearer(contents)
	case loginIAM:
		iam, err := login.NewIAM(ctx, l.KafkaAWSRegion)
		if err != nil {
			return nil, nil, fmt.Errorf("--kafka-sasl-mechanism=%s: %w", loginIAM, err)
		}
		mechanism = iam
	default:
		mechanism, err = l.password(contents)
	}
	return mechanism, contents, err
}

// password returns a mechanism with a user and a password.
func (l *loginFlags) password(contents map[string]string) (mechanism sasl.Mechanism, err error) {
	text, err := textfile.ReadSecret(l.KafkaSASLPasswordFile)
	if err != nil {
		return nil, fmt.Errorf("--kafka-sasl-password-file: %w", err)
	}
	password := string(text)
	contents["kafka-sasl-password-file"] = password
	switch l.KafkaSASLMechanism {
	case loginSHA256:
		mechanism, err = scram.Mechanism(scram.SHA256, l.KafkaSASLUser, password)
	case loginSHA512:
		mechanism, err = scram.Mechanism(scram.SHA512, l.KafkaSASLUser, password)
	default:
		mechanism = plain.Mechanism{Username: l.KafkaSASLUser, Password: password}
	}
	if err != nil { // a character that SASLprep (RFC 4013) forbids
		return nil, fmt.Errorf("--kafka-sasl-user or its password: %w", err)
	}
	return mechanism, nil
}

// bearer returns the mechanism oauthbearer.
func (l *loginFlags) bearer(contents map[string]string) (sasl.Mechanism, error) {
	source, err := l.tokens(contents)
	if err != nil {
		return nil, err
	}
	mechanism, err := login.NewBearer(source, l.KafkaOAuthExtension)
	if err != nil {
		return nil, fmt.Errorf("--kafka-oauth-extension: %w", err)
	}
	return mechanism, nil
}

// tokens returns the source of the tokens. It reads a token's file once, so that Herald does not start without the file.
func (l *loginFlags) tokens(contents map[string]string) (login.Source, error) {
	if l.KafkaOAuthTokenFile != "" {
		file := login.File(l.KafkaOAuthTokenFile)
		_, err := file.Read()
		return file, err
	}
	secret, err := textfile.ReadSecret(l.KafkaOAuthClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("--kafka-oauth-client-secret-file: %w", err)
	}
	contents["kafka-oauth-client-secret-file"] = string(secret)
	cfg := login.EndpointConfig{
		URL: l.KafkaOAuthTokenURL, AllowHTTP: l.InsecureKafkaOAuthHTTP, ClientID: l.KafkaOAuthClientID, Secret: string(secret),
		Scope: l.KafkaOAuthScope, Audience: l.KafkaOAuthAudience,
	}
	if l.KafkaOAuthCAFile != "" {
		text, _ := textfile.Read(l.KafkaOAuthCAFile, textfile.MaxPEM) // authorities returns the error
		contents["kafka-oauth-ca-file"] = string(text)
		if cfg.RootCAs, err = authorities("kafka-oauth-ca-file", l.KafkaOAuthCAFile); err != nil {
			return nil, err
		}
	}
	return login.NewEndpoint(cfg)
}

// noKerberos ends the error for Kerberos, which would need a library, a ticket cache and a keytab.
const noKerberos = "; Herald does not speak Kerberos: give the broker a listener with one of these mechanisms"

// explainMechanism returns the end of the error for a name that is not a value of --kafka-sasl-mechanism; "" if there is nothing to add.
func explainMechanism(name string) string {
	switch strings.ToLower(name) {
	case "gssapi", "kerberos":
		return noKerberos
	}
	return ""
}
