package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// parse reads a command line as main does.
func parse(t *testing.T, args ...string) (commands, error) {
	t.Helper()
	var cli commands
	_, err := parseArgs(t.Context(), args, &cli)
	return cli, err
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "herald.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // the path is the test's
		t.Fatal(err)
	}
	return path
}

// TestConfigurationOrder sets a flag in the file, then in the environment too, then on the command line
// too. Each place must take precedence over the places before it.
func TestConfigurationOrder(t *testing.T) {
	file := writeConfig(t, "heartbeat: 3s\ninsecure-no-auth: true\nbrokers: [a:1, b:2]\ntopic:\n  - notifications\n  - news,kind=broadcast\n")
	args := []string{"serve", "--config", file}
	cli, err := parse(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	want := []consumer.Route{{Topic: "notifications"}, {Topic: "news", Kind: consumer.Broadcast}}
	if diff := cmp.Diff(want, cli.Serve.Topic); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a:1", "b:2"}, cli.Serve.Brokers); diff != "" {
		t.Error(diff)
	}
	if got := cli.Serve.Retry; got != 2*time.Second {
		t.Errorf("default: retry %v, want 2s", got)
	}
	if got := cli.Serve.Heartbeat; got != 3*time.Second {
		t.Errorf("file: heartbeat %v, want 3s", got)
	}
	t.Setenv("HERALD_HEARTBEAT", "4s")
	if cli, err = parse(t, args...); err != nil || cli.Serve.Heartbeat != 4*time.Second {
		t.Errorf("environment over file: heartbeat %v, want 4s (%v)", cli.Serve.Heartbeat, err)
	}
	if cli, err = parse(t, with(args, "--heartbeat=5s")...); err != nil || cli.Serve.Heartbeat != 5*time.Second {
		t.Errorf("flag over environment: heartbeat %v, want 5s (%v)", cli.Serve.Heartbeat, err)
	}
}

func TestConfigurationFromEnvironment(t *testing.T) {
	t.Setenv("HERALD_CONFIG", writeConfig(t, "insecure-no-auth: yes\n"))
	t.Setenv("HERALD_BROKERS", "a:1,b:2")
	t.Setenv("HERALD_TOPIC", "notifications;news,kind=broadcast")
	cli, err := parse(t, "serve")
	if err != nil {
		t.Fatal(err)
	}
	if len(cli.Serve.Brokers) != 2 || len(cli.Serve.Topic) != 2 || !cli.Serve.InsecureNoAuth {
		t.Errorf("got %+v", cli.Serve)
	}
}

var (
	goodServe   = []string{"serve", "--brokers=a:1", "--topic=t", "--insecure-no-auth"}
	goodProduce = []string{"produce", "x", "--user=a"}
)

// TestConfigurationFileEncodings writes the file as editors write it. YAML allows a byte order mark (YAML 1.2.2,
// section 5.2). Without one, an error must name UTF-16.
func TestConfigurationFileEncodings(t *testing.T) {
	const text = "brokers: a:1\r\ntopic: t\r\ninsecure-no-auth: true\r\n"
	var utf16 strings.Builder
	for _, c := range []byte(text) {
		utf16.Write([]byte{c, 0})
	}
	for name, file := range map[string]string{"plain": text, "byte order mark": "\ufeff" + text, "UTF-16": "\xff\xfe" + utf16.String()} {
		cli, err := parse(t, "serve", "--config="+writeConfig(t, file))
		if err != nil || len(cli.Serve.Topic) != 1 || len(cli.Serve.Brokers) != 1 || !cli.Serve.InsecureNoAuth {
			t.Errorf("%s: %+v, %v", name, cli.Serve, err)
		}
	}
	path := writeConfig(t, utf16.String())
	if _, err := parse(t, "serve", "--config="+path); err == nil || !strings.Contains(err.Error(), "--config "+path+": the file is in UTF-16") {
		t.Errorf("UTF-16 without a mark: %v", err)
	}
}

