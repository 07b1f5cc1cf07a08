package main

import (
	_ "embed"
	"net/http"
)

// pagePath is the path of the page that has one connection.
const pagePath = "/page"

//go:embed page.html
var page []byte

// servePage serves the page whose query names a transport and a user. The transport "blank" has no connection.
func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page)
}
