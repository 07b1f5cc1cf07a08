package integration

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCompose starts deploy/compose.yaml and follows the instructions at its top: open the page and a stream, write to a
// topic that does not exist yet, kill replicas, stop. [TestImage] tests the image.
func TestCompose(t *testing.T) {
	t.Parallel()
	if err := pull(kafkaImage()); err != nil {
		notTested(t, requireDocker, "deploy/compose.yaml, without a Docker engine or an image of Kafka. "+err.Error())
	}
	s := &composed{
		command: composeCommand(t), project: "herald-test-" + strings.ToLower(rand.Text()[:12]),
		files: []string{"../deploy/compose.yaml"}, services: []string{"kafka", "herald-1", "herald-2", "nginx", "prometheus"},
	}
	if err := errors.Join(pull("nginx:1.28"), pull("prom/prometheus:v3.5.0"), pull("grafana/grafana:12.2.0")); err == nil {
		s.services = append(s.services, "grafana")
	} else {
		s.files = append(s.files, composeStandIns(t))
	}
	public, broker, prometheus := freeAddress(t), freeAddress(t), freeAddress(t)
	replicas := []*herald{{t: t, admin: freeAddress(t)}, {t: t, admin: freeAddress(t)}}
	s.start(t, "HERALD_KAFKA_IMAGE="+kafkaImage(), "HERALD_IMAGE="+buildImage(t), "HERALD_PORT="+portOf(t, public), "KAFKA_PORT="+portOf(t, broker),
		"HERALD_ADMIN_PORT="+portOf(t, replicas[0].admin), "HERALD_2_ADMIN_PORT="+portOf(t, replicas[1].admin),
		"PROMETHEUS_PORT="+portOf(t, prometheus), "GRAFANA_PORT="+portOf(t, freeAddress(t)))
	for _, h := range replicas {
		h.WaitReady()
	}
	waitStatus(t, "http://"+public+"/", http.StatusOK, nil)
	if _, _, body := getFrom(t, "http://"+public+"/"); !strings.Contains(body, "<title>") {
		t.Errorf("GET /: %.100s, want the demo page", body)
	}
	alice := openStreamAt(t, public, "alice")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1), kgo.AlwaysRetryEOF(), kgo.RecordDeliveryTimeout(patience))
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
	waitFor(t, "Kafka has created the topic of the broadcast", func(context.Context) bool {
		a, err := send(t, http.MethodPost, "http://"+public+"/broadcast", "to all", "Content-Type", "text/plain")
		return err == nil && a.status == http.StatusCreated
	})
	if got := alice.Record().Data; got != "to all" {
		t.Errorf("got %q, want to all", got)
	}
	t.Run("replicas are killed", func(t *testing.T) { s.killReplicas(t, "http://"+public, replicas) })
	t.Run("Prometheus", func(t *testing.T) { checkPrometheus(t, "http://"+prometheus) })
}

// killReplicas kills one replica after the other while a page is open. The second one has all streams. The page must
// show every notification once.
func (s *composed) killReplicas(t *testing.T, base string, replicas []*herald) {
	t.Helper()
	page := openDemo(t, startChromium(t), base, "carol")
	var want []string
	send := func(when string) {
		for n := range 5 {
			want = append(want, fmt.Sprint(when, " ", n))
			notify(t, base, "/users/carol/notifications?type=notification", want[len(want)-1])
		}
	}
	for i, h := range replicas {
		name := fmt.Sprint("herald-", i+1)
		send("before " + name)
		s.must(t, "kill", name)
		send("without " + name)
		page.wait("the notifications through the other replica", shows(want[len(want)-1]))
		s.must(t, "start", name)
		h.WaitReady()
		// nginx passes the replica by for up to 3 s: a connection that it began before takes proxy_connect_timeout to
		// fail, and fail_timeout follows. Then least_conn gives new streams to this replica, which has the fewest.
		waitFor(t, "nginx gives "+name+" a stream", func(context.Context) bool {
			stream := openStreamAt(t, strings.TrimPrefix(base, "http://"), "dave")
			defer stream.Cut()
			return h.Metric("herald_streams") > 0
		})
	}
	send("at the end")
	end := page.wait("the last notifications", shows(want[len(want)-1]))
	got := end.received()
	slices.Reverse(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("notifications shown (-want +got):\n%s", diff)
	}
	if c := end.Counters; c["twice"] != "0" || c["missing"] != "0" || c["gaps"] != "0" {
		t.Errorf("counters = %v, want nothing twice, missing or lost", c)
	}
}

