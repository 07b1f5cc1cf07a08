package login

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	franz "github.com/twmb/franz-go/pkg/sasl/aws"
)

// signature signs a GET request with the only header host by Signature Version 4, as AWS documents it ("Authenticating
// Requests: Using Query Parameters").
func signature(secret, host, path string, query url.Values, body string) string {
	credential := strings.SplitN(query.Get("X-Amz-Credential"), "/", 2)[1] // without the key's id
	sum := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		_, _ = io.WriteString(h, text)
		return h.Sum(nil)
	}
	canonical := sha256.Sum256([]byte("GET\n" + path + "\n" + strings.ReplaceAll(query.Encode(), "+", "%20") + "\nhost:" + host + "\n\nhost\n" + body))
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(credential, "/") {
		key = sum(key, part)
	}
	return hex.EncodeToString(sum(key, "AWS4-HMAC-SHA256\n"+query.Get("X-Amz-Date")+"\n"+credential+"\n"+hex.EncodeToString(canonical[:])))
}

// TestPublishedSignature checks signature with the example that AWS publishes.
func TestPublishedSignature(t *testing.T) {
	got := signature("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "examplebucket.s3.amazonaws.com", "/test.txt", url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {"AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"},
		"X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Expires": {"86400"}, "X-Amz-SignedHeaders": {"host"},
	}, "UNSIGNED-PAYLOAD")
	if want := "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// checkIAMMessage checks what a client sends to the broker with the host, as the broker does.
func checkIAMMessage(t *testing.T, message []byte, secret, host, region string) map[string]string {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal(message, &fields); err != nil {
		t.Fatalf("%s: %v", message, err)
	}
	if fields["version"] != "2020_10_22" || fields["host"] != host || fields["action"] != "kafka-cluster:Connect" || fields["user-agent"] == "" || fields["x-amz-signedheaders"] != "host" {
		t.Errorf("%v: want the version, the host, the action and the user agent", fields)
	}
	if want := "/" + fields["x-amz-date"][:8] + "/" + region + "/kafka-cluster/aws4_request"; !strings.HasSuffix(fields["x-amz-credential"], want) {
		t.Errorf("signed with %s, want %s", fields["x-amz-credential"], want)
	}
	query := url.Values{"Action": {fields["action"]}}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-SignedHeaders"} {
		if value, ok := fields[strings.ToLower(name)]; ok {
			query.Set(name, value)
		}
	}
	if want := signature(secret, host, "/", query, noBody); fields["x-amz-signature"] != want {
		t.Errorf("%v: want the signature %s", fields, want)
	}
	return fields
}

// setCredentials sets the variables that the SDK reads. No other test of this package reads them.
func setCredentials(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
		"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL_STS",
	} {
		t.Setenv(name, cmp.Or(variables[name], map[string]string{"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull}[name]))
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// startIAM logs in to a broker with the host.
func startIAM(t *testing.T, m *IAM, host string) []byte {
	t.Helper()
	session, first, err := m.Start(sasl.WithMetadata(t.Context(), &sasl.Metadata{Host: host, Port: 9098}))
	if err != nil {
		t.Fatal(err)
	}
	if done, answer, err := session.Next(t.Context(), []byte(`{"version":"2020_10_22","request-id":"x"}`)); !done || answer != nil || err != nil {
		t.Errorf("after the broker's answer: done %v, sends %q, %v", done, answer, err)
	}
	if done, _, err := session.Next(t.Context(), nil); done || err == nil {
		t.Errorf("after an empty answer: done %v, %v", done, err)
	}
	return first
}

// TestIAMSignature checks the signatures of Herald and of franz-go, with and without a session token.
func TestIAMSignature(t *testing.T) {
	const host, secret = "b-1.herald.abc123.c2.kafka.eu-west-1.amazonaws.com", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" //nolint:gosec // AWS's example
	for _, token := range []string{"", "IQoJb3JpZ2luX2VjE+/=="} {
		setCredentials(t, map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token, "AWS_REGION": "us-east-1"}) //nolint:gosec // AWS's example
		m, err := NewIAM(t.Context(), "")
		if err != nil || m.Name() != "AWS_MSK_IAM" {
			t.Fatal(m.Name(), err)
		}
		m.now = func() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 7200)) }
		first := startIAM(t, m, host)
		fields := checkIAMMessage(t, first, secret, host, "eu-west-1")
		if fields["x-amz-date"] != "20260203T020506Z" || fields["x-amz-security-token"] != token || bytes.Contains(first, []byte(secret)) {
			t.Errorf("got %s", first)
		}
		_, first, err = franz.Auth{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: secret, SessionToken: token}.AsManagedStreamingIAMMechanism().Authenticate(t.Context(), host+":9098") //nolint:gosec // AWS's example
		if err != nil {
			t.Fatal(err)
		}
		checkIAMMessage(t, first, secret, host, "eu-west-1")
	}
}

