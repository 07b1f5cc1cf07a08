package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

var errNoDocker = errors.New("no docker engine")

// dockerAnswers returns [errNoDocker] if no engine answers. The library panics if it finds no
// address of an engine; dockerAnswers then returns errNoDocker too.
func dockerAnswers(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errNoDocker, r)
		}
	}()
	provider, err := testcontainers.ProviderDefault.GetProvider()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoDocker, err)
	}
	defer provider.Close() //nolint:errcheck // it has answered
	if err := provider.Health(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoDocker, err)
	}
	return nil
}

// containerLog returns what the container has printed.
func containerLog(c testcontainers.Container) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lines, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer lines.Close()
	text, err := io.ReadAll(lines)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// bindPort maps the container's port to the address, host:port, of this machine.
func bindPort(port, address string) testcontainers.ContainerCustomizer {
	to := netip.MustParseAddrPort(address)
	return testcontainers.WithHostConfigModifier(func(c *container.HostConfig) {
		if c.PortBindings == nil {
			c.PortBindings = network.PortMap{}
		}
		c.PortBindings[network.MustParsePort(port)] = []network.PortBinding{
			{HostIP: to.Addr(), HostPort: strconv.Itoa(int(to.Port()))},
		}
	})
}

// pullTimeout bounds the pull of an image of some hundred MB.
const pullTimeout = 5 * time.Minute

// errNoImage says that an image is not here and no registry gives it.
var errNoImage = errors.New("the image cannot be had")

// pull fetches the image unless it is present. The error is [errNoDocker] or [errNoImage]. The library's own pull
// would retry an unreachable registry until the test's deadline.
func pull(image string) error {
	ctx, cancel := context.WithTimeout(context.Background(), pullTimeout)
	defer cancel()
	if err := dockerAnswers(ctx); err != nil {
		return err
	}
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoDocker, err)
	}
	defer docker.Close() //nolint:errcheck // it has answered
	if _, err := docker.ImageInspect(ctx, image); err == nil {
		return nil
	}
	response, err := docker.ImagePull(ctx, image, client.ImagePullOptions{})
	if err == nil {
		err = response.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: pull %s: %w", errNoImage, image, err)
	}
	return nil
}
