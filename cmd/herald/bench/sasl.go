package bench

import (
	"context"
	"net"
	"strconv"

	segmentio "github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// SASL returns the option of [Config.Kafka] that authenticates with a mechanism of kafka-go, which the
// server uses.
func SASL(m segmentio.Mechanism) kgo.Opt { return kgo.SASL(franzMechanism{m}) }

// franzMechanism adapts a mechanism of kafka-go to franz-go.
type franzMechanism struct{ segmentio.Mechanism }

// Authenticate implements [sasl.Mechanism].
func (f franzMechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		number, _ := strconv.Atoi(port)
		ctx = segmentio.WithMetadata(ctx, &segmentio.Metadata{Host: name, Port: number})
	}
	machine, first, err := f.Start(ctx)
	return franzSession{ctx, machine}, first, err
}

// franzSession is one authentication.
type franzSession struct {
	ctx     context.Context //nolint:containedctx // franz-go passes it only at the start of an authentication
	machine segmentio.StateMachine
}

// Challenge implements [sasl.Session].
func (f franzSession) Challenge(challenge []byte) (bool, []byte, error) {
	return f.machine.Next(f.ctx, challenge)
}
