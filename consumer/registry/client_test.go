package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herald/consumer/format"
	"herald/consumer/format/registrytest"
	"herald/consumer/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient returns a client for the URLs.
func newClient(t *testing.T, urls ...string) *registry.Client {
	t.Helper()
	c := registry.New(registry.Config{URLs: urls})
	t.Cleanup(c.Close)
	return c
}

func TestGet(t *testing.T) {
	server, url := registrytest.Start(t)
	c := newClient(t, url+"/")
	if body, err := c.Get(t.Context(), "/schemas/ids/1"); err != nil || !strings.Contains(string(body), `"schema":`) {
		t.Errorf("a schema: %q, %v", body, err)
	}
	for _, path := range []string{"/schemas/ids/999", "/schemas/guids/x", "/subjects/x/versions/1?deleted=true"} {
		if _, err := c.Get(t.Context(), path); !errors.Is(err, format.ErrNotFound) {
			t.Errorf("%s: %v, want that it is not found", path, err)
		}
	}
	for _, body := range []string{`{"error_code":0,"message":"RESTEASY003210: Could not find resource for full path"}`, ""} { // Apicurio 2 and 3
		server.Answer(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, body)
			return true
		})
		if _, err := c.Get(t.Context(), "/schemas/guids/x"); !errors.Is(err, format.ErrNotFound) {
			t.Errorf("a GUID, and the body %q: %v, want that it is not found", body, err)
		}
		if _, err := c.Get(t.Context(), "/schemas/ids/1"); err == nil || errors.Is(err, format.ErrNotFound) {
			t.Errorf("an id, and the body %q: %v, want an error that is not definite", body, err)
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		"a wrong password":       {func(w http.ResponseWriter) { w.WriteHeader(401) }, "does not accept the credentials: look at --schema-registry-user"},
		"a wrong method":         {func(w http.ResponseWriter) { w.WriteHeader(405) }, "look at the path of --schema-registry-url"},
		"no permission":          {func(w http.ResponseWriter) { w.WriteHeader(403) }, "may not read"},
		"an error":               {func(w http.ResponseWriter) { w.WriteHeader(500) }, "status 500"},
		"another server":         {func(w http.ResponseWriter) { w.WriteHeader(404); fmt.Fprint(w, "<html>") }, "--schema-registry-url"},
		"a wrong path":           {func(w http.ResponseWriter) { w.WriteHeader(404); fmt.Fprint(w, `{"error_code":404}`) }, "--schema-registry-url"},
		"JSON of another server": {func(w http.ResponseWriter) { w.WriteHeader(404); fmt.Fprint(w, `{"error":"no"}`) }, "--schema-registry-url"},
		"a redirect":             {func(w http.ResponseWriter) { w.Header().Set("Location", "http://127.0.0.1:1/"); w.WriteHeader(302) }, "redirects are not followed"},
		"too much":               {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 5<<20)) }, "more than 4 MiB"},
	} {
		server.Answer(func(w http.ResponseWriter, _ *http.Request) bool { c.answer(w); return true })
		client := newClient(t, url)
		client.SetToken("t")
		_, err := client.Get(t.Context(), "/schemas/ids/1")
		if err == nil || errors.Is(err, format.ErrNotFound) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %s", name, err, c.want)
		}
	}
	server.Delay(time.Minute)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := c.Get(ctx, "/schemas/ids/1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow registry: %v", err)
	}
}

// TestWrongProtocol wants errors that name the flag to look at.
func TestWrongProtocol(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	for url, want := range map[string]string{
		secure.URL: "give the authority by --schema-registry-ca-file",
		strings.Replace(plain.URL, "http:", "https:", 1): "does the registry speak http instead of https?",
		cut.URL: "does it speak https instead of http",
	} {
		if _, err := newClient(t, url).Get(t.Context(), "/schemas/ids/1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

// TestCredentials sends the credentials that were set last, and to the registry alone.
func TestCredentials(t *testing.T) {
	server, url := registrytest.Start(t)
	c := newClient(t, url)
	get := func() error {
		_, err := c.Get(t.Context(), "/schemas/ids/1")
		return err
	}
	server.RequireUser("u", "p")
	if err := get(); err == nil || !strings.Contains(err.Error(), "the registry wants credentials") {
		t.Errorf("no credentials: %v", err)
	}
	c.SetUser("u", "p")
	if err := get(); err != nil {
		t.Errorf("user and password: %v", err)
	}
	server.RequireToken("t")
	c.SetToken("t")
	if err := get(); err != nil {
		t.Errorf("a token: %v", err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another server got a request: %v", r.Header)
	}))
	defer other.Close()
	server.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL, http.StatusFound)
		return true
	})
	if err := get(); err == nil {
		t.Error("a redirect is followed")
	}
}

// TestSeveralURLs asks the next URL if one does not answer or does not have a schema, and first the URL that answered last.
func TestSeveralURLs(t *testing.T) {
	first, firstURL := registrytest.Start(t)
	second, secondURL := registrytest.Start(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	c := newClient(t, gone.URL, firstURL, secondURL)
	get := func(want error) {
		t.Helper()
		if _, err := c.Get(t.Context(), "/schemas/ids/1"); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	get(nil)
	get(nil)
	if n := len(first.Requests()); n != 2 || len(second.Requests()) != 0 {
		t.Errorf("%d requests to the first registry that answers, want 2, and none to the next", n)
	}
	first.Fail(http.StatusServiceUnavailable)
	get(nil)
	first.Fail(0)
	second.Remove(1)
	get(nil)
	first.Remove(1)
	get(format.ErrNotFound)
	first.Fail(http.StatusServiceUnavailable)
	second.Fail(http.StatusServiceUnavailable)
	if _, err := c.Get(t.Context(), "/schemas/ids/1"); err == nil || !strings.Contains(err.Error(), firstURL) || !strings.Contains(err.Error(), gone.URL) {
		t.Errorf("no URL answers: %v, want an error that names all", err)
	}
}

func TestCheckURL(t *testing.T) {
	for text, c := range map[string]struct {
		allowHTTP bool
		want      string // part of the error; empty: none
	}{
		"https://registry.example.com/apis/ccompat/v7": {},
		"http://localhost:8081":                        {},
		"http://registry:8081":                         {false, "--insecure-schema-registry-http"},
		"http://registry:8082":                         {true, ""},
		"https://registry:8081":                        {true, "no effect"},
		"registry:8081":                                {false, "want a URL like"},
		"":                                             {false, "want a URL like"},
		"https://u:p@registry":                         {false, "no user and password"},
		"https://registry?a=b":                         {false, "query"},
	} {
		err := registry.CheckURL(text, c.allowHTTP)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", text, err, c.want)
		}
	}
}
