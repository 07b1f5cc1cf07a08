package visible

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		`plain "quoted" \ text`:  `plain "quoted" \ text`,
		"日本 – Ålice 👩":           "日本 – Ålice 👩",
		"a\x1b[2Jb":              `a\x1b[2Jb`,
		"a\r\nb\tc":              `a\r\nb\tc`,
		"no\u00a0break":          `no\u00a0break`,
		"zero\u200bwidth":        `zero\u200bwidth`,
		"\ufeffmark":             `\ufeffmark`,
		"\u202eright to left":    `\u202eright to left`,
		"a tag \U000e0041":       `a tag \U000e0041`,
		"next line of C1 \u0085": `next line of C1 \u0085`,
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := Lines("a\nb\x1b\n"); got != "a\nb\\x1b\n" {
		t.Errorf("%q", got)
	}
}

func TestContent(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"a\tb \u00a0 \u200d 👩\u200d🚀":   "a\tb \u00a0 \u200d 👩\u200d🚀",
		"a\x1b[2Jb\r\n\u009b\u202eleft": `a\u001b[2Jb\u000d\u000a\u009b\u202eleft`,
	} {
		if got := Content(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		`a "b" 日\x1b`:                         `a \"b\" \u65e5\\x1b`,
		strings.Repeat("a", MaxExcerpt+1):     strings.Repeat("a", MaxExcerpt),
		strings.Repeat("é", MaxExcerpt):       strings.Repeat(`\u00e9`, MaxExcerpt/2),
		"a" + strings.Repeat("é", MaxExcerpt): "a" + strings.Repeat(`\u00e9`, MaxExcerpt/2-1),
		strings.Repeat("\x80", MaxExcerpt*2):  strings.Repeat(`\x80`, MaxExcerpt-3), // not text: up to three bytes are left out
	} {
		if got := Excerpt(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
