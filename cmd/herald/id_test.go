package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/consumer"
)

func TestExplainID(t *testing.T) {
	const advice = "herald id: an id holds a hash of each topic's name; to see a name, give the topics that it may be with --topic NAME, and the user with --user NAME for topics such as notifications.{user}\n"
	own := consumer.Route{Topic: "notifications.{user}", Kind: consumer.PerUser}
	encoded := own
	encoded.Encoding = consumer.Base64URL
	for name, test := range map[string]struct {
		command     idCommand
		want, notes string
	}{
		"topics of herald dev": {
			idCommand{ID: "1t946684800000~her949gt2mqv.2-41.5.6-7t~000000000000.1-2"},
			"topic with hash 000000 (incarnation 000000)\n  partition 1 up to offset 2\nnotifications (incarnation gt2mqv)\n  partition 2 up to offset 41\n  partition 5 from its start\n" +
				"  partition 6 up to offset 7, or from the first record of 2000-01-01T00:00:00Z or later, whose offset Kafka had not returned yet\n",
			advice,
		},
		"a topic of a user":   {idCommand{ID: "1~jh7b196t3g0c"}, "topic with hash jh7b19 (incarnation 6t3g0c)\n", advice},
		"the user":            {idCommand{ID: "1~jh7b196t3g0c", User: "alice"}, "notifications.alice (incarnation 6t3g0c)\n", ""},
		"a topic":             {idCommand{ID: "1~jh7b196t3g0c", Topic: []consumer.Route{{Topic: "notifications.alice"}}}, "notifications.alice (incarnation 6t3g0c)\n", ""},
		"a topic and a user":  {idCommand{ID: "1~jh7b196t3g0c", Topic: []consumer.Route{{Topic: "x"}, own}, User: "alice"}, "notifications.alice (incarnation 6t3g0c)\n", ""},
		"a user in base64url": {idCommand{ID: "1~uo65f16t3g0c", Topic: []consumer.Route{encoded}, User: "auth0|42"}, "notifications.YXV0aDB8NDI (incarnation 6t3g0c)\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out, notes bytes.Buffer
			if err := test.command.explain(&out, &notes); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want+test.notes, out.String()+notes.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := (&idCommand{ID: "nonsense"}).explain(io.Discard, io.Discard); err == nil {
		t.Error("nonsense was explained")
	}
}
