package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// explain returns the error of a request to a broker, or to [Any], with the address that was dialled and which of
// Herald's flags may help. A broker's address comes from the cluster. If the broker has never answered there and no
// flag names the address, explain says who advertises it: an operator would look for the address in vain. waited is how
// long the request took: a port of another protocol, such as HTTP, may take the connection and never answer.
func (c *Cluster) explain(err error, req kmsg.Request, broker int32, waited time.Duration) error {
	request := kmsg.NameForKey(req.Key())
	if errors.Is(err, kafka.BrokerNotAvailable) {
		err = unlistedError{}
	}
	if broker == Any {
		if reason := dialFailure(err); reason != nil {
			return fmt.Errorf("no Kafka broker answers at %s: %w", c.listBootstrap(), reason)
		}
		if isTimeout(err) && c.tls == nil && !c.answered.Load() {
			return fmt.Errorf("no Kafka broker answers at %s within %v: is this a broker's address and port? %s: %w", c.listBootstrap(), waited.Round(time.Second), request, err)
		}
		return fmt.Errorf("%s to %s: %w%s", request, c.listBootstrap(), err, c.advise(err))
	}
	switch address, reached := c.roster.find(broker); {
	case address == "":
		return fmt.Errorf("%s to broker %d: %w%s", request, broker, err, c.advise(err))
	case reached || slices.Contains(c.bootstrap, address):
		return fmt.Errorf("%s to broker %d at %s: %w%s", request, broker, address, err, c.advise(err))
	default:
		return fmt.Errorf("%s to broker %d, %s: %w%s", request, broker, c.origin(address), err, c.adviseListener(err))
	}
}

// unlistedError replaces kafka-go's error for a broker that its own list of brokers lacks. The list is up to two seconds
// old: it lacks the brokers when a cluster answers for the first time, and a broker that has just joined.
type unlistedError struct{}

func (unlistedError) Error() string {
	return "the broker has appeared just now, or left the cluster; the list of brokers is read again"
}

// Unwrap returns kafka-go's error.
func (unlistedError) Unwrap() error { return kafka.BrokerNotAvailable }

// explainDial returns an error of a connection to an address, which kafka-go adds. explainDial adds where the address
// comes from and which flags may help, as explain does.
func (c *Cluster) explainDial(err error, address string) error {
	if c.roster.hasReached(address) || slices.Contains(c.bootstrap, address) {
		return fmt.Errorf("%w%s", err, c.advise(err))
	}
	return fmt.Errorf("advertised by %s (advertised.listeners): %w%s", c.listBootstrap(), err, c.adviseListener(err))
}

// origin says where an address comes from that no flag names.
func (c *Cluster) origin(address string) string {
	return fmt.Sprintf("advertised as %s by %s (advertised.listeners)", address, c.listBootstrap())
}

func (c *Cluster) listBootstrap() string { return strings.Join(c.bootstrap, ", ") }

// dialFailure returns why a connection could not be opened; nil if the error is another one.
func dialFailure(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "dial" {
		return nil
	}
	if call, ok := errors.AsType[*os.SyscallError](op.Err); ok {
		return call.Err // the name of the system call helps nobody
	}
	return op.Err
}
