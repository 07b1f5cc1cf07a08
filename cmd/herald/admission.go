package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/labstack/echo/v4"

	"herald/cmd/herald/listener"
	"herald/stream"
)

// admissionFlags bound the streams.
type admissionFlags struct {
	MaxStreams           int      `default:"0" placeholder:"NUMBER" help:"Most streams at a time. 0: as many as the limit of open files allows. Default: ${default}." group:"Limits"`
	MaxStreamsPerUser    int      `default:"256" placeholder:"NUMBER" help:"Most streams of one user; a new one takes the place of the oldest. 0: no limit. Default: ${default}." group:"Limits"`
	MaxStreamsPerAddress int      `default:"0" placeholder:"NUMBER" help:"Most streams of one client address; see --trusted-proxies. 0: no limit. Default: ${default}." group:"Limits"`
	MaxOpensPerSecond    float64  `default:"0" placeholder:"NUMBER" help:"Most streams opened a second; who comes beyond is told to come back later. 0: no limit. Default: ${default}." group:"Limits"`
	TrustedProxies       []string `placeholder:"CIDR" help:"Networks of proxies, such as 10.0.0.0/8, whose X-Forwarded-For names the client's address." group:"Limits"`
}

func (a *admissionFlags) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"max-streams", a.MaxStreams}, {"max-streams-per-user", a.MaxStreamsPerUser}, {"max-streams-per-address", a.MaxStreamsPerAddress}} {
		if n.value < 0 {
			return fmt.Errorf("--%s=%d: want 0 or more", n.flag, n.value)
		}
	}
	if !(a.MaxOpensPerSecond >= 0) { // not a number neither
		return fmt.Errorf("--max-opens-per-second=%v: want 0 or more", a.MaxOpensPerSecond)
	}
	_, err := a.addresses()
	return err
}

// addresses says where the address of a client is found.
func (a *admissionFlags) addresses() (echo.IPExtractor, error) {
	if len(a.TrustedProxies) == 0 {
		return echo.ExtractIPDirect(), nil
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, text := range a.TrustedProxies {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies %s: want networks such as 10.0.0.0/8", text)
		}
		trust = append(trust, echo.TrustIPRange(network))
	}
	return echo.ExtractIPFromXFFHeader(trust...), nil
}

// requestPlaces are connections that streams leave to other requests, so that who comes beyond
// --max-streams is still told to come back later.
const requestPlaces = 64

// maxConnections is how many connections the public listener may have, streams and others.
func maxConnections() int { return listener.OpenFiles() - reservedFiles }

// mostStreams is what --max-streams allows and the limit of open files has room for.
func (a *admissionFlags) mostStreams() int {
	room := maxConnections() - requestPlaces
	if a.MaxStreams == 0 {
		return room
	}
	return min(a.MaxStreams, room)
}

// warnOfFileLimit tells who asked for more streams than there can be.
func (a *admissionFlags) warnOfFileLimit(log *slog.Logger) {
	if most := a.mostStreams(); most < a.MaxStreams {
		log.Warn("the limit of open files has no room for --max-streams: raise it, with ulimit -Hn or LimitNOFILE= of systemd",
			"max_streams", a.MaxStreams, "streams", most, "open_files", listener.OpenFiles(), "reserved", reservedFiles+requestPlaces)
	}
}

// admission is what streams are bounded by.
func (a *admissionFlags) admission() stream.Admission {
	return stream.Admission{Streams: a.mostStreams(), PerUser: a.MaxStreamsPerUser, PerAddress: a.MaxStreamsPerAddress, OpensPerSecond: a.MaxOpensPerSecond}
}
