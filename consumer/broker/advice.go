package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
)

// advise returns, as the end of an error's text, which of Herald's flags may fix the error; "" if none.
// A broker that refuses SASL says why, and the advice follows from that. Other brokers only close the
// connection, or wait for bytes that never come, because they cannot read the request. That means a
// wrong flag only while no broker has ever answered; later it is a broker that fails.
func (c *Cluster) advise(err error) string {
	if refused, ok := errors.AsType[*refusalError](err); ok {
		return inBrackets(refused.advise())
	}
	if advice := c.adviseCertificate(alertOf(err)); advice != "" {
		return inBrackets(advice)
	}
	if c.answered.Load() {
		return ""
	}
	secure, user := c.tls != nil, c.mechanism != nil
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
	case isOf[*refusalError](err):
		what = "SASL is refused there."
	case c.adviseCertificate(alertOf(err)) != "":
		what = "the certificate of --kafka-cert-file is missing or refused there."
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

// Alerts of TLS (RFC 8446, section 6) by which a listener says that it wants a certificate, or refuses one. Servers choose
// among them freely. OpenSSL up to TLS 1.2 sends handshakeFailure if there is no certificate.
var (
	handshakeFailure = tls.AlertError(40).Error()

	certificateAlerts = []string{
		tls.AlertError(42).Error(),  // bad_certificate
		tls.AlertError(43).Error(),  // unsupported_certificate
		tls.AlertError(44).Error(),  // certificate_revoked
		tls.AlertError(45).Error(),  // certificate_expired
		tls.AlertError(46).Error(),  // certificate_unknown
		tls.AlertError(48).Error(),  // unknown_ca
		tls.AlertError(49).Error(),  // access_denied
		tls.AlertError(116).Error(), // certificate_required
	}
)

// alertOf returns the text of the alert with which a listener ends a TLS connection; "" if the error is another one. With
// TLS 1.3, an alert about the certificate comes after the handshake, in place of the first response.
func alertOf(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && op.Err != nil {
		return op.Err.Error() // the type of the alert has no name outside crypto/tls
	}
	return ""
}

// adviseCertificate returns the advice for an alert about the certificate that Herald sends; "" for another alert.
func (c *Cluster) adviseCertificate(alert string) string {
	has := c.tls != nil && (len(c.tls.Certificates) > 0 || c.tls.GetClientCertificate != nil)
	switch {
	case slices.Contains(certificateAlerts, alert) && has:
		return "the listener refuses the certificate of --kafka-cert-file: has it expired, and do the brokers know the authority that signed it?"
	case slices.Contains(certificateAlerts, alert):
		return "the listener wants a client's certificate: add --kafka-cert-file and --kafka-key-file, or name another listener in --brokers"
	case alert == handshakeFailure && !has:
		return "the listener may want a client's certificate: see --kafka-cert-file"
	default:
		return ""
	}
}

// inBrackets returns advice as the end of an error's text.
func inBrackets(advice string) string {
	if advice == "" {
		return ""
	}
	return " (" + advice + ")"
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
