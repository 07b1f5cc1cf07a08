package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"herald/cmd/herald/listener"
)

func newRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "herald_build_info", Help: "1; the version is a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return registry
}

// counterVec returns counters that exist from the start, with the value 0. If a counter appeared with
// its first event, a rate over it would miss that event.
func counterVec(name, help, label string, values ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		vec.WithLabelValues(value)
	}
	return vec
}

// kafkaConnections counts the connections to brokers of all parts of the server.
func (s *Server) kafkaConnections() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_kafka_connections", Help: "Connections to Kafka's brokers that are open.",
	}, func() float64 {
		open := s.consumer.Connections() + s.producer.Connections()
		if s.revocations != nil {
			open += s.revocations.reader.Connections()
		}
		return float64(open)
	})
}

// kafkaRenewals counts the renewed log-ins of all parts of the server, and the failures.
func (s *Server) kafkaRenewals() (succeeded, failed prometheus.Collector) {
	sum := func() (succeeded, failed int64) {
		parts := []interface{ Renewals() (int64, int64) }{s.consumer, s.producer}
		if s.revocations != nil {
			parts = append(parts, s.revocations.reader)
		}
		for _, part := range parts {
			a, b := part.Renewals()
			succeeded, failed = succeeded+a, failed+b
		}
		return succeeded, failed
	}
	counter := func(result string, value func() int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "herald_kafka_reauthentications_total", ConstLabels: prometheus.Labels{"result": result},
			Help: "Log-ins on connections to Kafka's brokers that were logged in before, because the brokers limit how long a log-in lasts, by result: ok or error.",
		}, func() float64 { return float64(value()) })
	}
	return counter("ok", func() int64 { n, _ := sum(); return n }), counter("error", func() int64 { _, n := sum(); return n })
}

// connectionMetrics count the public listener's connections. [listener.Limit] calls evicted.Inc, and
// open returns [listener.Limited.Open].
func connectionMetrics(open func() int) (evicted prometheus.Counter, gauge prometheus.Collector) {
	evicted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "herald_http_connections_evicted_total", Help: "Connections closed while they waited for their clients, to make room for new ones.",
	})
	return evicted, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_http_connections", Help: "Connections of the public listener that are open.",
	}, func() float64 { return float64(open()) })
}

// certificateExpiry lets operators set an alert that comes before users notice.
func certificateExpiry(c *listener.Certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_tls_not_after_timestamp_seconds", Help: "Unix time at which the public listener's certificate ends.",
	}, func() float64 { return float64(c.NotAfter().Unix()) })
}
