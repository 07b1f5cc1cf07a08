package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// condition is something that streams need to get all of their records.
type condition struct {
	name string
	now  func() error // nil while the condition holds
	once func() error // nil once the condition has held, even if it no longer holds
}

// conditions returns the conditions of this server, in the order in which their reasons are given. A server without
// [Config.RevocationTopic], for example, lacks the condition of that topic.
func (s *Server) conditions() []condition {
	list := []condition{{"running", s.running, s.running}}
	if s.jwks != nil {
		list = append(list, condition{"keys", s.jwks.Ready, s.jwks.Loaded})
	}
	list = append(list, condition{"kafka", s.consumer.Contact, s.consumer.Started}) // before what needs Kafka
	if s.revocations != nil {
		list = append(list, condition{"revocations", s.revocations.ready, s.revocations.loaded})
	}
	list = append(list, condition{"topics", s.consumer.TopicsRead, s.consumer.Started})
	if s.schemas != nil {
		list = append(list, condition{"schemas", s.consumer.SchemasKnown, func() error { return nil }})
	}
	return list
}

func (s *Server) running() error {
	if s.draining.Load() {
		return errors.New("herald is stopping")
	}
	return nil
}

// Ready returns nil if streams would get all of their records now, or the first reason why not: the server
// stops, the key set is not loaded yet, Kafka does not answer, or the topic of revocations or another is not read.
func (s *Server) Ready() error {
	for _, c := range s.conditions() {
		if err := c.now(); err != nil {
			return err
		}
	}
	return nil
}

// Started returns nil once each condition of [Server.Ready] has held, until the server stops. Open streams and clients
// that wait need the server also while Kafka is unreachable: if all replicas left the load balancer then, the balancer
// would answer 503 itself, and a browser's EventSource does not reconnect after that.
func (s *Server) Started() error {
	for _, c := range s.conditions() {
		if err := c.once(); err != nil {
			return err
		}
	}
	return nil
}

// readiness is the answer of /readyz in JSON.
type readiness struct {
	Ready      bool              `json:"ready"`
	Conditions []conditionAnswer `json:"conditions"`
}

type conditionAnswer struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// answerReady answers /readyz by [Server.Started], and /readyz?strict by [Server.Ready].
func (s *Server) answerReady(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	strict := query.Has("strict")
	if len(query) > 1 || len(query) == 1 && !strict {
		http.Error(w, "unknown query parameter: /readyz takes strict", http.StatusBadRequest)
		return
	}
	now := s.Ready()
	err := now
	if !strict {
		err = s.Started()
	}
	status := http.StatusOK
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	switch {
	case wantsJSON(r.Header.Values("Accept")):
		answer := readiness{Ready: err == nil}
		for _, c := range s.conditions() {
			one := conditionAnswer{Name: c.name, OK: true}
			if err := c.now(); err != nil {
				one.OK, one.Reason = false, err.Error()
			}
			answer.Conditions = append(answer.Conditions, one)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // the client may have left
	case err != nil:
		http.Error(w, err.Error(), status)
	case now != nil:
		_, _ = fmt.Fprintln(w, "ok, but", now)
	default:
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// wantsJSON says whether a header Accept names JSON.
func wantsJSON(accept []string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(accept, ","), ","), func(one string) bool {
		name, _, err := mime.ParseMediaType(one)
		return err == nil && name == "application/json"
	})
}

// conditionMetrics show each condition of [Server.Ready].
func (s *Server) conditionMetrics() []prometheus.Collector {
	var gauges []prometheus.Collector
	for _, c := range s.conditions() {
		gauges = append(gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "herald_condition_ok", Help: "1 while a condition of /readyz?strict holds, by condition: running, keys, revocations, kafka, topics or schemas.",
			ConstLabels: prometheus.Labels{"condition": c.name},
		}, func() float64 {
			if c.now() != nil {
				return 0
			}
			return 1
		}))
	}
	return gauges
}
