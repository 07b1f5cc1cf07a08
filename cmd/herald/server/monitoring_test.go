package server

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/listener/certtest"
	"herald/consumer"
	"herald/consumer/format"
)

// metricNames matches the metrics that an expression names.
var metricNames = regexp.MustCompile(`\b(?:herald|process|go)_[a-z0-9_]+`)

// TestMonitoringNamesMetrics wants each metric of the alert rules and of the dashboard to be in a scrape of a server
// that has every part which has metrics: a key set, a certificate, revocations and a topic with a format.
func TestMonitoringNamesMetrics(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certtest.WriteKeyPair(t, certFile, keyFile, 1)
	srv, _ := startServerWith(t, func(cfg *Config) {
		requireTokens(t, cfg)
		log := slog.New(slog.DiscardHandler)
		var err error
		if cfg.Keys, err = auth.NewJWKS(auth.JWKSConfig{URL: "http://127.0.0.1:1/", Refresh: time.Minute, Logger: log}); err != nil {
			t.Fatal(err)
		}
		if cfg.Certificate, err = listener.LoadCertificate(certFile, keyFile, log); err != nil {
			t.Fatal(err)
		}
		cfg.RevocationTopic = "revocations"
		cfg.Consumer.Routes = append(slices.Clone(testRoutes), consumer.Route{Topic: "values", Format: format.KindConfluentJSON})
	})
	for _, file := range []string{"alerts.yml", "grafana/herald.json"} {
		text, err := os.ReadFile("../../../deploy/monitoring/" + file) //nolint:gosec // the files of the list above
		if err != nil {
			t.Fatal(err)
		}
		names := metricNames.FindAllString(string(text), -1)
		slices.Sort(names)
		if names = slices.Compact(names); len(names) < 10 {
			t.Errorf("%s names only %v", file, names)
		}
		for _, name := range names {
			inScrape := regexp.MustCompile(`(?m)^` + name + `[{ ]`)
			await(t, file+": "+name+" is in a scrape", true, func() bool {
				_, _, scrape := request(t, http.MethodGet, "http://"+srv.AdminAddr().String()+"/metrics", nil)
				return inScrape.MatchString(scrape)
			})
		}
	}
}
