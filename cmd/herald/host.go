package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"
)

// errForeignHost answers a request that names another server.
var errForeignHost = echo.NewHTTPError(http.StatusMisdirectedRequest, "this server listens on loopback: call it by its IP address or localhost")

// ownHost says whether a Host header, with or without a port, names a server on loopback: by localhost
// or an IP address. A page on the web can have a name of its own point to loopback (DNS rebinding),
// and is then of the server's origin, but it cannot have the browser send another name. HTTP/1.0 has
// no such header, and no browser speaks it.
func ownHost(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "" || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// refuseForeignHost is for a public listener on loopback that authenticates nobody.
func refuseForeignHost(f *frontDoor) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if !ownHost(c.Request().Host) {
				f.refuse(c, "host", errForeignHost)
				return errForeignHost
			}
			return next(c)
		}
	}
}

// onlyOwnHost is for an admin listener on loopback.
func onlyOwnHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownHost(r.Host) {
			http.Error(w, errForeignHost.Message.(string), errForeignHost.Code) //nolint:forcetypeassert // given above
			return
		}
		next.ServeHTTP(w, r)
	})
}
