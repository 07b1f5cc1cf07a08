package integration

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

// TestImage runs Herald's image beside Kafka as strictly as a cluster would: without capabilities, without a way
// to gain privileges, and with a read-only file system.
//
// deploy/Dockerfile.binary makes the image. No test builds deploy/Dockerfile, which compiles in a base image with
// Go that only an image registry has.
func TestImage(t *testing.T) {
	t.Parallel()
	b := sharedBroker(t)
	b.ownContainer(t, "Herald's image")
	topic := b.newTopic(t, "notifications", 1)
	public, admin := freeAddress(t), freeAddress(t)
	c, err := testcontainers.Run(t.Context(), buildImage(t),
		testcontainers.WithCmd("serve", "--insecure-no-auth", "--brokers="+kafkaInternal, "--topic="+topic,
			"--group="+topicName(t, "group"), "--replica=image"),
		tcnetwork.WithNetwork(nil, b.network), testcontainers.WithExposedPorts("8080/tcp", "8081/tcp"),
		bindPort("8080/tcp", public), bindPort("8081/tcp", admin),
		testcontainers.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Interval: time.Second} // the command is the image's
		}),
		testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
			c.ReadonlyRootfs = true
			c.CapDrop = []string{"ALL"}
			c.SecurityOpt = []string{"no-new-privileges"}
		}))
	if err != nil {
		t.Fatalf("run the image: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("herald's container:\n%s", containerLog(c))
		}
		if err := testcontainers.TerminateContainer(c); err != nil {
			t.Error(err)
		}
	})
	waitStatus(t, "http://"+admin+"/readyz", http.StatusOK, nil)
	details, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatalf("inspect the container: %v", err)
	}
	if user, _, _ := strings.Cut(details.Config.User, ":"); user == "" || user == "0" || user == "root" {
		t.Errorf("the image's user is %q, want one that is not root", details.Config.User)
	}

	waitFor(t, "the image's health check finds the replica healthy", func(ctx context.Context) bool {
		state, err := c.State(ctx)
		return err == nil && state.Health != nil && state.Health.Status == container.Healthy
	})
	alice := openStreamAt(t, public, "alice")
	b.produce(t, record(topic, "bob", "not alice's"), record(topic, "alice", "hello"))
	if got := alice.Record().Data; got != "hello" {
		t.Errorf("got %q, want hello", got)
	}

	timeout := 30 * time.Second // then Docker kills, and the exit code is 137
	if err := c.Stop(t.Context(), &timeout); err != nil {
		t.Fatalf("stop the container: %v", err)
	}
	checkDrained(t, alice)
	state, err := c.State(t.Context())
	if err != nil {
		t.Fatalf("state of the container: %v", err)
	}
	if state.ExitCode != 0 {
		t.Errorf("exit code %d after docker stop, want 0", state.ExitCode)
	}
}

// theImage is the name of Herald's image.
var theImage shared[string]

// buildImage builds Herald's image once for all tests, and returns the image's name.
func buildImage(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		notTested(t, requireDocker, "Herald's image. There is no docker command to build it with.")
	}
	tag, err := theImage.get(func(built *string) error {
		tag := "herald/test:" + strings.ToLower(rand.Text()[:12])
		out, err := exec.Command("../deploy/build-binary-image.sh", tag).CombinedOutput() //nolint:noctx // go test's time-out bounds it
		if err != nil {
			return fmt.Errorf("build the image: %w\n%s", err, out)
		}
		*built = tag
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return *tag
}

// removeImage removes the image that buildImage has built, if it has.
func removeImage() error {
	if theImage.value == "" {
		return nil
	}
	if out, err := exec.Command("docker", "image", "rm", theImage.value).CombinedOutput(); err != nil { //nolint:noctx // after all tests
		return fmt.Errorf("remove the image: %w\n%s", err, out)
	}
	return nil
}
