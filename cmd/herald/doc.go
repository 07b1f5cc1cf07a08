// Command herald streams Kafka records to people. See README.md.
//
// Package main has the flags, the configuration file and the commands. The rest is in packages below it:
//
//   - server: the HTTP server, with a plain Config and New, Start and Stop
//   - listener: connection limit, certificate that follows its files, limit of open files; nothing of Herald but
//     package textfile
//   - tail: the client of event streams
//   - bench: measurements of a server under load
//   - demo: the demo page and its tasks
//   - webfile: the headers of files that the program embeds and serves
//   - visible: text that is safe to show in a terminal or in a log
//
// Where things are: main.go has signals, exit codes, the parser and the version; hangup.go has SIGHUP,
// and reload.go what it does in herald serve; login.go the Kafka user and password that it changes; config.go the
// file of --config and the environment; setting.go the check of every setting's text; missing.go the error that names
// all missing flags. Each command is in the file of its name. flags_server.go has the flags of serve and dev,
// flags_auth.go the flags of tokens, browsers and TLS, flags_kafka.go the flags of connections to Kafka, of which it
// makes the TLS configuration and the SASL mechanism (consumer/broker/advice.go names these flags). dev_broker.go
// starts dev's broker, dev_advertiser.go changes the address that the broker tells its clients, and dev_instructions.go
// prints how to use both. check_setting.go lists settings for herald check, check_files.go and check_connect.go find
// what is wrong, and check_finding.go collects it. admin.go asks the admin listener of a running server. lock_flock.go
// and lock_other.go keep a second process out of dev's --data-dir.
// completion.go and man.go make scripts for shells and the manual page from the parser's model.
//
// A start of herald serve:
//
//  1. main passes a context that ends with SIGTERM or SIGINT to run, and exits with run's code.
//  2. parseArgs reads the command line, the environment and the file of --config (configFile.Resolve).
//     kong calls serveCommand.Validate, which calls server.Config.Validate: flags have the server's bounds
//     and, by serverDefaults, its defaults. flagOf turns a field's name in an error into the flag.
//  3. serveCommand.Run reads the files that flags name (readFiles): Kafka's, keys (tokens), certificate.
//  4. runServer calls server.New and Server.Start, and waits for the end of the context or for
//     Server.Failed. Then it calls Server.Stop. SIGHUP makes reloader.reload take steps 2 and 3 again, and call
//     Server.Reload.
//
// devCommand.Run starts an in-process broker before that, and takes the same way from runServer on. The way
// of a request is in the documentation of package server.
package main
