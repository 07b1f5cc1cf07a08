package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/sasl"

	"herald/auth/textfile"
)

// kafkaFlags are the flags that secure connections to Kafka.
type kafkaFlags struct {
	KafkaTLS        bool   `name:"kafka-tls" help:"Connect to Kafka with TLS. Default: plain TCP." group:"Kafka"`
	KafkaCAFile     string `name:"kafka-ca-file" placeholder:"FILE" help:"PEM file of the authorities that may sign the brokers' certificates. Default: the authorities of the system." group:"Kafka"`
	KafkaCertFile   string `name:"kafka-cert-file" placeholder:"FILE" help:"PEM file of Herald's certificate, for brokers that require one. Herald reads the file for each connection. Default: no certificate." group:"Kafka"`
	KafkaKeyFile    string `name:"kafka-key-file" placeholder:"FILE" help:"PEM file of the key of --kafka-cert-file. Default: none." group:"Kafka"`
	KafkaServerName string `name:"kafka-server-name" placeholder:"NAME" help:"Name that the brokers' certificates must have. Default: the host name of each broker." group:"Kafka"`

	loginFlags
}

// checkBrokers checks the addresses of --brokers.
func checkBrokers(list []string) error {
	for _, address := range list {
		if err := checkBroker("--brokers", address); err != nil {
			return err
		}
	}
	return nil
}

// checkBroker returns an error, with the flag, for an address that is not HOST:PORT.
func checkBroker(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case strings.Contains(address, "://"):
		return fmt.Errorf("%s %s: want HOST:PORT without a scheme, such as localhost:9092", flag, address)
	case err == nil && (errors.Is(portErr, strconv.ErrRange) || portErr == nil && number == 0):
		return fmt.Errorf("%s %q: want a port from 1 to 65535", flag, address)
	case err != nil || host == "" || portErr != nil || strings.ContainsFunc(host, textfile.IsInvisible):
		return fmt.Errorf("%s %q: want HOST:PORT, such as localhost:9092", flag, address)
	}
	return nil
}

// isWildcard says whether an address stands for all addresses of the machine.
func isWildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "" || ip != nil && ip.IsUnspecified())
}

// check returns an error for a flag that has no effect without another flag.
func (k *kafkaFlags) check() error {
	switch {
	case !k.KafkaTLS && (k.KafkaCAFile != "" || k.KafkaCertFile != "" || k.KafkaServerName != ""):
		return errors.New("--kafka-ca-file, --kafka-cert-file and --kafka-server-name need --kafka-tls")
	case (k.KafkaCertFile == "") != (k.KafkaKeyFile == ""):
		return errors.New("--kafka-cert-file and --kafka-key-file go together")
	}
	return k.loginFlags.check()
}

// connection says how Herald connects to Kafka: what the flags and the files that they name give.
type connection struct {
	tls      *tls.Config       // nil: no TLS
	sasl     sasl.Mechanism    // nil: no SASL
	contents map[string]string // by the flag that names the file: what sasl was made from
}

// connection reads the files that the flags name. The error is a [usageError].
func (k *kafkaFlags) connection(ctx context.Context) (c connection, err error) {
	if c.tls, err = k.tls(); err != nil {
		return c, usageError{err}
	}
	if c.sasl, c.contents, err = k.mechanism(ctx); err != nil {
		return c, usageError{err}
	}
	return c, nil
}

func (k *kafkaFlags) tls() (*tls.Config, error) {
	if !k.KafkaTLS {
		return nil, nil //nolint:nilnil // no TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: k.KafkaServerName}
	if k.KafkaCAFile != "" {
		var err error
		if config.RootCAs, err = authorities("kafka-ca-file", k.KafkaCAFile); err != nil {
			return nil, err
		}
	}
	if k.KafkaCertFile != "" && k.KafkaKeyFile != "" { // check refuses one without the other
		load := func() (*tls.Certificate, error) {
			c, err := textfile.LoadKeyPair(k.KafkaCertFile, k.KafkaKeyFile)
			return &c, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("--kafka-cert-file and --kafka-key-file: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}
