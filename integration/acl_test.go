package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
)

// allow adds an access control rule that allows something to the user. The rule is deleted when the test ends.
func (b *secureBroker) allow(t *testing.T, user string, rule *kadm.ACLBuilder) {
	t.Helper()
	rule.Allow("User:" + user).AllowHosts("*")
	made, err := b.admin.CreateACLs(t.Context(), rule)
	if err != nil {
		t.Fatalf("create ACL: %v", err)
	}
	for _, m := range made {
		if m.Err != nil {
			t.Fatalf("create ACL: %+v", m)
		}
	}
	t.Cleanup(func() {
		if _, err := b.admin.DeleteACLs(context.Background(), rule); err != nil {
			t.Errorf("delete ACL: %v", err)
		}
	})
}

// TestACLs gives herald the rights that consumer/TOPICS.md lists, and no others. Streams of all kinds of topics,
// committed offsets, publishing and revocations must work, and the log must have no warning.
func TestACLs(t *testing.T) {
	t.Parallel()
	b := sharedSecureBroker(t)
	shared, news := b.newTopic(t, "shared", 1), b.newTopic(t, "news", 1)
	revocations := b.newTopic(t, "revocations", 1, "cleanup.policy", "compact")
	own, group := topicName(t, "own"), topicName(t, "group")
	b.createTopic(t, own+".alice", 1)
	topics := func(operation kadm.ACLOperation, names ...string) *kadm.ACLBuilder {
		return kadm.NewACLs().Topics(names...).ResourcePatternType(kadm.ACLPatternLiteral).Operations(operation)
	}
	prefixed := func(operation kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().ResourcePatternType(kadm.ACLPatternPrefixed).Operations(operation)
	}
	// This broker lets every user do everything with a resource that has no rules. The two rules for nobody give
	// the test's resources a rule, so that Kafka denies other users everything that no rule allows.
	b.allow(t, "nobody", prefixed(kadm.OpAll).Topics("TestACLs-").Groups("TestACLs-"))
	b.allow(t, "nobody", kadm.NewACLs().Clusters().ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAll))

	secret := newSecretFile(t)
	token := newToken(t, "--jwt-secret-file="+secret, "--user=alice", "--publish")
	flags := append(b.saslFlags("scram-sha-256", "scram256", "scram256"), "--brokers="+b.sasl, "--group="+group, "--replica=test",
		"--topic="+own+".{user}", "--topic="+shared, "--topic="+news+",kind=broadcast", "--enable-publish", "--jwt-secret-file="+secret, "--revocation-topic="+revocations)
	wantFindings := func(code int, wanted ...string) { checkFinds(t, flags, code, wanted...) }
	wantFindings(1, "topic "+shared+": the right (ACL) Describe is missing", "topic "+own+".{user}: the right (ACL) Describe is missing",
		"revocation topic "+revocations+": the right (ACL) Describe is missing", "group "+group+".test: the right (ACL) Read is missing")
	b.allow(t, "scram256", topics(kadm.OpRead, shared, news, revocations))
	b.allow(t, "scram256", prefixed(kadm.OpRead).Topics(own+"."))
	wantFindings(1, "topic "+shared+": the right Read is there", "topic "+shared+": the right (ACL) Write is missing", "topic "+news+": the right (ACL) Write is missing",
		"topic "+own+".{user}: the right Read is there", "topic "+own+".{user}: the right (ACL) Write is missing", "group "+group+".delivered: the right (ACL) Read is missing")
	b.allow(t, "scram256", topics(kadm.OpWrite, shared, news))
	b.allow(t, "scram256", prefixed(kadm.OpWrite).Topics(own+"."))
	b.allow(t, "scram256", prefixed(kadm.OpDescribe).Groups(group+"."))
	wantFindings(1, "topic "+own+".{user}: the right Write is there", "group "+group+".revocations.test: the right (ACL) Read is missing")
	b.allow(t, "scram256", prefixed(kadm.OpRead).Groups(group+"."))
	wantFindings(0, "group "+group+".test: the right Read is there", "whether it is compacted is not known, because the right (ACL) DescribeConfigs is missing")
	b.allow(t, "scram512", topics(kadm.OpWrite, revocations)) // the user that revokes tokens

	h := newProcess(t, "serve", flags...)
	h.Start()
	alice := newStream(t, h.public, "")
	alice.url, alice.Token = "http://"+h.public+"/events", token
	alice.Connect()
	alice.Checkpoint()
	b.produce(t, record(own+".alice", "", "own"))
	first := alice.Values(1)
	b.produce(t, record(shared, "alice", "shared"))
	second := alice.Values(1)
	for path, value := range map[string]string{"/users/alice/notifications": "posted", "/broadcast": "for everyone"} {
		if a := mustSend(t, http.MethodPost, "http://"+h.public+path, value, "Authorization", "Bearer "+token); a.status != http.StatusCreated {
			t.Errorf("POST %s = %d %s, want 201", path, a.status, a.body)
		}
		if diff := cmp.Diff([]string{value}, alice.Values(1)); diff != "" {
			t.Errorf("POST %s (-want +got):\n%s", path, diff)
		}
	}
	if diff := cmp.Diff([]string{"own", "shared"}, append(first, second...)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
	waitFor(t, "offsets are committed", func(context.Context) bool { return h.Metric(`herald_kafka_commits_total{result="ok"}`) > 0 })
	waitFor(t, "delivered positions are committed", func(ctx context.Context) bool { return unseen(ctx, &b.broker, group+".delivered") == 0 })

	run := func(args ...string) (string, error) {
		out, complaints, err := runHerald(t, append(args, "--brokers="+b.sasl)...)
		out += complaints
		t.Logf("herald %s: %v %s", strings.Join(args, " "), err, out)
		return out, err
	}
	produce := append([]string{"produce", "--topic=" + own + ".{user}", "--user=bob", "x"}, b.saslFlags("scram-sha-256", "scram256", "scram256")...)
	if _, err := run(produce...); err == nil {
		t.Error("a topic was created without the right to create it")
	}
	b.allow(t, "scram256", prefixed(kadm.OpCreate).Topics(own+"."))
	created := false
	waitFor(t, "a topic is created by writing to it", func(context.Context) bool {
		out, err := run(produce...)
		created = created || strings.Contains(out, own+".bob did not exist: it was created, partitions: ")
		return err == nil && created
	})
	if out, err := run(produce...); err != nil || strings.Contains(out, "did not exist") {
		t.Errorf("write to it again: %v %q", err, out)
	}
	if _, err := run(append([]string{"revoke", "--topic=" + revocations, "--user=alice"}, b.saslFlags("scram-sha-512", "scram512", "scram512")...)...); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if events := alice.AwaitEnd(); len(events) == 0 || !strings.Contains(events[len(events)-1].Data, "revoked") {
		t.Errorf("the stream ended with %+v", events)
	}
	h.Stop()
	for line := range strings.Lines(h.printed.String()) {
		complains := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")
		if complains && !slices.ContainsFunc(slowBroker, func(text string) bool { return strings.Contains(line, text) }) {
			t.Errorf("the log says %s", line)
		}
	}
}

