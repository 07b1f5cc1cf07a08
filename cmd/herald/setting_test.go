package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

// invisible are characters that a setting must not begin or end with, and the words for each.
var invisible = map[string]string{
	" ":      "a space",
	"\t":     "a tab",
	"\n":     "a line break",
	"\r\n":   "a line break",
	"\u0085": "a control character (U+0085)",
	"\x01":   "a control character (U+0001)",
	"\u00a0": "a no-break space (U+00A0)",
	"\u2028": "an invisible character (U+2028)",
	"\u200b": "a zero width space (U+200B)",
	"\u200e": "an invisible character (U+200E)",
	"\u3000": "an invisible character (U+3000)",
	"\u3164": "an invisible character (U+3164)",
	"\ufeff": "a byte order mark (U+FEFF)",
}

// visitFlags calls visit for each flag of each command.
func visitFlags(t *testing.T, visit func(command string, f *kong.Flag)) {
	t.Helper()
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		for _, f := range node.Flags {
			if f.Name != "help" {
				visit(node.Name, f)
			}
		}
	}
}

// TestEveryFlagRefusesInvisibleEnds gives each flag of each command a value with a space at an end: on the
// command line, in the environment and in the configuration file. The error must name the setting and its
// source. In a list a space is trimmed, so lists get a byte order mark.
func TestEveryFlagRefusesInvisibleEnds(t *testing.T) {
	file := new(configFile)
	parser := newParser(t.Context(), new(commands), file) // one for all cases, because making it takes most of the time
	parse := func(args ...string) error {
		*file = configFile{}
		_, err := parser.Parse(args)
		if err != nil {
			err = file.locate(err, parser.Model)
		}
		return err
	}
	flags := 0
	visitFlags(t, func(command string, f *kong.Flag) {
		flags++
		for _, value := range []string{"x\ufeff", "\ufeffx"} {
			want := fmt.Sprintf("--%s: %q ", f.Name, value)
			checkRefusal(t, command, parse(command, "--"+f.Name+"="+value), want)
			if len(f.Envs) > 0 {
				t.Run(f.Envs[0], func(t *testing.T) {
					t.Setenv(f.Envs[0], value)
					checkRefusal(t, command, parse(command), want, f.Envs[0])
				})
			}
			if (command == "serve" || command == "dev") && f.Name != configFlag {
				path := writeConfig(t, fmt.Sprintf("\n%s: %q\n", f.Name, value))
				checkRefusal(t, command, parse(command, "--config", path), want, "line 2: ")
			}
		}
	})
	if flags < 100 {
		t.Errorf("%d flags, want all", flags)
	}
}

func checkRefusal(t *testing.T, command string, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("herald %s: %v, want one line with %q", command, err, part)
		}
	}
}

