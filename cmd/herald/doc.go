// Command herald streams Kafka records to people. See README.md.
//
// Package main has the flags, the configuration file, one file for each command, and signals. The rest
// is in packages below it:
//
//   - server: the HTTP server, with a plain Config and New, Start and Stop
//   - listener: connection limit, certificate that follows its files, limit of open files; nothing of Herald
//   - tail: the client of event streams
//   - bench: measurements of a server under load
//   - demo: the demo page and its tasks
//
// A start of herald serve:
//
//  1. main passes a context that ends with SIGTERM or SIGINT to run, and exits with run's code.
//  2. parseArgs reads the command line, the environment and the file of --config (configFile.Resolve).
//     kong calls serveCommand.Validate, which calls server.Config.Validate: flags have the server's bounds
//     and, by serverDefaults, its defaults. flagOf turns a field's name in an error into the flag.
//  3. serveCommand.Run reads the files that flags name: security (Kafka), keys (tokens), certificate.
//  4. runServer calls server.New and Server.Start, and waits for the end of the context or for
//     Server.Failed. Then it calls Server.Stop.
//
// devCommand.Run starts an in-process broker before that, and takes the same way from runServer on. The way
// of a request is in the documentation of package server.
package main
