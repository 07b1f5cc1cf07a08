package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/twmb/franz-go/pkg/kgo"
)

// requireKcat is the environment variable that makes a missing kcat a failure.
const requireKcat = "HERALD_REQUIRE_KCAT"

// usersToHash returns keys that a wrong hash function would place wrongly: keys around the length of a word of the
// hash, keys with high bytes, keys of digits, and long keys.
func usersToHash() []string {
	users := []string{
		"a", "ab", "abc", "abcd", "abcde", " ", "0", "alice", "bob", "user@example.com", "-1", "a/b?c&d=e",
		"é", "Zoë", "ÿÿÿÿ", "日本語", "пользователь", "🙂", "a🙂b", strings.Repeat("long ", 50), strings.Repeat("ü", 127),
	}
	for i := range 20 {
		users = append(users, fmt.Sprint("user-", i*i*i))
	}
	return users
}

// lines returns one record for each user in the format of console producers, with a bar between key and value.
func lines(users []string) []byte {
	var b bytes.Buffer
	for i, user := range users {
		fmt.Fprintf(&b, "%s|%d\n", user, i)
	}
	return b.Bytes()
}

// TestPartitionersOfRealClients writes a record for each user with the default partitioner of a client. A route that
// names the partitioner must find the record in the user's home partition, and POST must write to this partition.
func TestPartitionersOfRealClients(t *testing.T) {
	b := sharedBroker(t)
	users := usersToHash()
	for _, test := range []struct {
		name, partitioner string
		write             func(t *testing.T, b *broker, topic string, users []string)
	}{
		{"librdkafka", "crc32", kcat},
		{"librdkafka with murmur2_random", "murmur2", kcatMurmur2},
		{"Kafka's own producer", "murmur2", consoleProducer},
		{"franz-go", "murmur2", franzGo},
	} {
		t.Run(test.name, func(t *testing.T) {
			topic := b.newTopic(t, "homes", 7)
			test.write(t, b, topic, users)
			h := startHerald(t, b, "--topic="+topic+",partitioner="+test.partitioner, "--enable-publish")
			for i, user := range users {
				s := newStream(t, h.public, user)
				s.url += "&since=earliest"
				s.Connect()
				partition := publishTo(t, h, "/users/"+url.PathEscape(user)+"/notifications", "published", topic)
				if got, want := strings.Join(s.Values(2), " "), fmt.Sprint(i, " published"); got != want {
					t.Errorf("%q got %q, want %q", user, got, want)
				}
				if home := fmt.Sprintf(".%d-", partition); strings.Count(s.LastID, ".") != 1 || !strings.Contains(s.LastID, home) {
					t.Errorf("%q has the id %s, want partition %d alone", user, s.LastID, partition)
				}
				s.Cut()
			}
			if n := h.Metric("herald_kafka_misplaced_records_total"); n != 0 {
				t.Errorf("%v records were misplaced", n)
			}
		})
	}
}

// TestWrongPartitionerIsLogged writes with librdkafka's partitioner, while the route names another partitioner.
func TestWrongPartitionerIsLogged(t *testing.T) {
	b := sharedBroker(t)
	topic := b.newTopic(t, "homes", 7)
	h := startHerald(t, b, "--topic="+topic+",partitioner=murmur2", "--enable-publish")
	s := openStream(t, h, "alice") // murmur2 puts her into 1 of 7 partitions, crc32 and fnv1a into 5
	kcat(t, b, topic, []string{"alice", "alice", "bob"})
	publishTo(t, h, "/users/alice/notifications", "published", topic)
	if got := s.Record().Data; got != "published" {
		t.Errorf("got %q, want only the record in the home partition", got)
	}
	waitFor(t, "two misplaced records are counted", func(context.Context) bool { return h.Metric("herald_kafka_misplaced_records_total") == 2 })
	h.wantLine(`left out.*fitting="\[crc32 fnv1a\]"`)
	if text := h.printed.String(); strings.Count(text, "left out") != 1 {
		t.Errorf("the log does not say once what to do: %s", text)
	}
}

// kcat writes by librdkafka with its default partitioner.
func kcat(t *testing.T, b *broker, topic string, users []string) {
	t.Helper()
	runKcat(t, b, topic, users)
}

func kcatMurmur2(t *testing.T, b *broker, topic string, users []string) {
	t.Helper()
	runKcat(t, b, topic, users, "-X", "partitioner=murmur2_random")
}

func runKcat(t *testing.T, b *broker, topic string, users []string, flags ...string) {
	t.Helper()
	path, err := exec.LookPath("kcat")
	if err != nil {
		notTested(t, requireKcat, "partitions as librdkafka chooses them. Install kcat.")
	}
	args := append([]string{"-P", "-b", strings.Join(b.addresses, ","), "-t", topic, "-K", "|"}, flags...)
	command := exec.CommandContext(t.Context(), path, args...)
	command.Stdin = bytes.NewReader(lines(users))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, out)
	}
}

// consoleProducer writes by Kafka's Java client, with the tool of the broker's own image.
func consoleProducer(t *testing.T, b *broker, topic string, users []string) {
	t.Helper()
	b.ownContainer(t, "partitions as Kafka's own producer chooses them")
	const input = "/tmp/records"
	if err := b.container.CopyToContainer(t.Context(), lines(users), input, 0o644); err != nil {
		t.Fatal(err)
	}
	command := "java -Xmx128m -cp '/opt/kafka/libs/*' org.apache.kafka.tools.ConsoleProducer --bootstrap-server " + kafkaInternal +
		" --topic " + topic + " --property parse.key=true --property 'key.separator=|' <" + input
	code, out, err := b.container.Exec(t.Context(), []string{"sh", "-c", command}, tcexec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(out); err != nil || code != 0 {
		t.Fatalf("console producer: exit code %d (%v)\n%s", code, err, text.String())
	}
}

// franzGo writes by franz-go.
func franzGo(t *testing.T, b *broker, topic string, users []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, user := range users {
		if err := client.ProduceSync(t.Context(), record(topic, user, fmt.Sprint(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}
