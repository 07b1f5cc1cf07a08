package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"herald/auth"
	"herald/cmd/herald/listener/certtest"
	"herald/cmd/herald/server"
)

// TestMistakesAtStart wants one line on standard error, which names the flag and says what to do.
func TestMistakesAtStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(key); err != nil {
		t.Fatal(err)
	}
	busy := taken(t)
	free := []string{"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}
	serve := with([]string{"serve", "--brokers=127.0.0.1:1", "--topic=t", "--insecure-no-auth"}, free...)
	dev := with([]string{"dev", "--kafka-listen=127.0.0.1:0"}, free...)
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":           {nil, exitUsage, "herald dev"},
		"help of nothing":   {[]string{"help", "sevre"}, exitUsage, `did you mean "serve"`},
		"unknown command":   {[]string{"sevre"}, exitUsage, `did you mean "serve"`},
		"public port":       {with(serve, "--listen="+busy), exitFailed, "--listen " + busy + ": bind: address already in use: stop what listens there, or choose another port"},
		"admin port":        {with(serve, "--admin-listen="+busy), exitFailed, "--admin-listen " + busy + ": bind: address already in use"},
		"kafka port":        {with(dev, "--kafka-listen="+busy), exitFailed, "--kafka-listen " + busy + ": bind: address already in use"},
		"no address":        {with(serve, "--listen=nowhere"), exitUsage, "--listen nowhere: "},
		"foreign address":   {with(serve, "--listen=192.0.2.1:80"), exitFailed, "choose an address of this machine"},
		"data in a file":    {with(dev, "--data-dir="+file), exitFailed, "choose a directory that this user can write to"},
		"no secret file":    {with(serve[:3], "--jwt-secret-file="+file+"x"), exitUsage, "--jwt-secret-file: "},
		"empty secret file": {with(serve[:3], "--jwt-secret-file="+file), exitUsage, "--jwt-secret-file: the file " + file + " is empty: make one with herald token --new-secret FILE"},
		"no secret of dev":  {with(dev, "--jwt-secret-file="+file), exitUsage, "--jwt-secret-file: "},
		"key set by http":   {with(serve[:3], "--jwks-url=http://keys.example/jwks.json"), exitUsage, "--jwks-url: want https: an attacker who can change the response can sign tokens (http is allowed for this machine, and with --insecure-jwks-http"},
		"key set by https":  {with(serve[:3], "--jwks-url=https://keys.example/jwks.json", "--insecure-jwks-http"), exitUsage, "--jwks-url: --insecure-jwks-http has no effect with this URL"},
		"no authority":      {with(serve, "--kafka-tls", "--kafka-ca-file="+file+"x"), exitUsage, "--kafka-ca-file: "},
		"authority's key":   {with(serve, "--kafka-tls", "--kafka-ca-file="+key), exitUsage, "--kafka-ca-file: " + key + " has no certificate in PEM that can be read, it is a private key in PEM"},
		"no broker":         {[]string{"produce", "--brokers=127.0.0.1:1", "--user=alice", "x"}, exitFailed, "no Kafka broker answers at 127.0.0.1:1: connection refused"},
		"no broker's name":  {[]string{"produce", "--brokers=herald.invalid:1", "--everyone", "x"}, exitFailed, "no Kafka broker answers at herald.invalid:1: lookup herald.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stderr := start(t, test.args...)
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, %q, want %d and %q", code, stderr, test.code, test.want)
			}
			if test.args != nil && strings.Count(stderr, "\n") != 1 {
				t.Errorf("%q: want one line", stderr)
			}
		})
	}
}

