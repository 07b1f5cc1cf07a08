package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	address, err := unusedAddress(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

// given holds the addresses that unusedAddress has returned.
var given sync.Map

// unusedAddress picks a port below 32768, because the kernel uses ports from 32768 for outgoing connections. It
// never returns an address twice. So the address stays free until a process uses it, and while the process restarts.
func unusedAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return "", err
		}
		if _, again := given.LoadOrStore(address, true); !again {
			return address, nil
		}
	}
	return "", errors.New("no free port found in 100 tries")
}

// portOf returns the port of the address.
func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