// TestInvisibleCharactersAreNamed puts each character before and after a text, and control characters into a text.
func TestInvisibleCharactersAreNamed(t *testing.T) {
	for character, name := range invisible {
		for text, want := range map[string]string{
			character + "x": "begins with " + name,
			"x" + character: "ends with " + name,
		} {
			if err := checkText(text); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
		}
	}
	for text, want := range map[string]string{
		"a\nb": "contains a line break", "a\x00b": "contains a control character (U+0000)", "a\xffb": "is not UTF-8",
		"": "", "a b": "", "a\u00a0b": "", "日本": "", "https://a.example/b?c=d,e": "", "e\u0301": "",
	} {
		if err := checkText(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// listElements are two elements of each flag that takes a list. A new flag needs a line here.
var listElements = map[string][2]string{
	"allow-header":          {"X-A", "X-B"},
	"allow-origin":          {"https://a.example", "https://b.example"},
	"brokers":               {"a:1", "b:2"},
	"claim":                 {"a=1", "b=2"},
	"jwt-algorithms":        {"RS256", "ES256"},
	"jwt-audience":          {"a", "b"},
	"jwt-public-key-file":   {"a.pem", "b.pem"},
	"jwt-secret-file":       {"a", "b"},
	"kafka-oauth-extension": {"a=1", "b=2"},
	"record-header":         {"a", "b"},
	"schema-registry-url":   {"https://a.example", "https://b.example"},
	"source-addresses":      {"127.0.0.1", "127.0.0.2"},
	"topic":                 {"a", "b"},
	"topics":                {"a", "b"},
	"trusted-proxies":       {"10.0.0.0/8", "fd00::/8"},
	"types":                 {"a", "b"},
	"where":                 {"header:a=1", "header:b=2"},
}

// TestEveryListTrimsItsElements gives each flag that takes a list two elements with and without white space
// around them, and lists with an empty element, which must be refused.
func TestEveryListTrimsItsElements(t *testing.T) {
	visitFlags(t, func(command string, f *kong.Flag) {
		if !f.IsSlice() {
			return
		}
		two, known := listElements[f.Name]
		if !known {
			t.Errorf("herald %s --%s takes a list: add it to listElements", command, f.Name)
			return
		}
		separator := string(f.Tag.Sep)
		decode := func(text string) (any, error) {
			list := reflect.New(f.Target.Type()).Elem()
			err := f.Parse(kong.ScanAsType(kong.FlagValueToken, text), list)
			return list.Interface(), err
		}
		want, err := decode(two[0] + separator + two[1])
		if err != nil || reflect.ValueOf(want).Len() != 2 {
			t.Errorf("herald %s --%s: %v, %v", command, f.Name, want, err)
		}
		for _, text := range []string{
			two[0] + separator + " " + two[1],
			" " + two[0] + "\t" + separator + "\u00a0" + two[1] + " \n",
		} {
			if got, err := decode(text); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("herald %s --%s %q: %v, %v, want %v", command, f.Name, text, got, err, want)
			}
		}
		for _, text := range []string{"", " ", separator, two[0] + separator, separator + two[0], two[0] + separator + " " + separator + two[1]} {
			if got, err := decode(text); err == nil || !strings.HasPrefix(err.Error(), "--"+f.Name+": ") || !strings.Contains(err.Error(), "empty") {
				t.Errorf("herald %s --%s %q: %v, %v, want the empty element", command, f.Name, text, got, err)
			}
		}
	})
}

// TestListsOfAllSources writes the same lists on the command line, in the environment and in the file. An
// element may have a comma.
func TestListsOfAllSources(t *testing.T) {
	file := writeConfig(t, "brokers: [a:1, ' b:2 ']\ntopic: |\n  x;\n  y , kind=broadcast\njwt-audience: ['a,b', c]\njwt-secret-file: s\n")
	for name, source := range map[string]struct {
		variables map[string]string
		args      []string
	}{
		"command line": {nil, []string{"--brokers", "a:1, b:2", "--topic", "x; y, kind=broadcast", "--jwt-audience", `a\,b, c`, "--jwt-secret-file=s"}},
		"repeated":     {nil, []string{"--brokers=a:1", "--brokers= b:2", "--topic=x", "--topic=y ,kind=broadcast", `--jwt-audience=a\,b`, "--jwt-audience=c", "--jwt-secret-file=s"}},
		"environment":  {map[string]string{"HERALD_BROKERS": "a:1, b:2\n", "HERALD_TOPIC": "x ;y,kind=broadcast", "HERALD_JWT_AUDIENCE": `a\,b ,c`, "HERALD_JWT_SECRET_FILE": "s"}, nil},
		"file":         {nil, []string{"--config", file}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range source.variables {
				t.Setenv(variable, value)
			}
			cli, err := parse(t, with([]string{"serve"}, source.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			got := []any{cli.Serve.Brokers, cli.Serve.Topic, cli.Serve.JWTAudience}
			want := []any{[]string{"a:1", "b:2"}, []consumer.Route{{Topic: "x"}, {Topic: "y", Kind: consumer.Broadcast}}, []string{"a,b", "c"}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestProduceTakesEveryValue writes a value with white space and control characters around it: it is data.
func TestProduceTakesEveryValue(t *testing.T) {
	for _, value := range []string{" x \n", "\ufeff", "\x00", "a\xff"} {
		if cli, err := parse(t, "produce", "--user=alice", value); err != nil || cli.Produce.Value != value {
			t.Errorf("%q: %q, %v", value, cli.Produce.Value, err)
		}
	}
}
