package consumer

import (
	"encoding/base64"
	"fmt"
)

// Encoding says how the name of a user's topic spells the user. The empty Encoding takes the user as it is.
type Encoding string

// Base64URL is base64 with the alphabet for URLs and without padding (RFC 4648, section 5). All its characters are
// allowed in the name of a topic, so users may have any name, such as an e-mail address.
const Base64URL Encoding = "base64url"

// strictBase64URL refuses a text whose last character has bits that no byte has: a topic belongs to one user, and a
// user has one topic.
var strictBase64URL = base64.RawURLEncoding.Strict()

// parse sets the encoding that the text names.
func (e *Encoding) parse(text string) error {
	if text != string(Base64URL) {
		return fmt.Errorf("encode %q: want %s", text, Base64URL)
	}
	*e = Base64URL
	return nil
}

func (e Encoding) encode(user string) string {
	if e == Base64URL {
		return strictBase64URL.EncodeToString([]byte(user))
	}
	return user
}

// decode returns the user that a part of a topic's name spells, and whether it spells one.
func (e Encoding) decode(part string) (user string, ok bool) {
	if e == Base64URL {
		text, err := strictBase64URL.DecodeString(part)
		return string(text), err == nil
	}
	return part, true
}

// longest returns the length in bytes of the longest user that takes no more than that many bytes in a topic's name.
func (e Encoding) longest(bytes int) int {
	if e == Base64URL && bytes > 0 {
		return strictBase64URL.DecodedLen(bytes)
	}
	return bytes
}
