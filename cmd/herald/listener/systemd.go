package listener

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// The names of systemd's sockets (FileDescriptorName= in systemd.socket(5)).
const (
	PublicSocket = "public"
	AdminSocket  = "admin"
)

// Passed has the sockets that systemd has passed to the process, by their names.
type Passed map[string][]net.Listener

// TakePassed takes the sockets that systemd has passed. They can be taken once.
func TakePassed() (Passed, error) {
	sockets, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Systemd, err)
	}
	return sockets, nil
}

// Take returns a listener of all sockets with the name and takes them out of p. Without public and admin sockets,
// every socket is public: a unit with one socket needs no FileDescriptorName=.
func (p Passed) Take(name string) (net.Listener, error) {
	var sockets []net.Listener
	if name == PublicSocket && len(p[PublicSocket]) == 0 && len(p[AdminSocket]) == 0 {
		for other := range p {
			sockets = append(sockets, p[other]...)
			delete(p, other)
		}
	}
	sockets = append(sockets, p[name]...)
	delete(p, name)
	switch len(sockets) {
	case 0:
		if len(p) == 0 {
			return nil, fmt.Errorf("%s: systemd has passed no such socket: start the service by a socket unit with FileDescriptorName=%s, or give HOST:PORT", Systemd, name)
		}
		return nil, fmt.Errorf("%s: systemd has passed the sockets %s: the socket unit needs FileDescriptorName=%s", Systemd, p.names(), name)
	case 1:
		return sockets[0], nil
	}
	return join(sockets), nil
}

// Close closes the sockets that nobody has taken, and returns an error that names them: clients of such a socket would
// wait for ever.
func (p Passed) Close() error {
	for _, sockets := range p {
		for _, l := range sockets {
			_ = l.Close()
		}
	}
	if len(p) > 0 {
		return fmt.Errorf("systemd has passed the sockets %s, which no listener takes: name them by FileDescriptorName=%s or FileDescriptorName=%s, and set the listener to %s", p.names(), PublicSocket, AdminSocket, Systemd)
	}
	return nil
}

func (p Passed) names() string {
	var names []string
	for name := range p {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