// refusedConfigurations are the mistakes of TestConfigurationRefused.
var refusedConfigurations = map[string]struct {
	args []string
	file string
	want string // after the file's name, of a file
}{
	"nothing said":             {args: []string{"serve"}, want: "missing: --brokers (Kafka brokers, such as localhost:9092), --topic (a topic to serve, such as notifications), one of --jwt-secret-file, --jwt-public-key-file, --jwks-url and --insecure-no-auth (how"},
	"no auth decision":         {args: []string{"serve", "--brokers=a:1", "--topic=t"}, want: "missing: one of --jwt-secret-file, --jwt-public-key-file, --jwks-url and --insecure-no-auth"},
	"two auth decisions":       {args: with(goodServe, "--jwt-secret-file=x"), want: "--jwt-secret-file and --insecure-no-auth exclude each other"},
	"unknown flag":             {args: with(goodServe, "--heartbeet=1s"), want: `did you mean "--heartbeat"`},
	"broker with a scheme":     {args: with(goodServe, "--brokers=http://a:1"), want: "--brokers http://a:1: want HOST:PORT without a scheme"},
	"broker without port":      {args: with(goodServe, "--brokers=a:1,b"), want: `--brokers "b": want HOST:PORT, such as localhost:9092`},
	"broker without host":      {args: with(goodServe, "--brokers=:9092"), want: `--brokers ":9092": want HOST:PORT`},
	"broker without a name":    {args: with(goodServe, "--brokers=a:1,,b:1"), want: `--brokers: "a:1,,b:1" has an empty element`},
	"broker with a space":      {args: with(goodServe, "--brokers=a b:1"), want: `--brokers "a b:1": want HOST:PORT`},
	"broker and a line break":  {args: with(goodServe, "--brokers=b:1\nc:1"), want: `--brokers: "b:1\nc:1" contains a line break: remove it; ',' separates values`},
	"a flag for a list":        {args: with(goodServe, "--jwt-audience", "--demo"), want: "--jwt-audience: the value is missing: want TEXT"},
	"broker with port 0":       {args: with(goodServe, "--brokers=a:0"), want: `--brokers "a:0": want a port from 1 to 65535`},
	"broker's port too high":   {args: with(goodServe, "--brokers=a:99999"), want: `--brokers "a:99999": want a port from 1 to 65535`},
	"broker's port a name":     {args: with(goodServe, "--brokers=a:kafka"), want: `--brokers "a:kafka": want HOST:PORT, such as`},
	"bad topic":                {args: with(goodServe, "--topic=a b"), want: "character ' ' cannot be in a topic name"},
	"topic twice":              {args: with(goodServe, "--topic=t"), want: `topic "t" is given twice`},
	"heartbeat of nothing":     {args: with(goodServe, "--heartbeat=0s"), want: "--heartbeat=0s: want 1s to 1h0m0s"},
	"queue of nothing":         {args: with(goodServe, "--max-queue-bytes=1"), want: "--max-queue-bytes=1: want 4096"},
	"no duration":              {args: with(goodServe, "--retry=soon"), want: `--retry: "soon": want a duration with its unit, such as 500ms, 15s or 10m`},
	"duration without unit":    {args: with(goodServe, "--retry=5"), want: `--retry: "5": want a duration with its unit, such as 500ms, 15s or 10m`},
	"no value":                 {args: with(goodServe, "--retry"), want: "--retry: the value is missing: want a duration"},
	"no number":                {args: with(goodServe, "--max-streams=many"), want: `--max-streams: "many": want a whole number without a sign or a unit, such as 10`},
	"a negative number":        {args: with(goodServe, "--max-streams", "-1"), want: `--max-streams: "-1": want a whole number without a sign or a unit, such as 10`},
	"a number with a unit":     {args: with(goodServe, "--max-queue-bytes=1MB"), want: `--max-queue-bytes: "1MB": want a whole number without a sign or a unit, such as 262144`},
	"no number of bytes":       {args: with(goodServe, "--kafka-fetch-max-bytes=9999999999"), want: `--kafka-fetch-max-bytes: "9999999999": want a whole number without a sign or a unit, at most 2147483647`},
	"no rate":                  {args: with(goodServe, "--publish-rate=fast"), want: `--publish-rate: "fast": want a number without a sign or a unit, such as `},
	"log level":                {args: with(goodServe, "--log-level=verbose"), want: `--log-level: "verbose": want debug, info, warn or error`},
	"listen nowhere":           {args: with(goodServe, "--listen=nowhere"), want: "--listen nowhere: want HOST:PORT, such as 127.0.0.1:8080"},
	"admin port too high":      {args: with(goodServe, "--admin-listen=:65536"), want: "--admin-listen :65536: the port is above 65535"},
	"an endless file":          {args: with(goodServe, "--config=/dev/zero"), want: "--config /dev/zero: the file is longer than 1048576 bytes: is it the right file?"},
	"no file":                  {args: with(goodServe, "--config=/nonexistent/herald.yaml"), want: "--config /nonexistent/herald.yaml: no such file or directory"},
	"dev broker for everyone":  {args: []string{"dev", "--kafka-listen=0.0.0.0:9092"}, want: "name one address"},
	"dev: advertise a scheme":  {args: []string{"dev", "--kafka-advertise=kafka://a:1"}, want: "--kafka-advertise kafka://a:1: want HOST:PORT without a scheme"},
	"dev: advertise no port":   {args: []string{"dev", "--kafka-advertise=a"}, want: `--kafka-advertise "a": want HOST:PORT, such as localhost:9092`},
	"dev: advertise all":       {args: []string{"dev", "--kafka-advertise=0.0.0.0:9092"}, want: "--kafka-advertise 0.0.0.0:9092: name one address"},
	"dev: topic twice":         {args: []string{"dev", "--topic=a", "--topic=a"}, want: `--topic: topic "a" is given twice`},
	"dev: any origin":          {args: []string{"dev", "--allow-origin=*"}, want: `--allow-origin "*": want a list of origins`},
	"dev: any header":          {args: []string{"dev", "--allow-header=*"}, want: `--allow-header "*": want a list of headers`},
	"dev broker without port":  {args: []string{"dev", "--kafka-listen=localhost"}, want: "--kafka-listen localhost: want HOST:PORT"},
	"secret and key set":       {args: with(goodServe[:3], "--jwt-secret-file=x", "--jwks-url=https://a/b"), want: "--jwt-secret-file and --jwks-url exclude each other"},
	"issuer of nobody":         {args: with(goodServe, "--jwt-issuer=x"), want: "have no effect with --insecure-no-auth"},
	"authority of no key set":  {args: with(goodServe, "--jwks-ca-file=x"), want: "--jwks-ca-file needs --jwks-url"},
	"http of no key set":       {args: with(goodServe, "--insecure-jwks-http"), want: "--insecure-jwks-http needs --jwks-url"},
	"key set fetched always":   {args: with(goodServe, "--jwks-refresh=1s"), want: "--jwks-refresh=1s: want 1m0s to 24h0m0s"},
	"no user claim":            {args: with(goodServe, "--jwt-user-claim="), want: "--jwt-user-claim is empty"},
	"query parameter":          {args: with(goodServe[:3], "--jwt-secret-file=x", "--token-query-parameter=a b"), want: `--token-query-parameter "a b": want 1 to 64`},
	"query parameter of ours":  {args: with(goodServe[:3], "--jwt-secret-file=x", "--token-query-parameter=since"), want: "--token-query-parameter since: this parameter has a meaning already"},
	"cookie in plain text":     {args: with(goodServe[:3], "--jwt-secret-file=x", "--insecure-session-cookie", "--listen=:8080"), want: "--insecure-session-cookie with --listen :8080: anybody on the way could read the cookie"},
	"cookie for all sites":     {args: with(goodServe, "--session-same-site=none"), want: `--session-same-site: "none": want strict or lax`},
	"a choice in upper case":   {args: with(goodServe, "--session-same-site=Lax"), want: `--session-same-site: "Lax": want strict or lax, did you mean "lax"?`},
	"Kafka's mechanism":        {args: with(goodServe, "--kafka-sasl-mechanism=SCRAM"), want: `--kafka-sasl-mechanism: "scram": want plain or scram-sha-256 or scram-sha-512 or oauthbearer or aws-msk-iam`},
	"Kerberos":                 {args: with(goodServe, "--kafka-sasl-mechanism=GSSAPI"), want: `want plain or scram-sha-256 or scram-sha-512 or oauthbearer or aws-msk-iam; Herald does not speak Kerberos`},
	"mechanism in capitals":    {args: with(goodServe, "--kafka-sasl-mechanism=SCRAM_SHA_256"), want: "--kafka-sasl-mechanism=scram-sha-256 needs --kafka-sasl-user and --kafka-sasl-password-file"},
	"a token for PLAIN":        {args: with(goodServe, "--kafka-sasl-mechanism=PLAIN", "--kafka-sasl-user=u", "--kafka-sasl-password-file=x", "--kafka-oauth-token-file=x"), want: "the flags --kafka-oauth-… need --kafka-sasl-mechanism=oauthbearer"},
	"a user for a token":       {args: with(goodServe, "--kafka-sasl-mechanism=OAuthBearer", "--kafka-sasl-user=u"), want: "--kafka-sasl-user and --kafka-sasl-password-file have no effect with --kafka-sasl-mechanism=oauthbearer"},
	"no token":                 {args: with(goodServe, "--kafka-sasl-mechanism=OAUTHBEARER"), want: "--kafka-sasl-mechanism=oauthbearer needs --kafka-oauth-token-file, or --kafka-oauth-token-url, --kafka-oauth-client-id and --kafka-oauth-client-secret-file"},
	"a file and an endpoint":   {args: with(goodServe, "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-file=x", "--kafka-oauth-token-url=https://x/"), want: "exclude each other"},
	"a region for PLAIN":       {args: with(goodServe, "--kafka-aws-region=eu-west-1"), want: "--kafka-aws-region needs --kafka-sasl-mechanism=aws-msk-iam"},
	"no client":                {args: with(goodServe, "--kafka-sasl-mechanism=OAUTHBEARER", "--kafka-oauth-token-url=https://x/"), want: "--kafka-oauth-token-url, --kafka-oauth-client-id and --kafka-oauth-client-secret-file go together"},
	"no registry":              {args: with(goodServe, "--topic=v,format=registry"), want: "--topic v,format=registry needs --schema-registry-url, the registry that has the schemas"},
	"registry for nothing":     {args: with(goodServe, "--schema-registry-url=https://x"), want: "--schema-registry-url has no effect: no topic of --topic has format=registry"},
	"registry's user alone":    {args: with(goodServe, "--topic=v,format=registry", "--schema-registry-url=https://x", "--schema-registry-user=a"), want: "--schema-registry-user and --schema-registry-password-file go together"},
	"registry's user in URL":   {args: with(goodServe, "--topic=v,format=registry", "--schema-registry-url=https://a:b@x.example"), want: "give them by --schema-registry-user and --schema-registry-password-file instead"},
	"registry's user, token":   {args: with(goodServe, "--topic=v,format=registry", "--schema-registry-url=https://x", "--schema-registry-user=a", "--schema-registry-password-file=f", "--schema-registry-token-file=f"), want: "exclude each other"},
	"registry without TLS":     {args: with(goodServe, "--topic=v,format=registry", "--schema-registry-url=http://x.example"), want: "--insecure-schema-registry-http"},
	"registry's file alone":    {args: with(goodServe, "--schema-registry-ca-file=f"), want: "need --schema-registry-url"},
	"an address for a network": {args: with(goodServe, "--trusted-proxies=127.0.0.1"), want: "--trusted-proxies 127.0.0.1: want networks, did you mean 127.0.0.1/32?"},
	"a header with a colon":    {args: with(goodServe, "--record-header=a:b"), want: `--record-header "a:b": want the name of a record header in UTF-8, without a colon`},
	"a header twice":           {args: with(goodServe, "--record-header=a,b", "--record-header=a"), want: `--record-header "a" is given twice`},
	"one dash":                 {args: with(goodServe, "-topic", "notifications"), want: `unknown flag -topic, did you mean "--topic"?`},
	"one dash, misspelt":       {args: with(goodServe, "-heartbeet=1s"), want: `unknown flag -heartbeet, did you mean "--heartbeat"?`},
	"one letter":               {args: []string{"-v"}, want: "unknown flag -v"},
	"a value with a dash":      {args: []string{"produce", "--user=a", "-x"}, want: "unknown flag -x: write -- before a value that begins with a dash"},
	"the last words of a flag": {args: with(goodProduce, "--event-type", "news"), want: `unknown flag --event-type, did you mean "--type"?`},

	"any origin":               {args: with(goodServe, "--allow-origin=*"), want: `--allow-origin "*": want a list of origins`},
	"header of no origin":      {args: with(goodServe, "--allow-header=X-A"), want: "--allow-header needs --allow-origin"},
	"demo without publishing":  {args: with(goodServe, "--demo"), want: "--demo needs --enable-publish"},
	"notification of nothing":  {args: with(goodServe, "--publish-max-bytes=0"), want: "--publish-max-bytes=0: want 1 to 67108864"},
	"rate that is none":        {args: with(goodServe, "--publish-rate=NaN"), want: "--publish-rate=NaN: want 0 to 1000000"},
	"burst of nothing":         {args: with(goodServe, "--publish-burst=0"), want: "--publish-burst=0: want 1 to 1000000"},
	"certificate without key":  {args: with(goodServe, "--tls-cert-file=x"), want: "--tls-cert-file and --tls-key-file go together"},
	"token without key":        {args: []string{"token", "--user=a"}, want: "missing: one of --jwt-secret-file and --jwt-key-file (what signs the token; --new-secret FILE makes a secret"},
	"token of nobody":          {args: []string{"token"}, want: "missing: --user (the user of the token, such as alice), one of --jwt-secret-file"},
	"token with two keys":      {args: []string{"token", "--user=a", "--jwt-secret-file=f", "--jwt-key-file=f"}, want: "--jwt-secret-file and --jwt-key-file exclude each other"},
	"key set of a secret":      {args: []string{"token", "--key-set", "--jwt-secret-file=f"}, want: "--key-set prints no token: leave out --jwt-secret-file"},
	"key set of nothing":       {args: []string{"token", "--key-set"}, want: "--key-set needs --jwt-key-file"},
	"secret and a token":       {args: []string{"token", "--new-secret=f", "--user=a"}, want: "--new-secret prints no token: leave out --user"},
	"secret out of a secret":   {args: []string{"token", "--jwt-secret-file=f", "--new-secret=f"}, want: "leave out --jwt-secret-file"},
	"produce: nothing said":    {args: []string{"produce"}, want: "missing: one of --user (who gets the notification, such as --user alice), --claim and --everyone, VALUE (of the record, such as '{"},
	"produce: framed values":   {args: []string{"produce", "--topic=v,format=confluent-json", "--user=a", "x"}, want: "topic v has format=confluent-json, and herald produce writes no values with the id of a schema"},
	"produce: two values":      {args: []string{"produce", "--topic=v,claim=team", "--claim=team=red,team=blue", "x"}, want: "--claim has several values, which a comma or a second flag separates, and a record has one"},
	"produce: framed, claim":   {args: []string{"produce", "--topic=v,claim=team,format=registry", "--claim=team=red", "x"}, want: "topic v has format=registry, and herald produce writes no values with the id of a schema"},
	"produce: for nobody":      {args: []string{"produce", "x"}, want: "missing: one of --user (who gets the notification, such as --user alice), --claim and --everyone"},
	"produce: no value":        {args: []string{"produce", "--user=a"}, want: `missing: VALUE (of the record, such as '{"text":"hello"}'; - reads it from standard input)`},
	"produce: user and all":    {args: with(goodProduce, "--everyone"), want: "--user and --everyone exclude each other"},
	"produce: broker":          {args: with(goodProduce, "--brokers=a"), want: `--brokers "a": want HOST:PORT`},
	"produce: empty user":      {args: []string{"produce", "x", "--user", ""}, want: "--user is empty: name a user, or give --everyone instead"},
	"produce: user with NUL":   {args: []string{"produce", "x", "--user=a\x00"}, want: `--user: "a\x00" ends with a control character (U+0000)`},
	"produce: no user":         {args: []string{"produce", "x", "--topic=notifications"}, want: "topic notifications is keyed by user: add --user NAME, or give --topic notifications,kind=broadcast if the topic is for everyone"},
	"produce: no owner":        {args: []string{"produce", "x", "--topic=t,user=header:h"}, want: "topic t has the user in the record header h: add --user NAME, or give --topic t,kind=broadcast if"},
	"produce: no name":         {args: []string{"produce", "x", "--topic=t.{user}"}, want: "topic t.{user} has the user in its name: give --user NAME"},
	"produce: all by key":      {args: []string{"produce", "x", "--everyone", "--topic=t"}, want: "topic t is keyed by user: give --user NAME instead of --everyone, or --topic t,kind=broadcast if the topic is for everyone"},
	"produce: user in value":   {args: with(goodProduce, "--topic=t,user=json:/u"), want: "topic t has the user in the value"},
	"produce: user of all":     {args: with(goodProduce, "--topic=t,kind=broadcast"), want: "topic t is for everyone: give --everyone instead of --user"},
	"produce: no topic's name": {args: []string{"produce", "x", "--topic=t.{user}", "--user=a b"}, want: `--user "a b": topic "t.a b": character ' ' cannot be in a topic name`},
	"produce: gap":             {args: with(goodProduce, "--type=gap"), want: `--type "gap": this event type is reserved: checkpoint, heartbeat, gap and end are Herald's own events`},
	"produce: open":            {args: with(goodProduce, "--type=open"), want: `--type "open": this event type is reserved`},
	"produce: a long type":     {args: with(goodProduce, "--type="+strings.Repeat("x", 129)), want: "this event type is longer than 128 bytes"},
	"produce: two kinds":       {args: with(goodProduce, "--topic=t,kind=broadcast,kind=shared"), want: "the option kind is given twice"},
	"produce: two topics":      {args: with(goodProduce, "--topic=a,b"), want: `--topic: topic "a,b": "b" is not an option such as kind=broadcast: want one topic`},
	"two topics by a comma":    {args: with(goodServe, "--topic=a,b"), want: "want one topic; for several topics, repeat --topic or separate them by semicolons"},
	"no such placeholder":      {args: with(goodServe, "--topic=n.{usr}"), want: `--topic: topic "n.{usr}": did you mean "n.{user}", one topic for each user?`},
	"revoke: nothing said":     {args: []string{"revoke"}, want: "missing: --topic (the topic of the revocations, serve's --revocation-topic, such as revocations), one of --user and --token-id (whose"},
	"revoke: no topic":         {args: []string{"revoke", "--user=a"}, want: "missing: --topic (the topic of the revocations, serve's --revocation-topic, such as revocations)"},
	"revoke: nobody":           {args: []string{"revoke", "--topic=t"}, want: "missing: one of --user and --token-id (whose tokens, or which token, such as --user alice)"},
	"revoke: two things":       {args: []string{"revoke", "--topic=t", "--user=a", "--token-id=b"}, want: "--user and --token-id exclude each other"},
	"id: no id":                {args: []string{"id"}, want: "missing: ID (an event id, such as herald tail --ids prints)"},
	"tail: no URL":             {args: []string{"tail", "--url=nowhere"}, want: "--url"},
	"tail: no patience":        {args: []string{"tail", "--idle-timeout=0s"}, want: "--idle-timeout=0s: want more than 0"},
	"file: unknown key":        {file: "heartbeet: 1s", want: `line 1: unknown key "heartbeet", did you mean "heartbeat"?`},
	"file: key of a flag only": {file: "config: x", want: `line 1: unknown key "config"`},
	"file: key of herald dev":  {file: "retry: 1s\ndata-dir: x", want: "line 2: data-dir is a setting of herald dev only"},
	"file: twice":              {file: "retry: 1s\nretry: 2s", want: "line 2"},
	"file: nothing":            {file: "retry:", want: `line 1: retry: want one value, such as "retry: 2s", not nothing`},
	"file: list for one value": {file: "retry: [1s]", want: `line 1: retry: want one value, such as "retry: 2s", not a list`},
	"file: mapping":            {file: "topic: {a: b}", want: `line 1: topic: want one value or a list, such as "topic: [a, b]", not a mapping`},
	"file: no mapping":         {file: "- a", want: "line 1: want lines like"},
	"file: no YAML":            {file: "a: b: c", want: "line 1: mapping values are not allowed in this context: want YAML: lines like"},
	"file: two documents":      {file: "retry: 1s\n---\nretry: 1s", want: "more than one YAML document"},
	"file: wrong value":        {file: "retry: 1s\nheartbeat: soon", want: `line 2: --heartbeat: "soon": want a duration with its unit`},
	"file: impossible value":   {file: "\nheartbeat: 0s", want: "line 2: --heartbeat=0s: want 1s to 1h0m0s"},
	"file: two auth decisions": {file: "jwt-secret-file: x", want: "line 1: --jwt-secret-file and --insecure-no-auth exclude each other"},
	"file: any origin":         {file: "allow-origin: ['*']", want: "line 1: --allow-origin \"*\": want a list of origins"},
}

