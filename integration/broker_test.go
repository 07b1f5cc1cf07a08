package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	defaultKafkaImage = "apache/kafka:4.3.1"

	kafkaPort       = "9092/tcp"
	kafkaHost       = "kafka"                 // its name on the containers' network
	kafkaInternal   = kafkaHost + ":19092"    // its address there
	kafkaStart      = "/kafka-start.sh"       // deploy/kafka/start.sh in the container
	kafkaAdvertised = "/tmp/kafka-advertised" // what start.sh waits for

	kafkaStartTimeout = 3 * time.Minute
)

// broker is the Apache Kafka that the tests share: a container, or the cluster that HERALD_TEST_BROKERS names.
type broker struct {
	addresses []string                        // host:port
	image     string                          // of the container; empty: kafkaImage
	container *testcontainers.DockerContainer // nil: the cluster of HERALD_TEST_BROKERS
	network   *testcontainers.DockerNetwork   // for containers that talk to ours
	client    *kafka.Client                   // for topics
	producer  *kgo.Client                     // with the partition of each record given
	admin     *kadm.Client                    // for requests that client does not have
	replicas  int                             // of each topic
}

// theBroker is the container or cluster of most tests.
var theBroker shared[broker]

// sharedBroker returns the broker of this package. Without Docker the test is skipped.
func sharedBroker(t *testing.T) *broker {
	t.Helper()
	b, err := theBroker.get((*broker).open)
	switch {
	case errors.Is(err, errNoDocker):
		notTested(t, requireDocker, "Herald on Apache Kafka. No Docker engine answers: start one, or set HERALD_TEST_BROKERS to a Kafka cluster. "+err.Error())
	case errors.Is(err, errNoImage):
		notTested(t, requireDocker, "Herald on Apache Kafka. Build an image by make kafka-image and name it by HERALD_KAFKA_IMAGE, or set HERALD_TEST_BROKERS to a Kafka cluster. "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ownContainer skips the test unless the broker is a container that the tests have started, because they may stop
// such a container and run commands in it. what describes the thing not tested.
func (b *broker) ownContainer(t *testing.T, what string) {
	t.Helper()
	if b.container == nil {
		notTested(t, requireDocker, what+": HERALD_TEST_BROKERS names a cluster that the tests may not stop")
	}
}

// ownBroker starts a broker for the test alone, which may stop it while other tests run. what describes the thing that is
// not tested if HERALD_TEST_BROKERS names a cluster.
func ownBroker(t *testing.T, what string) *broker {
	t.Helper()
	sharedBroker(t).ownContainer(t, what)
	b := new(broker)
	b.startFor(t)
	return b
}

// startFor starts the broker in a container, which is removed after the test.
func (b *broker) startFor(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if err := b.remove(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), kafkaStartTimeout)
	defer cancel()
	err := b.run(ctx)
	if err == nil {
		err = b.connect(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// open connects to the cluster that the environment names, or to a container that it starts.
func (b *broker) open() error {
	if os.Getenv("HERALD_TEST_BROKERS") == "" {
		if err := pull(kafkaImage()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), kafkaStartTimeout)
	defer cancel()
	if list := os.Getenv("HERALD_TEST_BROKERS"); list != "" {
		b.addresses = strings.Split(list, ",")
	} else if err := b.run(ctx); err != nil {
		return err
	}
	return b.connect(ctx)
}

// connect waits for the broker at the addresses.
func (b *broker) connect(ctx context.Context) error {
	b.client = &kafka.Client{Addr: kafka.TCP(b.addresses...), Timeout: 15 * time.Second}
	if err := b.waitForAnswer(ctx); err != nil {
		return err
	}
	var err error
	b.producer, err = kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerLinger(0),
		kgo.AlwaysRetryEOF(),                     // Docker accepts connections to a broker that is stopped, and closes them
		kgo.UnknownTopicRetries(100),             // a broker with ZooKeeper that restarts does not know its topics for a while
		kgo.MetadataMinAge(100*time.Millisecond)) // so that admin returns fresh leaders
	if err != nil {
		return fmt.Errorf("producer: %w", err)
	}
	b.admin = kadm.NewClient(b.producer)
	b.replicas = max(b.replicas, 1)
	return nil
}

// run starts the container. Its port on the host is fixed and outside the range that the kernel uses for outgoing
// connections, so that the advertised address stays valid when the container is restarted.
func (b *broker) run(ctx context.Context) error {
	address, err := unusedAddress(ctx)
	if err != nil {
		return err
	}
	if b.network, err = tcnetwork.New(ctx); err != nil {
		return fmt.Errorf("network of containers: %w", err)
	}
	image := cmp.Or(b.image, kafkaImage())
	b.container, err = testcontainers.Run(ctx, image, kafkaContainer(
		bindPort(kafkaPort, address), tcnetwork.WithNetwork([]string{kafkaHost}, b.network))...)
	if err != nil {
		return fmt.Errorf("start %s: %w (HERALD_KAFKA_IMAGE names another image; deploy/kafka/build.sh builds one without a registry)", image, err)
	}
	b.addresses = []string{address}
	return nil
}

func kafkaImage() string {
	if image := os.Getenv("HERALD_KAFKA_IMAGE"); image != "" {
		return image
	}
	return defaultKafkaImage
}

// kafkaContainer returns the options of a broker's container. When the container runs, a hook copies the mapped
// address into the file that the start script waits for.
func kafkaContainer(more ...testcontainers.ContainerCustomizer) []testcontainers.ContainerCustomizer {
	tell := func(ctx context.Context, c testcontainers.Container) error {
		port, err := c.MappedPort(ctx, kafkaPort)
		if err != nil {
			return fmt.Errorf("mapped port of kafka: %w", err)
		}
		return c.CopyToContainer(ctx, []byte("127.0.0.1:"+port.Port()), kafkaAdvertised, 0o644)
	}
	return append([]testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts(kafkaPort),
		testcontainers.WithFiles(startScript()),
		testcontainers.WithEntrypoint("sh", kafkaStart),
		testcontainers.WithCmd(),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_ADVERTISED_FILE": kafkaAdvertised, "KAFKA_HOST": kafkaHost, "KAFKA_PROPERTIES": promptCleaning,
		}),
		testcontainers.WithAdditionalLifecycleHooks(testcontainers.ContainerLifecycleHooks{
			PostStarts: []testcontainers.ContainerHook{tell},
		}),
	}, more...)
}

// promptCleaning configures Kafka to apply retention and compaction within moments. By default it takes minutes.
const promptCleaning = `
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=500
`

func startScript() testcontainers.ContainerFile {
	return testcontainers.ContainerFile{HostFilePath: "../deploy/kafka/start.sh", ContainerFilePath: kafkaStart, FileMode: 0o755}
}

// waitForAnswer waits until Kafka answers a request. A connection is not enough, because Docker's proxy accepts
// connections before Kafka does.
func (b *broker) waitForAnswer(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		answer, err := b.client.Metadata(attempt, &kafka.MetadataRequest{})
		cancel()
		if err == nil && len(answer.Brokers) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafka at %s does not answer: %w; its log:\n%s", b.addresses, err, b.log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// log returns what the broker has printed.
func (b *broker) log() string {
	if b.container == nil {
		return "(not ours)"
	}
	return containerLog(b.container)
}

// stop stops the broker with SIGTERM, and after the patience with SIGKILL. A patience of 0 means SIGKILL at once.
// At the end of the test, stop starts the broker again if the test has not started it.
func (b *broker) stop(t *testing.T, patience time.Duration) {
	t.Helper()
	t.Cleanup(func() { b.start(t) })
	if err := b.container.Stop(t.Context(), &patience); err != nil {
		t.Fatalf("stop kafka: %v", err)
	}
}

// start starts the same container at the same address again and waits until Kafka answers.
func (b *broker) start(t *testing.T) {
	t.Helper()
	if b.container.IsRunning() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), kafkaStartTimeout)
	defer cancel()
	if err := b.container.Start(ctx); err != nil {
		t.Fatalf("start kafka again: %v", err)
	}
	b.client.Transport = &kafka.Transport{} // its old connections may be broken
	if err := b.waitForAnswer(ctx); err != nil {
		t.Fatal(err)
	}
}

// remove removes the container and its network, if there are any.
func (b *broker) remove() error {
	if b.producer != nil {
		b.producer.Close()
	}
	var err error
	if b.container != nil {
		err = testcontainers.TerminateContainer(b.container, testcontainers.StopTimeout(0))
	}
	if b.network != nil {
		err = errors.Join(err, b.network.Remove(context.Background()))
	}
	return err
}
