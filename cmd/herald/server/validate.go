package server

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"herald/cmd/herald/listener"
	"herald/cmd/herald/tracing"
	"herald/stream"
)

// Validate returns an error if a field has a value that no server can work with. The error names the
// field, see [Config.FieldName], and the values that it may have. Validate does not look at Keys and
// Consumer, so that a command can check its flags before it reads files.
func (c *Config) Validate() error {
	if problems := c.Problems(); len(problems) > 0 {
		return problems[0]
	}
	return nil
}

// Problems returns what Validate finds, one error for each kind of setting.
func (c *Config) Problems() []error {
	var list []error
	for _, check := range []func() error{
		c.checkListeners, c.checkDurations, c.checkSizes, c.checkLimits, c.checkPublish, c.checkAuth, c.checkBrowsers, c.checkTracing,
	} {
		if err := check(); err != nil {
			list = append(list, err)
		}
	}
	return list
}

func (c *Config) checkListeners() error {
	standard := DefaultConfig()
	for _, l := range []struct{ field, value, example string }{
		{"Listen", c.Listen, standard.Listen}, {"AdminListen", c.AdminListen, standard.AdminListen},
	} {
		if err := listener.CheckAddress(l.value, l.example); err != nil {
			return fmt.Errorf("%s %w", c.name(l.field), err)
		}
	}
	if listener.Clash(c.Listen, c.AdminListen) {
		return fmt.Errorf("%s %s: %s %s takes this address already: choose another port or path",
			c.name("AdminListen"), c.AdminListen, c.name("Listen"), c.Listen)
	}
	if c.BasePath != "" && (!basePath.MatchString(c.BasePath) || len(c.BasePath) > maxBasePath) {
		return fmt.Errorf("%s %q: want a path such as /herald, of letters, digits, - and _, without a slash at its end", c.name("BasePath"), c.BasePath)
	}
	return nil
}

