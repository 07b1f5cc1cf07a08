// Package client has the module herald-client for pages and back ends that read streams. The program serves its three
// scripts, so that a page needs neither npm nor a build:
//
//	herald.js             what a page imports: connect, and the Stream that it returns; herald.d.ts has the types
//	herald-connection.js  one stream that stays open: the parser, Access (tokens, sessions), Connection
//	herald-share.js       one connection for all tabs
//
// # How the parts of the module work together
//
// connect returns a Stream, the public face: it has the position (lastEventId), and calls listeners and loops. Its
// events come from a source, which has the methods start, reconnect and close, and reports to a sink:
//
//   - position() returns the id of the last event taken, or "". The source asks before each request.
//   - event({type, data, id, fields}) takes a record, a gap, a checkpoint or a heartbeat, as the parser yields it. The id
//     becomes the position. If event returns a promise, the event was NOT taken, because a loop (for await) is not
//     ready: the source offers the event again when the promise settles. A source that cannot hold its events back
//     drops them, and reads them again from the position.
//   - state({state, reason, message, until, shared}) takes each change, at last "closed". After "connecting", events count
//     as replayed until a checkpoint with "live":true.
//
// A Connection is the source with a stream of its own. share(name, {connect, sink, begins}) in herald-share.js
// returns a source that is one among tabs. Its arguments:
//
//   - name is the same for the tabs that may share a stream.
//   - connect(sink, query) returns a Connection whose requests have further parameters. With wait=…, the responses end
//     by themselves; the next request follows at once, in the same state.
//   - begins: the caller gave since or lastEventId, so the stream does not begin at now.
//
// Access sends the requests of a tab, with the tab's token or session. The Stream has one Access for all its connections.
//
// The tests of the module are the files *.test.js and *.test-d.ts; they and the examples need the packages that
// package.json lists: run npm ci in this directory. go test runs them too.
package client

import "embed"

// Scripts has the files of the module that a browser loads, by name.
//
//go:embed herald.js herald-connection.js herald-share.js
var Scripts embed.FS
