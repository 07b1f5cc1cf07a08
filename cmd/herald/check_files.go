package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"herald/auth/textfile"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/login"
	"herald/cmd/herald/server"
)

// checkSettings checks everything that can be checked without a connection. It returns the server's configuration, without
// the parts whose files could not be read. The checks are the server's own: checkSettings builds a server, and does not
// start it.
func (c *checkCommand) checkSettings(ctx context.Context, f *findings) server.Config {
	for _, err := range c.problems() {
		f.refuse(err)
	}
	cfg := c.loadFiles(ctx, f)
	if f.exit() != exitUsage {
		if _, err := server.New(cfg); err != nil {
			f.refuse(err)
		} else {
			f.ok("settings and files: a server takes them")
		}
	}
	c.checkSecretFiles(f)
	c.checkTokenFile(f)
	checkPair(f, "--tls-cert-file", c.TLSCertFile, c.TLSKeyFile)
	checkPair(f, "--kafka-cert-file", c.KafkaCertFile, c.KafkaKeyFile)
	if !c.InsecureNoAuth && c.TLSCertFile == "" && len(c.TrustedProxies) == 0 && !isSocket(c.Listen) && !listener.LoopbackOnly(c.Listen) {
		f.note("--listen %s speaks plain HTTP, and --trusted-proxies names no proxy that adds TLS: without TLS, everybody on the way reads tokens, and browsers keep no session cookie", c.Listen)
	}
	c.checkClearText(f)
	if !isSocket(c.AdminListen) && !listener.LoopbackOnly(c.AdminListen) {
		f.note("--admin-listen %s: everybody who reaches this address sees users and their addresses and can end streams; keep clients from it by the network", c.AdminListen)
	}
	for _, allowed := range c.AllowOrigin {
		if strings.HasPrefix(allowed, "http://") && !c.InsecureSessionCookie && !c.InsecureNoAuth {
			f.note("--allow-origin %s: browsers take a page without TLS for another site than a server with TLS, and do not send the session cookie: the page needs a token in the header", allowed)
		}
	}
	f.ok("open files: the limit is %d", listener.OpenFiles())
	checkMemory(f, c.ReplayCacheBytes)
	return cfg
}

// checkClearText notes a log-in to Kafka that sends the password or the token as it is, without TLS to another machine.
func (c *checkCommand) checkClearText(f *findings) {
	sends := map[string]string{loginPlain: "password", loginBearer: "token"}[c.KafkaSASLMechanism]
	away := slices.IndexFunc(c.Brokers, func(address string) bool { return !listener.LoopbackOnly(address) })
	if sends != "" && !c.KafkaTLS && away >= 0 {
		f.note("--kafka-sasl-mechanism=%s without --kafka-tls: everybody on the way to %s can read the %s; use a listener with TLS, except in a network that you trust", c.KafkaSASLMechanism, c.Brokers[away], sends)
	}
}

// isSocket says whether a listener's address is a Unix socket, or sockets of systemd, whatever kind they are of.
func isSocket(address string) bool {
	_, ok := listener.UnixPath(address)
	return ok || address == listener.Systemd
}

// loadFiles reads the files that the settings name, as serve does.
func (c *checkCommand) loadFiles(ctx context.Context, f *findings) server.Config {
	cfg := c.config()
	cfg.Logger = f.logger()
	read, errs := c.readFiles(ctx, cfg.Logger)
	cfg.Consumer.TLS, cfg.Consumer.SASL, cfg.Keys, cfg.Certificate = read.kafka.tls, read.kafka.sasl, read.keys, read.certificate
	if read.schemas != nil {
		cfg.Schemas = read.schemas
	}
	var err error
	cfg.Consumer.Replica, err = c.replica()
	for _, err := range append(errs, err) {
		f.refuse(err)
	}
	return cfg
}

// checkSecretFiles warns of secrets that every user of this machine can read. The server warns of --jwt-secret-file
// itself.
func (c *checkCommand) checkSecretFiles(f *findings) {
	for flag, path := range map[string]string{
		"--kafka-sasl-password-file": c.KafkaSASLPasswordFile, "--kafka-key-file": c.KafkaKeyFile, "--tls-key-file": c.TLSKeyFile,
		"--kafka-oauth-token-file": c.KafkaOAuthTokenFile, "--kafka-oauth-client-secret-file": c.KafkaOAuthClientSecretFile,
		"--schema-registry-password-file": c.SchemaRegistryPasswordFile, "--schema-registry-token-file": c.SchemaRegistryTokenFile,
	} {
		if info, err := os.Stat(path); path != "" && err == nil && info.Mode().Perm()&0o004 != 0 {
			f.warn("%s: every user of this machine can read %s (mode %s): chmod 600 the file", flag, path, info.Mode().Perm())
		}
	}
}

