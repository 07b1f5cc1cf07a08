package consumer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWrongRoutesSayWhatWasMeant parses texts that people write by mistake.
func TestWrongRoutesSayWhatWasMeant(t *testing.T) {
	const perUser = `did you mean "n.{user}", one topic for each user?`
	for text, want := range map[string]string{
		"n.{usr}":   perUser,
		"n.{USER}":  perUser,
		"n.{ user}": perUser,
		"n.{user":   perUser,
		"n.$user":   perUser,
		"n.${user}": perUser,
		"n.<user>":  perUser,
		"n.[user]":  perUser,
		"n.:user":   perUser,
		"n.%s":      perUser,
		"n.*":       perUser,
		"n.+":       perUser,
		"n.#":       perUser,

		"{usr}":                               "character '{' cannot be in a topic name",
		"*":                                   "character '*' cannot be in a topic name",
		"日本":                                  "character '日' cannot be in a topic name",
		"a\u200bb":                            `character '\u200b' cannot be in a topic name`,
		"a\u202eb":                            `character '\u202e' cannot be in a topic name`,
		"a\u00a0b":                            `character '\u00a0' cannot be in a topic name`,
		"Zoe\u0308":                           `character '\u0308' cannot be in a topic name`,
		"a👩":                                  "character '👩' cannot be in a topic name",
		"a\xe6":                               `"a\xe6" is not UTF-8`,
		strings.Repeat("日", 100):              "character '日' cannot be in a topic name",
		"n,kind=per-user":                     "a per-user topic has {user} in its name once, such as notifications.{user}",
		"n,news":                              `"news" is not an option such as kind=broadcast: want one topic`,
		"n,kind=broadcast,news":               `"news" is not an option such as kind=broadcast: want one topic`,
		"n;news":                              "a semicolon cannot be in a topic name: want one topic",
		"n,":                                  "a comma needs an option after it, such as kind=broadcast",
		"n,broadcast":                         `did you mean "kind=broadcast"?`,
		"n,header:owner":                      `did you mean "user=header:owner"?`,
		"n,json:/owner":                       `did you mean "user=json:/owner"?`,
		"n,crc32":                             `did you mean "partitioner=crc32"?`,
		"n,kind=brodcast":                     `want shared, per-user or broadcast, did you mean "broadcast"?`,
		"n,kind=Broadcast":                    `did you mean "broadcast"?`,
		"n,kind=everyone":                     `kind "everyone": want shared, per-user or broadcast`,
		"n,knd=broadcast":                     `want kind, user, claim, partitioner, encode, format or where, did you mean "kind"?`,
		"n,Kind=broadcast":                    `did you mean "kind"?`,
		"n,user=heder:X-Owner":                `want key, header:NAME or json:/POINTER, did you mean "header:X-Owner"?`,
		"n,user=header=owner":                 `did you mean "header:owner"?`,
		"n,user=header: owner":                `did you mean "header:owner"?`,
		"n,user=jsn:/a":                       `did you mean "json:/a"?`,
		"n,user=kye":                          `did you mean "key"?`,
		"n,user=header:":                      `user "header:": want key, header:NAME or json:/POINTER`,
		"n,partitioner=murmur":                `want murmur2, crc32, fnv1a, did you mean "murmur2"?`,
		"n,partitioner=murmur2_random":        `did you mean "murmur2"?`,
		"n,partitioner=consistent":            `did you mean "crc32"?`,
		"n,partitioner=fnv1a_random":          `did you mean "fnv1a"?`,
		"n,partitioner=round-robin":           `partitioner "round-robin": want murmur2, crc32, fnv1a`,
		"n.{user},kind=broadcast":             "{user} in the name makes a topic per-user, not broadcast",
		"n,encode=base64url":                  "encode=… is for topics with {user} in their name",
		"n.{user},encode=base64":              `encode "base64": want base64url`,
		"n.{user},base64url":                  `did you mean "encode=base64url"?`,
		"n,claim=":                            "claim= needs the name of a claim of tokens, such as claim=team",
		"n,claim=a b":                         `claim "a b": the name of a claim has no space`,
		"n,claim=a\u200bb":                    `claim "a\u200bb": the name of a claim has no space`,
		"n,claim=a\xe6":                       "is not UTF-8",
		"n,claim=herald":                      "the claim herald is a token's grant and has no values",
		"n,claim=Herald":                      "",
		"n,clam=team":                         `did you mean "claim"?`,
		"n,claim":                             "the option claim needs a value: claim=…",
		"n,claim=team=red":                    `claim "team=red": the name of a claim has no space, no comma, no equals sign`,
		"n,user=claim:team":                   `write "claim=team"`,
		"n,kind=team":                         `write "claim=team"`,
		"n,team":                              `"team" is not an option such as kind=broadcast: want one topic`,
		"n,claim=" + strings.Repeat("a", 257): "at most 256 bytes, not 257",
		"n,claim=team,claim=room":             "the option claim is given twice",
		"n.{user},claim=team":                 "claim=… is for shared topics, not for per-user ones",
		"n,kind=broadcast,claim=team":         "claim=… is for shared topics, not for broadcast ones",
		"n,claim=team,partitioner=murmur2":    "partitioner=… and claim=… exclude each other",
		"n,claim=team":                        "",
		"n,claim=https://example.org/team,user=header:team": "",
		"n,format=":                                 `format "": want registry, confluent-json or cloudevents`,
		"n,format=avro":                             `did you mean "registry"? The schema in the registry says`,
		"n,format=confluent":                        `did you mean "registry"?`,
		"n,format":                                  "the option format needs a value: format=…",
		"n,format=json":                             "JSON needs no format, unless a schema id precedes it (confluent-json)",
		"n,format=cloudevent":                       `did you mean "cloudevents"?`,
		"n,registry":                                `did you mean "format=registry"?`,
		"n,format=registry,format=cloudevents":      "the option format is given twice",
		"n,kind=broadcast,format=cloudevents":       "",
		"n.{user},encode=base64url,format=registry": "",
		"n.{user}.{user}":                           "has {user} in its name once",
		"n,user=header:a,user=json:/b/c":            "the option user is given twice",
		"n,user=header:a,user=header:b":             "the option user is given twice",
		"n,kind=broadcast, kind=shared":             "the option kind is given twice",
		"n,kind=shared,kind=shared":                 "the option kind is given twice",
		"n,partitioner=crc32,partitioner=murmur2":   "the option partitioner is given twice",
		"n,user=key,partitioner=crc32":              "",

		"n,where=header:region=eu,where=header:region=us":  "the option where is given twice",
		"n,where=header:region=eu,us":                      "the value of where=… has no comma",
		"n,where=header:region==eu":                        "there is no != and no ==",
		"n,where=header:region!=eu":                        "there is no != and no ==",
		"n,where=region=eu":                                "want header:NAME=VALUE, such as header:region=eu",
		"n,header:region=eu":                               `did you mean "where=header:region=eu"?`,
		"n,user=header:region,where=header:region=eu":      "where=… is about the header that holds the user: name another header",
		"n,kind=broadcast,where=header:region=a=b c":       "",
		"n.{user},encode=base64url,where=header:region=eu": "",
	} {
		route, err := ParseRoute(text)
		switch {
		case want == "" && err == nil:
		case err == nil:
			t.Errorf("%q is taken: %+v", text, route)
		case !strings.HasPrefix(err.Error(), fmt.Sprintf("topic %q: ", text)) || !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want %q", text, err, want)
		case strings.Contains(want, "want one topic") != errors.Is(err, ErrSeveralTopics):
			t.Errorf("%q: %v", text, err)
		case !strings.Contains(want, "did you mean") && strings.Contains(err.Error(), "did you mean"):
			t.Errorf("%q: %v, want no guess", text, err)
		}
	}
}

// TestSpacesInRoutes wants white space around the name and the options not to count.
func TestSpacesInRoutes(t *testing.T) {
	want := Route{Topic: "orders", UserHeader: "owner"}
	for _, text := range []string{"orders, user=header:owner", " orders ,kind=shared , user=header:owner\n"} {
		got, err := ParseRoute(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	}
}
