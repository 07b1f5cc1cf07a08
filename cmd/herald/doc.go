// Command herald streams Kafka records to people. See README.md.
//
// Package main has the flags, the configuration file and the commands. The rest is in packages below it:
//
//   - server: the HTTP server, with a plain Config and New, Start and Stop
//   - listener: addresses and sockets, connection limit, PROXY headers, certificate that follows its files, limit of open
//     files; nothing of Herald but package textfile
//   - tracing: sends spans to an OpenTelemetry collector
//   - login: SASL mechanisms for Kafka that kafka-go does not have
//   - tail: the client of event streams
//   - bench: measurements of a server under load
//   - demo: the demo page and its tasks
//   - webfile: the headers of files that the program embeds and serves
//   - visible: text that is safe to show in a terminal or in a log
//
// # Files
//
// Each command is in the file of its name. The other files:
//
//	start and end   main.go (signals, exit codes, the parser, the version), hangup.go (SIGHUP), systemd.go (reports
//	                start, life and stop to systemd)
//	settings        config.go (the file of --config, the environment), setting.go (the text of every setting),
//	                missing.go (the error that names all missing flags), unknown_flag.go (the error that names the
//	                flag that was meant)
//	flags           flags_server.go (serve and dev), flags_auth.go (tokens, browsers, TLS), flags_kafka.go
//	                (connections to Kafka: makes the TLS configuration) and flags_login.go (makes the SASL mechanism;
//	                consumer/broker/advice.go names the flags of both), admin.go (the admin listener of a running server,
//	                and requests to it)
//	reload          reload.go (what SIGHUP does in herald serve)
//	check           check_setting.go (lists settings), check_files.go and check_connect.go (find what is wrong),
//	                check_finding.go (collects it)
//	streams         streams_table.go (the table of herald streams)
//	dev             dev_broker.go (its broker), dev_advertiser.go (the address that the broker returns to clients),
//	                dev_instructions.go (prints how to use both), lock_flock.go and lock_other.go (keep a second process
//	                out of --data-dir)
//	texts           completion.go and man.go make scripts for shells and the manual page from the parser's model
//
// A start of herald serve:
//
//  1. main passes a context that ends with SIGTERM or SIGINT to run, and exits with run's code.
//  2. parseArgs reads the command line, the environment and the file of --config (configFile.Resolve).
//     kong calls serveCommand.Validate, which calls server.Config.Validate: flags have the server's bounds
//     and, by serverDefaults, its defaults. flagOf turns a field's name in an error into the flag.
//  3. serveCommand.Run reads the files that flags name (readFiles): Kafka's, keys (tokens), certificate.
//  4. runServer calls server.New and Server.Start, and waits for the end of the context or for
//     Server.Failed. Then it calls Server.Stop. superviseBySystemd reports to systemd meanwhile. After SIGHUP,
//     reloader.reload takes steps 2 and 3 again, and calls Server.Reload.
//
// devCommand.Run starts an in-process broker, and takes the same way from runServer on. checkCommand.Run takes steps 2
// and 3, collects all errors in place of the first one, and calls server.New only. The way of a request is in the
// documentation of package server.
package main