// slowBroker are what herald says of a broker that is late by seconds, as on a busy machine. A missing right has another
// text.
var slowBroker = []string{`error="revocations are not read yet`, "kafka did not take the last commit in time"}

// checkFinds runs herald check --connect with the flags of serve until it ends with this exit code and these findings. A
// broker applies a new rule a moment after the rule was created.
func checkFinds(t *testing.T, flags []string, code int, wanted ...string) {
	t.Helper()
	said := ""
	waitWithin(t, 2*patience, func() string { return said }, func(context.Context) bool {
		out, complaints, err := runHerald(t, slices.Concat([]string{"check", "--connect"}, flags)...)
		got := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			got = exit.ExitCode()
		}
		missing := slices.DeleteFunc(slices.Clone(wanted), func(want string) bool { return strings.Contains(out, want) })
		said = fmt.Sprintf("herald check ends with %d, want %d, and says %q; it said:\n%s%s", got, code, missing, out, complaints)
		return got == code && len(missing) == 0
	})
}

// TestGroupDenied runs herald without the right to read its groups. Streams must work, and the log must name the
// missing right once for each group. When herald gets the right, it must commit the offsets that it has read and
// delivered.
func TestGroupDenied(t *testing.T) {
	b := sharedSecureBroker(t)
	shared, own, group := b.newTopic(t, "shared", 1), topicName(t, "own"), topicName(t, "group")
	b.createTopic(t, own+".alice", 1)
	groups := func(operation kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Groups(group + ".").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(operation)
	}
	b.allow(t, "nobody", groups(kadm.OpAll)) // with a rule for nobody, Kafka denies all other users
	h := startHerald(t, b.at(b.sasl), append(b.saslFlags("scram-sha-256", "scram256", "scram256"), "--group="+group, "--topic="+own+".{user}", "--topic="+shared)...)
	alice := openStream(t, h, "alice")
	b.produce(t, record(own+".alice", "", "own"))
	first := alice.Values(1)
	b.produce(t, record(shared, "alice", "shared"))
	if diff := cmp.Diff([]string{"own", "shared"}, append(first, alice.Values(1)...)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
	lines := func(words ...string) (found []string) {
		for line := range strings.Lines(h.printed.String()) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				found = append(found, line)
			}
		}
		return found
	}
	names := []string{group + ".test", group + ".delivered"}
	for _, name := range names {
		waitFor(t, "an error names the group "+name, func(context.Context) bool {
			return len(lines("level=ERROR", "group="+name, "Read on this group or on the prefix "+group+".")) > 0
		})
	}
	failures := h.Metric(`herald_kafka_errors_total{kind="group"}`)
	waitFor(t, "herald tries both groups again", func(context.Context) bool { return h.Metric(`herald_kafka_errors_total{kind="group"}`) > failures+5 })
	b.allow(t, "scram256", groups(kadm.OpRead))
	for _, name := range names {
		waitFor(t, "all is committed for the group "+name, func(ctx context.Context) bool { return unseen(ctx, &b.broker, name) == 0 })
		waitFor(t, "the group works again: "+name, func(context.Context) bool { return len(lines("level=INFO", "works again", "group="+name)) > 0 })
	}
	if told := append(lines("level=WARN"), lines("level=ERROR")...); len(told) != len(names) {
		t.Errorf("%d complaints, want one for each group:\n%s", len(told), strings.Join(told, ""))
	}
}
