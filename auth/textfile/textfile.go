// Package textfile reads the text files that operators write: secrets, passwords, tokens, and keys and
// certificates in PEM. Editors and shells add bytes to such files that nobody sees: a byte order mark,
// another encoding, white space at an end. With them a secret is another secret, and PEM is not PEM. The
// package refuses these bytes and names them.
package textfile

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxSecret is the size of the largest file of a secret, in bytes.
	MaxSecret = 64 << 10
	// MaxPEM is the size of the largest file of keys or certificates, in bytes. The authorities of a whole
	// system have about 250 KB.
	MaxPEM = 16 << 20
)

// byteOrderMarks are in the order in which they must be compared: the mark of UTF-32 begins like the mark of
// UTF-16 (Unicode 16, table 23-6).
var byteOrderMarks = []struct{ mark, encoding string }{
	{"\xef\xbb\xbf", "UTF-8"},
	{"\xff\xfe\x00\x00", "UTF-32"},
	{"\x00\x00\xfe\xff", "UTF-32"},
	{"\xff\xfe", "UTF-16"},
	{"\xfe\xff", "UTF-16"},
}

// ByteOrderMark returns the encoding of which the text begins with the byte order mark: UTF-8, UTF-16 or UTF-32. It
// returns "" for a text without a mark.
func ByteOrderMark(text []byte) (encoding string) {
	for _, m := range byteOrderMarks {
		if bytes.HasPrefix(text, []byte(m.mark)) {
			return m.encoding
		}
	}
	return ""
}

// CheckEncoding returns an error for a text with a byte order mark, and for a text that is UTF-16 or UTF-32
// without one. The error continues a sentence that begins with the file's name.
func CheckEncoding(text []byte) error {
	switch encoding := ByteOrderMark(text); encoding {
	case "":
	case "UTF-8":
		return errors.New("begins with a byte order mark: save it as UTF-8 without the mark")
	default:
		return fmt.Errorf("is in %s, it begins with that encoding's byte order mark: save it as UTF-8", encoding)
	}
	start := text[:min(len(text), 1<<10)]
	zeros := bytes.Count(start, []byte{0})
	binary := bytes.ContainsFunc(start, func(r rune) bool { return r >= utf8.RuneSelf })
	if zeros > 0 && zeros >= len(start)/2 && !binary {
		return errors.New("is in UTF-16 or UTF-32, every second byte is zero: save it as UTF-8")
	}
	return nil
}

// Read reads a file of at most limit bytes and calls [CheckEncoding]. Each error names the file.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // the file was only read
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes: is it the right file?", path, limit)
	}
	if err := CheckEncoding(text); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return text, nil
}

// ReadSecret reads a file that holds one secret text, such as a password or a token, and calls [Secret].
// Each error names the file.
func ReadSecret(path string) ([]byte, error) {
	text, err := Read(path, MaxSecret)
	if err != nil {
		return nil, err
	}
	secret, err := Secret(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return secret, nil
}

// TrimLineBreak returns the text without the one line break, LF or CR LF, that editors and shells add at its end.
func TrimLineBreak(text []byte) []byte {
	if line, found := bytes.CutSuffix(text, []byte("\n")); found {
		return bytes.TrimSuffix(line, []byte("\r"))
	}
	return text
}

// ErrEmpty is the error of [Secret] for an empty text.
var ErrEmpty = errors.New("is empty")

// Secret returns a secret text without the line break at its end, see [TrimLineBreak]. It returns an error for an empty
// text, and for a text with bytes that its owner probably does not see: another encoding, white space and invisible
// characters at its ends, and control characters, such as further line breaks. The error continues a sentence that
// begins with the text's name.
func Secret(text []byte) ([]byte, error) {
	if err := CheckEncoding(text); err != nil {
		return nil, err
	}
	text = TrimLineBreak(text)
	switch {
	case len(text) == 0:
		return nil, ErrEmpty
	case !utf8.Valid(text):
		return nil, errors.New("is not text in UTF-8: write random bytes in base64, such as openssl rand -base64 48 does")
	case bytes.HasSuffix(text, []byte("\n")) && len(bytes.TrimSpace(text)) > 0:
		return nil, errors.New("ends with more than one line break: leave one line break, or none")
	}
	if err := CheckEnds(string(text)); err != nil {
		return nil, err
	}
	if i := bytes.IndexFunc(text, unicode.IsControl); i >= 0 {
		r, _ := utf8.DecodeRune(text[i:])
		return nil, fmt.Errorf("has %s within its text: want one line of text, without control characters", CharacterName(r))
	}
	return text, nil
}

// CheckEncrypted returns an error for a private key that is encrypted, in the form of PKCS #8 (RFC 5958) or in the older
// form with headers (RFC 1421), and says how to decrypt it. A server has nobody to ask for a passphrase.
func CheckEncrypted(block *pem.Block) error {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return errors.New("the private key is encrypted: write it without a passphrase (openssl pkey -in FILE -out COPY), and let only Herald's user read the copy (chmod 600)")
	}
	return nil
}

// LoadKeyPair loads a certificate and its key from PEM files, as [tls.LoadX509KeyPair] does. Its errors name the
// file at fault.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	var texts [2][]byte
	for i, path := range []string{certFile, keyFile} {
		text, err := Read(path, MaxPEM)
		if err != nil {
			return tls.Certificate{}, err
		}
		if block, _ := pem.Decode(text); block == nil {
			return tls.Certificate{}, fmt.Errorf("%s is not PEM: want lines like -----BEGIN %s-----", path, []string{"CERTIFICATE", "PRIVATE KEY"}[i])
		}
		texts[i] = text
	}
	for block, rest := pem.Decode(texts[1]); block != nil; block, rest = pem.Decode(rest) {
		if err := CheckEncrypted(block); err != nil {
			return tls.Certificate{}, fmt.Errorf("%s: %w", keyFile, err)
		}
	}
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}
