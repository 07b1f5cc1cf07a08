package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/segmentio/kafka-go"
)

// advise returns, as the end of an error's text, which of Herald's flags may fix the error; "" if none.
// A broker that refuses SASL says why, and the advice follows from that. Other brokers only close the
// connection, or wait for bytes that never come, because they cannot read the request. That means a
// wrong flag only while no broker has ever answered; later it is a broker that fails.
func (c *Cluster) advise(err error) string {
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return " (see --kafka-sasl-user and --kafka-sasl-password-file, and whether the user has a password for this --kafka-sasl-mechanism)"
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return " (the listener has other mechanisms: change --kafka-sasl-mechanism)"
	case errors.Is(err, kafka.IllegalSASLState):
		return " (the listener wants no SASL: leave --kafka-sasl-mechanism out, or name a listener that does in --brokers)"
	case c.answered.Load():
		return ""
	}
	secure, user := c.tls != nil, c.transport.SASL != nil
	if isOf[*tls.CertificateVerificationError](err) {
		return " (--kafka-ca-file names the authorities that sign the brokers' certificates, --kafka-server-name the name that is in the certificates)"
	}
	if isOf[tls.RecordHeaderError](err) {
		return " (the listener speaks no TLS: leave --kafka-tls out, or name a listener that does in --brokers)"
	}
	if secure && isTimeout(err) {
		return " (no answer: does the listener speak TLS? If not, leave --kafka-tls out, or name a listener that does in --brokers)"
	}
	if !isClosed(err) {
		return ""
	}
	switch {
	case user && secure:
		return " (connection closed: does the listener speak TLS, and does it want this SASL mechanism? See --kafka-tls and --kafka-sasl-mechanism)"
	case user:
		return " (connection closed: does the listener want TLS, or another SASL mechanism? Add --kafka-tls, or change --kafka-sasl-mechanism)"
	case secure:
		return " (connection closed: does the listener speak TLS, and does it want SASL? Leave --kafka-tls out, or add --kafka-sasl-mechanism)"
	default:
		return " (connection closed: does the listener want TLS or SASL? Add --kafka-tls or --kafka-sasl-mechanism)"
	}
}

// adviseListener returns the same for an address that the cluster advertises and where no broker has ever answered.
// A broker at the addresses of --brokers has, so the flags are right for the listener there.
func (c *Cluster) adviseListener(err error) string {
	what := ""
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed), errors.Is(err, kafka.UnsupportedSASLMechanism), errors.Is(err, kafka.IllegalSASLState):
		what = "SASL is refused there."
	case isOf[tls.RecordHeaderError](err):
		what = "no TLS is spoken there."
	case isOf[*tls.CertificateVerificationError](err):
		return " (correct the broker's advertised.listeners, or set --kafka-server-name to the name that is in the certificates)"
	case c.tls != nil && isTimeout(err):
		what = "no answer: is TLS spoken there?"
	case isClosed(err):
		what = "connection closed: is the listener there of another kind, with or without TLS or SASL?"
	default:
		return ""
	}
	return " (" + what + " The listener of --brokers accepts these flags: correct the broker's advertised.listeners, or name another of its listeners in --brokers)"
}

// isOf reports whether the error's tree has an error of the type.
func isOf[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isTimeout reports whether no answer came in time, which the context or the connection may have noticed.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// isClosed reports whether the broker closed the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}
