package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"herald/auth"
	"herald/consumer"
)

// TestRecordsForImpossibleUsersAreCounted writes a record for each of many names to a shared topic. Herald counts
// exactly the records for the names that no user can have: package consumer knows the rules of package auth.
func TestRecordsForImpossibleUsersAreCounted(t *testing.T) {
	names := []string{
		"", "alice", "alice@example.org", "Ålice 愛", "al\x00ice", "alice\r", "alice\x7f", "alice\u0085", "alice\xff", "..", "_", "alice\u200b",
		strings.Repeat("a", 249), strings.Repeat("a", 250), strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("é", 128), strings.Repeat("é", 129),
	}
	for name, routes := range map[string][]consumer.Route{"shared topic": testRoutes[:1], "with topics of users": testRoutes} {
		t.Run(name, func(t *testing.T) {
			srv, broker := startServerWith(t, func(cfg *Config) { cfg.Consumer.Routes = routes })
			producer := consumer.NewProducer(broker.ListenAddrs(), nil, nil)
			t.Cleanup(producer.Close)
			impossible := 0
			for _, name := range names {
				if _, err := producer.Produce(t.Context(), consumer.Message{Topic: "notifications", Key: []byte(name), Value: []byte("v")}); err != nil {
					t.Fatal(err)
				}
				if errors.Join(auth.CheckUser(name), srv.consumer.CheckUser(name)) != nil {
					impossible++
				}
			}
			metrics := func() string {
				_, text := call(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/metrics", "")
				return text
			}
			await(t, "all records are read", true, func() bool {
				return strings.Contains(metrics(), fmt.Sprintf("\nherald_kafka_records_total %d\n", len(names)))
			})
			counted := 0
			for line := range strings.Lines(metrics()) {
				var n int
				if rest, ok := strings.CutPrefix(line, `herald_kafka_ownerless_records_total{reason="`); ok {
					_, value, _ := strings.Cut(rest, "} ")
					if _, err := fmt.Sscan(value, &n); err != nil {
						t.Fatal(err)
					}
					counted += n
				}
			}
			if counted != impossible || impossible == 0 {
				t.Errorf("%d records are counted, want %d", counted, impossible)
			}
		})
	}
}
