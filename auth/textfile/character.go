package textfile

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// IsInvisible reports whether a character shows nothing: white space, a control or format character, or a
// letter without a glyph, such as the Hangul filler.
func IsInvisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.In(r, unicode.Z, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point)
}

// CharacterName names an invisible character in words, with the article.
func CharacterName(r rune) string {
	switch r {
	case ' ':
		return "a space"
	case '\t':
		return "a tab"
	case '\n', '\r':
		return "a line break"
	case '\u00a0':
		return "a no-break space (U+00A0)"
	case '\u200b':
		return "a zero width space (U+200B)"
	case '\ufeff':
		return "a byte order mark (U+FEFF)"
	}
	if unicode.IsControl(r) {
		return fmt.Sprintf("a control character (%U)", r)
	}
	return fmt.Sprintf("an invisible character (%U)", r)
}

// CheckEnds returns an error for a text that begins or ends with an invisible character. The error continues a sentence
// that begins with the text or its name.
func CheckEnds(text string) error {
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case text == "":
		return nil
	case IsInvisible(first):
		return fmt.Errorf("begins with %s: remove it", CharacterName(first))
	case IsInvisible(last):
		return fmt.Errorf("ends with %s: remove it", CharacterName(last))
	}
	return nil
}
