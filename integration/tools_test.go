package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The command lines of Kafka, which are scripts around these classes.
const (
	consumerGroups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	kafkaACLs      = "org.apache.kafka.tools.AclCommand"
)

// tool runs a command line of Kafka in the container and returns what it prints.
func tool(t *testing.T, c *testcontainers.DockerContainer, class string, args ...string) string {
	t.Helper()
	command := append([]string{"java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", "/opt/kafka/libs/*", class}, args...)
	code, reader, err := c.Exec(t.Context(), command, tcexec.Multiplexed())
	if err != nil {
		t.Fatalf("%s: %v", class, err)
	}
	out, err := io.ReadAll(reader)
	if err != nil || code != 0 {
		t.Fatalf("%s %q: exit code %d, %v:\n%s", class, args, code, err, out)
	}
	return string(out)
}

// described is what kafka-consumer-groups --describe shows of each partition, in a line.
func described(t *testing.T, b *broker, groups ...string) map[string]string {
	t.Helper()
	args := []string{"--bootstrap-server", kafkaInternal, "--describe"}
	for _, group := range groups {
		args = append(args, "--group", group)
	}
	out := tool(t, b.container, consumerGroups, args...)
	t.Log(out)
	rows := make(map[string]string)
	var columns []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 2 && fields[0] == "GROUP":
			columns = fields
		case len(columns) > 0 && len(fields) == len(columns):
			row := make(map[string]string)
			for i, name := range columns {
				row[name] = fields[i]
			}
			rows[fmt.Sprint(row["GROUP"], " ", row["TOPIC"], "/", row["PARTITION"])] = fmt.Sprintf("at %s of %s, lag %s", row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"])
		}
	}
	return rows
}

// TestConsumerGroupsTool reads lags with kafka-consumer-groups. The lag of the replica's group must be 0 when herald
// has read all records, also where a log ends with a transaction marker. While the replica is down, the lag must be
// the number of records written since. The lag of GROUP.delivered must be the number of unseen notifications and of
// the markers after the last seen notification.
func TestConsumerGroupsTool(t *testing.T) {
	b := sharedBroker(t)
	b.ownContainer(t, "kafka-consumer-groups on Herald's groups")
	topic, own, group := b.newTopic(t, "shared", 4), topicName(t, "own"), topicName(t, "group")
	b.createTopic(t, own+".alice", 1)
	b.createTopic(t, own+".bob", 1)
	h := startHerald(t, b, "--topic="+topic, "--topic="+own+".{user}", "--group="+group)
	alice := openStream(t, h, "alice")
	b.produce(t, record(topic, "alice", "plain"), record(own+".alice", "", "0"), record(own+".alice", "", "1"))
	alice.Values(3)
	alice.Cut()
	h.waitForNoStream()
	b.produce(t, record(own+".alice", "", "2"), record(own+".alice", "", "3"), record(own+".alice", "", "4"))
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatalf("transactional producer: %v", err)
	}
	defer client.Close()
	bob := openStream(t, h, "bob")
	for r, commit := range map[*kgo.Record]kgo.TransactionEndTry{
		inPartition(1, record(topic, "alice", "committed")): kgo.TryCommit,
		inPartition(2, record(topic, "alice", "aborted")):   kgo.TryAbort,
		record(own+".bob", "", "committed"):                 kgo.TryCommit,
	} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatalf("begin transaction: %v", err)
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatalf("produce in a transaction: %v", err)
		}
		if err := client.EndTransaction(t.Context(), commit); err != nil {
			t.Fatalf("end transaction: %v", err)
		}
	}
	bob.Values(1)
	want := func(zero string) map[string]string {
		return map[string]string{
			group + ".test " + topic + "/0":          zero,
			group + ".test " + topic + "/1":          "at 2 of 2, lag 0", // the record and the marker
			group + ".test " + topic + "/2":          "at 2 of 2, lag 0",
			group + ".test " + topic + "/3":          "at 0 of 0, lag 0",
			group + ".delivered " + own + ".alice/0": "at 2 of 5, lag 3",
			group + ".delivered " + own + ".bob/0":   "at 1 of 2, lag 1", // the marker
		}
	}
	check := func(want map[string]string) {
		t.Helper()
		waitFor(t, "kafka-consumer-groups shows the offsets that herald has read", func(context.Context) bool {
			return cmp.Equal(want, described(t, b, group+".test", group+".delivered"))
		})
	}
	waitFor(t, "offsets are committed", func(context.Context) bool { return h.Metric(`herald_kafka_commits_total{result="ok"}`) > 0 })
	check(want("at 1 of 1, lag 0"))
	h.Stop()
	b.produce(t, record(topic, "bob", "while it is away"), record(topic, "bob", "and another"))
	check(want("at 1 of 3, lag 2"))
}

// TestACLTool runs the kafka-acls command lines of consumer/TOPICS.md with other names. The rights that they add must
// be enough for herald to stream, publish and commit.
func TestACLTool(t *testing.T) {
	b := sharedSecureBroker(t)
	topic, group := b.newTopic(t, "shared", 1), topicName(t, "group")
	rules := kadm.NewACLs().ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpAll).Topics("TestACLTool-").Groups("TestACLTool-")
	b.allow(t, "nobody", rules) // with a rule for nobody, Kafka denies all other users
	text, err := os.ReadFile("../consumer/TOPICS.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		if args := strings.Fields(line); len(args) > 0 && args[0] == "kafka-acls" {
			lines++
			for i, arg := range args {
				if mine, ok := map[string]string{"a:9092": "localhost:19092", "User:herald": "User:scram256", "herald.": group + ".", "notifications": topic}[arg]; ok {
					args[i] = mine
				}
			}
			t.Log(tool(t, b.container, kafkaACLs, args[1:]...))
		}
	}
	if lines != 2 {
		t.Errorf("consumer/TOPICS.md has %d lines with kafka-acls, want 2", lines)
	}
	t.Cleanup(func() {
		for _, rule := range []*kadm.ACLBuilder{kadm.NewACLs().Topics(topic), kadm.NewACLs().Groups(group + ".")} {
			rule.ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).Allow("User:scram256").AllowHosts("*")
			if _, err := b.admin.DeleteACLs(context.Background(), rule); err != nil {
				t.Errorf("delete ACL: %v", err)
			}
		}
	})
	h := startHerald(t, b.at(b.sasl), append(b.saslFlags("scram-sha-256", "scram256", "scram256"), "--topic="+topic, "--group="+group, "--enable-publish")...)
	alice := openStream(t, h, "alice")
	publishTo(t, h, "/users/alice/notifications", "posted", topic)
	if got := alice.Record().Data; got != "posted" {
		t.Errorf("got %q, want what was posted", got)
	}
	waitFor(t, "an offset is committed", func(context.Context) bool { return h.Metric(`herald_kafka_commits_total{result="ok"}`) > 0 })
}
