package visible

import "testing"

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
