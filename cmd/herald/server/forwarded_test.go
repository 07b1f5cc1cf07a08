package server

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestForwarded reads the header Forwarded (RFC 7239).
func TestForwarded(t *testing.T) {
	const proxy = "10.0.0.1"
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"an address":                    {[]string{"for=203.0.113.7"}, "203.0.113.7"},
		"any case":                      {[]string{"FOR=203.0.113.7"}, "203.0.113.7"},
		"a port":                        {[]string{`for="203.0.113.7:51007"`}, "203.0.113.7"},
		"a port without quotes":         {[]string{"for=203.0.113.7:51007"}, "203.0.113.7"},
		"a name for a port":             {[]string{`for="203.0.113.7:_a.b-c"`}, "203.0.113.7"},
		"IPv6":                          {[]string{`For="[2001:db8:cafe::17]:4711"`}, "2001:db8:cafe::17"},
		"other parameters":              {[]string{`proto=https;by=10.0.0.1;for=203.0.113.7;host=a.example`}, "203.0.113.7"},
		"space around semicolons":       {[]string{`proto=https ; for=203.0.113.7 ; host=a.example`}, "203.0.113.7"},
		"empty pairs":                   {[]string{`;for=203.0.113.7;;`}, "203.0.113.7"},
		"comma and semicolon in quotes": {[]string{`for=203.0.113.7;host="a,b;for=192.0.2.66"`}, "203.0.113.7"},
		"an escaped quote":              {[]string{`for=203.0.113.7;host="a\",for=192.0.2.66"`}, "203.0.113.7"},
		"an escaped backslash":          {[]string{`for=192.0.2.66;host="a\\",for=203.0.113.7`}, "203.0.113.7"},
		"an escaped digit":              {[]string{`for="203.0.113.\7"`}, "203.0.113.7"},
		"several elements":              {[]string{`for=203.0.113.7, for="[fd00::2]:443";proto=http , for=10.0.0.2`}, "203.0.113.7"},
		"several lines":                 {[]string{`for=192.0.2.66, for=203.0.113.7`, `for=10.0.0.2`}, "203.0.113.7"},
		"a quote that a client opened":  {[]string{`for=192.0.2.66;x=", for=203.0.113.7`}, "203.0.113.7"},
		"the same before IPv6":          {[]string{`for=192.0.2.66;x=", for="[2001:db8::7]"`}, "2001:db8::7"},
		"a backslash of a client":       {[]string{`for=192.0.2.66;x="\, for="[2001:db8::7]"`}, "2001:db8::7"},
		"unknown":                       {[]string{"for=192.0.2.66, for=unknown"}, proxy},
		"a hidden name":                 {[]string{"for=192.0.2.66, for=_hidden"}, proxy},
		"no parameter for":              {[]string{"for=192.0.2.66, proto=https"}, proxy},
		"two parameters for":            {[]string{"for=203.0.113.7;for=192.0.2.66"}, proxy},
		"an open quote":                 {[]string{`for="203.0.113.7`}, proxy},
		"text after a quote":            {[]string{`for="203.0.113.7"x`}, proxy},
		"a quote within":                {[]string{`for=203.0.113.7"`}, proxy},
		"a name without a value":        {[]string{"for"}, proxy},
		"no value":                      {[]string{"for="}, proxy},
		"X-Forwarded-For's form":        {[]string{"203.0.113.7"}, proxy},
	} {
		a, _ := newTestAddresses(t, headerForwarded)
		if got := addressOf(a, proxy+":443", "Forwarded", test.lines...); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// FuzzForwarded writes an element with three values, as a proxy may, and reads it.
func FuzzForwarded(f *testing.F) {
	f.Add("a.example", `a"b\c`, "x,y;for=1.2.3.4", uint32(0x01020304))
	f.Fuzz(func(t *testing.T, host, secret, path string, ip uint32) {
		quote := func(text string) string {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
		}
		want := netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)})
		element := fmt.Sprintf("host=%s;For=%s ; secret=%s;path=%s", quote(host), quote(want.String()+":80"), quote(secret), quote(path))
		got, rest, more := cutLastForwarded("for=unknown," + element)
		if got != element || rest != "for=unknown" || !more {
			t.Errorf("%q is cut into %q and %q", element, rest, got)
		}
		if at, ok := parseForwarded(got); !ok || at != want {
			t.Errorf("%q: %v %v, want %v", element, at, ok, want)
		}
	})
}
