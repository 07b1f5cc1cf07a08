// Package client has the module herald-client for pages and back ends that read streams: herald.js, which imports
// herald-share.js, with its types in herald.d.ts. The program serves the two scripts, so that a page needs neither
// npm nor a build.
//
// The tests of the module are the files *.test.js and *.test-d.ts; they and the examples need the packages that
// package.json lists: run npm ci in this directory. go test runs them too.
package client

import "embed"

// Scripts has the files of the module that a browser loads, by name.
//
//go:embed herald.js herald-share.js
var Scripts embed.FS
