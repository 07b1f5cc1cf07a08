package server

import (
	"context"

	"herald/cmd/herald/tracing"
	"herald/consumer"
)

// startTracing starts to send spans, if TraceEndpoint is set.
func (s *Server) startTracing(ctx context.Context) error {
	if s.cfg.TraceEndpoint == "" {
		return nil
	}
	counts := tracing.NewCounts()
	provider, err := tracing.Start(ctx, tracing.Config{
		Endpoint: s.cfg.TraceEndpoint, Version: s.cfg.Version, Replica: s.cfg.Consumer.Replica, Logger: s.cfg.Logger, Counts: counts,
	})
	if err != nil {
		return err
	}
	s.registry.MustRegister(counts)
	s.onStop(func() error { provider.Stop(); return nil })
	s.hub.TraceRecords(provider.Tracer(), func(topic string) string {
		return consumer.TopicTemplate(s.cfg.Consumer.Routes, topic)
	})
	return nil
}
