package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// foreign is a file that is not a secret: the name that an error must give it, and the flag that it must name.
type foreign struct {
	text []byte
	what string
	flag string
}

const (
	publicFlag  = "--jwt-public-key-file"
	privateFlag = "--jwt-key-file"
	sshBody     = "AAAAC3NzaC1lZDI1NTE5AAAAIG9vb29vb29vb29vb29vb29vb29vb29vb29vb29vb29v"
)

func decodePEM(tb testing.TB, text []byte) []byte {
	tb.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		tb.Fatalf("no PEM: %s", text)
	}
	return block.Bytes
}

// foreignFiles returns keys, certificates and tokens in each form that the test can make.
func foreignFiles(t *testing.T) map[string]foreign {
	t.Helper()
	files := map[string]foreign{
		"key of OpenSSH":                     {[]byte("ssh-ed25519 " + sshBody + " me@host\n"), "a public key of SSH", publicFlag},
		"RSA key of OpenSSH":                 {[]byte("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 me@host\n"), "a public key of SSH", publicFlag},
		"ECDSA key of OpenSSH":               {[]byte("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI"), "a public key of SSH", publicFlag},
		"key of a security key":              {[]byte("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t"), "a public key of SSH", publicFlag},
		"authorized_keys":                    {[]byte("from=\"10.0.0.1\" ssh-ed25519 " + sshBody), "a public key of SSH", publicFlag},
		"known_hosts":                        {[]byte("# hosts\nexample.org ssh-ed25519 " + sshBody), "a public key of SSH", publicFlag},
		"key of SSH2":                        {[]byte("---- BEGIN SSH2 PUBLIC KEY ----\n" + sshBody + "\n---- END SSH2 PUBLIC KEY ----\n"), "a public key of SSH", publicFlag},
		"key of PuTTY":                       {[]byte("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"), "a private key of PuTTY", privateFlag},
		"private key of OpenSSH":             {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "a private key of OpenSSH", privateFlag},
		"key of PGP":                         {[]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n"), `"PGP PUBLIC KEY BLOCK" in PEM`, "no flag"},
		"request for a certificate":          {[]byte("-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n"), `"CERTIFICATE REQUEST" in PEM`, "no flag"},
		"encrypted key":                      {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"), "a private key in PEM", privateFlag},
		"key of a service account in JSON":   {[]byte(`{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}`), "a private key in PEM", privateFlag},
		"certificates by id in JSON":         {[]byte(`{"one":"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n"}`), "a certificate in PEM", publicFlag},
		"issuer's configuration":             {[]byte(`{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`), `its jwks_uri, "https://issuer.example/keys"`, "--jwks-url"},
		"secret as a JWK":                    {[]byte(` {"kty":"oct","k":"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"}` + "\n"), "the member k", "--jwt-secret-file takes the secret itself"},
		"set of a secret":                    {[]byte(`{"keys":[{"kty":"oct","k":"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"}]}`), "a JSON Web Key Set", "--jwks-url"},
		"private key as a JWK":               {[]byte(`{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}`), "a private key as a JSON Web Key", privateFlag},
		"secret in other JSON":               {[]byte(`{"secret":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`), "this is JSON", "--jwt-secret-file takes the secret itself"},
		"list in JSON":                       {[]byte(`["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]`), "this is JSON", "--jwt-secret-file takes the secret itself"},
		"token":                              {[]byte(sign(t, alice(nil)) + "\n"), "a token (JWT)", "--token-file"},
		"token without a signature":          {[]byte(signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, alice(nil))), "a token (JWT)", "--token-file"},
		"PKCS #12":                           {pkcs12(t), "a key store in PKCS #12", publicFlag},
		"key store of Java":                  {[]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01"), "a key store of Java", publicFlag},
		"key on a curve that Go cannot read": {decodeBase64(t, "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEO7qRUoy/AITxmxuAoYBwsSkWWuOueRr4vof+9I3g/boYwdlr1ezMrLX/3Lbub89JPNuyuxC/PJSGdUJWC9yCRA=="), "a key or another structure in DER", publicFlag},
	}
	for name, key := range privateKeys() {
		public := publicPEM(t, key.Public())
		certificate := certificatePEM(t, key)
		files["public "+name] = foreign{public, "a public key in PEM", publicFlag}
		files["public "+name+" after a text"] = foreign{slices.Concat([]byte("Bag Attributes\n  friendlyName: x\n"), public), "a public key in PEM", publicFlag}
		files["public "+name+" in one line"] = foreign{bytes.ReplaceAll(public, []byte("\n"), []byte(`\n`)), "a public key in PEM", publicFlag}
		files["public "+name+" in DER"] = foreign{decodePEM(t, public), "a public key in DER", publicFlag}
		files["public "+name+" in DER and a line break"] = foreign{append(decodePEM(t, public), '\n'), "a public key in DER", publicFlag}
		files["public "+name+" in base64"] = foreign{[]byte(base64.StdEncoding.EncodeToString(decodePEM(t, public)) + "\n"), "in base64", "-----BEGIN PUBLIC KEY-----"}
		files["certificate of "+name] = foreign{certificate, "a certificate in PEM", publicFlag}
		files["certificate of "+name+" in DER"] = foreign{decodePEM(t, certificate), "a certificate in DER", publicFlag}
		files["certificate of "+name+" in base64url"] = foreign{[]byte(base64.RawURLEncoding.EncodeToString(decodePEM(t, certificate))), "in base64", "-----BEGIN CERTIFICATE-----"}
		set := keySet(t, map[string]crypto.Signer{"one": key})
		var parsed struct{ Keys []json.RawMessage }
		if err := json.Unmarshal([]byte(set), &parsed); err != nil {
			t.Fatal(err)
		}
		files["key set of "+name] = foreign{[]byte(set), "a JSON Web Key Set", "--jwks-url"}
		files["JWK of "+name] = foreign{parsed.Keys[0], "a public key as a JSON Web Key", publicFlag}
	}
	for name, text := range privateKeyFiles(t) {
		files["private "+name] = foreign{text, "a private key in PEM", privateFlag}
		if !bytes.Contains(text, []byte("EC PARAMETERS")) {
			files["private "+name+" in DER"] = foreign{decodePEM(t, text), "a private key in DER", privateFlag}
			files["private "+name+" in base64"] = foreign{[]byte(base64.StdEncoding.EncodeToString(decodePEM(t, text))), "a private key in base64", privateFlag}
		}
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&privateKeys()["rsa"].(*rsa.PrivateKey).PublicKey)
	files["RSA in PKCS #1"] = foreign{pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}), "a public key in PEM", publicFlag}
	files["RSA in PKCS #1 in DER"] = foreign{pkcs1, "a public key in DER", publicFlag}
	pemText, der := publicPEM(t, privateKeys()["rsa"].Public()), decodePEM(t, publicPEM(t, privateKeys()["rsa"].Public()))
	encoded := base64.StdEncoding.EncodeToString
	files["PEM in base64"] = foreign{[]byte(encoded(pemText) + "\n"), "a public key in PEM in base64", publicFlag}
	files["PEM in base64 twice"] = foreign{[]byte(encoded([]byte(encoded(pemText)))), "a public key in PEM in base64 in base64", publicFlag}
	files["DER in hexadecimal digits"] = foreign{fmt.Appendf(nil, "%X\n", der), "in hexadecimal digits", publicFlag}
	files["DER with colons"] = foreign{fmt.Appendf(nil, "%s\n", strings.ReplaceAll(fmt.Sprintf("% x", der), " ", ":")), "in hexadecimal digits", publicFlag}
	files["key of .NET"] = foreign{fmt.Appendf(nil, "<RSAKeyValue><Modulus>%s</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>", encoded(der)), "a key in XML", publicFlag}
	files["JWK in base64"] = foreign{[]byte(base64.RawURLEncoding.EncodeToString([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB"}`))), "a public key as a JSON Web Key in base64", publicFlag}
	files["line of an .env file"] = foreign{[]byte("export JWT_KEY='" + encoded(der) + "'\n"), "a public key or certificate in base64", publicFlag}
	files["header with a token"] = foreign{[]byte("Authorization: Bearer " + sign(t, alice(nil))), "a token (JWT)", "--token-file"}
	files["RSA in PKCS #1 in base64"] = foreign{[]byte(base64.StdEncoding.EncodeToString(pkcs1)), "in base64", "-----BEGIN RSA PUBLIC KEY-----"}
	return files
}

func decodeBase64(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// pkcs12 returns the frame of a key store in PKCS #12.
func pkcs12(tb testing.TB) []byte {
	tb.Helper()
	type content struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"explicit,tag:0"`
	}
	der, err := asn1.Marshal(struct {
		Version int
		Content content
	}{3, content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, []byte("x")}})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// TestForeignFileIsNotASecret gives files that are public, or meant for another flag, as the secret. The error must
// name the file, its contents and the flag that takes it. Otherwise everybody who knows a public key could sign tokens
// with its text.
func TestForeignFileIsNotASecret(t *testing.T) {
	for name, test := range foreignFiles(t) {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, test.text)
			got, err := LoadSecretFile(path, nil)
			if err == nil {
				t.Fatalf("the secret is %q, want an error", got)
			}
			for _, want := range []string{path, test.what, test.flag} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// TestForeignFileIsNotAPublicKey gives the same files, and a secret, as the public key. PEM is taken, and of the other
// files the error must say what they are.
func TestForeignFileIsNotAPublicKey(t *testing.T) {
	files := foreignFiles(t)
	files["secret"] = foreign{secret, "no public key or certificate in PEM", "--jwt-secret-file"}
	for name, test := range files {
		if strings.Contains(test.what, "in PEM") && name != "secret" {
			continue // TestPublicKeyFiles has them
		}
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, test.text)
			_, err := PublicKeys(path)
			if err == nil {
				t.Fatal("the file is accepted")
			}
			for _, want := range []string{path, test.what, test.flag} {
				if !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "private key") {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// TestSecretsAreNotTakenForKeys makes secrets as people make them. None may be taken for something else.
func TestSecretsAreNotTakenForKeys(t *testing.T) {
	random := make([]byte, 64)
	for range 700 {
		_, _ = rand.Read(random)
		for _, text := range []string{
			base64.StdEncoding.EncodeToString(random), base64.RawURLEncoding.EncodeToString(random), base64.StdEncoding.EncodeToString(random[:32]),
			fmt.Sprintf("%x", random), fmt.Sprintf("JWT_SECRET=%q", base64.StdEncoding.EncodeToString(random)),
			rand.Text(), strings.ToLower(rand.Text() + "-" + rand.Text()),
			"0" + base64.StdEncoding.EncodeToString(random)[:50], // 0 and 0 to 9 are the head of an element in DER
		} {
			if c := recognize([]byte(text)); c != nil {
				t.Fatalf("%q: %v", text, c)
			}
		}
	}
	for _, text := range []string{
		"correct horse battery staple correct horse", "a.b.c", "ssh-rsa is the name of a kind of key", "{not JSON, but a long secret}",
		"3b0c2b4e-6b44-4a0e-9c39-0d9b0d6e4a1f", "https://vault.example/secret?x=1",
	} {
		if c := recognize([]byte(text)); c != nil {
			t.Errorf("%q: %v", text, c)
		}
	}
}

// FuzzRecognize checks that no text stops the program, and that each text that is recognized has a name and a use.
func FuzzRecognize(f *testing.F) {
	f.Add(secret)
	f.Add(pkcs12(f))
	f.Add(publicPEM(f, otherKey().Public()))
	f.Add([]byte(sign(f, alice(nil))))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c := recognize(text); c != nil && (c.what == "" || c.use == "") {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

// TestSignerOfForeignFile wants herald token to say what the file of --jwt-key-file is, if it is not a private key.
func TestSignerOfForeignFile(t *testing.T) {
	sec1, err := x509.MarshalECPrivateKey(privateKeys()["p256"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		want string
	}{
		"public key":    {publicPEM(t, privateKeys()["rsa"].Public()), "no private key in PEM: this is a public key in PEM: --jwt-public-key-file takes it"},
		"DER":           {sec1, "this is a private key in DER"},
		"encrypted key": {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"), "the private key is encrypted"},
		"OpenSSH":       {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nMIIB\n-----END OPENSSH PRIVATE KEY-----\n"), "a private key of OpenSSH"},
		"secret":        {secret, "no private key in PEM: make one with herald token --new-key FILE"},
	} {
		if _, err := LoadSigner(writeFile(t, test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}
