package auth

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// contents says what an operator has given in the place of a key or a secret, and what can be done with it.
type contents struct {
	what string // with its article: "a public key in PEM"
	use  string // which flag takes it, and how
}

func (c *contents) String() string { return "this is " + c.what + ": " + c.use }

// otherJSON is JSON that is neither a key nor a key set nor an issuer's configuration.
const otherJSON = "JSON"

// What the operator can do with the contents of a wrong file.
const (
	usePublicKey  = "--jwt-public-key-file takes it"
	usePrivateKey = "herald token takes it by --jwt-key-file, and the server needs only its public key (openssl pkey -pubout) by --jwt-public-key-file"
	useKeySet     = "--jwks-url takes the address of a server that answers with it"
	useSecret     = "--jwt-secret-file takes the secret itself" //nolint:gosec // no credentials
	useNothing    = "no flag takes it"
)

var (
	pemLabel = regexp.MustCompile(`-----BEGIN ([^-\r\n]+)-----`)
	// sshKey matches a public key of OpenSSH, also in authorized_keys or known_hosts. Its base64 begins with AAAA,
	// because the key begins with the length of its name in four bytes, of which three are zero.
	sshKey = regexp.MustCompile(`(?:^|\s)(?:ssh-|ecdsa-sha2-|sk-)\S+ +AAAA`)
)

// DescribeContents returns what a text is, with its article, such as "a certificate in DER". It returns "" for a text
// that is none of the usual forms of keys, certificates, key sets and tokens. It is for errors about a wrong file.
func DescribeContents(text []byte) string {
	if c := recognize(text); c != nil {
		return c.what
	}
	return ""
}

// recognize returns what a text is if it is not a secret, because it is public or meant for another flag: keys,
// certificates and key sets in each of their usual forms, and tokens. It returns nil for other contents.
func recognize(text []byte) *contents {
	c := recognizeBare(text)
	if c == nil {
		c = recognizeBare(wrapping.ReplaceAll(text, []byte("$1")))
	}
	return c
}

// wrapping matches a text with a name, a scheme or quotes around it, as in an .env file or in a header.
var wrapping = regexp.MustCompile(`(?s)^\s*(?:(?:export\s+)?[A-Za-z_]\w*\s*[=:])?\s*(?:[Bb]earer\s)?\s*["']?(.*?)["']?\s*$`)

// recognizeBare is recognize for contents with nothing around them.
func recognizeBare(text []byte) *contents {
	for _, form := range []func([]byte) *contents{recognizeText, recognizeDER, recognizeEncoded} {
		if c := form(text); c != nil {
			return c
		}
	}
	return nil
}

// recognizeText recognizes the forms that are text.
func recognizeText(text []byte) *contents {
	return cmp.Or(recognizePEM(text), recognizeJSON(text), recognizeXML(text), recognizeToken(text))
}

// recognizePEM recognizes texts with a PEM block (RFC 7468), wherever it begins, and keys in the texts of SSH and
// PuTTY.
func recognizePEM(text []byte) *contents {
	label := ""
	for _, match := range pemLabel.FindAllSubmatch(text, -1) {
		if label == "" || strings.Contains(string(match[1]), "PRIVATE KEY") { // a certificate or EC PARAMETERS may precede it
			label = string(match[1])
		}
	}
	switch {
	case label == "OPENSSH PRIVATE KEY":
		return &contents{"a private key of OpenSSH", "herald token takes it in PKCS #8 (of RSA and ECDSA: ssh-keygen -p -m PKCS8 -f COPY) by --jwt-key-file"}
	case strings.Contains(label, "PRIVATE KEY"):
		return &contents{"a private key in PEM", usePrivateKey}
	case label == "PUBLIC KEY", label == "RSA PUBLIC KEY":
		return &contents{"a public key in PEM", usePublicKey}
	case label == "CERTIFICATE":
		return &contents{"a certificate in PEM", usePublicKey}
	case label != "":
		return &contents{fmt.Sprintf("%.50q in PEM", label), useNothing}
	case bytes.Contains(text, []byte("-----BEGIN")):
		return &contents{"a damaged PEM file", "a block begins with a line like -----BEGIN PUBLIC KEY-----"}
	case bytes.Contains(text, []byte("---- BEGIN SSH2 ")), sshKey.Match(text):
		return &contents{"a public key of SSH", "--jwt-public-key-file takes it in PEM (of RSA and ECDSA: ssh-keygen -e -m PKCS8 -f FILE)"}
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File-")):
		return &contents{"a private key of PuTTY", "herald token takes it in PEM by --jwt-key-file"}
	}
	return nil
}

