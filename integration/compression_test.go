package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// requireLanguages is the environment variable that makes a missing Node.js a failure.
const requireLanguages = "HERALD_REQUIRE_LANGUAGES"

// compressingProxy is a proxy of Node.js with the middleware of npm that most front ends for development have. Its
// arguments are its own port, Herald's address, and the header Cache-Control that replaces Herald's; "": none does.
const compressingProxy = `
const load = require("node:module").createRequire(process.cwd() + "/../stream/client/package.json");
const http = require("node:http"), compress = load("compression")();
const [port, upstream, cacheControl] = process.argv.slice(1);
http.createServer((req, res) => compress(req, res, () => {
	const { method, url, headers } = req;
	const asked = http.request("http://" + upstream + url, { method, headers: { ...headers, "accept-encoding": "identity" } }, (answer) => {
		res.writeHead(answer.statusCode, cacheControl ? { ...answer.headers, "cache-control": cacheControl } : answer.headers);
		answer.pipe(res);
	});
	req.pipe(asked);
	res.on("close", () => asked.destroy());
})).listen(port, "127.0.0.1");
`

// TestCompressingProxy reads a stream through a proxy that compresses. With Herald's Cache-Control the events arrive at
// once. Without no-transform they would not, or the proxy would not test anything.
func TestCompressingProxy(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		notTested(t, requireLanguages, "no node: a proxy that compresses is not tested")
	}
	if _, err := os.Stat("../stream/client/node_modules/compression"); err != nil {
		notTested(t, requireLanguages, "no packages of npm: a proxy that compresses is not tested; run npm ci in stream/client")
	}
	b := sharedBroker(t)
	h := startHerald(t, b, "--topic="+b.newTopic(t, "shared", 1))
	for name, test := range map[string]struct {
		cacheControl string
		arrives      bool
	}{
		"Herald's header":      {"", true},
		"without no-transform": {"no-store", false},
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			_, port, _ := strings.Cut(address, ":")
			startProxy(t, address, node, "-e", compressingProxy, port, h.public, test.cacheControl)
			limit := 30 * time.Second
			if !test.arrives {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := readCheckpoint(ctx, "http://"+address+"/events?user=alice"); (err == nil) != test.arrives {
				t.Errorf("the first event within %v: %v, want it: %v", limit, err, test.arrives)
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// readCheckpoint opens a stream as browsers do, which take compressed answers, and reads its first event.
func readCheckpoint(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request) // takes and reads gzip
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var read []byte
	for piece := make([]byte, 4<<10); !strings.Contains(string(read), "event: checkpoint"); {
		n, err := response.Body.Read(piece)
		read = append(read, piece[:n]...)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}
