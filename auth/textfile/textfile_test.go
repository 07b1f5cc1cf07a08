package textfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// encode16 returns a text in UTF-16, encode32 in UTF-32.
func encode16(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func encode32(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, r := range text {
		b = order.AppendUint32(b, uint32(r))
	}
	return string(b)
}

const password = "correct horse battery staple"

// TestReadSecret reads a password with the bytes that editors and shells add to it.
func TestReadSecret(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	for name, test := range map[string]struct {
		text string
		want string // empty: an error
		err  string
	}{
		"plain":                             {password, password, ""},
		"LF":                                {password + "\n", password, ""},
		"CR LF":                             {password + "\r\n", password, ""},
		"not ASCII":                         {"пароль\n", "пароль", ""},
		"a space within":                    {"a\u00a0b", "a\u00a0b", ""},
		"one character":                     {"x", "x", ""},
		"nothing":                           {"", "", "is empty"},
		"only a line break":                 {"\r\n", "", "is empty"},
		"two line breaks":                   {password + "\n\n", "", "ends with more than one line break: leave one line break, or none"},
		"two line breaks of Windows":        {password + "\r\n\r\n", "", "ends with more than one line break"},
		"CR":                                {password + "\r", "", "ends with a line break: remove it"},
		"CR CR LF":                          {password + "\r\r\n", "", "ends with a line break"},
		"a line break before":               {"\n" + password, "", "begins with a line break"},
		"a space before":                    {" " + password, "", "begins with a space: remove it"},
		"a space after":                     {password + " \n", "", "ends with a space: remove it"},
		"a tab after":                       {password + "\t", "", "ends with a tab"},
		"a no-break space after":            {password + "\u00a0\n", "", "ends with a no-break space (U+00A0)"},
		"an ideographic space before":       {"\u3000" + password, "", "begins with an invisible character (U+3000)"},
		"a zero-width space after":          {password + "\u200b", "", "ends with a zero width space (U+200B)"},
		"a line separator after":            {password + "\u2028", "", "ends with an invisible character (U+2028)"},
		"two lines":                         {"a\nb\n", "", "has a line break within its text: want one line"},
		"a zero byte":                       {password + "\x00x", "", "has a control character (U+0000) within its text"},
		"an escape":                         {"a\x1b[Ab", "", "has a control character (U+001B) within its text"},
		"random bytes":                      {"\x80\x81\x82x", "", "is not text in UTF-8"},
		"Latin-1":                           {"p\xe4ssword", "", "is not text in UTF-8"},
		"UTF-8 with a mark":                 {"\ufeff" + password, "", "begins with a byte order mark: save it as UTF-8 without the mark"},
		"a mark only":                       {"\ufeff", "", "begins with a byte order mark"},
		"a mark at the end":                 {password + "\ufeff", "", "ends with a byte order mark (U+FEFF)"},
		"UTF-16, little-endian with a mark": {encode16(little, "\ufeff"+password+"\r\n"), "", "is in UTF-16, it begins with that encoding's byte order mark: save it as UTF-8"},
		"UTF-16, big-endian with a mark":    {encode16(big, "\ufeff"+password+"\r\n"), "", "is in UTF-16"},
		"UTF-16, little-endian":             {encode16(little, password), "", "is in UTF-16 or UTF-32"},
		"UTF-16, big-endian":                {encode16(big, password), "", "is in UTF-16 or UTF-32"},
		"UTF-16, not ASCII":                 {encode16(little, "пароль"), "", "ends with a control character (U+0004)"},
		"UTF-32, little-endian with a mark": {encode32(little, "\ufeff"+password), "", "is in UTF-32"},
		"UTF-32, big-endian with a mark":    {encode32(big, "\ufeff"+password), "", "is in UTF-32"},
		"UTF-32":                            {encode32(big, password), "", "is in UTF-16 or UTF-32"},
		"a wrong file":                      {strings.Repeat("x", MaxSecret+1), "", "is it the right file?"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, test.text)
			got, err := ReadSecret(path)
			switch {
			case test.err == "" && (err != nil || string(got) != test.want):
				t.Errorf("%q, %v; want %q", got, err, test.want)
			case test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), path+" ") || !strings.Contains(err.Error(), test.err)):
				t.Errorf("%q, error %v, want one with %q after the file's name", got, err, test.err)
			case test.err != "" && len(test.text) > 3 && strings.Contains(err.Error(), "horse"):
				t.Errorf("the error has the secret: %v", err)
			}
		})
	}
}

// TestLoadKeyPair wants an error that names the wrong file of the two.
func TestLoadKeyPair(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pair := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if _, err := LoadKeyPair(write(t, cert), write(t, pair)); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		cert, key string
		wrong     int
		err       string
	}{
		"certificate with a mark":       {"\ufeff" + cert, pair, 0, " begins with a byte order mark"},
		"key with a mark":               {cert, "\ufeff" + pair, 1, " begins with a byte order mark"},
		"key in UTF-16":                 {cert, encode16(binary.LittleEndian, pair), 1, " is in UTF-16"},
		"certificate in DER":            {string(der), pair, 0, " is not PEM: want lines like -----BEGIN CERTIFICATE-----"},
		"a key that is not PEM":         {cert, "x", 1, " is not PEM: want lines like -----BEGIN PRIVATE KEY-----"},
		"two certificates":              {cert, cert, 1, "private key"},
		"a key in the certificate file": {pair, pair, 0, "certificate"},
	} {
		files := [2]string{write(t, test.cert), write(t, test.key)}
		if _, err := LoadKeyPair(files[0], files[1]); err == nil || !strings.Contains(err.Error(), files[test.wrong]) || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: error %v, want one with the file's name and %q", name, err, test.err)
		}
	}
	if _, err := LoadKeyPair("nonexistent", "nonexistent"); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

// FuzzSecret checks that a secret that is accepted is a part of the text, that nothing but one line break is left out,
// and that the secret itself is accepted as it is.
func FuzzSecret(f *testing.F) {
	for _, text := range []string{password, password + "\r\n", "\ufeffx", "x\u00a0", "\x00x\x00", ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		secret, err := Secret(text)
		if err != nil {
			return
		}
		if rest := strings.TrimPrefix(string(text), string(secret)); rest != "" && rest != "\n" && rest != "\r\n" {
			t.Errorf("%q of %q", secret, text)
		}
		if again, err := Secret(secret); err != nil || string(again) != string(secret) {
			t.Errorf("%q is accepted, but as a text it gives %q, %v", secret, again, err)
		}
	})
}

// TestEncryptedKey loads a certificate whose key is encrypted, in both forms.
func TestEncryptedKey(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, block := range []*pem.Block{
		{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")},
		{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")},
		{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")},
	} {
		text := append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), pem.EncodeToMemory(block)...)
		if err := os.WriteFile(key, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyPair(certificate, key)
		if err == nil || !strings.Contains(err.Error(), key+": the private key is encrypted") || !strings.Contains(err.Error(), "openssl pkey -in") {
			t.Errorf("%s %v: %v", block.Type, block.Headers, err)
		}
	}
}
