package format

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the metrics of a registry.
type metrics struct {
	requests *prometheus.CounterVec
	schemas  prometheus.Gauge
	up       prometheus.Gauge
}

// Values of the label result.
const (
	resultFound   = "found"
	resultUnknown = "unknown"
	resultBad     = "bad"
	resultError   = "error"
)

// newMetrics returns metrics that are registered with reg, unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_schema_registry_requests_total",
			Help: "Schemas asked for, by result: found, unknown (the registry has no such schema), bad (the schema cannot be used) or error (no answer).",
		}, []string{"result"}),
		schemas: prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_schema_registry_schemas", Help: "Schemas in memory, with unknown ids of the last minute."}),
		up:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_schema_registry_up", Help: "1 if the schema registry answered the last request for a schema, or was not asked yet; 0 if not."}),
	}
	m.up.Set(1)
	for _, result := range []string{resultFound, resultUnknown, resultBad, resultError} {
		m.requests.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.schemas, m.up)
	}
	return m
}

// recordRequest counts a request for a schema by its result.
func (m *metrics) recordRequest(err error) {
	result := resultFound
	if _, isBad := errors.AsType[*Error](err); isBad {
		result = resultBad
	} else if errors.Is(err, ErrNotFound) {
		result = resultUnknown
	} else if err != nil {
		result = resultError
	}
	m.requests.WithLabelValues(result).Inc()
}
