package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// CheckAddress returns an error unless the address is HOST:PORT with a numeric port. An empty host
// stands for all addresses of the machine; port 0 for any free port. The error's text begins with the
// address, so that a caller can put the name of a setting in front. example is an address that the
// error recommends.
func CheckAddress(address, example string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s: the port is above 65535", address)
	case err != nil:
		return fmt.Errorf("%s: want HOST:PORT, such as %s", address, example)
	}
	return nil
}

// Listen listens on a TCP address. The error's text begins with the address and ends with advice.
func Listen(ctx context.Context, address string) (net.Listener, error) {
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
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return nil, fmt.Errorf("%s: %w: %s", address, err, advice)
}

// LoopbackOnly says whether a listener on the address can be reached from this machine only. Of names
// it knows localhost; it does not look up others.
func LoopbackOnly(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
