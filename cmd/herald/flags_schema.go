package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"herald/auth/textfile"
	"herald/consumer"
	"herald/consumer/format"
	"herald/consumer/registry"
)

// schemaFlags say which schema registry has the schemas of topics with format=registry.
type schemaFlags struct {
	SchemaRegistryURL          []string `name:"schema-registry-url" placeholder:"URL" help:"Schema registry of the topics with format=registry: Confluent's, or one with the same API, such as Karapace or Apicurio (…/apis/ccompat/v7). Several URLs of one registry are tried in turn. Default: none." group:"Schema registry"`
	SchemaRegistryUser         string   `placeholder:"NAME" help:"User for the schema registry (HTTP basic authentication). Default: none." group:"Schema registry"`
	SchemaRegistryPasswordFile string   `placeholder:"FILE" help:"File with the password of --schema-registry-user, one line of text. Default: none." group:"Schema registry"`
	SchemaRegistryTokenFile    string   `placeholder:"FILE" help:"File with a bearer token for the schema registry, one line of text. Default: none." group:"Schema registry"`
	SchemaRegistryCAFile       string   `name:"schema-registry-ca-file" placeholder:"FILE" help:"PEM file of the authorities that sign the registry's certificate. Default: the system's authorities." group:"Schema registry"`
	InsecureSchemaRegistryHTTP bool     `name:"insecure-schema-registry-http" help:"Allow --schema-registry-url to begin with http:// and name another machine. Everybody on the way can then read the credentials and change what people see. Default: https only, except on this machine." group:"Schema registry"`
}

// check returns an error for flags that do not fit together, or do not fit the routes.
func (s *schemaFlags) check(routes []consumer.Route) error {
	needed := slices.IndexFunc(routes, func(r consumer.Route) bool { return r.Format == format.KindRegistry })
	others := s.SchemaRegistryUser + s.SchemaRegistryPasswordFile + s.SchemaRegistryTokenFile + s.SchemaRegistryCAFile
	switch {
	case needed >= 0 && len(s.SchemaRegistryURL) == 0:
		return fmt.Errorf("--topic %s needs --schema-registry-url, the registry that has the schemas", routes[needed])
	case needed < 0 && len(s.SchemaRegistryURL) > 0:
		return errors.New("--schema-registry-url has no effect: no topic of --topic has format=registry")
	case len(s.SchemaRegistryURL) == 0 && (others != "" || s.InsecureSchemaRegistryHTTP):
		return errors.New("the flags --schema-registry-… and --insecure-schema-registry-http need --schema-registry-url")
	case (s.SchemaRegistryUser == "") != (s.SchemaRegistryPasswordFile == ""):
		return errors.New("--schema-registry-user and --schema-registry-password-file go together")
	case s.SchemaRegistryUser != "" && s.SchemaRegistryTokenFile != "":
		return errors.New("--schema-registry-user and --schema-registry-token-file exclude each other: the registry takes one of them")
	}
	for _, u := range s.SchemaRegistryURL {
		if parsed, err := url.Parse(u); err == nil && parsed.User != nil {
			return errors.New("--schema-registry-url: the URL has a user or a password: give them by --schema-registry-user and --schema-registry-password-file instead")
		}
		if err := registry.CheckURL(u, s.InsecureSchemaRegistryHTTP); err != nil {
			return fmt.Errorf("--schema-registry-url %s: %w", u, err)
		}
	}
	return nil
}

// schemaLogin is who Herald is to the schema registry.
type schemaLogin struct{ user, password, token string }

// give has the client's next requests use the log-in.
func (l schemaLogin) give(c *registry.Client) {
	if l.token != "" {
		c.SetToken(l.token)
	} else {
		c.SetUser(l.user, l.password)
	}
}

// schemaRegistry reads the files of the flags. The client is nil without a registry.
func (s *schemaFlags) schemaRegistry() (c *registry.Client, login schemaLogin, err error) {
	if len(s.SchemaRegistryURL) == 0 {
		return nil, login, nil
	}
	login.user = s.SchemaRegistryUser
	for _, f := range []struct {
		flag, path string
		text       *string
	}{
		{"--schema-registry-password-file", s.SchemaRegistryPasswordFile, &login.password},
		{"--schema-registry-token-file", s.SchemaRegistryTokenFile, &login.token},
	} {
		if f.path == "" {
			continue
		}
		secret, err := textfile.ReadSecret(f.path)
		if err != nil {
			return nil, login, fmt.Errorf("%s: %w", f.flag, err)
		}
		*f.text = string(secret)
	}
	cfg := registry.Config{URLs: s.SchemaRegistryURL}
	if s.SchemaRegistryCAFile != "" {
		if cfg.Authorities, err = authorities("schema-registry-ca-file", s.SchemaRegistryCAFile); err != nil {
			return nil, login, err
		}
	}
	c = registry.New(cfg)
	login.give(c)
	return c, login, nil
}