// TestConfigurationRefused expects an error that names the mistake, on one line.
func TestConfigurationRefused(t *testing.T) {
	for name, test := range refusedConfigurations {
		t.Run(name, func(t *testing.T) {
			args, matches, want := test.args, strings.Contains, test.want
			if test.file != "" {
				path := writeConfig(t, test.file)
				args, matches, want = with(goodServe, "--config", path), strings.HasPrefix, "--config "+path+": "+want
			}
			_, err := parse(t, args...)
			if err == nil {
				t.Fatalf("%q is taken", args)
			}
			if !matches(err.Error(), want) {
				t.Errorf("%q gives %v, want %q", args, err, want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: more than one line", err)
			}
		})
	}
}

// TestListsInTheFile gives lists as YAML lists and as text, which is split as on the command line.
func TestListsInTheFile(t *testing.T) {
	for name, file := range map[string]string{
		"lists":   "brokers: [a:1, b:2]\ntopic:\n  - notifications\n  - announcements,kind=broadcast\n",
		"scalars": "brokers: a:1,b:2\ntopic: notifications;announcements,kind=broadcast\n",
	} {
		cli, err := parse(t, "serve", "--insecure-no-auth", "--config", writeConfig(t, file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []consumer.Route{{Topic: "notifications"}, {Topic: "announcements", Kind: consumer.Broadcast}}
		if diff := cmp.Diff(want, cli.Serve.Topic); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff([]string{"a:1", "b:2"}, cli.Serve.Brokers); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWrongVariableIsNamed(t *testing.T) {
	t.Setenv("HERALD_HEARTBEAT", "soon")
	_, err := parse(t, "serve", "--brokers=a:1", "--topic=t", "--insecure-no-auth")
	if err == nil || !strings.Contains(err.Error(), `(environment variable HERALD_HEARTBEAT="soon")`) {
		t.Errorf("%v", err)
	}
}

// TestVariablesOfServeLeaveProduceAlone runs produce with the topics of a server in the environment.
func TestVariablesOfServeLeaveProduceAlone(t *testing.T) {
	t.Setenv("HERALD_TOPIC", "notifications;announcements,kind=broadcast")
	t.Setenv("HERALD_BROKERS", "a:1")
	cli, err := parse(t, "produce", "--user=alice", "x")
	if err != nil {
		t.Fatal(err)
	}
	if got := cli.Produce.route().Topic; got != "notifications" || cli.Produce.Brokers[0] != "a:1" {
		t.Errorf("topic %s of %q, want notifications of a:1", got, cli.Produce.Brokers)
	}
}

func TestUnknownVariablesAreRefused(t *testing.T) {
	model := newParser(t.Context(), new(commands), new(configFile)).Model
	for _, fine := range []string{
		"HERALD_BROKERS", "HERALD_TOKEN", "HERALD_DATA_DIR", "HERALDRY", "PATH",
		"HERALD_SERVICE_HOST", "HERALD_SERVICE_PORT_HTTP", "HERALD_PORT", "HERALD_PORT_8080_TCP", "HERALD_PORT_8080_TCP_ADDR",
		"HERALD_ADMIN_SERVICE_HOST", "HERALD_ADMIN_PORT_8081_TCP_PROTO",
	} {
		if err := checkEnvironment([]string{fine + "=x"}, model); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	err := checkEnvironment([]string{"HERALD_BROKER=x"}, model)
	if err == nil || !strings.Contains(err.Error(), `did you mean "HERALD_BROKERS"?`) {
		t.Errorf("HERALD_BROKER: %v, want the nearest name", err)
	}
	t.Setenv("HERALD_BROKER", "a:1")
	for _, args := range [][]string{{"serve"}, {"produce"}, {"tail"}, {"revoke"}, goodServe} { // with and without a setting that is missing
		if _, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), `unknown environment variable HERALD_BROKER, did you mean "HERALD_BROKERS"?`) {
			t.Errorf("herald %s: %v, want the misspelt variable", args, err)
		}
	}
}