// checkPrometheus checks that Prometheus has read the metrics of both replicas, and has loaded the alert rules.
func checkPrometheus(t *testing.T, base string) {
	t.Helper()
	ask := func(path string, answer any) {
		t.Helper()
		status, _, body := getFrom(t, base+path)
		if err := json.Unmarshal([]byte(body), answer); err != nil || status != http.StatusOK {
			t.Fatalf("GET %s: %d, %v: %.200s", path, status, err, body)
		}
	}
	waitFor(t, "Prometheus has read both replicas", func(context.Context) bool {
		var targets struct {
			Data struct {
				ActiveTargets []struct {
					Health string
					Labels map[string]string
				}
			}
		}
		ask("/api/v1/targets", &targets)
		up := make(map[string]bool)
		for _, target := range targets.Data.ActiveTargets {
			up[target.Labels["instance"]] = target.Health == "up"
		}
		return maps.Equal(up, map[string]bool{"herald-1:8081": true, "herald-2:8081": true})
	})
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	ask("/api/v1/rules", &rules)
	text, err := os.ReadFile("../deploy/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, group := range rules.Data.Groups {
		for _, rule := range group.Rules {
			if loaded++; rule.Health == "err" {
				t.Errorf("rule %s: %s", rule.Name, rule.LastError)
			}
		}
	}
	if want := strings.Count(string(text), "- alert: "); loaded != want || want == 0 {
		t.Errorf("Prometheus has loaded %d rules, want the %d of alerts.yml", loaded, want)
	}
}

// composeStandIns writes a Compose file by which nginx and Prometheus run without their images: the programs of this
// machine, with its libraries, in the file system of Kafka's image. It is for machines that cannot reach an image
// registry.
func composeStandIns(t *testing.T) string {
	t.Helper()
	var paths []string
	for _, program := range []string{"nginx", "prometheus"} {
		path, err := exec.LookPath(program)
		if err != nil || !strings.HasPrefix(path, "/usr/") {
			notTested(t, requireDocker, "deploy/compose.yaml. There is neither an image of "+program+" nor the program in /usr.")
		}
		paths = append(paths, path)
	}
	const text = `services:
  nginx:
    image: %[1]s
    user: "0"
    volumes: [/usr:/usr:ro]
    tmpfs: [/var/lib/nginx, /var/log/nginx]
  prometheus:
    image: %[1]s
    user: "0"
    volumes: [/usr:/usr:ro]
    entrypoint: [%[2]s, --config.file=/etc/prometheus/prometheus.yml, --storage.tsdb.path=/tmp/prometheus]
`
	file := filepath.Join(t.TempDir(), "stand-ins.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, text, kafkaImage(), paths[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// composed is what Compose files have started.
type composed struct {
	command, files, services []string // no services: all of the files
	project                  string
	environment              []string
}

// run runs a command of Compose and returns what it prints.
func (s *composed) run(ctx context.Context, args ...string) ([]byte, error) {
	words := append(slices.Clone(s.command[1:]), "-p", s.project)
	for _, file := range s.files {
		words = append(words, "-f", file)
	}
	c := exec.CommandContext(ctx, s.command[0], append(words, args...)...)
	c.Env = append(os.Environ(), s.environment...)
	return c.CombinedOutput()
}

func (s *composed) must(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.run(t.Context(), args...); err != nil {
		t.Fatalf("compose %s: %v\n%s", args, err, out)
	}
}

// start starts the services with these variables. Their containers, network and volume are removed at the end.
func (s *composed) start(t *testing.T, environment ...string) {
	t.Helper()
	s.environment = environment
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*patience)
		defer cancel()
		if t.Failed() {
			out, _ := s.run(ctx, "logs", "--no-color")
			t.Logf("compose logs:\n%s", out)
		}
		if out, err := s.run(ctx, "down", "-v"); err != nil {
			t.Errorf("compose down -v: %v\n%s", err, out)
		}
	})
	s.must(t, append([]string{"up", "-d", "--no-build"}, s.services...)...)
}

// composeCommand returns the words that run Compose: Docker's plugin or, as Debian 12 has it, a
// command of its own.
func composeCommand(t *testing.T) []string {
	t.Helper()
	for _, words := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := exec.CommandContext(ctx, words[0], append(words[1:], "version")...).Run()
		cancel()
		if err == nil {
			return words
		}
	}
	notTested(t, requireDocker, "deploy/compose.yaml. Neither docker compose nor docker-compose is here: install one of them.")
	return nil
}
