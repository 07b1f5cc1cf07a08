// Package deploy holds what operators need to run Herald: images, configurations, dashboards, alert rules. It has no code
// but the tests that check these files with the tools that will read them.
package deploy
