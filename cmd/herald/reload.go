package main

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"

	"github.com/alecthomas/kong"
	"github.com/segmentio/kafka-go/sasl"

	"herald/auth"
	"herald/cmd/herald/listener"
	"herald/cmd/herald/login"
	"herald/cmd/herald/server"
	"herald/consumer/registry"
)

// reloader applies changed settings to a running herald serve. The command line and the environment of a process do not
// change; the file of --config and the files that flags name may. One goroutine uses a reloader.
type reloader struct {
	flags map[string]any // the values in force
	files files          // the contents in force
	level *slog.LevelVar
	login *login.Replaceable
}

// files are the contents of the files that the flags of herald serve name.
type files struct {
	kafka       connection
	keys        auth.Keys             // nil with --insecure-no-auth
	certificate *listener.Certificate // nil: no TLS
	schemas     *registry.Client      // nil: no schema registry
	schemaLogin schemaLogin
}

// readFiles reads the files. Each error is a [usageError], and leaves out what could not be read.
func (s *serveCommand) readFiles(ctx context.Context, log *slog.Logger) (files, []error) {
	var f files
	var errs [4]error
	f.kafka, errs[0] = s.connection(ctx)
	f.keys, errs[1] = s.keys(log)
	f.certificate, errs[2] = s.certificate(log)
	f.schemas, f.schemaLogin, errs[3] = s.schemaRegistry()
	for _, i := range []int{1, 3} {
		if errs[i] != nil {
			errs[i] = usageError{errs[i]}
		}
	}
	return f, slices.DeleteFunc(errs[:], func(err error) bool { return err == nil })
}

// flagValues returns the values of the command's flags, by the flags' names.
func flagValues(parsed *kong.Context) map[string]any {
	values := make(map[string]any)
	for _, f := range parsed.Selected().Flags {
		values[f.Name] = f.Target.Interface()
	}
	return values
}

// appliedFlags are the flags that a reload applies, besides the flags of [server.Settings].
var appliedFlags = slices.Concat([]string{
	"config", "log-level", "jwt-secret-file", "jwt-public-key-file", "tls-cert-file", "tls-key-file",
}, mechanismFlags, schemaLoginFlags)

// schemaLoginFlags are the flags of the log-in to the schema registry.
var schemaLoginFlags = []string{"schema-registry-user", "schema-registry-password-file", "schema-registry-token-file"}

// mechanismFlags are the flags that a reload applies by replacing the SASL mechanism. --kafka-sasl-mechanism is not among
// them: a mechanism replaces another one of its name.
var mechanismFlags = []string{
	"kafka-sasl-user", "kafka-sasl-password-file", "kafka-oauth-token-file", "kafka-oauth-token-url", "kafka-oauth-client-id",
	"kafka-oauth-client-secret-file", "kafka-oauth-scope", "kafka-oauth-audience", "kafka-oauth-ca-file",
	"insecure-kafka-oauth-http", "kafka-oauth-extension", "kafka-aws-region",
}

// reloads reports whether a reload applies the flag. All other flags need a restart.
func reloads(flag string) bool {
	for field := range reflect.TypeFor[server.Settings]().Fields() {
		if flagOf(field.Name) == "--"+flag {
			return true
		}
	}
	return slices.Contains(appliedFlags, flag)
}

// reload reads all settings as a start does, and applies the changed ones. If any of them is wrong, it applies none. It
// logs the outcome: the names of settings, and no values.
func (r *reloader) reload(ctx context.Context, args []string, log *slog.Logger, srv *server.Server) {
	changed, restart, err := r.apply(ctx, args, log, srv)
	srv.RecordReload(err)
	if err != nil {
		log.Error("settings not reloaded; the previous ones stay in use", "error", err)
		return
	}
	level := slog.Level(r.flags["log-level"].(logLevel))
	r.level.Set(min(r.level.Level(), level)) // so that the line shows at the old level or at the new one
	if len(changed) > 0 {
		log.Info("settings reloaded", "changed", changed)
	} else {
		log.Info("settings read again; none to apply")
	}
	r.level.Set(level)
	if len(restart) > 0 {
		log.Warn("changed settings need a restart", "settings", restart)
	}
}

// apply returns the flags that it has applied, because their values or their files have changed, and the changed flags
// that need a restart.
func (r *reloader) apply(ctx context.Context, args []string, log *slog.Logger, srv *server.Server) (changed, restart []string, err error) {
	cli := new(commands)
	parsed, err := parseArgs(ctx, args, cli)
	if err != nil {
		return nil, nil, err
	}
	read, errs := cli.Serve.readFiles(ctx, log)
	if len(errs) > 0 {
		return nil, nil, errs[0]
	}
	values := flagValues(parsed)
	d := r.compare(values, read)
	settings := cli.Serve.config().Settings
	settings.Keys = read.keys
	if d.keepsKeys {
		settings.Keys = r.files.keys
	}
	if err := srv.Reload(settings); err != nil {
		return nil, nil, err
	}
	r.files.keys = settings.Keys
	if !d.keepsCertificate {
		r.files.certificate.Replace(read.certificate)
	}
	if !d.keepsLogin {
		r.login.Set(read.kafka.sasl)
		r.files.kafka.sasl, r.files.kafka.contents = read.kafka.sasl, read.kafka.contents
	}
	if !d.keepsSchemaLogin {
		read.schemaLogin.give(r.files.schemas)
		r.files.schemaLogin = read.schemaLogin
	}
	for flag := range d.applied {
		r.flags[flag] = values[flag]
	}
	return names(d.applied), names(d.restart), nil
}

