package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: see the Makefile.
var version = ""

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run() error {
	_, err := fmt.Println(versionLine())
	return err
}

// versionLine returns the text that the command version and the flag --version print.
func versionLine() string {
	return fmt.Sprintf("herald %s %s %s/%s", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion returns the version that the linker has set or, without one, the version that the go
// command has recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