// recognizeJSON recognizes key sets, keys (RFC 7517) and an issuer's configuration (OpenID Connect Discovery 1.0,
// section 3; RFC 8414), and any other object or list.
func recognizeJSON(text []byte) *contents {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' && text[0] != '[' || !json.Valid(text) {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(text, &m) != nil {
		return &contents{otherJSON, useSecret + ", without JSON around it"}
	}
	member := func(name string) (value string) {
		_ = json.Unmarshal(m[name], &value) // another type counts as missing
		return value
	}
	switch address := member("jwks_uri"); {
	case address != "":
		return &contents{"an issuer's configuration (OpenID Connect)", fmt.Sprintf("--jwks-url takes its jwks_uri, %.200q", address)}
	case m["keys"] != nil:
		return &contents{"a JSON Web Key Set", useKeySet}
	case member("kty") == "oct":
		return &contents{"a secret as a JSON Web Key", useSecret + ", which the member k holds in base64url"}
	case m["kty"] != nil && m["d"] != nil:
		return &contents{"a private key as a JSON Web Key", "herald token takes it in PEM by --jwt-key-file"}
	case m["kty"] != nil:
		return &contents{"a public key as a JSON Web Key", "--jwt-public-key-file takes it in PEM; in a key set, " + useKeySet}
	}
	return &contents{otherJSON, useSecret + ", without JSON around it"}
}

// recognizeToken recognizes a JWS or JWE of three or five parts whose first part is a JSON object (RFC 7515, section
// 7.1; RFC 7516, section 7.1).
func recognizeToken(text []byte) *contents {
	parts := strings.Split(string(bytes.TrimSpace(text)), ".")
	if len(parts) != 3 && len(parts) != 5 {
		return nil
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	var m map[string]any
	if err != nil || json.Unmarshal(header, &m) != nil || m["alg"] == nil {
		return nil
	}
	return &contents{"a token (JWT)", "herald tail takes it by --token-file"}
}

// derKind returns what the bytes are: the label that they would have in PEM (RFC 7468) for keys and certificates in
// DER (X.690), the name of the format for a key store, and "" for anything else.
func derKind(der []byte) string {
	parsed := func(_ any, err error) bool { return err == nil }
	var store struct { // RFC 7292, section 4
		Version int
		Content asn1.RawValue
		Rest    asn1.RawValue `asn1:"optional"`
	}
	switch rest, err := asn1.Unmarshal(der, &store); {
	case len(der) == 0:
		return ""
	case parsed(x509.ParseCertificates(der)):
		return "CERTIFICATE"
	case parsed(x509.ParsePKIXPublicKey(der)):
		return "PUBLIC KEY"
	case parsed(x509.ParsePKCS1PublicKey(der)):
		return "RSA PUBLIC KEY"
	case parsed(x509.ParsePKCS8PrivateKey(der)), parsed(x509.ParsePKCS1PrivateKey(der)), parsed(x509.ParseECPrivateKey(der)):
		return "PRIVATE KEY"
	case bytes.HasPrefix(der, []byte("\xfe\xed\xfe\xed")):
		return "JKS"
	case err == nil && len(rest) == 0 && store.Version == 3 && store.Content.Tag == asn1.TagSequence:
		return "PKCS #12"
	}
	return ""
}

// recognizeDER recognizes keys, certificates and their containers in DER. No text is DER: an element within a key is an
// integer, a bit string or an object identifier, whose tag is a control character.
func recognizeDER(der []byte) *contents {
	if bytes.HasSuffix(der, []byte("\n")) && derKind(der) == "" {
		der = der[:len(der)-1] // an editor may have added it
	}
	switch derKind(der) {
	case "CERTIFICATE":
		return &contents{"a certificate in DER", usePublicKey + " in PEM (openssl x509 -inform DER -in FILE)"}
	case "PUBLIC KEY":
		return &contents{"a public key in DER", usePublicKey + " in PEM (openssl pkey -pubin -inform DER -in FILE)"}
	case "RSA PUBLIC KEY":
		return &contents{"a public key in DER", usePublicKey + " in PEM (openssl rsa -RSAPublicKey_in -inform DER -in FILE)"}
	case "PRIVATE KEY":
		return &contents{"a private key in DER", "herald token takes it in PEM (openssl pkey -inform DER -in FILE) by --jwt-key-file"}
	case "JKS":
		return &contents{"a key store of Java", "--jwt-public-key-file takes its certificate in PEM (keytool -exportcert -rfc -keystore FILE)"}
	case "PKCS #12":
		return &contents{"a key store in PKCS #12", "--jwt-public-key-file takes its certificate in PEM (openssl pkcs12 -nokeys -in FILE)"}
	}
	var other asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &other); err == nil && len(rest) == 0 && other.Tag == asn1.TagSequence && !isText(der) {
		return &contents{"a key or another structure in DER", "--jwt-public-key-file takes public keys and certificates in PEM"}
	}
	return nil
}

