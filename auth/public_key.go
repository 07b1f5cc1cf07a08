package auth

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"herald/auth/textfile"
)

// PublicKeys reads PEM files of public keys or of certificates. It does not check the dates and issuers of
// certificates, because the operator vouches for the files. An error names the file.
func PublicKeys(paths ...string) (Keys, error) {
	var keys fixedKeys
	for _, path := range paths {
		text, err := textfile.Read(path, textfile.MaxPEM)
		if err != nil {
			return nil, err
		}
		some, err := parsePublicKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, some...)
	}
	if len(keys) == 0 {
		return nil, errors.New("no file with a public key is given")
	}
	return keys, nil
}

func parsePublicKeys(text []byte) ([]key, error) {
	var keys []key
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		value, err := parsePublicKey(block)
		if err != nil {
			return nil, err
		}
		k, err := newKey("", value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) < bytes.Count(text, []byte(pemBegin)) {
		return nil, explainNoPEM(text, "no public key or certificate in PEM")
	}
	return keys, nil
}

// pemBegin begins a PEM block (RFC 7468, section 2).
const pemBegin = "-----BEGIN "

// explainNoPEM returns an error for a text without a PEM block, or with a block that cannot be read. It says what the
// text is. Without a block, it begins with problem.
func explainNoPEM(text []byte, problem string) error {
	if bytes.Contains(text, []byte(pemBegin)) {
		return errors.New("a PEM block is damaged: the lines -----BEGIN … and -----END … stand alone, with nothing before them, and only base64 between them")
	}
	if c := recognize(text); c != nil {
		return fmt.Errorf("%s: %s", problem, c)
	}
	return fmt.Errorf("%s: a secret goes to --jwt-secret-file", problem)
}

func parsePublicKey(block *pem.Block) (any, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		value, err := x509.ParsePKIXPublicKey(block.Bytes)
		return value, explainKeyKind(block.Bytes, err)
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && c.PublicKey == nil {
			err = explainKeyKind(c.RawSubjectPublicKeyInfo, errors.New("a key of an unknown kind"))
		}
		if err != nil {
			return nil, fmt.Errorf("a certificate: %w", err)
		}
		return c.PublicKey, nil
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("this is a private key, which only the issuer of tokens should have: give the public key (openssl pkey -pubout)")
	}
	return nil, fmt.Errorf("%q in PEM: want PUBLIC KEY or CERTIFICATE", block.Type)
}

// unusableKeys are the kinds of public keys (RFC 5480, RFC 8410, RFC 4055) that Herald does not use, by their
// identifiers.
var unusableKeys = map[string]string{
	"1.2.840.113549.1.1.10": "an RSA key for RSASSA-PSS only",
	"1.3.132.0.10":          "an elliptic curve key on secp256k1 (ES256K)",
	"1.3.101.110":           "a key on X25519, which cannot sign",
	"1.3.101.111":           "a key on X448, which cannot sign",
	"1.3.101.113":           "a key on Ed448",
}

// explainKeyKind returns an error that names the kind of a public key in DER (RFC 5280, section 4.1), if Herald does not
// use keys of that kind. Otherwise it returns err, the standard library's error about the key, which may be nil.
func explainKeyKind(der []byte, err error) error {
	if err == nil {
		return nil
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, bad := asn1.Unmarshal(der, &info); bad != nil {
		return err
	}
	name := info.Algorithm.Algorithm.String()
	var curve asn1.ObjectIdentifier
	if _, bad := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); bad == nil {
		name = curve.String()
	}
	kind, ok := unusableKeys[name]
	if !ok {
		return err
	}
	return fmt.Errorf("%s: want RSA, ECDSA on P-256, P-384 or P-521, or Ed25519", kind)
}
