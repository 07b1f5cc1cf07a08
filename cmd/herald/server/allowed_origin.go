package server

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// allowedOrigin is an origin whose pages may use the server. With a wildcard it is the origins that have one label
// between before and after: https:// and .app.example stand for https://a.app.example, and neither for
// https://app.example nor for https://a.b.app.example.
type allowedOrigin struct {
	before, after string // without a wildcard, the origin and nothing
	wildcard      bool
}

func (a allowedOrigin) matches(origin string) bool {
	if !a.wildcard {
		return origin == a.before
	}
	label, ok := strings.CutPrefix(origin, a.before)
	if !ok {
		return false
	}
	label, ok = strings.CutSuffix(label, a.after)
	return ok && dnsLabel.MatchString(label)
}

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)
	dnsHost  = regexp.MustCompile(`^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?$`)
	appHost  = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`) // for example of capacitor:// and chrome-extension://
	number   = regexp.MustCompile(`^([0-9]+|0[xX][0-9A-Fa-f]*)$`)
)

// parseAllowedOrigin returns an error for a text that no browser sends as an origin (RFC 6454, section 6.2, and
// URL Standard, "host serializing"): it would never match. The error has the origin as browsers write it, where there
// is one.
func parseAllowedOrigin(text string) (allowedOrigin, error) {
	switch text {
	case "*":
		return allowedOrigin{}, errors.New(`"*": want a list of origins: pages of all origins could use every user's session`)
	case "null":
		return allowedOrigin{}, errors.New(`"null": browsers send it for sandboxed frames and files of any origin, so it would allow every page`)
	}
	written, err := asBrowsersWrite(text)
	if err != nil {
		return allowedOrigin{}, fmt.Errorf("%q: %w", text, err)
	}
	if written != text {
		return allowedOrigin{}, fmt.Errorf("%q: browsers write %s", text, written)
	}
	before, after, wildcard := strings.Cut(text, "*")
	return allowedOrigin{before, after, wildcard}, nil
}

var errOriginForm = errors.New("want an origin as browsers write it, such as https://app.example, http://localhost:3000 or capacitor://localhost: scheme, host, a port if it is not the usual one, and nothing else")

// asBrowsersWrite returns the origin of the URL as browsers write it. The host of the URL may begin with a wildcard.
func asBrowsersWrite(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil {
		return "", errOriginForm
	}
	host, port := u.Hostname(), u.Port()
	switch u.Scheme {
	case "http", "https":
		host, err = webHost(host)
	case "file", "ftp", "ws", "wss":
		return "", fmt.Errorf("pages have no origin with the scheme %s", u.Scheme)
	default:
		if strings.Contains(host, "*") {
			return "", errors.New("only http and https can have a wildcard")
		}
		if !appHost.MatchString(host) {
			return "", errOriginForm
		}
		host = strings.ToLower(host)
	}
	if err != nil {
		return "", err
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return "", fmt.Errorf("port %s: want a number up to 65535", port)
		}
		port = strconv.FormatUint(n, 10)
	}
	if port != "" && port != defaultPort[u.Scheme] {
		host += ":" + port
	}
	return u.Scheme + "://" + host, nil
}

var defaultPort = map[string]string{"http": "80", "https": "443"}

// webHost returns the host of an http or https origin as browsers write it: a name in ASCII and lower case, or an
// address in its shortest form. Before the name there may be a wildcard.
func webHost(host string) (string, error) {
	if strings.Contains(host, ":") {
		at, err := netip.ParseAddr(host)
		if err != nil || at.Zone() != "" || at.Is4In6() {
			return "", errOriginForm
		}
		return "[" + at.String() + "]", nil
	}
	name, wildcard := strings.CutPrefix(host, "*.")
	if strings.Contains(name, "*") {
		return "", errors.New("a wildcard stands for the whole first label of a host, as in https://*.app.example")
	}
	name, err := hostNames.ToASCII(name)
	if err != nil || !dnsHost.MatchString(name) {
		return "", errOriginForm
	}
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	isAddress := number.MatchString(labels[len(labels)-1])
	switch {
	case isAddress && wildcard:
		return "", errors.New("an IP address has no labels that a wildcard could stand for")
	case isAddress:
		if at, err := netip.ParseAddr(name); err != nil || !at.Is4() {
			return "", errors.New("want an IPv4 address of four numbers, such as 127.0.0.1")
		}
	case wildcard && isPublic(strings.TrimSuffix(name, ".")):
		return "", fmt.Errorf("hosts of %s belong to anybody: a wildcard needs a domain of your own, as in https://*.app.example", name)
	case wildcard:
		return "*." + name, nil
	}
	return name, nil
}

// hostNames converts names as browsers do (URL Standard, "domain to ASCII").
var hostNames = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.StrictDomainName(false), idna.CheckHyphens(false))

// isPublic says whether anybody can have a name below the name, such as com, co.uk, github.io or, because all names
// below it are public themselves, compute.amazonaws.com. A name of one label counts as public, except localhost: the
// list of public names may be older than the name.
func isPublic(name string) bool {
	for _, n := range []string{name, "any." + name} {
		if suffix, _ := publicsuffix.PublicSuffix(n); suffix == n && n != "localhost" {
			return true
		}
	}
	return false
}
