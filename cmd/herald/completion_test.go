package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herald/cmd/herald/server"
)

// TestCompletion has each shell that this machine has complete command lines by the script of herald completion.
func TestCompletion(t *testing.T) {
	const bash = `source "$0"; words=($1); [[ $1 == *' ' ]] && words+=(""); COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]}-1)); _herald; printf '%s\n' "${COMPREPLY[@]}"`
	for line, want := range map[string]string{
		"herald se":                   "serve",
		"herald serve --log-f":        "--log-format",
		"herald serve --log-format j": "json",
		"herald check --conn":         "--connect",
		"herald completion z":         "zsh",
	} {
		for shell, run := range map[string][]string{
			"bash": {"-c", bash, "SCRIPT", line},
			"fish": {"-c", `source $argv[1]; complete -C $argv[2]`, "SCRIPT", line},
		} {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("not tested with %s, which this machine does not have", shell)
				continue
			}
			args := append([]string(nil), run...)
			args[2] = writeScript(t, shell)
			out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("%s: %q: %v, %q, want %s", shell, line, err, out, want)
			}
		}
	}
	if path, err := exec.LookPath("zsh"); err == nil { // it completes only in a terminal
		if out, err := exec.CommandContext(t.Context(), path, "-n", writeScript(t, "zsh")).CombinedOutput(); err != nil {
			t.Errorf("zsh: %v, %s", err, out)
		}
	}
}

// writeScript writes the script of herald completion to a file.
func writeScript(t *testing.T, shell string) string {
	t.Helper()
	var text strings.Builder
	if err := writeCompletion(&text, shell, newParser(t.Context(), new(commands), new(configFile)).Model); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "herald."+shell)
	writeText(t, path, text.String())
	return path
}

// TestMan wants the manual page to have every command and the flags of serve, and its tools to find no fault in it.
func TestMan(t *testing.T) {
	var page strings.Builder
	if err := writeMan(&page, newParser(t.Context(), new(commands), new(configFile)).Model); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".SS herald serve ", ".SS herald check ", `\-\-max\-streams\-per\-user=NUMBER`, server.DefaultConfig().Listen} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if path, err := exec.LookPath("mandoc"); err == nil {
		file := filepath.Join(t.TempDir(), "herald.1")
		writeText(t, file, page.String())
		if out, err := exec.CommandContext(t.Context(), path, "-T", "lint", "-W", "warning", file).CombinedOutput(); err != nil {
			t.Errorf("mandoc -T lint: %v\n%s", err, out)
		}
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
