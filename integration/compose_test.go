package integration

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCompose starts deploy/compose.yaml and follows the instructions at its top: open the page and a stream, write to a
// topic that does not exist yet, stop. [TestImage] tests the image.
func TestCompose(t *testing.T) {
	t.Parallel()
	if err := pull(kafkaImage()); err != nil {
		notTested(t, requireDocker, "deploy/compose.yaml, without a Docker engine or an image of Kafka. "+err.Error())
	}
	command := composeCommand(t)
	public, admin, broker := freeAddress(t), freeAddress(t), freeAddress(t)
	startCompose(t, command, "../deploy/compose.yaml",
		"HERALD_KAFKA_IMAGE="+kafkaImage(), "HERALD_IMAGE="+buildImage(t),
		"HERALD_PORT="+portOf(t, public), "HERALD_ADMIN_PORT="+portOf(t, admin), "KAFKA_PORT="+portOf(t, broker))
	waitStatus(t, "http://"+admin+"/readyz", http.StatusOK, nil)

	if status, _, body := getFrom(t, "http://"+public+"/"); status != http.StatusOK || !strings.Contains(body, "<title>") {
		t.Errorf("GET /: %d %.100s, want the demo page", status, body)
	}
	alice := openStreamAt(t, public, "alice")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(patience))
	if err != nil {
		t.Fatalf("producer: %v", err)
	}
	defer client.Close()
	for _, r := range []*kgo.Record{
		record("notifications", "bob", "not alice's"),
		record("notifications", "alice", "hello"),
	} {
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	if got := alice.Record().Data; got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
	publish(t, "http://"+public+"/broadcast", "text/plain", "to all")
	if got := alice.Record().Data; got != "to all" {
		t.Errorf("got %q, want to all", got)
	}
}

// startCompose starts what the file says by the command with these variables. Its containers,
// network and volume are removed at the end.
func startCompose(t *testing.T, command []string, file string, environment ...string) {
	t.Helper()
	project := "herald-test-" + strings.ToLower(rand.Text()[:12])
	compose := func(ctx context.Context, args ...string) ([]byte, error) {
		args = slices.Concat(command[1:], []string{"-p", project, "-f", file}, args)
		c := exec.CommandContext(ctx, command[0], args...)
		c.Env = append(os.Environ(), environment...)
		return c.CombinedOutput()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if t.Failed() {
			out, _ := compose(ctx, "logs", "--no-color")
			t.Logf("compose logs:\n%s", out)
		}
		if out, err := compose(ctx, "down", "-v"); err != nil {
			t.Errorf("compose down -v: %v\n%s", err, out)
		}
	})
	if out, err := compose(t.Context(), "up", "-d", "--no-build"); err != nil {
		t.Fatalf("compose up: %v\n%s", err, out)
	}
}

// composeCommand returns the words that run Compose: Docker's plugin or, as Debian 12 has it, a
// command of its own.
func composeCommand(t *testing.T) []string {
	t.Helper()
	for _, words := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := exec.CommandContext(ctx, words[0], append(words[1:], "version")...).Run()
		cancel()
		if err == nil {
			return words
		}
	}
	notTested(t, requireDocker, "deploy/compose.yaml. Neither docker compose nor docker-compose is here: install one of them.")
	return nil
}
