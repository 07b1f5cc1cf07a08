package server

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"herald/auth/textfile"
)

// maxContentType bounds a Content-Type, in bytes.
const maxContentType = 255

// checkContent refuses a request whose header says that the body is compressed, encoded, or in another charset than
// UTF-8. A stream sends each body as text in UTF-8, so people would see nonsense.
func checkContent(c echo.Context) error {
	h := c.Request().Header
	if coding := otherThan(h["Content-Encoding"], "identity"); coding != "" {
		// RFC 9110, section 15.5.16: the header says which coding would be accepted. RFC 7694 has it for requests.
		c.Response().Header().Set("Accept-Encoding", "identity")
		return refuse(http.StatusUnsupportedMediaType, codeContentEncoding, fmt.Sprintf("Content-Encoding: %q: send the body without a content coding", coding))
	}
	// HTTP does not use this header (RFC 7231, appendix A.5). A client that sends it has encoded the body as for mail.
	if coding := otherThan(h["Content-Transfer-Encoding"], "7bit", "8bit", "binary"); coding != "" {
		return refuse(http.StatusUnsupportedMediaType, codeContentEncoding, fmt.Sprintf("Content-Transfer-Encoding: %q: send the body as it is", coding))
	}
	return checkContentType(h["Content-Type"])
}

// otherThan returns the first element of the lists that is not one of the known ones, or an empty string. Elements
// are case-insensitive, and empty ones do not count (RFC 9110, section 5.6.1.2).
func otherThan(lists []string, known ...string) string {
	for element := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		element = strings.Trim(element, " \t")
		if element != "" && !slices.Contains(known, strings.ToLower(element)) {
			return element
		}
	}
	return ""
}

// checkContentType refuses a type that is malformed, has several parts, or names another charset than UTF-8. No type
// at all is allowed.
func checkContentType(values []string) error {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil
	}
	wrong := func(message string) error {
		return refuse(http.StatusUnsupportedMediaType, codeContentType, "Content-Type: "+message)
	}
	kind, parameters, err := mime.ParseMediaType(values[0])
	charset, hasCharset := parameters["charset"]
	switch {
	case err != nil, !strings.Contains(kind, "/"), len(values) > 1, len(values[0]) > maxContentType:
		return wrong(fmt.Sprintf("want one such as application/json, of up to %d bytes, or none", maxContentType))
	case strings.HasPrefix(kind, "multipart/"):
		return wrong("send the notification itself as the body, not as a part of a form")
	case hasCharset && !slices.Contains([]string{"utf-8", "utf8", "us-ascii", "ascii"}, strings.ToLower(charset)):
		return wrong(fmt.Sprintf("charset %q: send the text in UTF-8", charset))
	}
	return nil
}

// checkText refuses a body that is not text in UTF-8, whatever its header says: compressed bytes, for example, or
// UTF-16 with a byte order mark.
func checkText(body []byte) error {
	wrong := func(message string) error { return refuse(http.StatusUnsupportedMediaType, codeNotText, message) }
	switch encoding := textfile.ByteOrderMark(body); {
	case encoding == "UTF-8": // JSON.parse of browsers refuses the mark
		return wrong("the body begins with a byte order mark: send the text without it")
	case encoding != "":
		return wrong("the body is in " + encoding + ": send the text in UTF-8")
	case !utf8.Valid(body):
		return wrong(fmt.Sprintf("byte %d of the body is not UTF-8: send text in UTF-8, and encode binary data, such as by base64", invalidAt(body)))
	}
	return nil
}

// invalidAt returns the position of the first byte that is not UTF-8, counted from 1.
func invalidAt(body []byte) int {
	at := 0
	for {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size <= 1 {
			return at + 1
		}
		at += size
	}
}