// basePath matches the values of BasePath. A dot is not among its characters: it stands for a slash in the session
// cookie's name.
var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)+$`)

const maxBasePath = 200

func (c *Config) checkTracing() error {
	if c.TraceEndpoint == "" {
		return nil
	}
	if err := tracing.CheckEndpoint(c.TraceEndpoint); err != nil {
		return fmt.Errorf("%s %q: %w", c.name("TraceEndpoint"), c.TraceEndpoint, err)
	}
	return nil
}

func (c *Config) checkDurations() error {
	for _, d := range []struct {
		field       string
		value       time.Duration
		least, most time.Duration
	}{
		{"Heartbeat", c.Heartbeat, time.Second, time.Hour},                  // each heartbeat is a write on every quiet stream
		{"Retry", c.Retry, 10 * time.Millisecond, time.Hour},                // a shorter time makes clients of a stopped server ask again almost without a pause
		{"WriteTimeout", c.WriteTimeout, 100 * time.Millisecond, time.Hour}, // a shorter time ends streams over slow networks that work
		{"DrainTimeout", c.DrainTimeout, 0, time.Hour},                      // 0 cuts everything off at once
		{"DrainWindow", c.DrainWindow, 0, time.Hour},                        // 0 ends all streams at once
		{"ReplayMaxAge", c.ReplayMaxAge, 0, 100 * 365 * 24 * time.Hour},     // no topic keeps records that long
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s=%v: want %v to %v", c.name(d.field), d.value, d.least, d.most)
		}
	}
	return nil
}

func (c *Config) checkSizes() error {
	if c.MaxQueueBytes < 4<<10 || c.MaxQueueBytes > 1<<30 { // with less, even a small event may have no room
		return fmt.Errorf("%s=%d: want %d to %d", c.name("MaxQueueBytes"), c.MaxQueueBytes, 4<<10, 1<<30)
	}
	if c.ReplayMaxRecords < 0 {
		return fmt.Errorf("%s=%d: want 0 or more", c.name("ReplayMaxRecords"), c.ReplayMaxRecords)
	}
	if c.ReplayRatePerUser < 0 || c.ReplayRatePerUser > 1<<36 {
		return fmt.Errorf("%s=%d: want 0 to %d", c.name("ReplayRatePerUser"), c.ReplayRatePerUser, 1<<36)
	}
	if c.ReplayCacheBytes < 1<<20 || c.ReplayCacheBytes > 1<<36 {
		return fmt.Errorf("%s=%d: want %d to %d", c.name("ReplayCacheBytes"), c.ReplayCacheBytes, 1<<20, 1<<36)
	}
	return nil
}

func (c *Config) checkLimits() error {
	for _, n := range []struct {
		field string
		value int
	}{{"MaxStreams", c.MaxStreams}, {"MaxStreamsPerUser", c.MaxStreamsPerUser}, {"MaxStreamsPerAddress", c.MaxStreamsPerAddress}} {
		if n.value < 0 {
			return fmt.Errorf("%s=%d: want 0 or more", c.name(n.field), n.value)
		}
	}
	if !(c.MaxOpensPerSecond >= 0) { // also refuses NaN
		return fmt.Errorf("%s=%v: want 0 or more", c.name("MaxOpensPerSecond"), c.MaxOpensPerSecond)
	}
	if _, _, err := c.trustedNetworks(); err != nil {
		return err
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		return fmt.Errorf("%s needs %s: a header of any other client is refused", c.name("ProxyProtocol"), c.name("TrustedProxies"))
	}
	switch c.TrustedProxyHeader {
	case headerXForwardedFor:
	case headerForwarded:
		if len(c.TrustedProxies) == 0 {
			return fmt.Errorf("%s needs %s: no other client's header is read", c.name("TrustedProxyHeader"), c.name("TrustedProxies"))
		}
	default:
		return fmt.Errorf("%s %q: want %s or %s", c.name("TrustedProxyHeader"), c.TrustedProxyHeader, headerXForwardedFor, headerForwarded)
	}
	if c.EventTypeHeader == "" {
		return fmt.Errorf("%s is empty: name the record header that holds the event type", c.name("EventTypeHeader"))
	}
	return c.checkRecordHeaders()
}

// checkRecordHeaders checks that each name can stand in a line "header.NAME: value" of an event, and that it stands in
// one line only.
func (c *Config) checkRecordHeaders() error {
	for i, name := range c.RecordHeader {
		switch {
		case name == "" || !utf8.ValidString(name) || strings.ContainsAny(name, ":\r\n\x00"):
			return fmt.Errorf("%s %q: want the name of a record header in UTF-8, without a colon, a line break and a NUL", c.name("RecordHeader"), name)
		case slices.Contains(c.RecordHeader[:i], name):
			return fmt.Errorf("%s %q is given twice", c.name("RecordHeader"), name)
		}
	}
	return nil
}

func (c *Config) checkPublish() error {
	switch {
	case c.PublishMaxBytes < 1 || c.PublishMaxBytes > 64<<20:
		return fmt.Errorf("%s=%d: want 1 to %d", c.name("PublishMaxBytes"), c.PublishMaxBytes, 64<<20)
	case !(c.PublishRate >= 0 && c.PublishRate <= 1e6): // also refuses NaN
		return fmt.Errorf("%s=%v: want 0 to 1000000", c.name("PublishRate"), c.PublishRate)
	case c.PublishBurst < 1 || c.PublishBurst > 1e6:
		return fmt.Errorf("%s=%d: want 1 to 1000000", c.name("PublishBurst"), c.PublishBurst)
	case c.Demo && !c.EnablePublish:
		return fmt.Errorf("%s needs %s: the page writes notifications", c.name("Demo"), c.name("EnablePublish"))
	}
	return nil
}

// queryName matches the names that a query parameter for tokens may have.
var queryName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c *Config) checkAuth() error {
	switch {
	case c.JWTUserClaim == "":
		return fmt.Errorf("%s is empty: name the claim that holds the user", c.name("JWTUserClaim"))
	case c.TokenQueryParameter != "" && !queryName.MatchString(c.TokenQueryParameter):
		return fmt.Errorf("%s %q: want 1 to 64 characters of A-Z a-z 0-9 _ -", c.name("TokenQueryParameter"), c.TokenQueryParameter)
	case slices.Contains(slices.Concat(stream.Params(), []string{paramUser, paramType}), c.TokenQueryParameter):
		return fmt.Errorf("%s %s: this parameter has a meaning already", c.name("TokenQueryParameter"), c.TokenQueryParameter)
	}
	return nil
}

func (c *Config) checkBrowsers() error {
	if c.InsecureSessionCookie && !listener.LoopbackOnly(c.Listen) {
		return fmt.Errorf("%s with %s %s: anybody on the way could read the cookie; listen on loopback, such as 127.0.0.1:8080, or leave it out",
			c.name("InsecureSessionCookie"), c.name("Listen"), c.Listen)
	}
	if _, err := newOrigins(c.AllowOrigin, c.name("AllowOrigin")); err != nil {
		return fmt.Errorf("%s %w", c.name("AllowOrigin"), err)
	}
	for _, name := range c.AllowHeader {
		if err := checkAllowedHeader(name); err != nil {
			return fmt.Errorf("%s %w", c.name("AllowHeader"), err)
		}
	}
	if len(c.AllowHeader) > 0 && len(c.AllowOrigin) == 0 && !c.AllowLoopbackOrigins {
		return fmt.Errorf("%s needs %s: pages of the server's own origin send what they like", c.name("AllowHeader"), c.name("AllowOrigin"))
	}
	return nil
}
