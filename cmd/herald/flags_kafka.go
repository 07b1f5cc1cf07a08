package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"herald/auth/textfile"
)

// kafkaFlags are the flags that secure connections to Kafka.
type kafkaFlags struct {
	KafkaTLS              bool   `name:"kafka-tls" help:"Connect to Kafka with TLS. Default: plain TCP." group:"Kafka"`
	KafkaCAFile           string `name:"kafka-ca-file" placeholder:"FILE" help:"PEM file of the authorities that may sign the brokers' certificates. Default: the authorities of the system." group:"Kafka"`
	KafkaCertFile         string `name:"kafka-cert-file" placeholder:"FILE" help:"PEM file of Herald's certificate, for brokers that require one. Herald reads the file for each connection. Default: no certificate." group:"Kafka"`
	KafkaKeyFile          string `name:"kafka-key-file" placeholder:"FILE" help:"PEM file of the key of --kafka-cert-file. Default: none." group:"Kafka"`
	KafkaServerName       string `name:"kafka-server-name" placeholder:"NAME" help:"Name that the brokers' certificates must have. Default: the host name of each broker." group:"Kafka"`
	KafkaSASLMechanism    string `name:"kafka-sasl-mechanism" enum:",plain,scram-sha-256,scram-sha-512" default:"" placeholder:"NAME" help:"SASL mechanism to authenticate to Kafka with: plain, scram-sha-256 or scram-sha-512. Default: no authentication." group:"Kafka"`
	KafkaSASLUser         string `name:"kafka-sasl-user" placeholder:"NAME" help:"User name for --kafka-sasl-mechanism. Default: none." group:"Kafka"`
	KafkaSASLPasswordFile string `name:"kafka-sasl-password-file" placeholder:"FILE" help:"File with the password of --kafka-sasl-user, one line of text. Default: none." group:"Kafka"`
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
	case k.KafkaSASLMechanism == "" && (k.KafkaSASLUser != "" || k.KafkaSASLPasswordFile != ""):
		return errors.New("--kafka-sasl-user and --kafka-sasl-password-file need --kafka-sasl-mechanism")
	case k.KafkaSASLMechanism != "" && (k.KafkaSASLUser == "" || k.KafkaSASLPasswordFile == ""):
		return errors.New("--kafka-sasl-mechanism needs --kafka-sasl-user and --kafka-sasl-password-file")
	}
	return nil
}

// security reads the files that the flags name. The results are nil without --kafka-tls and without
// --kafka-sasl-mechanism. The error is a [usageError].
func (k *kafkaFlags) security() (*tls.Config, sasl.Mechanism, error) {
	config, err := k.tls()
	if err != nil {
		return nil, nil, usageError{err}
	}
	password, err := k.password()
	if err != nil {
		return nil, nil, usageError{err}
	}
	mechanism, err := k.sasl(password)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return config, mechanism, nil
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

// password reads the password's file. It returns "" without --kafka-sasl-mechanism.
func (k *kafkaFlags) password() (string, error) {
	if k.KafkaSASLMechanism == "" || k.KafkaSASLPasswordFile == "" { // check refuses one without the other
		return "", nil
	}
	text, err := textfile.ReadSecret(k.KafkaSASLPasswordFile)
	if err != nil {
		return "", fmt.Errorf("--kafka-sasl-password-file: %w", err)
	}
	return string(text), nil
}

func (k *kafkaFlags) sasl(password string) (mechanism sasl.Mechanism, err error) {
	if k.KafkaSASLMechanism == "" || k.KafkaSASLUser == "" || k.KafkaSASLPasswordFile == "" {
		return nil, nil //nolint:nilnil // no SASL
	}
	switch k.KafkaSASLMechanism {
	case "plain":
		mechanism = plain.Mechanism{Username: k.KafkaSASLUser, Password: password}
	case "scram-sha-256":
		mechanism, err = scram.Mechanism(scram.SHA256, k.KafkaSASLUser, password)
	case "scram-sha-512":
		mechanism, err = scram.Mechanism(scram.SHA512, k.KafkaSASLUser, password)
	default:
		return nil, fmt.Errorf("--kafka-sasl-mechanism=%s: want plain, scram-sha-256 or scram-sha-512", k.KafkaSASLMechanism)
	}
	if err != nil { // a character that SASLprep (RFC 4013) forbids
		return nil, fmt.Errorf("--kafka-sasl-user or its password: %w", err)
	}
	return mechanism, nil
}