// isText reports whether the bytes have no control characters except line breaks and tabs.
func isText(text []byte) bool {
	return !bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' })
}

// recognizeXML recognizes a key of RSA, DSA or ECDSA in XML (XML Signature 1.1, section 4.5.2), which .NET writes.
func recognizeXML(text []byte) *contents {
	if !xmlKey.Match(text) {
		return nil
	}
	return &contents{"a key in XML", "--jwt-public-key-file takes public keys in PEM"}
}

var xmlKey = regexp.MustCompile(`<(\w+:)?(RSA|DSA|EC|ECDSA)KeyValue\b`)

// recognizeEncoded recognizes the other contents in base64 or in hexadecimal digits. Keycloak shows public keys in
// base64 without the lines of PEM, key sets hold certificates so, and environment variables hold whole PEM files so.
func recognizeEncoded(text []byte) *contents {
	compact := strings.Join(strings.Fields(string(text)), "")
	if b, err := hex.DecodeString(strings.ReplaceAll(compact, ":", "")); err == nil {
		if derKind(b) != "" {
			return &contents{"a key or a certificate in hexadecimal digits", "--jwt-public-key-file takes public keys and certificates in PEM"}
		}
		return recognizeDecoded(b, "hexadecimal digits")
	}
	compact = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(compact, "="))
	b, err := base64.RawStdEncoding.DecodeString(compact)
	if err != nil {
		return nil
	}
	switch label := derKind(b); label {
	case "":
		return recognizeDecoded(b, "base64")
	case "CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY":
		return &contents{"a public key or certificate in base64", fmt.Sprintf("--jwt-public-key-file takes it between the lines -----BEGIN %[1]s----- and -----END %[1]s-----", label)}
	case "PRIVATE KEY":
		return &contents{"a private key in base64", "herald token takes it between the lines -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY----- by --jwt-key-file"}
	default:
		return &contents{"a key store in base64", "--jwt-public-key-file takes its certificate in PEM"}
	}
}

// recognizeDecoded recognizes texts that were decoded. It returns nil for a secret of random bytes.
func recognizeDecoded(b []byte, encoding string) *contents {
	c := recognizeText(b)
	if c == nil && len(b) >= minSecret {
		c = recognizeEncoded(b)
	}
	if c == nil {
		return nil
	}
	return &contents{c.what + " in " + encoding, "decode it; " + c.use}
}
