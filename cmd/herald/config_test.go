package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// parse reads a command line as main does.
func parse(t *testing.T, args ...string) (commands, error) {
	t.Helper()
	var cli commands
	_, err := newParser(t.Context(), &cli).Parse(args)
	return cli, err
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "herald.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestConfigurationOrder sets one flag in more and more places and wants the foremost to win.
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

// TestConfigurationRefused wants each mistake told in words that name it.
func TestConfigurationRefused(t *testing.T) {
	good := []string{"serve", "--brokers=a:1", "--topic=t", "--insecure-no-auth"}
	for name, test := range map[string]struct {
		args []string
		file string
		want string
	}{
		"no auth decision":         {args: []string{"serve", "--brokers=a:1", "--topic=t"}, want: "either --jwt-secret-file or --insecure-no-auth"},
		"two auth decisions":       {args: with(good, "--jwt-secret-file=x"), want: "either --jwt-secret-file or --insecure-no-auth"},
		"unknown flag":             {args: with(good, "--heartbeet=1s"), want: `did you mean "--heartbeat"`},
		"bad topic":                {args: with(good, "--topic=a b"), want: "character ' ' cannot be in a topic name"},
		"topic twice":              {args: with(good, "--topic=t"), want: `topic "t" is given twice`},
		"heartbeat of nothing":     {args: with(good, "--heartbeat=0s"), want: "--heartbeat=0s: want 1s to 1h0m0s"},
		"queue of nothing":         {args: with(good, "--max-queue-bytes=1"), want: "--max-queue-bytes=1: want 4096"},
		"no duration":              {args: with(good, "--retry=soon"), want: "--retry"},
		"log level":                {args: with(good, "--log-level=loud"), want: "--log-level"},
		"no file":                  {args: with(good, "--config=/nonexistent/herald.yaml"), want: "no such file"},
		"dev broker for everyone":  {args: []string{"dev", "--kafka-listen=0.0.0.0:9092"}, want: "name one address"},
		"dev broker without port":  {args: []string{"dev", "--kafka-listen=localhost"}, want: "--kafka-listen"},
		"token without secret":     {args: []string{"token", "--user=a"}, want: "--jwt-secret-file and --user"},
		"file: unknown key":        {file: "heartbeet: 1s", want: `line 1: unknown key "heartbeet", did you mean "heartbeat"?`},
		"file: key of a flag only": {file: "config: x", want: `unknown key "config"`},
		"file: twice":              {file: "retry: 1s\nretry: 2s", want: "line 2"},
		"file: nothing":            {file: "retry:", want: "retry: want one value"},
		"file: list for one value": {file: "retry: [1s]", want: "retry: want one value"},
		"file: mapping":            {file: "topic: {a: b}", want: "topic: want one value"},
		"file: no mapping":         {file: "- a", want: "want lines like"},
		"file: no YAML":            {file: "a: b: c", want: "line 1"},
		"file: two documents":      {file: "retry: 1s\n---\nretry: 1s", want: "more than one YAML document"},
		"file: wrong value":        {file: "heartbeat: soon", want: "heartbeat"},
	} {
		t.Run(name, func(t *testing.T) {
			args := test.args
			if test.file != "" {
				args = with(good, "--config", writeConfig(t, test.file))
			}
			_, err := parse(t, args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q gives %v, want %q", args, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: more than one line", err)
			}
		})
	}
}

func TestUnknownVariablesAreRefused(t *testing.T) {
	model := newParser(t.Context(), new(commands)).Model
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
}

// TestReadmeListsEveryFlag keeps the configuration table of the README complete.
func TestReadmeListsEveryFlag(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range newParser(t.Context(), new(commands)).Model.Children {
		if node.Name != "serve" && node.Name != "dev" {
			continue
		}
		for _, f := range node.Flags {
			if f.Name == "help" {
				continue
			}
			row := "| `--" + f.Name + "` | " + defaultOf(f) + " |"
			if !strings.Contains(string(readme), row) {
				t.Errorf("README.md lacks a row %q for herald %s", row, node.Name)
			}
		}
	}
}

func defaultOf(f *kong.Flag) string {
	if f.Default == "" {
		return ""
	}
	return "`" + f.Default + "`"
}