// TestPublicKeyIsNotASecret signs a token with the text of a public key as the secret, which everybody can do. A
// server that is given the public key as its secret would accept the token, so it must not start.
func TestPublicKeyIsNotASecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := auth.WriteKeyFiles(path); err != nil {
		t.Fatal(err)
	}
	public := path + ".pub"
	text, err := os.ReadFile(public) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSecretSigner(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(auth.Identity{User: "alice", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Secret(text)
	if err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWT(auth.JWTConfig{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Verify(t.Context(), token); err != nil {
		t.Fatalf("the token is not what such a server would accept: %v", err)
	}
	for _, args := range [][]string{
		{"serve", "--brokers=127.0.0.1:1", "--topic=t", "--jwt-secret-file=" + public, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"},
		{"token", "--user=alice", "--jwt-secret-file=" + public},
		{"bench", "--url=http://127.0.0.1:1", "--jwt-secret-file=" + public},
	} {
		code, stderr := start(t, args...)
		if want := "--jwt-secret-file: " + public + " is not a secret: this is a public key in PEM: --jwt-public-key-file takes it"; code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("herald %s: exit code %d, %q, want %d and %q", args[0], code, stderr, exitUsage, want)
		}
	}
}

// TestKeySetByHTTP wants a warning if the key set of another machine is fetched without TLS.
func TestKeySetByHTTP(t *testing.T) {
	for address, insecure := range map[string]bool{"http://keys.example/jwks.json": true, "http://127.0.0.1:1/jwks.json": false, "https://keys.example/jwks.json": false} {
		var log bytes.Buffer
		keys, err := (&authFlags{JWKSURL: address, InsecureJWKSHTTP: insecure}).keys(slog.New(slog.NewTextHandler(&log, nil)))
		if keys == nil || err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if got := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), "url="+address); got != insecure {
			t.Errorf("%s: the log is %q, want a warning: %v", address, log.String(), insecure)
		}
	}
}

// fileFlags are the flags that name a file to read, with the other flags that they need. FILE stands for the file
// under test, PEM for a good file of a certificate and its key.
var fileFlags = map[string][]string{
	"serve --jwt-secret-file":                {"--jwt-secret-file=FILE"},
	"serve --jwt-public-key-file":            {"--jwt-public-key-file=FILE"},
	"serve --jwks-ca-file":                   {"--jwks-url=https://issuer.example", "--jwks-ca-file=FILE"},
	"serve --tls-cert-file":                  {"--insecure-no-auth", "--tls-cert-file=FILE", "--tls-key-file=PEM"},
	"serve --tls-key-file":                   {"--insecure-no-auth", "--tls-cert-file=PEM", "--tls-key-file=FILE"},
	"serve --kafka-ca-file":                  {"--insecure-no-auth", "--kafka-tls", "--kafka-ca-file=FILE"},
	"serve --kafka-cert-file":                {"--insecure-no-auth", "--kafka-tls", "--kafka-cert-file=FILE", "--kafka-key-file=PEM"},
	"serve --kafka-key-file":                 {"--insecure-no-auth", "--kafka-tls", "--kafka-cert-file=PEM", "--kafka-key-file=FILE"},
	"serve --kafka-sasl-password-file":       {"--insecure-no-auth", "--kafka-sasl-mechanism=plain", "--kafka-sasl-user=herald", "--kafka-sasl-password-file=FILE"},
	"serve --kafka-oauth-token-file":         {"--insecure-no-auth", "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-file=FILE"},
	"serve --kafka-oauth-client-secret-file": {"--insecure-no-auth", "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-url=https://a.example/", "--kafka-oauth-client-id=a", "--kafka-oauth-client-secret-file=FILE"},
	"serve --kafka-oauth-ca-file":            {"--insecure-no-auth", "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-url=https://a.example/", "--kafka-oauth-client-id=a", "--kafka-oauth-client-secret-file=SECRET", "--kafka-oauth-ca-file=FILE"},
	"serve --schema-registry-password-file":  {"--insecure-no-auth", "--topic=a,format=registry", "--schema-registry-url=https://a.example", "--schema-registry-user=a", "--schema-registry-password-file=FILE"},
	"serve --schema-registry-token-file":     {"--insecure-no-auth", "--topic=a,format=registry", "--schema-registry-url=https://a.example", "--schema-registry-token-file=FILE"},
	"serve --schema-registry-ca-file":        {"--insecure-no-auth", "--topic=a,format=registry", "--schema-registry-url=https://a.example", "--schema-registry-ca-file=FILE"},
	"dev --jwt-secret-file":                  {"--kafka-listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--jwt-secret-file=FILE"},
	"token --jwt-secret-file":                {"--user=alice", "--jwt-secret-file=FILE"},
	"token --jwt-key-file":                   {"--user=alice", "--jwt-key-file=FILE"},
	"tail --token-file":                      {"--url=http://127.0.0.1:1", "--token-file=FILE"},
	"tail --ca-file":                         {"--url=https://127.0.0.1:1", "--ca-file=FILE"},
	"bench --jwt-secret-file":                {"--url=http://127.0.0.1:1", "--jwt-secret-file=FILE"},
	"bench --jwt-key-file":                   {"--url=http://127.0.0.1:1", "--jwt-key-file=FILE"},
	"bench --token-file":                     {"--url=http://127.0.0.1:1", "--token-file=FILE"},
}

// invisibleBytes are bytes that editors and shells add, and the words that name them in an error. The bytes in
// secrets are refused only where the file holds a secret, a password or a token.
var invisibleBytes = []struct {
	text, want string
	secrets    bool
}{
	{"\ufeffxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "begins with a byte order mark", false},
	{"\xff\xfex\x00x\x00", "is in UTF-16", false},
	{"x\x00x\x00x\x00x\x00", "is in UTF-16", false},
	{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx \n", "ends with a space", true},
	{"\u00a0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "begins with a no-break space", true},
	{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n\n", "ends with more than one line break", true},
	{"\n", "is empty", true},
}

// TestInvisibleBytesInFiles writes bytes that nobody sees into the file of each flag that reads one. The program must
// end, and name the flag, the file and the bytes.
func TestInvisibleBytesInFiles(t *testing.T) {
	dir := t.TempDir()
	file, good := filepath.Join(dir, "file"), filepath.Join(dir, "good.pem")
	certtest.WriteKeyPair(t, good, filepath.Join(dir, "key.pem"), 1)
	secretFile := filepath.Join(dir, "secret")
	if err := os.WriteFile(secretFile, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range fileFlags {
		command, flag, _ := strings.Cut(name, " ")
		args := []string{command}
		if command == "serve" {
			args = append(args, "--brokers=127.0.0.1:1", "--topic=t", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
		}
		for _, f := range flags {
			args = append(args, strings.NewReplacer("FILE", file, "PEM", good, "SECRET", secretFile).Replace(f))
		}
		for _, b := range invisibleBytes {
			if secret := strings.Contains(flag, "secret") || strings.Contains(flag, "password") || strings.Contains(flag, "token"); b.secrets && !secret {
				continue
			}
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stderr := start(t, args...)
			if want := file + " " + b.want; code != exitUsage || !strings.Contains(stderr, want) || !strings.Contains(stderr, flag) {
				t.Errorf("%s with %q: exit code %d, %q, want %d, the flag and %q", name, b.text, code, stderr, exitUsage, want)
			}
		}
	}
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		for _, f := range node.Flags {
			switch f.Name {
			case "config", "new-secret", "new-key", "json":
				continue // YAML, and files that are written
			}
			name := node.Name + " --" + f.Name
			if strings.HasPrefix(f.Name, "kafka-") || strings.HasPrefix(f.Name, "schema-registry-") || node.Name == "check" {
				name = "serve --" + f.Name // the same code for each command
			}
			if f.PlaceHolder == "FILE" && fileFlags[name] == nil {
				t.Errorf("herald %s --%s reads a file and is not tested", node.Name, f.Name)
			}
		}
	}
}

// TestInvisibleBytesInVariable does the same for the variable that holds a token.
func TestInvisibleBytesInVariable(t *testing.T) {
	for text, want := range map[string]string{"a.b.c\r": "ends with a line break", " a.b.c": "begins with a space", "\ufeffa.b.c": "begins with a byte order mark"} {
		t.Setenv("HERALD_TOKEN", text)
		if code, stderr := start(t, "tail", "--url=http://127.0.0.1:1"); code != exitUsage || !strings.Contains(stderr, "the environment variable HERALD_TOKEN "+want) {
			t.Errorf("%q: exit code %d, %q, want %d and %q", text, code, stderr, exitUsage, want)
		}
	}
}

// TestDataDirIsLocked starts a second herald dev in the data directory of the first.
func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	unlock, err := (&devCommand{DataDir: dir}).lock()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"dev", "--kafka-listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir=" + dir}
	code, stderr := start(t, args...)
	if want := "--data-dir " + dir + " is used by another herald dev"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, %q, want %q", code, stderr, want)
	}
	unlock()
	unlock, err = (&devCommand{DataDir: dir}).lock()
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	unlock()
}

// TestStopWhileKafkaIsDown ends a server that has never reached Kafka.
func TestStopWhileKafkaIsDown(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	ended, kafka := make(chan int, 1), taken(t)
	go func() {
		var stderr bytes.Buffer
		code := run(ctx, []string{
			"serve", "--brokers=" + kafka, "--topic=t", "--insecure-no-auth", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=error",
		}, &stderr)
		t.Log(stderr.String())
		ended <- code
	}()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	case <-time.After(20 * time.Second):
		t.Error("herald still runs 20 s after its context ended")
	}
}

// TestVersionFlag wants the flag to print what the command prints.
func TestVersionFlag(t *testing.T) {
	var out bytes.Buffer
	ended := -1
	parser := newParser(t.Context(), new(commands), new(configFile))
	parser.Stdout, parser.Exit = &out, func(code int) { ended = code }
	_, _ = parser.Parse([]string{"--version"}) // an error because this test's Exit returns and there is no command
	if want := versionLine() + "\n"; out.String() != want || ended != 0 {
		t.Errorf("%q and exit code %d, want %q and 0", out.String(), ended, want)
	}
}

// TestHelpCommand wants herald help to print what --help prints.
func TestHelpCommand(t *testing.T) {
	for want, args := range map[string][]string{"--help": {"help"}, "serve --help": {"help", "serve"}, "token --help": {"token", "--help"}} {
		if got := strings.Join(helpArgs(args), " "); got != want {
			t.Errorf("herald %s: herald %s, want %s", strings.Join(args, " "), got, want)
		}
	}
}

// TestRevocationTopicOfUsers wants the flag named, and the exit code of a wrong flag.
func TestRevocationTopicOfUsers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := auth.WriteSecretFile(secret); err != nil {
		t.Fatal(err)
	}
	code, stderr := start(t, "serve", "--brokers=127.0.0.1:1", "--topic=n.{user}", "--jwt-secret-file="+secret, "--revocation-topic=n.revoked", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	if want := "--revocation-topic: n.revoked is read for users by --topic n.{user}: revocations need a topic"; code != exitUsage || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, %q, want %q", code, stderr, want)
	}
}

// TestRevokeWithoutTopic wants herald revoke to report a missing topic, and not to create it.
func TestRevokeWithoutTopic(t *testing.T) {
	_, broker := startServer(t, devRoutes)
	code, stderr := start(t, "revoke", "--brokers="+broker.ListenAddrs()[0], "--topic=revocations", "--user=alice")
	if want := "topic revocations does not exist: correct --topic, or create it"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("herald revoke: exit code %d, %q, want %q", code, stderr, want)
	}
	if broker.TopicInfo("revocations") != nil {
		t.Error("herald revoke created the topic")
	}
}

// TestFlagsOfFields wants each field of the server's configuration called by its flag in errors.
func TestFlagsOfFields(t *testing.T) {
	known := make(map[string]bool)
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		for _, f := range node.Flags {
			known["--"+f.Name] = node.Name == "serve" || known["--"+f.Name]
		}
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[server.Config]()) {
		name := field.Name
		switch name {
		case "Settings", "Certificate", "Consumer", "Schemas", "Keys", "Middleware", "Version", "Logger", "FieldName":
			continue // no flag has the field's value
		case "AllowLoopbackOrigins":
			continue // herald dev sets it
		}
		if !known[flagOf(name)] {
			t.Errorf("%s: herald serve has no flag %s", name, flagOf(name))
		}
	}
}

// TestErrorsShowInvisibleCharacters gives flags and commands with characters that nobody sees, or that steer a
// terminal. The error shows them as escapes.
func TestErrorsShowInvisibleCharacters(t *testing.T) {
	for arg, want := range map[string]string{
		"--to\u200bpic=x": `--to\u200bpic`,
		"ser\u200bve":     `ser\u200bve`,
		"--listen\x1b[2J": `--listen\x1b[2J`,
		"--\u202enetsil":  `--\u202enetsil`,
	} {
		args := []string{"dev", arg}
		if code, stderr := start(t, args...); code != exitUsage || !strings.Contains(stderr, want) || strings.ContainsAny(stderr, "\u200b\x1b\u202e") {
			t.Errorf("%q: exit code %d, %q, want %s", arg, code, stderr, want)
		}
	}
}
