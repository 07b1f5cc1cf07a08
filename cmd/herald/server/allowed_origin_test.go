package server

import (
	"strings"
	"testing"
)

// TestAllowedOrigins checks which texts are taken. An error has the origin as browsers write it, or a reason.
func TestAllowedOrigins(t *testing.T) {
	for _, good := range []string{
		"https://app.example", "http://localhost:3000", "https://xn--bcher-kva.example", "https://[::1]:8443", "http://127.0.0.1:8080", "https://my_host.example",
		"https://ab--cd.example", "https://app.example.", "http://dev", "http://tauri.localhost",
		"capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://localhost", "app://-", "app://.", "app://localhost:8080", "vscode-webview://0f8fad5b",
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop", "moz-extension://6a4f2d1c-52a5-4b3c-9a51-3f0d2b7c8e90",
		"https://*.app.example", "https://*.app.example:8443", "http://*.localhost:3000", "https://*.xn--bcher-kva.example", "https://*.a.b.app.example",
	} {
		if _, err := newOrigins([]string{good}, "AllowOrigin"); err != nil {
			t.Error(err)
		}
	}
	for bad, want := range map[string]string{
		"https://bücher.example":          "browsers write https://xn--bcher-kva.example",
		"https://*.bücher.example":        "browsers write https://*.xn--bcher-kva.example",
		"https://bücher.example:8443":     "browsers write https://xn--bcher-kva.example:8443",
		"https://straße.example":          "browsers write https://xn--strae-oqa.example",
		"https://App.Example":             "browsers write https://app.example",
		"HTTPS://app.example":             "browsers write https://app.example",
		"Capacitor://Localhost":           "browsers write capacitor://localhost",
		"https://app.example/":            "browsers write https://app.example",
		"https://app.example/page?a#b":    "browsers write https://app.example",
		"capacitor://localhost/":          "browsers write capacitor://localhost",
		"https://app.example?":            "browsers write https://app.example",
		"https://app.example#":            "browsers write https://app.example",
		"https://app.example:":            "browsers write https://app.example",
		"https://app.example:443":         "browsers write https://app.example",
		"http://a:80":                     "browsers write http://a",
		"https://app.example:08443":       "browsers write https://app.example:8443",
		"https://[0:0:0:0:0:0:0:1]":       "browsers write https://[::1]",
		"https://[2001:DB8::1]":           "browsers write https://[2001:db8::1]",
		"https://app.example:65536":       "want a number up to 65535",
		"*":                               "want a list of origins",
		"null":                            "sandboxed frames",
		"":                                "want an origin",
		"app.example":                     "want an origin",
		"localhost:3000":                  "want an origin",
		"//app.example":                   "want an origin",
		"https://":                        "want an origin",
		"https://:8443":                   "want an origin",
		"https://a@app.example":           "want an origin",
		"https://a b":                     "want an origin",
		"https://a..example":              "want an origin",
		"https://.example":                "want an origin",
		"https://a%62c.example":           "want an origin",
		"https://xn--a.example":           "want an origin",
		"https://a.example,https://b":     "want an origin",
		"https://[fe80::1%25eth0]":        "want an origin",
		"https://[::ffff:127.0.0.1]":      "want an origin",
		"capacitor://lokälhost":           "want an origin",
		"capacitor://":                    "want an origin",
		"http://127.1":                    "an IPv4 address of four numbers",
		"http://0x7f000001":               "an IPv4 address of four numbers",
		"http://127.0.0.01":               "an IPv4 address of four numbers",
		"file:///index.html":              "want an origin",
		"file://host":                     "no origin with the scheme file",
		"wss://app.example":               "no origin with the scheme wss",
		"ftp://app.example":               "no origin with the scheme ftp",
		"https://*":                       "whole first label",
		"https://*app.example":            "whole first label",
		"https://a.*.example":             "whole first label",
		"https://*.*.example":             "whole first label",
		"https://app.example:*":           "want an origin",
		"https://*.0.0.1":                 "an IP address has no labels",
		"https://*.com":                   "hosts of com belong to anybody",
		"https://*.com.":                  "hosts of com. belong to anybody",
		"https://*.co.uk":                 "hosts of co.uk belong to anybody",
		"https://*.github.io":             "hosts of github.io belong to anybody",
		"https://*.compute.amazonaws.com": "hosts of compute.amazonaws.com belong to anybody", // the list has *.compute.amazonaws.com
		"https://*.r.appspot.com:8443":    "hosts of r.appspot.com belong to anybody",
		"https://*.unheard-of":            "hosts of unheard-of belong to anybody",
		"chrome-extension://*":            "only http and https can have a wildcard",
		"*://app.example":                 "want an origin",
	} {
		_, err := newOrigins([]string{"https://app.example", bad}, "AllowOrigin")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

// TestAllowedOriginsMatch asks which origins of requests match: an origin exactly, and one whole label for a wildcard.
func TestAllowedOriginsMatch(t *testing.T) {
	o, err := newOrigins([]string{"https://app.example", "capacitor://localhost", "https://*.tenants.example", "https://*.tenants.example:8443"}, "AllowOrigin")
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{
		"https://app.example": true, "capacitor://localhost": true, "https://a.tenants.example": true, "https://a-b_1.tenants.example:8443": true,
		"": false, "null": false, "*": false, "http://app.example": false, "https://app.example:8443": false, "https://app.example/": false, "https://APP.example": false,
		"https://app.example.evil.example": false, "ionic://localhost": false, "capacitor://localhost.evil.example": false, "capacitor://localhost:1": false,
		"https://tenants.example": false, "https://.tenants.example": false, "https://a.b.tenants.example": false, "https://*.tenants.example": false,
		"http://a.tenants.example": false, "https://a.tenants.example:9443": false, "https://a.tenants.example.evil.example": false, "https://eviltenants.example": false,
		"https://evil.example/.tenants.example": false, "https://evil.example?.tenants.example": false, "https://a@b.tenants.example": false, "https://a:1.tenants.example": false,
		"https://a.tenants.example ": false, "https://a\x00.tenants.example": false, "https://\u00e4.tenants.example": false, "https://A.tenants.example": false,
		"https://" + strings.Repeat("a", 63) + ".tenants.example": true, "https://" + strings.Repeat("a", 64) + ".tenants.example": false,
	} {
		if got := o.allows(origin); got != want {
			t.Errorf("%q: %v, want %v", origin, got, want)
		}
	}
}

// FuzzAllowedOrigin allows any text that is taken, and asks for it and for texts that only begin or end like it.
func FuzzAllowedOrigin(f *testing.F) {
	for _, seed := range []string{"https://app.example", "capacitor://localhost", "https://*.app.example:8443", "https://[::1]", "http://127.0.0.1:1", "app://-", "https://b\u00fccher.example"} {
		f.Add(seed, "a")
	}
	f.Fuzz(func(t *testing.T, text, label string) {
		o, err := newOrigins([]string{text}, "AllowOrigin")
		if err != nil {
			return
		}
		before, after, wildcard := strings.Cut(text, "*")
		if origin := before + label + after; wildcard && o.allows(origin) != dnsLabel.MatchString(label) {
			t.Errorf("%q allows %q", text, origin)
		}
		if o.allows(text) == wildcard {
			t.Errorf("%q allows itself: %v", text, !wildcard)
		}
		for _, other := range []string{text + "x", text + ".evil.example", text + "/", "x" + text, strings.ToUpper(text), text + ":1"} {
			if other != text && o.allows(other) {
				t.Errorf("%q allows %q", text, other)
			}
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r >= 'A' && r <= 'Z' }) {
			t.Errorf("%q is taken", text)
		}
	})
}