// TestIAMRegion takes the region from the flag, from the broker's name and from the SDK's settings, in this order.
func TestIAMRegion(t *testing.T) {
	for _, test := range []struct{ flag, host, variable, want string }{
		{"", "b-1.herald.abc123.c2.kafka.eu-west-1.amazonaws.com", "us-east-1", "eu-west-1"},
		{"", "boot-abc.c1.kafka-serverless.ap-southeast-2.amazonaws.com", "", "ap-southeast-2"},
		{"", "b-2-public.herald.v4ni96.c2.kafka-beta.us-east-1.amazonaws.com", "", "us-east-1"},
		{"", "b-1-public.herald.abc123.c2.kafka.cn-north-1.amazonaws.com.cn", "", "cn-north-1"},
		{"us-gov-west-1", "b-1.herald.abc123.c2.kafka.eu-west-1.amazonaws.com", "us-east-1", "us-gov-west-1"},
		{"", "kafka.example.com", "us-east-1", "us-east-1"},
		{"", "b-1.kafka.eu-west-1.amazonaws.com.example", "us-east-1", "us-east-1"},
		{"", "kafka.example.com", "", ""},
	} {
		setCredentials(t, map[string]string{"AWS_REGION": test.variable})
		m, err := NewIAM(t.Context(), test.flag)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.regionOf(test.host)
		if got != test.want || (err != nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), "give --kafka-aws-region") {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}

// TestIAMCredentials has the SDK find credentials in the places where AWS puts them: variables, files, the container's
// role (ECS and Pod Identity of EKS), and a web identity (IAM roles for service accounts of EKS).
func TestIAMCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"ID","SecretAccessKey":"s3cret","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	defer container.Close()
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "web.identity" {
			t.Errorf("STS gets %v", r.Form)
		}
		_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ID</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	defer sts.Close()
	for name, test := range map[string]struct {
		variables map[string]string
		wrong     string
	}{
		"variables": {map[string]string{"AWS_ACCESS_KEY_ID": "ID", "AWS_SECRET_ACCESS_KEY": "s3cret"}, ""},
		"file":      {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": write("credentials", "[herald]\naws_access_key_id=ID\naws_secret_access_key=s3cret\n"), "AWS_PROFILE": "herald"}, ""},
		"container": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": container.URL}, ""},
		"web identity": {map[string]string{
			"AWS_WEB_IDENTITY_TOKEN_FILE": write("token", "web.identity"), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/herald",
			"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_REGION": "eu-west-1",
		}, ""},
		"none":       {nil, "the AWS SDK finds no credentials: give variables (AWS_ACCESS_KEY_ID), a profile or a role; it says: "},
		"no profile": {map[string]string{"AWS_PROFILE": "missing"}, "the AWS settings: failed to get shared config profile, missing"},
	} {
		t.Run(name, func(t *testing.T) {
			setCredentials(t, test.variables)
			var source string
			m, err := NewIAM(t.Context(), "")
			if err == nil {
				source, err = m.Probe(t.Context())
			}
			switch {
			case test.wrong != "":
				if err == nil || !strings.Contains(err.Error(), test.wrong) || strings.ContainsAny(err.Error(), "\n") {
					t.Errorf("got %v, want %q", err, test.wrong)
				}
			case err != nil || source == "":
				t.Errorf("found by %q: %v", source, err)
			default:
				checkIAMMessage(t, startIAM(t, m, "b-1.kafka.eu-west-1.amazonaws.com"), "s3cret", "b-1.kafka.eu-west-1.amazonaws.com", "eu-west-1")
			}
		})
	}
}

// TestIAMLogsNothing has the SDK ask a machine's service for credentials that refuses it. The SDK would write lines of its
// own form beside Herald's log.
func TestIAMLogsNothing(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer service.Close()
	setCredentials(t, nil)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.URL)
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // was only written
	before := os.Stderr
	os.Stderr = out
	defer func() { os.Stderr = before }()
	m, err := NewIAM(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "the AWS SDK finds no credentials") {
		t.Error(err)
	}
	if text, err := os.ReadFile(out.Name()); len(text) > 0 || err != nil {
		t.Errorf("wrote %q, %v", text, err)
	}
}

// TestIAMWithoutBroker starts without the broker's name, which kafka-go puts into the context.
func TestIAMWithoutBroker(t *testing.T) {
	setCredentials(t, nil)
	m, err := NewIAM(t.Context(), "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Start(context.WithoutCancel(t.Context())); err == nil {
		t.Error("no error")
	}
}