// difference is what a reload changes, and what it keeps because another value needs a restart.
type difference struct {
	applied, restart                        map[string]bool // flags
	keepsKeys, keepsCertificate, keepsLogin bool
	keepsSchemaLogin                        bool
}

// compare compares the settings in force with the values and the contents of files that were just read.
func (r *reloader) compare(values map[string]any, read files) *difference {
	d := &difference{applied: make(map[string]bool), restart: make(map[string]bool)}
	for flag, value := range values {
		if reflect.DeepEqual(value, r.flags[flag]) {
			continue
		}
		if reloads(flag) {
			d.applied[flag] = true
		} else {
			d.restart[flag] = true
		}
	}
	d.compareKeys(r.files.keys, read.keys, values)
	switch was, is := r.files.certificate, read.certificate; {
	case was == nil || is == nil:
		d.keepsCertificate = true
		d.postpone("tls-cert-file", "tls-key-file")
	case !was.Equal(is):
		d.applied["tls-cert-file"] = true
	}
	d.compareLogin(r.files.kafka, read.kafka)
	d.compareSchemaLogin(&r.files, &read)
	if was, is := r.files.kafka.tls, read.kafka.tls; was != nil && is != nil && !was.RootCAs.Equal(is.RootCAs) {
		d.restart["kafka-ca-file"] = true
	}
	return d
}

// compareKeys compares the keys for tokens. Keys in files replace keys in files; every other change needs a restart.
func (d *difference) compareKeys(was, is auth.Keys, values map[string]any) {
	oldSet, wasSet := was.(*auth.JWKS)
	newSet, isSet := is.(*auth.JWKS)
	switch {
	case wasSet || isSet || was == nil || is == nil:
		d.keepsKeys = true
		d.postpone("jwt-secret-file", "jwt-public-key-file")
		if wasSet && isSet && !newSet.HasSource(oldSet) && !d.restart["jwks-url"] && !d.restart["jwks-refresh"] && !d.restart["insecure-jwks-http"] {
			d.restart["jwks-ca-file"] = true
		}
	case !reflect.DeepEqual(was, is):
		for _, flag := range []string{"jwt-secret-file", "jwt-public-key-file"} {
			if reflect.ValueOf(values[flag]).Len() > 0 {
				d.applied[flag] = true
			}
		}
	}
}

// compareLogin compares the mechanisms by which Herald logs in to Kafka, and the files that they were made from.
func (d *difference) compareLogin(was, is connection) {
	if was.sasl != nil && is.sasl != nil {
		for flag, text := range is.contents {
			if was.contents[flag] != text {
				d.applied[flag] = true
			}
		}
	}
	switch {
	case was.sasl == nil || d.restart["kafka-sasl-mechanism"]:
		d.keepsLogin = true
		d.postpone(mechanismFlags...)
	case !isOfAWS(is.sasl) && !slices.ContainsFunc(mechanismFlags, func(flag string) bool { return d.applied[flag] }):
		d.keepsLogin = true // and its token, which a new mechanism would have to get
	}
}

// compareSchemaLogin compares the log-ins to the schema registry.
func (d *difference) compareSchemaLogin(was, is *files) {
	switch {
	case was.schemas == nil || is.schemas == nil:
		d.keepsSchemaLogin = true
		d.postpone(schemaLoginFlags...)
	case was.schemaLogin == is.schemaLogin:
		d.keepsSchemaLogin = true
	default:
		for flag, changed := range map[string]bool{
			"schema-registry-password-file": is.schemaLogin.password != was.schemaLogin.password,
			"schema-registry-token-file":    is.schemaLogin.token != was.schemaLogin.token,
		} {
			if changed {
				d.applied[flag] = true
			}
		}
	}
}

// isOfAWS reports whether a mechanism has the credentials that the AWS SDK finds. No flag names their files, so whether they
// have changed is not known.
func isOfAWS(m sasl.Mechanism) bool {
	_, ok := m.(*login.IAM)
	return ok
}

// postpone notes that changes of the flags need a restart.
func (d *difference) postpone(flags ...string) {
	for _, flag := range flags {
		if d.applied[flag] {
			delete(d.applied, flag)
			d.restart[flag] = true
		}
	}
}

// names returns the flags as a user writes them, sorted.
func names(flags map[string]bool) []string {
	list := make([]string, 0, len(flags))
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		list = append(list, "--"+flag)
	}
	return list
}
