package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"herald/cmd/herald/visible"
)

// The values of [Config.TrustedProxyHeader].
const (
	headerXForwardedFor = "x-forwarded-for"
	headerForwarded     = "forwarded" // RFC 7239
)

const (
	// maxHops is the number of addresses in a header that are read. No chain of proxies is that long.
	maxHops = 64
	// maxElement is the length of an element that is read. An address with all other parameters of RFC 7239 is
	// far shorter.
	maxElement = 1 << 10
)

// clientAddresses finds the address of the client that sent a request. It is the address of the connection or,
// if a trusted proxy made the connection, the address in the proxy's header. Every proxy appends the address of
// its own client to the header. The client is therefore the last address that is not a trusted proxy's, and
// everything to the left of this address may be forged.
type clientAddresses struct {
	trusted       []netip.Prefix
	trustsUnix    bool   // clients of a Unix socket are proxies
	read, ignored string // names of headers, as http.Header has them
	cutLast       func(line string) (element, rest string, more bool)
	parse         func(element string) (netip.Addr, bool)
	setting       string // the setting that chooses the header
	log           *slog.Logger
	warnOfElement sync.Once
	warnOfHeader  sync.Once
}

func newClientAddresses(cfg *Config) (*clientAddresses, error) {
	trusted, unix, err := cfg.trustedNetworks()
	if err != nil {
		return nil, err
	}
	a := &clientAddresses{
		trusted: trusted, trustsUnix: unix, read: "X-Forwarded-For", ignored: "Forwarded", cutLast: cutLastComma, parse: parseNode,
		setting: cfg.name("TrustedProxyHeader"), log: cfg.Logger,
	}
	for _, p := range trusted {
		if p.Bits() == 0 {
			cfg.Logger.Warn("EVERY CLIENT CAN FORGE ITS ADDRESS: a network of trusted proxies holds all addresses", "network", p, "setting", cfg.name("TrustedProxies"))
		}
	}
	if cfg.TrustedProxyHeader == headerForwarded {
		a.read, a.ignored = a.ignored, a.read
		a.cutLast, a.parse = cutLastForwarded, parseForwarded
	}
	return a, nil
}

// trustedUnix is the element of TrustedProxies for clients of a Unix socket.
const trustedUnix = "unix"

// trustedNetworks returns TrustedProxies as networks, and whether clients of a Unix socket are among them. An IPv4 network
// in IPv6's notation becomes an IPv4 network, because all addresses are compared as IPv4 addresses where they can be.
func (c *Config) trustedNetworks() (networks []netip.Prefix, unix bool, err error) {
	for _, text := range c.TrustedProxies {
		if text == trustedUnix {
			unix = true
			continue
		}
		p, err := netip.ParsePrefix(text)
		if at, noNetwork := netip.ParseAddr(text); noNetwork == nil && at.Zone() == "" {
			return nil, false, fmt.Errorf("%s %s: want networks, did you mean %s?", c.name("TrustedProxies"), text, netip.PrefixFrom(at, at.BitLen()))
		}
		if err != nil {
			return nil, false, fmt.Errorf("%s %s: want networks such as 10.0.0.0/8, or %s", c.name("TrustedProxies"), text, trustedUnix)
		}
		if p != p.Masked() {
			return nil, false, fmt.Errorf("%s %s: this is an address in a network, did you mean the address, %s, or the network, %s?",
				c.name("TrustedProxies"), text, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), p.Masked())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		networks = append(networks, p)
	}
	return networks, unix, nil
}

// of is an [echo.IPExtractor]. It returns an address without a port and without a zone; an IPv4 address is never in
// IPv6's notation. An element of the header that is not an address ends the search: the request then counts as
// a request of the proxy that wrote the element, because nobody vouches for the elements further to the left.
func (a *clientAddresses) of(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	at := plainAddress(peer.Addr()) // invalid for the client of a Unix socket
	if err != nil && a.trustsUnix || err == nil && a.trusts(at) {
		at = a.clientOf(at, r.Header)
	}
	return addressText(at)
}

// addressText returns the text of an address. Clients of a Unix socket have none.
func addressText(at netip.Addr) string {
	if !at.IsValid() {
		return trustedUnix
	}
	return at.String()
}

// trustsPeer says whether the address is a trusted proxy's.
func (a *clientAddresses) trustsPeer(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return a.trustsUnix
	}
	return a.trusts(plainAddress(tcp.AddrPort().Addr()))
}

// clientOf returns the address of the client that the header of a trusted proxy names.
func (a *clientAddresses) clientOf(proxy netip.Addr, header http.Header) netip.Addr {
	lines := header[a.read]
	if len(lines) == 0 && len(header[a.ignored]) > 0 {
		a.warnOfHeader.Do(func() {
			a.log.Warn("client address not found: the trusted proxy sends another header; the client counts as the proxy", "proxy", addressText(proxy), "header", a.ignored, "header_read", a.read, "setting", a.setting)
		})
	}
	hops := 0
	for _, line := range slices.Backward(lines) {
		for more := true; more; hops++ {
			var element string
			element, line, more = a.cutLast(line)
			at, ok := a.parseElement(element)
			if !ok {
				a.warnOfElement.Do(func() {
					a.log.Warn("client address not found: an element of the trusted proxy's header is not an address; the client counts as the proxy", "proxy", addressText(proxy), "header", a.read, "element", visible.Excerpt(element))
				})
				return proxy
			}
			if !a.trusts(at) || hops == maxHops {
				return at
			}
			proxy = at
		}
	}
	return proxy // all of them are proxies: the first one is the client
}

func (a *clientAddresses) parseElement(element string) (netip.Addr, bool) {
	if len(element) > maxElement {
		return netip.Addr{}, false
	}
	return a.parse(element)
}

func (a *clientAddresses) trusts(at netip.Addr) bool {
	return slices.ContainsFunc(a.trusted, func(p netip.Prefix) bool { return p.Contains(at) })
}

func plainAddress(at netip.Addr) netip.Addr { return at.Unmap().WithZone("") }

// cutLastComma cuts the element after the last comma off the line. more says that the line had a comma.
func cutLastComma(line string) (element, rest string, more bool) {
	comma := strings.LastIndexByte(line, ',')
	if comma < 0 {
		return line, "", false
	}
	return line[comma+1:], line[:comma], true
}

// parseNode parses an address as proxies write it, with or without a port: 192.0.2.1:5100, 2001:db8::1 and
// [2001:db8::1]:5100. There may be quotes around it.
func parseNode(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if at, err := netip.ParseAddr(text); err == nil {
		return plainAddress(at), true
	}
	var host, port string
	var hasPort bool
	if inside, ok := strings.CutPrefix(text, "["); ok {
		host, port, ok = strings.Cut(inside, "]")
		if !ok {
			return netip.Addr{}, false
		}
		if port != "" {
			if port, hasPort = strings.CutPrefix(port, ":"); !hasPort {
				return netip.Addr{}, false
			}
		}
	} else {
		host, port, hasPort = strings.Cut(text, ":") // IPv6 with a port has brackets
	}
	at, err := netip.ParseAddr(host)
	if err != nil || hasPort && !isPort(port) {
		return netip.Addr{}, false
	}
	return plainAddress(at), true
}

// isPort says whether the text is a port or, as RFC 7239 allows in section 6.3, a name that a proxy made up for a port.
func isPort(text string) bool {
	if name, ok := strings.CutPrefix(text, "_"); ok {
		return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("._-", r) })
	}
	return text != "" && len(text) <= 5 && !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
}
