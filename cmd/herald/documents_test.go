package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"herald/cmd/herald/server"
)

// root is the repository's top directory.
const root = "../.."

// readDocument returns the text of a file of the repository.
func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOperatingListsEveryFlag compares the tables of flags in deploy/OPERATING.md with the flags of the
// two commands that start a server: each flag has a row with its default, and each row is of a flag.
func TestOperatingListsEveryFlag(t *testing.T) {
	rows := make(map[string]string) // default by flag
	for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| ([^|]*) \\| .+ \\|$").FindAllStringSubmatch(readDocument(t, "deploy/OPERATING.md"), -1) {
		if _, twice := rows[row[1]]; twice {
			t.Errorf("--%s has two rows", row[1])
		}
		rows[row[1]] = row[2]
	}
	known := make(map[string]bool)
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		if node.Name != "serve" && node.Name != "dev" {
			continue
		}
		for _, f := range node.Flags {
			if f.Name == "help" {
				continue
			}
			known[f.Name] = true
			got, listed := rows[f.Name]
			switch want := documentedDefault(f); {
			case !listed:
				t.Errorf("no row for --%s of herald %s", f.Name, node.Name)
			case want == "" && (strings.TrimSpace(got) == "" || strings.Contains(got, "`")):
				t.Errorf("--%s has the default %q in its row, want words: the flag has no default value", f.Name, got)
			case want != "" && got != want:
				t.Errorf("--%s has the default %q in its row, want %q", f.Name, got, want)
			}
		}
	}
	for name := range rows {
		if !known[name] {
			t.Errorf("there is a row for --%s, which neither command has", name)
		}
	}
}

// TestOperatingListsReloadedFlags compares the table of "Reloading" in deploy/OPERATING.md with the flags that a reload
// applies.
func TestOperatingListsReloadedFlags(t *testing.T) {
	_, section, _ := strings.Cut(readDocument(t, "deploy/OPERATING.md"), "\n## Reloading\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`--[^|]*) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`--([a-z-]+)`").FindAllStringSubmatch(row[1], -1) {
			listed[name[1]] = true
		}
	}
	applied := 0
	for _, node := range newParser(t.Context(), new(commands), new(configFile)).Model.Children {
		if node.Name != "serve" {
			continue
		}
		for _, f := range node.Flags {
			if listed[f.Name] != reloads(f.Name) {
				t.Errorf("--%s is in the table: %v, and a reload applies it: %v", f.Name, listed[f.Name], reloads(f.Name))
			}
			if reloads(f.Name) {
				applied++
			}
		}
	}
	if applied != len(listed) || applied != len(appliedFlags)+reflect.TypeFor[server.Settings]().NumField()-1 { // Keys has no flag of its own
		t.Errorf("a reload applies %d flags of herald serve, the table lists %d, and the code %d", applied, len(listed), len(appliedFlags)+reflect.TypeFor[server.Settings]().NumField()-1)
	}
}

// documentedDefault returns the default of a flag as its row has it, or "" for a flag whose row says in
// words what happens without it.
func documentedDefault(f *kong.Flag) string {
	switch {
	case f.Default != "":
		return "`" + f.Default + "`"
	case f.IsBool():
		return "off"
	case f.Required:
		return "required"
	}
	return ""
}

// TestOperatingNamesLogLines wants each line of the log that deploy/OPERATING.md explains to be a string
// in the code, so that an operator who searches for it finds it.
func TestOperatingNamesLogLines(t *testing.T) {
	_, section, found := strings.Cut(readDocument(t, "deploy/OPERATING.md"), "\n## Log\n")
	if !found {
		t.Fatal("no section Log")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var code strings.Builder
	for _, dir := range []string{"auth", "cmd", "consumer", "stream"} {
		walkFiles(t, dir, ".go", func(path string) {
			if !strings.HasSuffix(path, "_test.go") {
				code.WriteString(readDocument(t, path))
			}
		})
	}
	lines := 0
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\| (?:DEBUG|INFO|WARN|ERROR)").FindAllStringSubmatch(section, -1) {
		for _, message := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			lines++
			if !strings.Contains(code.String(), strconv.Quote(message[1])) {
				t.Errorf("no code logs %q", message[1])
			}
		}
	}
	if lines < 30 {
		t.Errorf("%d lines of the log are explained, want 30 or more", lines)
	}
}

// walkFiles calls visit with the path, from the repository's top, of each file in dir with the ending.
func walkFiles(t *testing.T, dir, ending string, visit func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != "." || entry.Name() == "node_modules"):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ending):
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	codeBlock   = regexp.MustCompile("(?ms)^```.*?^```$|^    .*?$")
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading     = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the anchors of a document's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		found[strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return found
}

// TestLinks wants each relative link of each document to lead to a file of the repository, and to a
// heading of it where the link names one.
func TestLinks(t *testing.T) {
	links := 0
	walkFiles(t, ".", ".md", func(path string) {
		for _, l := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(readDocument(t, path), ""), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(l[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, l[1])
				continue
			}
			if anchor != "" && !anchors(readDocument(t, target))[anchor] {
				t.Errorf("%s links to %s, which has no such heading", path, l[1])
			}
		}
	})
	if links < 50 {
		t.Errorf("%d links in all documents, want 50 or more", links)
	}
}

// TestImageHasEveryPackage compares .dockerignore, which excludes everything that it does not list, with the packages
// that the program imports: deploy/Dockerfile builds the program inside the image, and no test builds that image.
func TestImageHasEveryPackage(t *testing.T) {
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := regexp.MustCompile(`(?m)^herald/([^/\n]+)`).FindAllStringSubmatch(string(list), -1)
	if len(packages) == 0 {
		t.Fatal("go list named no package of Herald")
	}
	included := strings.Fields(readDocument(t, ".dockerignore"))
	for _, p := range packages {
		if !slices.Contains(included, "!"+p[1]) {
			t.Errorf(".dockerignore excludes the package %s", p[1])
		}
	}
}
