// Package server is Herald's HTTP server: a public listener with streams, sessions and publishing, and
// an admin listener with probes and metrics. It is the only package that knows consumer, stream and
// auth at once.
//
// A start-up:
//
//  1. [New] checks the [Config] and builds the parts: the consumer and the hub, newRevocations, the stream handler,
//     adminRoutes, and the entrance: newAccess (tokens), newPublisher and publicRoutes. [Server.Reload] builds another
//     entrance for other [Settings] and exchanges it; a request keeps the entrance that it has begun with.
//  2. [Server.Start] listens on both addresses, so that a port in use is reported before anything else
//     runs, and starts the parts: the key set's refresh, revocations, the consumer and both HTTP servers.
//  3. A part that ends with an error closes [Server.Failed].
//  4. [Server.Stop] runs the clean-ups that Start has noted, the last one first: streams drain, both
//     HTTP servers shut down, the demo's tasks end, the consumer commits its last offsets, and the
//     producer closes.
//
// A public request:
//
//  1. The limited listener accepts the connection (package listener), and net/http reads the header.
//     stream.Detach moves an HTTP/2 request to a goroutine that need not last as long as its stream.
//  2. refuseForeignHost refuses foreign names, on a loopback listener without authentication
//     (rebinding.go).
//  3. origins.refusePreflight, origins.cors and origins.refuse handle requests of other origins' pages
//     (origins.go, allowed_origin.go, foreign_page.go). holdConnection (http_server.go) keeps the connection from
//     giving way to a newcomer meanwhile, and discardUnreadBody bounds the time for a body that no handler has read.
//     endpoints.explain says what exists, if no route takes the path or the method (endpoints.go).
//  4. queryRules.only refuses parameters that the route does not take (query.go). Then the route's handler
//     runs: stream.Handler.Events, which calls frontDoor.viewer; sessions; publisher.publish, which calls
//     frontDoor.identify; or a file of package stream/client.
//  5. An error of any of them reaches answerError, which answers in JSON with a code (refusal.go). The reason
//     why a token is not accepted comes from auth.Explain.
//
// Where things are: config.go, settings.go, validate.go and access.go turn a Config into parts; server.go has the life of
// a Server, and reload.go the change of its Settings;
// routes.go the public routes, the files of package stream/client, and what wraps all of them; endpoints.go the answers
// about paths that do not exist; query.go the parameters that have an effect; allowed_header.go the request headers
// that pages of other origins may send; http_server.go the time-outs of both HTTP servers; admin.go the admin listener,
// readiness.go the conditions of /readyz, and profile.go its profiles. front_door.go asks who sends a request; client_address.go and forwarded.go find the
// client's address behind proxies; session.go signs browsers in. publish.go and publish_request.go write notifications,
// with idempotency.go, and bound their bodies (PublishMaxBytes, body_room.go); content.go wants bodies to be text.
// demo/handler.go bounds the body of a demo task. revocation.go reads the topic of revocations. admission.go derives
// limits from the limit of open files; parts.go runs the server's parts and keeps their errors; metrics.go has the
// registry.
package server
