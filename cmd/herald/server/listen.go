package server

import (
	"context"
	"fmt"
	"net"

	"herald/cmd/herald/listener"
)

// listen opens both listeners.
func (s *Server) listen(ctx context.Context) error {
	var passed listener.Passed
	if s.cfg.Listen == listener.Systemd || s.cfg.AdminListen == listener.Systemd {
		var err error
		if passed, err = listener.TakePassed(); err != nil {
			return err
		}
	}
	open := func(field, address, socket string) (net.Listener, error) {
		var l net.Listener
		var err error
		if address == listener.Systemd {
			l, err = passed.Take(socket)
		} else {
			l, err = listener.Listen(ctx, address)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %w", s.cfg.name(field), err)
		}
		return l, nil
	}
	unlimited, err := open("Listen", s.cfg.Listen, listener.PublicSocket)
	if err != nil {
		return err
	}
	evicted, connections := connectionMetrics(func() int { return s.limited.Open() })
	s.limited = listener.Limit(unlimited, maxConnections(), evicted.Inc)
	s.public.ConnState, s.public.ConnContext = s.limited.ConnState, s.limited.ConnContext
	s.registry.MustRegister(evicted, connections)
	s.onStop(func() error { _ = s.limited.Close(); return nil }) // it is closed already once the HTTP server has shut down
	if s.adminListener, err = open("AdminListen", s.cfg.AdminListen, listener.AdminSocket); err != nil {
		return err
	}
	s.onStop(func() error { _ = s.adminListener.Close(); return nil })
	return passed.Close()
}

// publicOnLoopback says whether the public listener can be reached from this machine only. The addresses of systemd's
// sockets are known only while the server runs.
func (s *Server) publicOnLoopback() bool {
	return listener.LoopbackOnly(s.cfg.Listen) || s.cfg.Listen == listener.Systemd && listener.OnLoopback(s.limited)
}

// warnOfAdminListener warns of an admin listener that other machines reach. In a container, it has to listen on an
// address of the network, so the server starts.
func (s *Server) warnOfAdminListener() {
	if s.adminOnLoopback() || s.AdminAddr().Network() == "unix" {
		return
	}
	s.cfg.Logger.Warn("everybody who reaches the admin listener sees users and their addresses and can end streams; keep clients from it by the network", "admin_listen", listener.Name(s.AdminAddr()))
}

func (s *Server) adminOnLoopback() bool {
	return listener.LoopbackOnly(s.cfg.AdminListen) || s.cfg.AdminListen == listener.Systemd && listener.OnLoopback(s.adminListener)
}

// servePublic reads the PROXY header of connections first, if there is one, and then TLS, if there is a certificate.
func (s *Server) servePublic() error {
	var l net.Listener = s.limited
	if s.cfg.ProxyProtocol {
		trusts := func(peer net.Addr) bool { return s.entrance.Load().clients.trustsPeer(peer) }
		l = listener.ProxyProtocol(s.limited, trusts, s.entrance.Load().front.recordConnection)
	}
	if s.public.TLSConfig != nil {
		l = listener.TLS(l, s.public.TLSConfig)
	}
	return s.public.Serve(l)
}
