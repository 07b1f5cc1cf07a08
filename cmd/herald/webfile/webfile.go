// Package webfile serves files of web pages that the program embeds.
package webfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

// File is one file. It is a handler of GET and HEAD.
type File struct {
	name    string // its extension gives the Content-Type
	etag    string
	content []byte
}

// New returns the file. The extension of its name gives the Content-Type.
func New(name string, content []byte) *File {
	sum := sha256.Sum256(content)
	return &File{name, `"` + hex.EncodeToString(sum[:12]) + `"`, content}
}

// ServeHTTP answers with the file. Browsers keep it and ask each time whether it
// is still current (RFC 9111, no-cache), so the files of a new binary show at once.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", f.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	if t := contentType(f.name); t != "" {
		h.Set("Content-Type", t)
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}

// contentType returns the media type of a file. It does not use the
// mime package, whose answer depends on the machine's own tables.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}
