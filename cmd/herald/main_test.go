package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"herald/auth"
	"herald/cmd/herald/server"
)

// TestMistakesAtStart wants one line on standard error, which names the flag and says what to do.
func TestMistakesAtStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
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
		"unknown command":   {[]string{"sevre"}, exitUsage, `did you mean "serve"`},
		"public port":       {with(serve, "--listen="+busy), exitFailed, "--listen " + busy + ": bind: address already in use: stop what listens there, or choose another port"},
		"admin port":        {with(serve, "--admin-listen="+busy), exitFailed, "--admin-listen " + busy + ": bind: address already in use"},
		"kafka port":        {with(dev, "--kafka-listen="+busy), exitFailed, "--kafka-listen " + busy + ": bind: address already in use"},
		"no address":        {with(serve, "--listen=nowhere"), exitUsage, "--listen nowhere: "},
		"foreign address":   {with(serve, "--listen=192.0.2.1:80"), exitFailed, "choose an address of this machine"},
		"data in a file":    {with(dev, "--data-dir="+file), exitFailed, "choose a directory that this user can write to"},
		"no secret file":    {with(serve[:3], "--jwt-secret-file="+file+"x"), exitUsage, "--jwt-secret-file: "},
		"empty secret file": {with(serve[:3], "--jwt-secret-file="+file), exitUsage, "--jwt-secret-file: "},
		"no authority":      {with(serve, "--kafka-tls", "--kafka-ca-file="+file+"x"), exitUsage, "--kafka-ca-file: "},
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
	ended := make(chan int, 1)
	go func() {
		var stderr bytes.Buffer
		ended <- run(ctx, []string{
			"serve", "--brokers=" + taken(t), "--topic=t", "--insecure-no-auth", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=error",
		}, &stderr)
		t.Log(stderr.String())
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
	for field := range reflect.TypeFor[server.Config]().Fields() {
		name := field.Name
		switch name {
		case "Certificate", "Consumer", "Keys", "Version", "Logger", "FieldName":
			continue // no flag has the field's value
		}
		if !known[flagOf(name)] {
			t.Errorf("%s: herald serve has no flag %s", name, flagOf(name))
		}
	}
}
