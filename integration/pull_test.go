package integration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// pullTimeout bounds the pull of an image of some hundred MB.
const pullTimeout = 5 * time.Minute

// errNoImage says that an image is not here and no registry gives it.
var errNoImage = errors.New("the image cannot be had")

// pull fetches the image unless it is here. The error is [errNoDocker] or [errNoImage]. The
// library's own pull tries a registry that is away until its time is up.
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
