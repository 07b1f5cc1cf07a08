package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"herald/auth"
	"herald/cmd/herald/listener/certtest"
	"herald/consumer/format/registrytest"
)

// check runs herald check and returns what it has printed in JSON. The answer is empty if the command ended before.
func check(t *testing.T, args ...string) (code int, answer checkAnswer, stderr string) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan []byte)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(read)
		printed <- b.Bytes()
	}()
	before := os.Stdout
	os.Stdout = write
	code, stderr = start(t, with([]string{"check", "--json"}, args...)...)
	os.Stdout = before
	_ = write.Close()
	if text := <-printed; len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	_ = read.Close()
	return code, answer, stderr
}

// has says whether there is a finding of the level with the words.
func (a *checkAnswer) has(level, words string) bool {
	for _, f := range a.Findings {
		if f.Level == level && strings.Contains(f.Text, words) {
			return true
		}
	}
	return false
}

// TestCheckSettings gives herald check configurations that an operator gets wrong on the first day.
func TestCheckSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := filepath.Join(dir, "secret")
	if err := auth.WriteSecretFile(secret); err != nil {
		t.Fatal(err)
	}
	open := file("open", strings.Repeat("s", 32), 0o644)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, cert, key, 1)
	otherCert, otherKey := filepath.Join(dir, "other.pem"), filepath.Join(dir, "other.key")
	certtest.WriteKeyPair(t, otherCert, otherKey, 2)
	good := []string{"--brokers=127.0.0.1:1", "--topic=t", "--jwt-secret-file=" + secret}
	inFile := file("wrong.yaml", "topic: t\nbrokers: [127.0.0.1:1]\njwt-secret-file: "+secret+"\nheartbeat: 1ms\npublish-rate: -1\n", 0o600)
	for name, test := range map[string]struct {
		args         []string
		code         int
		level, words string
	}{
		"all is right":       {good, 0, levelOK, "settings and files: a server takes them"},
		"TLS":                {with(good, "--tls-cert-file="+cert, "--tls-key-file="+key), exitFailed, levelWarning, "--tls-cert-file: the certificate expires in 1h0m0s"},
		"another key":        {with(good, "--tls-cert-file="+cert, "--tls-key-file="+otherKey), exitUsage, levelError, "--tls-cert-file and --tls-key-file: "},
		"no such secret":     {[]string{"--brokers=a:1", "--topic=t", "--jwt-secret-file=" + dir + "/no"}, exitUsage, levelError, "--jwt-secret-file: JWT secret: open " + dir + "/no"},
		"everybody's secret": {[]string{"--brokers=a:1", "--topic=t", "--jwt-secret-file=" + open}, exitFailed, levelWarning, "every user of this machine can read (file=" + open},
		"everybody's password": {
			with(good, "--kafka-sasl-mechanism=plain", "--kafka-sasl-user=u", "--kafka-sasl-password-file="+open), exitFailed, levelWarning,
			"--kafka-sasl-password-file: every user of this machine can read " + open + " (mode -rw-r--r--): chmod 600",
		},
		"nobody is authenticated": {[]string{"--brokers=a:1", "--topic=t", "--insecure-no-auth", "--listen=:80"}, exitFailed, levelWarning, "NOBODY IS AUTHENTICATED"},
		"all may be proxies":      {with(good, "--trusted-proxies=0.0.0.0/0"), exitFailed, levelWarning, "EVERY CLIENT CAN FORGE ITS ADDRESS"},
		"any audience":            {[]string{"--brokers=a:1", "--topic=t", "--jwks-url=https://issuer.example"}, exitFailed, levelWarning, "name this service's audience"},
		"wrong algorithm":         {with(good, "--jwt-algorithms=RS256"), exitUsage, levelError, "--jwt-algorithms: "},
		"too many streams":        {with(good, "--max-streams=10000000"), exitFailed, levelWarning, "the limit of open files has no room for the allowed streams"},
		"password in the clear":   {[]string{"--brokers=127.0.0.1:1,a:1", "--topic=t", "--jwt-secret-file=" + secret, "--kafka-sasl-mechanism=plain", "--kafka-sasl-user=u", "--kafka-sasl-password-file=" + secret}, 0, levelNotice, "--kafka-sasl-mechanism=plain without --kafka-tls: everybody on the way to a:1 can read the password"},
		"token in the clear":      {[]string{"--brokers=a:1", "--topic=t", "--jwt-secret-file=" + secret, "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-file=" + secret}, 0, levelNotice, "--kafka-sasl-mechanism=oauthbearer without --kafka-tls: everybody on the way to a:1 can read the token"},
		"plain HTTP":              {with(good, "--listen=:0"), 0, levelNotice, "--listen :0 speaks plain HTTP"},
		"page without TLS":        {with(good, "--allow-origin=http://app.example"), 0, levelNotice, "--allow-origin http://app.example: browsers take a page without TLS"},
		"one address twice":       {with(good, "--listen=0.0.0.0:18080", "--admin-listen=127.0.0.1:18080"), exitUsage, levelError, "--admin-listen 127.0.0.1:18080: --listen 0.0.0.0:18080 takes this address already"},
		"admin for the network":   {with(good, "--admin-listen=0.0.0.0:8081"), 0, levelNotice, "--admin-listen 0.0.0.0:8081: everybody who reaches this address sees users"},
		"names":                   {with(good, "--tls-cert-file="+cert, "--tls-key-file="+key), exitFailed, levelOK, "--tls-cert-file: the certificate is for localhost, 127.0.0.1"},
		"address for a network":   {with(good, "--trusted-proxies=10.0.0.5/8"), exitUsage, levelError, "did you mean the address, 10.0.0.5/32, or the network, 10.0.0.0/8?"},
		"revocations of users":    {with(good, "--topic=n.{user}", "--revocation-topic=n.revoked"), exitUsage, levelError, "--revocation-topic: n.revoked is read for users"},
		"line of the file":        {[]string{"--config=" + inFile}, exitUsage, levelError, "--config " + inFile + ": line 4: --heartbeat=1ms: want 1s to 1h0m0s"},
		"second line":             {[]string{"--config=" + inFile}, exitUsage, levelError, "--config " + inFile + ": line 5: --publish-rate=-1: want 0 to 1000000"},
	} {
		code, answer, stderr := check(t, test.args...)
		if code != test.code || answer.Exit != code || !answer.has(test.level, test.words) {
			t.Errorf("%s: exit code %d, %+v %s, want %d, %s %q", name, code, answer, stderr, test.code, test.level, test.words)
		}
	}
	for name, args := range map[string][]string{"nothing": nil, "empty replica": with(good, "--replica="), "no key": {"--brokers=a:1", "--topic=t"}, "unknown": with(good, "--topics=x")} {
		if code, answer, stderr := check(t, args...); code != exitUsage || answer.Findings != nil || stderr == "" {
			t.Errorf("%s: exit code %d, %+v, %q, want %d and an error", name, code, answer, stderr, exitUsage)
		}
	}
}

