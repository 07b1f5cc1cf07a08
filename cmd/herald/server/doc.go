// Package server is Herald's HTTP server: a public listener with streams, sessions and publishing, and an admin listener
// with probes, metrics and a listing of the streams. It connects packages consumer, stream and auth.
//
// A start-up:
//
//  1. [New] checks the [Config] and builds the parts: the consumer and the hub, newRevocations, the stream handler,
//     adminRoutes, and the entrance: newAccess (tokens), newPublisher and publicRoutes.
//  2. [Server.Start] starts tracing, listens on both addresses (listen.go), so that a port in use is reported before
//     anything else runs, and starts the parts: the key set's refresh, revocations, the consumer and both HTTP servers.
//  3. A part that ends with an error closes [Server.Failed].
//  4. [Server.Stop] runs the clean-ups that Start has noted, the last one first: streams drain, both
//     HTTP servers shut down, the demo's tasks end, the consumer commits its last offsets, and the
//     producer closes.
//
// [Server.Reload] builds another entrance for other [Settings], and exchanges it. A request keeps the entrance that it has
// begun with. What must outlive a reload, such as counters and quotas, is in the Server (publications, refusals).
//
// A public request:
//
//  1. The limited listener accepts the connection (package listener), and net/http reads the header.
//     stream.Detach moves an HTTP/2 request to a goroutine that need not last as long as its stream.
//  2. Config.Middleware, if set, is called first. Then Server.servePublicRequest passes the request to the current
//     entrance. frontDoor.enter notes the entrance's front door for viewerOf. refuseForeignHost refuses foreign names,
//     on a loopback listener without authentication (rebinding.go).
//  3. origins.refusePreflight, origins.cors and origins.refuse handle requests of other origins' pages
//     (origins.go, allowed_origin.go, foreign_page.go). holdConnection (http_server.go) keeps the connection from
//     giving way to a newcomer meanwhile, and discardUnreadBody bounds the time for a body that no handler has read.
//     endpoints.explain says what exists, if no route takes the path or the method (endpoints.go).
//  4. queryRules.only refuses parameters that the route does not take (query.go). Then the route's handler
//     runs: stream.Handler.Events, which calls viewerOf and so frontDoor.viewer; sessions; publisher.publish, which calls
//     frontDoor.identify; or a file of package stream/client.
//  5. An error of any of them reaches answerError, which answers in JSON with a code (refusal.go). The reason
//     why a token is not accepted comes from auth.Explain.
//
// # Files
//
//	settings        config.go, settings.go (the part of a Config that a reload changes), validate.go, access.go (the
//	                tokens' verifier), admission.go (limits from the limit of open files)
//	life            server.go, listen.go (the listeners), parts.go (runs the parts, keeps their errors), reload.go (the
//	                entrance and its exchange), http_server.go (time-outs), tracing.go (starts and stops tracing)
//	public routes   routes.go (also what wraps all of them, and the files of package stream/client), endpoints.go (the
//	                answers about paths that do not exist), query.go (the parameters that have an effect), refusal.go
//	                (errors as answers), session.go (signs browsers in)
//	who asks        front_door.go, client_address.go and forwarded.go (the client's address after proxies), rebinding.go,
//	                origins.go, allowed_origin.go, allowed_header.go, foreign_page.go
//	publishing      publish.go, publish_request.go, idempotency.go, body_room.go (the bound of all bodies), content.go
//	                (bodies must be text), trace_headers.go (passes a request's trace on). demo/handler.go bounds the
//	                body of a demo task.
//	admin listener  admin.go, readiness.go (the conditions of /readyz), streams.go (/debug/streams), profile.go
//	                (/debug/pprof/), metrics.go (the registry)
//	revocation.go   reads the topic of revocations
//
// # Lock order
//
// Server.reloading is taken first: Reload holds it while it calls the parts, which take locks of their own. The other
// locks of this package (bodyRoom.mu, repeats.mu, parts.mu, revocations.mu) are held over no call into another part. The locks of consumer and stream are in
// the documentation of package stream.
package server
