package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"herald/auth/textfile"
)

// Signer makes tokens for development and tests. Herald is not an issuer of tokens in production.
type Signer struct {
	// Issuer is the claim "iss". Empty: tokens do not have it.
	Issuer string
	// Audience is the claim "aud". Nil: tokens do not have it.
	Audience []string
	// UserClaim names the claim that holds the user's name. Empty: "sub".
	UserClaim string

	method jwt.SigningMethod
	key    any
	public crypto.PublicKey // nil: the key is a secret
	id     string           // "kid" of the tokens and of the key set; empty: the key is a secret
}

// NewSecretSigner returns a signer that uses HS256. A secret of less than 32 bytes is an error.
func NewSecretSigner(secret []byte) (*Signer, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	return &Signer{method: jwt.SigningMethodHS256, key: secret}, nil
}

// LoadSigner reads a private key from a PEM file (PKCS #8, PKCS #1 or SEC 1). RSA keys sign with RS256;
// each other key signs with the only algorithm of its kind.
func LoadSigner(path string) (*Signer, error) {
	text, err := textfile.Read(path, textfile.MaxPEM)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	public := private.Public()
	k, err := newKey("", public)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(der)
	return &Signer{
		method: jwt.GetSigningMethod(k.algorithms[0]), key: private, public: public,
		id: base64.RawURLEncoding.EncodeToString(sum[:12]),
	}, nil
}

func parsePrivateKey(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, explainNoPrivateKey(text)
		}
		if err := textfile.CheckEncrypted(block); err != nil {
			return nil, err
		}
		var private any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			private, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // for example EC PARAMETERS, which may precede the key
		}
		if err != nil {
			return nil, err
		}
		switch k := private.(type) {
		case *rsa.PrivateKey:
			return k, nil
		case *ecdsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
		return nil, fmt.Errorf("a key of the type %T: want RSA, ECDSA or Ed25519", private)
	}
}

// explainNoPrivateKey returns an error that says what a text without a private key is.
func explainNoPrivateKey(text []byte) error {
	const problem = "no private key in PEM"
	if c := recognize(text); c != nil {
		return fmt.Errorf("%s: %s", problem, c)
	}
	return errors.New(problem + ": make one with herald token --new-key FILE")
}

// Sign makes a token with the claims of id. With a zero Expires the token has no "exp", and [JWT] refuses
// it. A zero IssuedAt stands for the present time. A name that is not allowed is an [ErrUser].
func (s *Signer) Sign(id Identity) (string, error) {
	if err := CheckUser(id.User); err != nil {
		return "", err
	}
	if id.IssuedAt.IsZero() {
		id.IssuedAt = time.Now()
	}
	user := s.UserClaim
	if user == "" {
		user = claimUser
	}
	claims := jwt.MapClaims{"iat": id.IssuedAt.Unix(), user: id.User}
	if s.Issuer != "" {
		claims["iss"] = s.Issuer
	}
	if s.Audience != nil {
		claims["aud"] = s.Audience
	}
	if id.ID != "" {
		claims[claimID] = id.ID
	}
	if !id.Expires.IsZero() {
		claims["exp"] = id.Expires.Unix()
	}
	if grant := grantClaim(id); len(grant) > 0 {
		claims[claimGrant] = grant
	}
	for name, values := range id.Claims {
		if _, taken := claims[name]; taken || name == claimGrant {
			return "", fmt.Errorf("sign token: the claim %s is not for further values: another setting decides it", name)
		}
		claims[name] = values
		if len(values) == 1 {
			claims[name] = values[0]
		}
	}
	token := jwt.NewWithClaims(s.method, claims)
	if s.id != "" {
		token.Header["kid"] = s.id
	}
	text, err := token.SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return text, nil
}

// grantClaim returns the claim "herald" for the restrictions and rights of id.
func grantClaim(id Identity) map[string]any {
	grant := make(map[string]any)
	if id.Types != nil {
		grant[grantTypes] = id.Types
	}
	if id.Topics != nil {
		grant[grantTopics] = id.Topics
	}
	if id.Where != nil {
		grant[grantWhere] = id.Where
	}
	if id.Publish {
		grant[grantPublish] = true
	}
	return grant
}

// KeySet returns the public key as a JSON Web Key Set (RFC 7517, section 5), or nil if the signer has a
// secret.
func (s *Signer) KeySet() ([]byte, error) {
	if s.public == nil {
		return nil, nil
	}
	jwk, err := jwkset.NewJWKFromKey(s.public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
		ALG: jwkset.ALG(s.method.Alg()), KID: s.id, USE: jwkset.UseSig,
	}})
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return json.MarshalIndent(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}}, "", "  ")
}

// WriteKeyFiles writes a new private key (ECDSA on P-256, for ES256) to a file that only its owner can
// read, and its public key to the file path + ".pub". It does not change files that exist: the error is
// [os.ErrExist].
func WriteKeyFiles(path string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("new key: %w", err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("new key: %w", err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return fmt.Errorf("new key: %w", err)
	}
	if err := writeNewFile(path+".pub", 0o644, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})); err != nil {
		return fmt.Errorf("new key: %w", err)
	}
	if err := writeNewFile(path, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER})); err != nil {
		return errors.Join(fmt.Errorf("new key: %w", err), os.Remove(path+".pub"))
	}
	return nil
}

// writeNewFile writes a file that must not exist yet.
func writeNewFile(path string, mode os.FileMode, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the operator names the file
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: choose another name, or remove the file, which makes all tokens signed with it invalid", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