// TestCheckOfLoginsThatNobodyReads logs in without TLS to this machine, and by SCRAM, which sends no password.
func TestCheckOfLoginsThatNobodyReads(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := auth.WriteSecretFile(secret); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--brokers=127.0.0.1:1,[::1]:1,localhost:1", "--kafka-sasl-mechanism=plain"},
		{"--brokers=a:1", "--kafka-sasl-mechanism=scram-sha-256"},
		{"--brokers=a:1", "--kafka-sasl-mechanism=plain", "--kafka-tls"},
	} {
		code, answer, stderr := check(t, with(args, "--topic=t", "--jwt-secret-file="+secret, "--kafka-sasl-user=u", "--kafka-sasl-password-file="+secret)...)
		if code != 0 || answer.has(levelNotice, "everybody on the way") {
			t.Errorf("%v: exit code %d, %+v %s", args, code, answer.Findings, stderr)
		}
	}
}

// TestExampleSettings gives herald check the example that the packages install, with all settings that it has as comments.
func TestExampleSettings(t *testing.T) {
	text, err := os.ReadFile("../../deploy/package/herald.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if active := regexp.MustCompile(`(?m)^[^#\n].*`).Find(text); active != nil {
		t.Errorf("%s: want comments only", active)
	}
	dir := t.TempDir()
	if err := auth.WriteSecretFile(filepath.Join(dir, "jwt-secret")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kafka-password"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	certtest.WriteKeyPair(t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), 1)
	settings := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(string(text), "$1")
	path := writeConfig(t, strings.ReplaceAll(settings, "/etc/herald", dir))
	code, answer, stderr := check(t, "--all", "--config="+path)
	if code != exitFailed || !answer.has(levelOK, "settings and files: a server takes them") ||
		!answer.has(levelWarning, "the certificate expires in 1h0m0s") {
		t.Errorf("exit code %d, %+v %s", code, answer.Findings, stderr)
	}
	n := 0
	for _, s := range answer.Settings {
		if strings.HasPrefix(s.From, path) {
			n++
		}
	}
	if n < 15 {
		t.Errorf("%d settings of the file, want all, 15 or more", n)
	}
}

// TestCheckOfHalfAPair gives a certificate without its key. The command must not look for a file without a name.
func TestCheckOfHalfAPair(t *testing.T) {
	code, answer, stderr := check(t, "--brokers=a:1", "--topic=t", "--insecure-no-auth", "--tls-cert-file=c.pem",
		"--kafka-tls", "--kafka-cert-file=c.pem", "--kafka-sasl-mechanism=plain")
	var errs []string
	for _, f := range answer.Findings {
		if f.Level == levelError {
			errs = append(errs, f.Text)
		}
	}
	if code != exitUsage || len(errs) != 2 || !answer.has(levelError, "--tls-cert-file and --tls-key-file go together") ||
		!answer.has(levelError, "--kafka-cert-file and --kafka-key-file go together") {
		t.Errorf("exit code %d, %q %s, want an error for each pair", code, errs, stderr)
	}
}

// TestCheckOrigins gives settings in each way. The list must have the value in the flag's form, and where it comes from.
func TestCheckOrigins(t *testing.T) {
	path := writeConfig(t, "topic:\n  - a\n  - b,kind=broadcast\nretry: 3s\nlisten: :1\njwt-audience: [\"x,y\", z]\n")
	t.Setenv("HERALD_LOG_LEVEL", "WARN")
	t.Setenv("HERALD_LISTEN", "127.0.0.1:2")
	_, answer, stderr := check(t, "--config="+path, "--brokers=a:1,b:1", "--jwks-url=https://u:secret@x.example")
	want := []shownSetting{
		{"brokers", "a:1,b:1", "flag"},
		{"topic", "a;b,kind=broadcast", path + ":2"},
		{"jwks-url", "https://u:xxxxx@x.example", "flag"},
		{"jwt-audience", `x\,y,z`, path + ":6"},
		{"config", path, "flag"},
		{"listen", "127.0.0.1:2", "HERALD_LISTEN"},
		{"retry", "3s", path + ":4"},
		{"log-level", "warn", "HERALD_LOG_LEVEL"},
	}
	if diff := cmp.Diff(want, answer.Settings); diff != "" {
		t.Errorf("%s (-want +got):\n%s", stderr, diff)
	}
	_, answer, _ = check(t, "--all", "--config="+path, "--brokers=a:1", "--insecure-no-auth")
	if !slices.Contains(answer.Settings, shownSetting{"heartbeat", "15s", fromDefault}) {
		t.Errorf("with --all: %+v", answer.Settings)
	}
}

// TestCheckConnect checks configurations against a broker, and against key sets.
func TestCheckConnect(t *testing.T) {
	_, broker := startServer(t, devRoutes)
	address := broker.ListenAddrs()[0]
	old, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.MaxVersions(kversion.V2_7_0()), kfake.SeedTopics(1, "notifications"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(old.Close)
	var skew time.Duration // of the key set's clock
	answer := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	keys := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(keys.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: keys.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	free := []string{"--connect", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}
	sockets := t.TempDir()
	busy := filepath.Join(sockets, "busy.sock")
	socket, err := new(net.ListenConfig).Listen(t.Context(), "unix", busy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	open := with(free, "--insecure-no-auth", "--brokers="+address)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"t","expires_in":60}`)
	}))
	t.Cleanup(tokens.Close)
	_, schemas := registrytest.Start(t)
	secret, expired := filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "expired")
	for path, text := range map[string]string{secret: "s3cret\n", expired: "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl\n"} { // exp: 1
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
		t.Setenv(name, value)
	}
	bearer := with(open, "--topic=notifications", "--kafka-sasl-mechanism=OAUTHBEARER")
	client := with(bearer, "--kafka-oauth-client-id=herald", "--kafka-oauth-client-secret-file="+secret)
	keySet := with(free, "--brokers="+address, "--topic=notifications", "--jwks-url="+keys.URL, "--jwks-ca-file="+ca, "--jwt-audience=herald")
	for name, test := range map[string]struct {
		args         []string
		change       func()
		code         int
		level, words string
	}{
		"all is right":    {with(open, "--topic=notifications"), nil, 0, levelOK, "topic notifications: exists, partitions: 3, and each has a leader"},
		"the broker":      {with(open, "--topic=notifications"), nil, 0, levelOK, "at " + address + ": answers, and knows all requests"},
		"a missing topic": {with(open, "--topic=notification"), nil, exitFailed, levelError, "topic notification does not exist: create it, or correct --topic"},
		"topics of users": {with(open, "--topic=own.{user}"), nil, 0, levelOK, "topic own.{user}: the topics of users need not exist"},
		"no broker":       {with(free, "--insecure-no-auth", "--topic=t", "--brokers=127.0.0.1:1"), nil, exitFailed, levelError, "no Kafka broker answers at 127.0.0.1:1: connection refused"},
		"one of two":      {with(open, "--topic=notifications", "--brokers=127.0.0.1:1"), nil, exitFailed, levelWarning, "--brokers: no Kafka broker answers at 127.0.0.1:1"},
		"a busy port":     {with(open, "--topic=notifications", "--listen="+taken(t)), nil, 0, levelNotice, "; perhaps Herald runs already"},
		// the warning NOBODY IS AUTHENTICATED makes the exit code 1
		"a socket":        {with(open, "--topic=notifications", "--listen=unix:"+sockets+"/x.sock"), nil, exitFailed, levelOK, "x.sock: can be listened on"},
		"a busy socket":   {with(open, "--topic=notifications", "--listen=unix:"+busy), nil, exitFailed, levelNotice, "; perhaps Herald runs already"},
		"no directory":    {with(open, "--topic=notifications", "--listen=unix:"+sockets+"/no/x.sock"), nil, exitUsage, levelError, "create the directory " + sockets + "/no"},
		"a passed socket": {with(open, "--topic=notifications", "--listen=systemd"), nil, exitFailed, levelNotice, "--listen systemd: not tried"},
		"a foreign address": {
			with(open, "--topic=notifications", "--listen="+net.JoinHostPort("192.0.2.1", "1")), nil, exitUsage, levelError,
			"choose an address of this machine",
		},
		"wrong settings too": {with(open, "--topic=notifications", "--retry=1ms"), nil, exitUsage, levelOK, "topic notifications: exists"},
		"wrong connection":   {with(open, "--topic=notifications", "--kafka-sasl-user=u"), nil, exitUsage, levelNotice, "kafka: not asked"},
		"a token endpoint":   {with(client, "--kafka-oauth-token-url="+tokens.URL), nil, exitFailed, levelOK, "--kafka-oauth-token-url: gives a token, which Herald uses for 1m0s"},
		"no token endpoint":  {with(client, "--kafka-oauth-token-url=http://127.0.0.1:1/"), nil, exitFailed, levelError, "--kafka-oauth-token-url: dial tcp 127.0.0.1:1: connect: connection refused"},
		"a registry":         {with(open, "--topic=notifications,format=registry", "--schema-registry-url="+schemas), nil, 0, levelOK, "--schema-registry-url: the schema registry answers"},
		"no registry":        {with(open, "--topic=notifications,format=registry", "--schema-registry-url="+tokens.URL), nil, exitFailed, levelError, "the answer is not of a schema registry"},
		"an unsafe registry": {with(open, "--topic=notifications,format=registry", "--schema-registry-url=http://registry.invalid"), nil, exitUsage, levelNotice, "schema registry: not asked, because its settings are wrong"},
		"not asked":          {with(client, "--kafka-oauth-token-url=http://127.0.0.1:1/"), nil, exitFailed, levelNotice, "kafka: not asked, because Herald cannot log in"},
		"an expired token":   {with(bearer, "--kafka-oauth-token-file="+expired), nil, exitFailed, levelError, "--kafka-oauth-token-file: the token expired on 1970-01-01T00:00:01Z"},
		"no AWS credentials": {with(open, "--topic=notifications", "--kafka-sasl-mechanism=AWS_MSK_IAM"), nil, exitFailed, levelError, "--kafka-sasl-mechanism=aws-msk-iam: the AWS SDK finds no credentials: "},
		"no topic ids":       {with(free, "--insecure-no-auth", "--topic=notifications", "--brokers="+old.ListenAddrs()[0]), nil, 0, levelNotice, "the brokers report no topic ids (Kafka before 2.8): "},
		"no revocations":     {with(keySet, "--revocation-topic=revoked"), nil, exitFailed, levelError, "revocation topic revoked does not exist: create it with cleanup.policy=compact"},
		"key set":            {keySet, nil, 0, levelOK, "--jwks-url: the key set has keys for tokens"},
		"clock":              {keySet, nil, 0, levelOK, "clock: differs by "},
		"no key":             {with(keySet, "--jwt-algorithms=RS256"), nil, exitFailed, levelError, "the key set has no key for --jwt-algorithms RS256"},
		"wrong clock":        {keySet, func() { skew = -time.Hour }, exitFailed, levelWarning, "clock: this machine's clock differs by 1h0m"},
		"no key set":         {keySet, func() { answer = "<html>" }, exitFailed, levelError, "--jwks-url " + keys.URL + ": "},
	} {
		t.Run(name, func(t *testing.T) {
			answerBefore := answer
			defer func() { skew, answer = 0, answerBefore }()
			if test.change != nil {
				test.change()
			}
			code, found, stderr := check(t, test.args...)
			if code != test.code || !found.has(test.level, test.words) {
				t.Errorf("exit code %d, %+v %s, want %d, %s %q", code, found, stderr, test.code, test.level, test.words)
			}
		})
	}
	if broker.TopicInfo("notification") != nil || broker.TopicInfo("own.herald-check") != nil {
		t.Error("herald check created a topic")
	}
}

// TestCheckWithoutProfile checks settings with a profile of AWS that is not there.
func TestCheckWithoutProfile(t *testing.T) {
	for name, value := range map[string]string{"AWS_PROFILE": "missing", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
		t.Setenv(name, value)
	}
	code, found, stderr := check(t, "--connect", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--insecure-no-auth", "--brokers=127.0.0.1:1", "--topic=t", "--kafka-sasl-mechanism=aws-msk-iam")
	if code != exitUsage || !found.has(levelError, "failed to get shared config profile, missing") || !found.has(levelNotice, "kafka: not asked, because settings") {
		t.Errorf("exit code %d, %+v %s", code, found, stderr)
	}
}
