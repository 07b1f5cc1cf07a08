package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"herald/auth"
	"herald/cmd/herald/demo"
	"herald/cmd/herald/webfile"
	"herald/stream"
	"herald/stream/client"
)

// publicRoutes returns the handler of the public listener under the settings of cfg.
func (s *Server) publicRoutes(cfg *Config, a access, o *origins, front *frontDoor, pub *publisher, clients *clientAddresses) http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = answerError(cfg.Logger)
	e.IPExtractor = clients.of
	if _, insecure := a.auth.(auth.Insecure); insecure {
		e.Use(refuseForeignHost(front, s.publicOnLoopback))
	}
	present := new(endpoints)
	e.Use(front.enter, s.holdConnection, discardUnreadBody, o.refusePreflight(front), o.cors(), o.refuse(front), present.explain)
	g := e.Group(cfg.BasePath)
	query, ofStream := queryRules{front: front}, append([]string{paramUser}, stream.Params()...)
	for _, claim := range claimsOf(cfg.Consumer.Routes) {
		ofStream = append(ofStream, auth.ClaimParam(claim))
	}
	if a.jwt != nil {
		query, ofStream = queryRules{front: front, signIn: true, token: cfg.TokenQueryParameter}, stream.Params()
		(&sessions{cookie: a.cookie, jwt: a.jwt, front: front, publish: cfg.EnablePublish}).register(g, query)
	}
	g.Match(getAndHead, "/events", s.streams.Events, query.only(true, ofStream...))
	registerClient(g)
	if cfg.EnablePublish {
		g.POST("/users/:user/notifications", pub.publishToUser, query.only(true, paramType))
		g.POST("/broadcast", pub.publishToAll, query.only(true, paramType))
	}
	if cfg.Demo {
		if s.page == nil { // its tasks outlive a reload
			s.page = demo.New(demoProducer{pub}, auth.CheckUser, query.signIn, cfg.Logger)
		}
		s.registerDemo(g, pub, query)
	}
	*present = publicEndpoints(e.Routes(), cfg, query.signIn)
	return e
}

// registerClient adds the files of the module for pages. Pages of every origin may load them. A browser loads a module
// of another origin only if the answer allows it (HTML, "fetch a single module script"), and no file has a user's data.
func registerClient(g *echo.Group) {
	for _, path := range clientPaths {
		content, err := fs.ReadFile(client.Scripts, strings.TrimPrefix(path, "/"))
		if err != nil {
			panic(fmt.Sprintf("server: read an embedded file: %v", err)) // the name is wrong
		}
		file := webfile.New(path, content)
		g.Match(getAndHead, path, func(c echo.Context) error {
			if h := c.Response().Header(); h.Get(echo.HeaderAccessControlAllowOrigin) == "" { // origins.cors sets it for a listed origin
				h.Set(echo.HeaderAccessControlAllowOrigin, "*")
			}
			file.ServeHTTP(c.Response(), c.Request())
			return nil
		})
	}
}

// registerDemo adds the demo page at /, the route that starts its tasks, and the route that answers with
// the server's condition. Users who sign in need the right to publish to start a task.
func (s *Server) registerDemo(g *echo.Group, pub *publisher, query queryRules) {
	for path, file := range s.page.Files() {
		g.Match(getAndHead, path, echo.WrapHandler(file))
	}
	if base := s.cfg.BasePath; base != "" { // the page's links are relative to its directory
		g.Match(getAndHead, "", func(c echo.Context) error { return c.Redirect(http.StatusPermanentRedirect, base+"/") })
	}
	g.Match(getAndHead, "/demo/condition", func(c echo.Context) error {
		demo.AnswerCondition(c.Response(), s.condition())
		return nil
	}, query.only(false))
	g.POST("/demo/tasks", func(c echo.Context) error {
		by := stream.ClientNetwork(c).String()
		if query.signIn {
			id, err := pub.permit(c)
			if err != nil {
				return err
			}
			by = id.User
		}
		if err := checkContent(c); err != nil {
			return err
		}
		s.page.StartTask(c.Response(), c.Request(), by)
		return nil
	}, query.only(true))
}

// condition returns the server's condition for the demo page.
func (s *Server) condition() demo.Condition {
	switch {
	case !s.consumer.Online():
		return demo.KafkaDown
	case s.Ready() != nil:
		return demo.NotReady
	}
	return demo.Ready
}

// demoProducer writes the records of the demo's tasks.
type demoProducer struct{ *publisher }

// Produce implements [demo.Producer].
func (p demoProducer) Produce(ctx context.Context, m demo.Message) error {
	_, err := p.write(ctx, notification{user: m.User, eventType: m.Type, contentType: "application/json", value: m.Value})
	if errors.Is(err, errNoRoute) {
		return demo.ErrNoTopic
	}
	return err
}
