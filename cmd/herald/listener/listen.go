package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Systemd is the address of the sockets that systemd passes (socket activation, sd_listen_fds(3)).
const Systemd = "systemd"

// unixPrefix begins the address of a Unix socket: unix:/run/herald/herald.sock.
const unixPrefix = "unix:"

// UnixPath returns the path of an address that begins with unix:.
func UnixPath(address string) (path string, ok bool) { return strings.CutPrefix(address, unixPrefix) }

// CheckAddress returns an error unless the address is HOST:PORT with a numeric port, unix:PATH or [Systemd]. An empty
// host stands for all addresses of the machine; port 0 for any free port. The error's text begins with the
// address, so that a caller can put the name of a setting in front. example is an address that the
// error recommends.
func CheckAddress(address, example string) error {
	if path, ok := UnixPath(address); ok {
		return checkUnixPath(address, path)
	}
	if address == Systemd {
		return nil
	}
	return checkHostPort(address, fmt.Sprintf("HOST:PORT, such as %s, unix:PATH or %s", example, Systemd))
}

// Clash says whether two listeners cannot have both addresses at a time: the same Unix socket, or the same port of one
// address of the machine. A host that stands for all addresses clashes with each of them: Linux refuses the second of
// two such listeners, and on other systems connections would reach one of the two by chance. Clash looks up no names
// and takes localhost for any loopback address.
func Clash(a, b string) bool {
	pathA, unixA := UnixPath(a)
	pathB, unixB := UnixPath(b)
	if unixA || unixB {
		absoluteA, errA := filepath.Abs(pathA)
		absoluteB, errB := filepath.Abs(pathB)
		return unixA && unixB && errA == nil && errB == nil && absoluteA == absoluteB
	}
	hostA, portA, errA := splitAddress(a)
	hostB, portB, errB := splitAddress(b)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	switch {
	case hostA == "", hostB == "", ipA.IsUnspecified(), ipB.IsUnspecified():
		return true
	case ipA != nil && ipB != nil:
		return ipA.Equal(ipB)
	}
	return strings.EqualFold(hostA, hostB) || LoopbackOnly(a) && LoopbackOnly(b)
}

func splitAddress(address string) (host string, port uint64, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.ParseUint(text, 10, 16)
	return host, port, err
}

// CheckHostPort is [CheckAddress] for a listener that takes HOST:PORT only.
func CheckHostPort(address, example string) error {
	return checkHostPort(address, "HOST:PORT, such as "+example)
}

// checkHostPort names the wanted forms in its error.
func checkHostPort(address, wanted string) error {
	_, _, err := splitAddress(address)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s: the port is above 65535", address)
	case err != nil:
		return fmt.Errorf("%s: want %s", address, wanted)
	}
	return nil
}

// Listen listens on an address HOST:PORT or unix:PATH. The error's text begins with the address and ends with advice.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := UnixPath(address); ok {
		return listenUnix(ctx, address, path)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	advice := "choose another address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "stop what listens there, or choose another port (0 takes a free one)"
	case errors.Is(err, syscall.EACCES):
		advice = "choose a port above 1023, or run as a user that may take this one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = "choose an address of this machine"
	}
	return nil, adviceOn(address, err, advice)
}

// adviceOn returns an error that begins with the address and ends with advice.
func adviceOn(address string, err error, advice string) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return fmt.Errorf("%s: %w: %s", address, err, advice)
}

// Name returns the address of a listener as [CheckAddress] takes it.
func Name(address net.Addr) string {
	if address.Network() == "unix" {
		return unixPrefix + address.String()
	}
	return address.String()
}

// LoopbackOnly says whether a listener on the address can be reached from this machine only. Of names
// it knows localhost; it does not look up others. A Unix socket is not loopback: its clients are usually a proxy's.
func LoopbackOnly(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
