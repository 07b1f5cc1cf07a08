package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"
)

// errForeignHost answers a request that names another server.
var errForeignHost = refuse(http.StatusMisdirectedRequest, codeForeignHost, "this server listens on loopback: call it by its IP address or localhost")

// ownHost says whether a Host header, with or without a port, names a server on loopback: by localhost
// or by an IP address. It protects from DNS rebinding: a web page can make its own name point to
// loopback, and the browser then takes the server for the page's origin, but the browser still sends the
// page's name. A request of HTTP/1.0 may lack the header; no browser sends one.
func ownHost(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "" || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// refuseForeignHost is for a public listener that authenticates nobody.
func refuseForeignHost(f *frontDoor, onLoopback func() bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if onLoopback() && !ownHost(c.Request().Host) {
				f.recordRefusal(c, reasonHost, errForeignHost)
				return errForeignHost
			}
			return next(c)
		}
	}
}

// onlyOwnHost is for the admin listener.
func onlyOwnHost(next http.Handler, onLoopback func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onLoopback() && !ownHost(r.Host) {
			http.Error(w, errForeignHost.message, errForeignHost.status)
			return
		}
		next.ServeHTTP(w, r)
	})
}
