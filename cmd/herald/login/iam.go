package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/segmentio/kafka-go/sasl"
)

const (
	// iamService and iamVersion are what brokers of Amazon MSK expect (github.com/aws/aws-msk-iam-auth).
	iamService = "kafka-cluster"
	iamVersion = "2020_10_22"

	// iamLife is how long a signature counts, in seconds: as long as with AWS's own client for Java, for clocks that
	// differ.
	iamLife = "900"

	// noBody is the SHA-256 of the empty body of the request that is signed.
	noBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// IAM is the SASL mechanism AWS_MSK_IAM of Amazon MSK: the client signs a request with its AWS credentials (Signature
// Version 4), and the broker has AWS check it. It is safe for concurrent use.
//
// kafka-go's module for it, sasl/aws_msk_iam_v2, was last released in 2023 and needs the same SDK, whose signer does the
// work.
type IAM struct {
	credentials aws.CredentialsProvider
	region      string // of the flag; "": see regionOf
	sdkRegion   string // of the SDK's settings
	now         func() time.Time
}

// NewIAM returns a mechanism with the credentials that the AWS SDK finds: variables, files, a web identity, the role of a
// container or of a machine. It does not look at the credentials yet. region may be empty: then a broker's name has it,
// or else the SDK's settings.
func NewIAM(ctx context.Context, region string) (*IAM, error) {
	// The error of a log-in says what the SDK would log, and Herald's log has one format.
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if region != "" {
		options = append(options, config.WithRegion(region)) // for requests to STS, too
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the AWS settings: %s", clean(err.Error()))
	}
	return &IAM{credentials: cfg.Credentials, region: region, sdkRegion: cfg.Region, now: time.Now}, nil
}

// Name implements [sasl.Mechanism].
func (*IAM) Name() string { return "AWS_MSK_IAM" }

// Start implements [sasl.Mechanism]. The context has the broker's name ([sasl.WithMetadata]).
func (m *IAM) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	broker := sasl.MetadataFromContext(ctx)
	if broker == nil {
		return nil, nil, errors.New("AWS_MSK_IAM: the broker's name is not known")
	}
	region, err := m.regionOf(broker.Host)
	if err != nil {
		return nil, nil, err
	}
	credentials, err := m.retrieve(ctx)
	if err != nil {
		return nil, nil, err
	}
	first, err := m.sign(ctx, credentials, broker.Host, region)
	return iamSession{}, first, err
}

// retrieve returns the credentials. The SDK keeps them, and renews them before they end.
func (m *IAM) retrieve(ctx context.Context) (aws.Credentials, error) {
	credentials, err := m.credentials.Retrieve(ctx)
	if err != nil {
		return credentials, fmt.Errorf("the AWS SDK finds no credentials: give variables (AWS_ACCESS_KEY_ID), a profile or a role; it says: %s", clean(err.Error()))
	}
	return credentials, nil
}

// Probe looks for the credentials as a log-in does. It returns which part of the SDK has found them.
func (m *IAM) Probe(ctx context.Context) (string, error) {
	credentials, err := m.retrieve(ctx)
	return credentials.Source, err
}

// Advice returns what to look at if the broker refuses the log-in, as words that follow "see".
func (*IAM) Advice() string {
	return "the AWS credentials that Herald finds, whether their policy allows kafka-cluster:Connect, --kafka-aws-region and this machine's clock"
}

// regionInName matches the names of brokers of Amazon MSK: b-1.name.abc123.c2.kafka.eu-west-1.amazonaws.com, and
// kafka-serverless and kafka-beta in place of kafka.
var regionInName = regexp.MustCompile(`\.kafka(?:-[a-z]+)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|c2s\.ic\.gov|sc2s\.sgov\.gov)\.?$`)

// regionOf returns the region to sign for. The flag takes precedence over the broker's name, which has the region of the
// cluster. The last is the region in the SDK's settings, where Herald runs.
func (m *IAM) regionOf(host string) (string, error) {
	if m.region != "" {
		return m.region, nil
	}
	if found := regionInName.FindStringSubmatch(strings.ToLower(host)); found != nil {
		return found[1], nil
	}
	if m.sdkRegion != "" {
		return m.sdkRegion, nil
	}
	return "", fmt.Errorf("the name of the broker %s has no AWS region: give --kafka-aws-region", host)
}

// sign returns the message to the broker: a presigned URL, whose parts are in JSON.
func (m *IAM) sign(ctx context.Context, credentials aws.Credentials, host, region string) ([]byte, error) {
	query := url.Values{"Action": {iamService + ":Connect"}, "X-Amz-Expires": {iamLife}}
	request := &http.Request{
		Method: http.MethodGet, Host: host, Header: make(http.Header),
		URL: &url.URL{Scheme: "kafka", Host: host, Path: "/", RawQuery: query.Encode()},
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, noBody, iamService, region, m.now().UTC())
	if err != nil {
		return nil, fmt.Errorf("sign for AWS: %s", clean(err.Error()))
	}
	u, err := url.Parse(signed)
	if err != nil {
		return nil, errors.New("sign for AWS: the SDK's URL is wrong")
	}
	message := map[string]string{"version": iamVersion, "host": host, "user-agent": "herald"}
	for name, values := range u.Query() {
		message[strings.ToLower(name)] = values[0]
	}
	return json.Marshal(message)
}

// iamSession is one log-in.
type iamSession struct{}

// Next implements [sasl.StateMachine]. A broker that accepts the signature answers with a request id in JSON.
func (iamSession) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	if len(challenge) == 0 {
		return false, nil, errors.New("AWS_MSK_IAM: the broker's answer is empty")
	}
	return true, nil, nil
}