// checkTokenFile warns of a token that has expired. The server reads the file for each log-in to Kafka.
func (c *checkCommand) checkTokenFile(f *findings) {
	if c.KafkaOAuthTokenFile == "" {
		return
	}
	token, err := login.File(c.KafkaOAuthTokenFile).Read()
	switch expires := token.Expires; {
	case err != nil: // loadFiles has found it
	case expires.IsZero():
		f.ok("--kafka-oauth-token-file: has a token, which does not say when it expires")
	case !time.Now().Before(expires):
		f.fail("--kafka-oauth-token-file: the token expired on %s: have it renewed", expires.UTC().Format(time.RFC3339))
	default:
		f.ok("--kafka-oauth-token-file: the token expires on %s; Herald reads the file for each log-in", expires.UTC().Format(time.RFC3339))
	}
}

// expiresSoon is the time before a certificate's end at which deploy/OPERATING.md alerts.
const expiresSoon = 7 * 24 * time.Hour

// checkPair checks when a certificate ends, and that each certificate of its chain is signed by the next one. loadFiles
// has checked that the key fits.
func checkPair(f *findings, flag, certFile, keyFile string) {
	if certFile == "" || keyFile == "" {
		return
	}
	pair, err := textfile.LoadKeyPair(certFile, keyFile)
	if err != nil {
		return // loadFiles has found it
	}
	switch left := time.Until(pair.Leaf.NotAfter); {
	case left <= 0:
		f.fail("%s: the certificate expired on %s: renew it", flag, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case left < expiresSoon:
		f.warn("%s: the certificate expires in %v: renew it", flag, left.Round(time.Hour))
	case time.Now().Before(pair.Leaf.NotBefore):
		f.fail("%s: the certificate is not valid before %s: check this machine's clock", flag, pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	default:
		f.ok("%s: the key fits, and the certificate expires on %s", flag, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if flag == "--tls-cert-file" { // Kafka does not look at the names of a client
		checkNames(f, flag, pair.Leaf)
	}
	if err := checkChain(&pair); err != nil {
		f.warn("%s: %v", flag, err)
	}
}

// checkNames prints the names by which clients may call the server. Only the subject alternative names count (RFC 9525).
func checkNames(f *findings, flag string, certificate *x509.Certificate) {
	names := slices.Clone(certificate.DNSNames)
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		f.warn("%s: the certificate has no name of a server (subject alternative name), so no client accepts it", flag)
		return
	}
	f.ok("%s: the certificate is for %s", flag, strings.Join(names, ", "))
}

func checkChain(pair *tls.Certificate) error {
	certificate := pair.Leaf
	for i, raw := range pair.Certificate[1:] {
		next, err := x509.ParseCertificate(raw)
		if err == nil {
			err = certificate.CheckSignatureFrom(next)
		}
		if err != nil {
			return fmt.Errorf("certificate %d of the file is not signed by the next one, so clients may not accept it: put the certificate of each authority after the one that it signed: %w", i+1, err)
		}
		certificate = next
	}
	return nil
}

// memoryLimitFile has the limit of memory of this process's control group (cgroup v2), as containers see it.
const memoryLimitFile = "/sys/fs/cgroup/memory.max"

// checkMemory compares the settings with the memory of the container, if it has a limit.
func checkMemory(f *findings, replayCache int) {
	text, err := os.ReadFile(memoryLimitFile)
	limit, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || parseErr != nil {
		return
	}
	const mib = 1 << 20
	switch {
	case int64(replayCache) > limit/2:
		f.warn("--replay-cache-bytes=%d: more than half of the memory that this container may take (%d MiB)", replayCache, limit/mib)
	case os.Getenv("GOMEMLIMIT") == "":
		f.note("memory: this container may take %d MiB, and GOMEMLIMIT is not set: with GOMEMLIMIT=%dMiB, Go collects garbage more often before the kernel ends the process", limit/mib, limit*9/10/mib)
	default:
		f.ok("memory: this container may take %d MiB, and GOMEMLIMIT is %s", limit/mib, os.Getenv("GOMEMLIMIT"))
	}
}
