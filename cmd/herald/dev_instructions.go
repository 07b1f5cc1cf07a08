package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"herald/auth"
	"herald/consumer"
)

// printInstructions prints how to use the server and the broker, for the flags given.
func (d *devCommand) printInstructions(w io.Writer, public, admin, broker string) {
	program, stream := os.Args[0], "http://"+public
	if d.BasePath != "" {
		stream += "/"
	}
	lines := []string{"page       http://" + public + "/"}
	params, flags := claimArguments(d.routes())
	if d.JWTSecretFile == "" {
		if params != "" {
			lines[0] += "?user=alice" + params
		}
		lines = append(
			lines,
			"subscribe  curl -N 'http://"+public+"/events?user=alice"+params+"'",
			"           "+program+" tail --url "+stream+" --user alice"+flags,
		)
	} else {
		lines = append(
			[]string{"token      " + program + " token --jwt-secret-file " + quoted(d.JWTSecretFile) + " --user alice" + flags + " --publish > alice.token"},
			lines[0]+", which signs in with the token",
			`subscribe  curl -N -H "Authorization: Bearer $(cat alice.token)" http://`+public+"/events",
			"           "+program+" tail --url "+stream+" --token-file alice.token",
		)
	}
	route := d.routes()[0]
	lines = append(lines, "produce    "+kcatLine(route, broker))
	if line := produceLine(route, broker); line != "" {
		lines = append(lines, "           "+program+line)
	}
	if team := slices.IndexFunc(d.routes(), func(r consumer.Route) bool { return r.Claim != "" }); team > 0 {
		if line := produceLine(d.routes()[team], broker); line != "" {
			lines = append(lines, "           "+program+line)
		}
	}
	if d.KafkaAdvertise != "" {
		lines = append(lines, "           from where "+d.KafkaAdvertise+" leads to this broker (--kafka-advertise)")
	}
	lines = append(lines, "metrics    http://"+admin+"/metrics")
	_, _ = fmt.Fprintf(w, "Herald is running; Ctrl-C stops it. %s\n\n  %s\n\n", d.kept(), strings.Join(lines, "\n  "))
}

// claimValue is the value that alice has of each claim in the printed commands.
const claimValue = "red"

// claimArguments returns what gives alice the claims of the routes: parameters of a query, and flags.
func claimArguments(routes []consumer.Route) (params, flags string) {
	given := make(map[string]bool)
	for _, r := range routes {
		if r.Claim == "" || given[r.Claim] {
			continue
		}
		given[r.Claim] = true
		params += "&" + url.QueryEscape(auth.ClaimParam(r.Claim)) + "=" + claimValue
		flags += " --claim " + quoted(r.Claim+"="+claimValue)
	}
	return params, flags
}

// reachable returns an address at which clients on this machine reach a listener.
func reachable(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return address.String()
}

// greeting is the value of the records that the printed commands write.
const greeting = `{"text":"hello"}`

// librdkafkaPartitioners are librdkafka's names of the partitioners.
var librdkafkaPartitioners = map[consumer.Partitioner]string{
	"": "murmur2_random", consumer.Murmur2: "murmur2_random", consumer.CRC32: "consistent_random", consumer.FNV1a: "fnv1a_random",
}

// kcatLine returns a command that writes a record for alice to a topic of the route.
func kcatLine(r consumer.Route, broker string) string {
	value, options, owner := greeting, "", "alice"
	if r.Claim != "" {
		owner = claimValue
	}
	switch {
	case r.UserPointer != "":
		value = valueWithUser(r.UserPointer, owner)
	case r.UserHeader != "":
		options = " -H " + quoted(r.UserHeader+"="+owner)
	case r.Kind == consumer.Shared:
		value, options = owner+":"+greeting, " -K: -X partitioner="+librdkafkaPartitioners[r.Partitioner]
	}
	if r.Where != (consumer.Condition{}) {
		options += " -H " + quoted(r.Where.Header+"="+r.Where.Value)
	}
	command := "echo"
	if r.FramesValues() { // any id of a schema
		at := strings.Index(value, "{")
		command, value = "printf", value[:at]+`\0\0\0\0\1`+value[at:]
	}
	return fmt.Sprintf("%s %s | kcat -P -b %s -t %s%s", command, quoted(value), broker, r.TopicFor("alice"), options)
}

// valueWithUser returns a JSON value with the user at the pointer.
func valueWithUser(pointer, user string) string {
	var value any = user
	for _, name := range slices.Backward(strings.Split(pointer, "/")[1:]) {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~") // RFC 6901, section 4
		value = map[string]any{name: value}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return greeting // cannot happen: the value has only strings
	}
	return string(text)
}

// produceLine returns the arguments of herald produce for a record as in kcatLine, or "" if the command cannot
// write to the route.
func produceLine(r consumer.Route, broker string) string {
	if r.UserPointer != "" || r.FramesValues() {
		return ""
	}
	line := " produce --brokers " + broker
	if r != devRoutes[0] {
		line += " --topic " + quoted(r.String())
	}
	if r.Kind == consumer.Broadcast {
		return line + " --everyone " + quoted(greeting)
	}
	if r.Claim != "" {
		return line + " --claim " + quoted(r.Claim+"="+claimValue) + " " + quoted(greeting)
	}
	return line + " --user alice " + quoted(greeting)
}

// plainWord matches texts that a shell takes as they are.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// quoted returns the text as a shell reads it.
func quoted(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
