// Package deploy holds what operators need to run Herald: images, configurations of proxies, units of systemd, packages, a
// dashboard, alert rules. It has no code but tests, which check these files by the tools that read them later. The tests that
// start Herald with them are in package integration.
package deploy
