package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// reportCommand writes the tables and the pictures of the results.
type reportCommand struct {
	Results  string `help:"The results; the pictures are written beside them." default:"integration/transports/results/results.csv" type:"path"`
	Document string `help:"The document whose tables are replaced. Without it, the tables are printed." type:"path"`
}

// Run writes the report.
func (r *reportCommand) Run() error {
	c, err := readComparison(r.Results)
	if err != nil {
		return err
	}
	svgs, err := drawPictures(c)
	if err != nil {
		return err
	}
	for _, p := range pictures {
		path := filepath.Join(filepath.Dir(r.Results), p.name+".svg")
		if svg, ok := svgs[p.name]; !ok {
			err = os.Remove(path) // an old one
		} else {
			err = os.WriteFile(path, svg, 0o644) //nolint:gosec // everybody may look at the pictures
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if r.Document == "" {
		return printTables(os.Stdout, c)
	}
	old, err := os.ReadFile(r.Document)
	if err != nil {
		return err
	}
	text, err := fillDocument(string(old), c)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Document, err)
	}
	return os.WriteFile(r.Document, []byte(text), 0o644) //nolint:gosec // a document of the repository
}

func readComparison(path string) (comparison, error) {
	file, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	list, err := readResults(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return newComparison(list), nil
}

// block is what the report replaces in a document: the lines between two comments.
var block = regexp.MustCompile(`(?s)(<!-- (table|picture): ([a-z-]+) -->\n).*?(<!-- end -->)`)

// picturesPath leads from the document to the pictures.
const picturesPath = "../integration/transports/results/"

// blocks returns the text of all tables and pictures, by "table" or "picture" and the name.
func blocks(c comparison) map[string]string {
	out := map[string]string{
		"table break-even": breakEvenMarkdown(c),
		"table interval":   intervalMarkdown(c),
		"table runs":       runsLine(c),
	}
	for _, t := range tables {
		out["table "+t.name] = t.markdown(c)
	}
	for _, p := range pictures {
		out["picture "+p.name] = notMeasured
		if drawn, err := p.draw(c); err == nil && drawn != nil {
			out["picture "+p.name] = "![" + p.alt + "](" + picturesPath + p.name + ".svg)\n"
		}
	}
	return out
}

// runsLine says how many runs the tables are made of.
func runsLine(c comparison) string {
	if len(c) == 0 {
		return notMeasured
	}
	return fmt.Sprintf("Runs: %d. Values: %s.\n", len(c.runs()), number(float64(c.size())))
}

func (c comparison) size() (n int) {
	for _, values := range c {
		n += len(values)
	}
	return n
}

// fillDocument replaces the tables and pictures of a document. The document must have each of them once.
func fillDocument(text string, c comparison) (string, error) {
	texts := blocks(c)
	var errs []error
	filled := block.ReplaceAllStringFunc(text, func(found string) string {
		parts := block.FindStringSubmatch(found)
		name := parts[2] + " " + parts[3]
		now, ok := texts[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s is unknown, or is in the document twice", name))
			return found
		}
		delete(texts, name)
		return parts[1] + "\n" + now + "\n" + parts[4]
	})
	for name := range texts {
		errs = append(errs, fmt.Errorf("%s is not in the document", name))
	}
	return filled, errors.Join(errs...)
}

// printTables prints all tables.
func printTables(w io.Writer, c comparison) error {
	texts := blocks(c)
	names := []string{"runs"}
	for _, t := range tables {
		names = append(names, t.name)
	}
	for _, name := range append(names, "break-even", "interval") {
		if _, err := fmt.Fprintf(w, "%s\n\n%s\n", name, texts["table "+name]); err != nil {
			return err
		}
	}
	return nil
}
