package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"

	"herald/auth"
	"herald/cmd/herald/listener/certtest"
	"herald/cmd/herald/login"
	"herald/cmd/herald/server"
	"herald/consumer"
)

// TestReloadCompares changes the configuration file, and the files that it names. compare says which flags a reload
// applies and which need a restart.
func TestReloadCompares(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"secret", "secret2"} {
		if err := auth.WriteSecretFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := auth.WriteKeyFiles("key.pem"); err != nil {
		t.Fatal(err)
	}
	read := func(config string) *reloader {
		t.Helper()
		write("config.yaml", config)
		cli := new(commands)
		parsed, err := parseArgs(t.Context(), []string{"serve", "--brokers=a:1", "--topic=t", "--config=config.yaml"}, cli)
		if err != nil {
			t.Fatal(err)
		}
		r := &reloader{flags: flagValues(parsed)}
		var errs []error
		if r.files, errs = cli.Serve.readFiles(t.Context(), slog.New(slog.DiscardHandler)); len(errs) > 0 {
			t.Fatal(errs)
		}
		return r
	}
	renew := func() { certtest.WriteKeyPair(t, "tls.pem", "tls.key", time.Now().UnixNano()) }
	renew()
	const secret, tls, sasl = "jwt-secret-file: secret\n", "tls-cert-file: tls.pem\ntls-key-file: tls.key\n", //nolint:gosec // names of files
		"kafka-sasl-mechanism: plain\nkafka-sasl-user: a\nkafka-sasl-password-file: password\n"
	const bearer = "kafka-sasl-mechanism: OAUTHBEARER\nkafka-oauth-token-file: password\n"                                                                                      //nolint:gosec // names of files
	const credentials = "kafka-sasl-mechanism: oauthbearer\nkafka-oauth-token-url: https://issuer.example/\nkafka-oauth-client-id: a\nkafka-oauth-client-secret-file: client\n" //nolint:gosec // names of files
	write("password", "one\n")
	write("client", "one\n")
	for name, test := range map[string]struct {
		before, after    string
		meanwhile        func()
		applied, restart []string
	}{
		"nothing":  {secret, secret, nil, nil, nil},
		"limit":    {secret, secret + "max-streams: 5\nlisten: 127.0.0.1:1\n", nil, []string{"--max-streams"}, []string{"--listen"}},
		"back":     {secret + "log-level: debug\n", secret, nil, []string{"--log-level"}, nil},
		"one more": {secret, "jwt-secret-file: [secret, secret2]\n", nil, []string{"--jwt-secret-file"}, nil},
		"the secret's text": {secret, secret, func() {
			_ = os.Remove("secret")
			if err := auth.WriteSecretFile("secret"); err != nil {
				t.Fatal(err)
			}
		}, []string{"--jwt-secret-file"}, nil},
		"secret to public key": {secret, "jwt-public-key-file: key.pem.pub\n", nil, []string{"--jwt-public-key-file", "--jwt-secret-file"}, nil},
		"secret to key set":    {secret, "jwks-url: http://localhost:1/\n", nil, nil, []string{"--jwks-url", "--jwt-secret-file"}},
		"key set to secret":    {"jwks-url: http://localhost:1/\n", secret, nil, nil, []string{"--jwks-url", "--jwt-secret-file"}},
		"no authentication":    {secret, "insecure-no-auth: true\n", nil, nil, []string{"--insecure-no-auth", "--jwt-secret-file"}},
		"another key set":      {"jwks-url: http://localhost:1/\n", "jwks-url: http://localhost:2/\njwt-audience: a\n", nil, []string{"--jwt-audience"}, []string{"--jwks-url"}},
		"renewed certificate":  {secret + tls, secret + tls, renew, []string{"--tls-cert-file"}, nil},
		"TLS from now on":      {secret, secret + tls, nil, nil, []string{"--tls-cert-file", "--tls-key-file"}},
		"password":             {secret + sasl, secret + sasl, func() { write("password", "two\n") }, []string{"--kafka-sasl-password-file"}, nil},
		"user":                 {secret + sasl, secret + strings.Replace(sasl, "user: a", "user: b", 1), nil, []string{"--kafka-sasl-user"}, nil},
		"mechanism":            {secret + sasl, secret + strings.Replace(sasl, "plain", "scram-sha-256", 1), nil, nil, []string{"--kafka-sasl-mechanism"}},
		"SASL from now on":     {secret, secret + sasl, nil, nil, []string{"--kafka-sasl-mechanism", "--kafka-sasl-password-file", "--kafka-sasl-user"}},
		"token in a file":      {secret + bearer, secret + strings.Replace(bearer, "token-file: password", "token-file: secret2", 1), nil, []string{"--kafka-oauth-token-file"}, nil},
		"extension":            {secret + bearer, secret + bearer + "kafka-oauth-extension: a=b\n", nil, []string{"--kafka-oauth-extension"}, nil},
		"a new token":          {secret + bearer, secret + bearer, func() { write("password", "three\n") }, nil, nil}, // is read for each log-in
		"client's secret":      {secret + credentials, secret + credentials, func() { write("client", time.Now().String()) }, []string{"--kafka-oauth-client-secret-file"}, nil},
		"scope":                {secret + credentials, secret + credentials + "kafka-oauth-scope: a b\n", nil, []string{"--kafka-oauth-scope"}, nil},
		"same client":          {secret + credentials, secret + credentials, nil, nil, nil},
		"file to client":       {secret + bearer, secret + credentials, nil, []string{"--kafka-oauth-client-id", "--kafka-oauth-client-secret-file", "--kafka-oauth-token-file", "--kafka-oauth-token-url"}, nil},
		"password to client": {
			secret + sasl, secret + strings.Replace(credentials, "https:", "http:", 1) + "insecure-kafka-oauth-http: true\n", nil, nil,
			[]string{
				"--insecure-kafka-oauth-http", "--kafka-oauth-client-id", "--kafka-oauth-client-secret-file", "--kafka-oauth-token-url",
				"--kafka-sasl-mechanism", "--kafka-sasl-password-file", "--kafka-sasl-user",
			},
		},
		"password to token": {secret + sasl, secret + bearer, nil, nil, []string{"--kafka-oauth-token-file", "--kafka-sasl-mechanism", "--kafka-sasl-password-file", "--kafka-sasl-user"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(test.before)
			if test.meanwhile != nil {
				test.meanwhile()
			}
			now := read(test.after)
			d := r.compare(now.flags, now.files)
			if diff := cmp.Diff(append([]string{}, test.applied...), names(d.applied)); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append([]string{}, test.restart...), names(d.restart)); diff != "" {
				t.Errorf("need a restart (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReloadReplacesLogin replaces the mechanism for Kafka if a flag or a file has changed, and always with the credentials
// of AWS, because no flag names their files.
func TestReloadReplacesLogin(t *testing.T) {
	for name, test := range map[string]struct {
		mechanism sasl.Mechanism
		replaces  bool
	}{
		"password": {plain.Mechanism{}, false},
		"AWS":      {new(login.IAM), true},
	} {
		r := &reloader{files: files{kafka: connection{sasl: test.mechanism}}}
		if d := r.compare(nil, r.files); d.keepsLogin == test.replaces {
			t.Errorf("%s: keeps the log-in: %v", name, d.keepsLogin)
		}
	}
}

// TestServerStopsWhileReloadHangs stops a server whose reload never returns, as if it read a file of a network that is down.
func TestServerStopsWhileReloadHangs(t *testing.T) {
	cfg := server.DefaultConfig()
	cfg.Consumer = consumer.Config{Brokers: []string{"127.0.0.1:1"}, Group: "g", Replica: "r", Routes: []consumer.Route{{Topic: "t"}}}
	cfg.Listen, cfg.AdminListen, cfg.InsecureNoAuth, cfg.DrainTimeout = "127.0.0.1:0", "127.0.0.1:0", true, 0
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(t.Context())
	hangups, hangs, ended := make(chan os.Signal, 1), make(chan struct{}), make(chan error, 1)
	hangups <- syscall.SIGHUP
	reloading := make(chan struct{})
	go func() {
		ended <- runServer(ctx, cfg, hangups, func(*server.Server) {}, func(*server.Server) { close(reloading); <-hangs })
	}()
	<-reloading
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server does not stop")
	}
	close(hangs)
}
