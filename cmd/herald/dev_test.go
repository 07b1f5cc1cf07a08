package main

import (
	"cmp"
	"net"
	"os"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// TestWaysFitTheFlags prints what herald dev prints at its start, for several flags.
func TestWaysFitTheFlags(t *testing.T) {
	name := os.Args[0]
	os.Args[0] = "herald"
	defer func() { os.Args[0] = name }()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no flags": {nil, `Herald is running; Ctrl-C stops it. Records are in memory; --data-dir DIR keeps them.

  page       http://127.0.0.1:8080/
  subscribe  curl -N 'http://127.0.0.1:8080/events?user=alice'
             herald tail --url http://127.0.0.1:8080 --user alice
  produce    echo 'alice:{"text":"hello"}' | kcat -P -b 127.0.0.1:9092 -t notifications -K: -X partitioner=murmur2_random
             herald produce --brokers 127.0.0.1:9092 --user alice '{"text":"hello"}'
  metrics    http://127.0.0.1:8081/metrics

`},
		"authentication and a topic": {[]string{"--jwt-secret-file=my secret", "--topic=orders, user=header:owner", "--data-dir=d"}, `Herald is running; Ctrl-C stops it. Records are kept in d.

  token      herald token --jwt-secret-file 'my secret' --user alice --publish > alice.token
  page       http://127.0.0.1:8080/, which signs in with the token
  subscribe  curl -N -H "Authorization: Bearer $(cat alice.token)" http://127.0.0.1:8080/events
             herald tail --url http://127.0.0.1:8080 --token-file alice.token
  produce    echo '{"text":"hello"}' | kcat -P -b 127.0.0.1:9092 -t orders -H owner=alice
             herald produce --brokers 127.0.0.1:9092 --topic orders,user=header:owner --user alice '{"text":"hello"}'
  metrics    http://127.0.0.1:8081/metrics

`},
		"a broker for containers": {[]string{"--kafka-listen=0.0.0.0:9092", "--kafka-advertise=host.docker.internal:9092", "--topic=news,kind=broadcast"}, `Herald is running; Ctrl-C stops it. Records are in memory; --data-dir DIR keeps them.

  page       http://127.0.0.1:8080/
  subscribe  curl -N 'http://127.0.0.1:8080/events?user=alice'
             herald tail --url http://127.0.0.1:8080 --user alice
  produce    echo '{"text":"hello"}' | kcat -P -b host.docker.internal:9092 -t news
             herald produce --brokers host.docker.internal:9092 --topic news,kind=broadcast --everyone '{"text":"hello"}'
             from where host.docker.internal:9092 leads to this broker (--kafka-advertise)
  metrics    http://127.0.0.1:8081/metrics

`},
	} {
		t.Run(name, func(t *testing.T) {
			cli, err := parse(t, with([]string{"dev"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			cli.Dev.printInstructions(&out, "127.0.0.1:8080", "127.0.0.1:8081", cmp.Or(cli.Dev.KafkaAdvertise, "127.0.0.1:9092"))
			if diff := gocmp.Diff(test.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWaysToProduce prints the commands that write to each kind of route.
func TestWaysToProduce(t *testing.T) {
	for text, want := range map[string][2]string{
		"n,partitioner=crc32":     {`echo 'alice:{"text":"hello"}' | kcat -P -b b:1 -t n -K: -X partitioner=consistent_random`, ` produce --brokers b:1 --topic n,partitioner=crc32 --user alice '{"text":"hello"}'`},
		"n.{user}":                {`echo '{"text":"hello"}' | kcat -P -b b:1 -t n.alice`, ` produce --brokers b:1 --topic 'n.{user}' --user alice '{"text":"hello"}'`},
		"news,kind=broadcast":     {`echo '{"text":"hello"}' | kcat -P -b b:1 -t news`, ` produce --brokers b:1 --topic news,kind=broadcast --everyone '{"text":"hello"}'`},
		"orders,user=header:a b":  {`echo '{"text":"hello"}' | kcat -P -b b:1 -t orders -H 'a b=alice'`, ` produce --brokers b:1 --topic 'orders,user=header:a b' --user alice '{"text":"hello"}'`},
		"orders,where=header:a=b": {`echo 'alice:{"text":"hello"}' | kcat -P -b b:1 -t orders -K: -X partitioner=murmur2_random -H a=b`, ` produce --brokers b:1 --topic orders,where=header:a=b --user alice '{"text":"hello"}'`},
		"news,claim=team":         {`echo 'red:{"text":"hello"}' | kcat -P -b b:1 -t news -K: -X partitioner=murmur2_random`, ` produce --brokers b:1 --topic news,claim=team --claim team=red '{"text":"hello"}'`},
		"orders,user=json:/a/b~1": {`echo '{"a":{"b/":"alice"}}' | kcat -P -b b:1 -t orders`, ""},
	} {
		route, err := consumer.ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, [2]string{kcatLine(route, "b:1"), produceLine(route, "b:1")}); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// TestDevNamesAllTakenAddresses takes addresses of herald dev. One error names all of them, and the flags that move them.
func TestDevNamesAllTakenAddresses(t *testing.T) {
	const free = "127.0.0.1:0"
	a, b, c := taken(t), taken(t), taken(t)
	for name, test := range map[string]struct{ kafka, public, admin, want string }{
		"all":      {a, b, c, a + ", " + b + ", " + c + " are taken: stop what listens there, or choose other ports, such as free ones with --kafka-listen 127.0.0.1:0 --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0\n"},
		"two":      {free, a, b, " are taken: stop what listens there, or choose other ports, such as free ones with --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0\n"},
		"one":      {free, free, a, "--admin-listen " + a + ": bind: address already in use"},
		"a broker": {a, free, free, "--kafka-listen " + a + ": bind: address already in use"},
	} {
		code, stderr := start(t, "dev", "--kafka-listen="+test.kafka, "--listen="+test.public, "--admin-listen="+test.admin)
		if code != exitFailed || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", name, code, stderr, exitFailed, test.want)
		}
	}
}

func TestReachable(t *testing.T) {
	for ip, want := range map[string]string{"127.0.0.1": "127.0.0.1:80", "::1": "[::1]:80", "0.0.0.0": "localhost:80", "::": "localhost:80", "192.0.2.1": "192.0.2.1:80"} {
		if got := reachable(&net.TCPAddr{IP: net.ParseIP(ip), Port: 80}); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
}

// TestReadmeShowsTheWays wants README.md to show what make run prints.
func TestReadmeShowsTheWays(t *testing.T) {
	name := os.Args[0]
	os.Args[0] = "bin/herald"
	defer func() { os.Args[0] = name }()
	var out strings.Builder
	new(devCommand).printInstructions(&out, "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:9092")
	var block strings.Builder
	for line := range strings.Lines(strings.TrimSpace(out.String())) {
		if line != "\n" {
			line = "    " + line
		}
		block.WriteString(line)
	}
	if !strings.Contains(readDocument(t, "README.md"), block.String()) {
		t.Errorf("README.md lacks this block:\n%s", &block)
	}
}

// TestFieldsOfDevHaveItsFlags wants messages of herald dev to name a flag that the command has.
func TestFieldsOfDevHaveItsFlags(t *testing.T) {
	cfg := new(devCommand).config()
	for field, want := range map[string]string{"InsecureNoAuth": "--jwt-secret-file", "AllowOrigin": "--allow-origin", "Listen": "--listen"} {
		if got := cfg.FieldName(field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}
