#!/usr/bin/env bash
# Compiles Herald on this machine and builds an image of the binary. It fetches no base image.
# Usage: deploy/build-binary-image.sh [TAG], default herald:latest. Needs Go and a Docker engine.
set -euo pipefail

tag=${1:-herald:latest}
deploy=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

certificates=/etc/ssl/certs/ca-certificates.crt
if [[ -r $certificates ]]; then
	install -D -m 0644 "$certificates" "$context/rootfs$certificates"
else
	echo "herald image: this machine has no $certificates: for TLS to Kafka, mount a CA file at this path in the container" >&2
fi
version=$(git -C "$deploy" describe --tags --always --dirty 2>/dev/null || echo unknown)
CGO_ENABLED=0 go -C "$deploy/.." build -trimpath -ldflags="-s -w -X main.version=$version" \
	-o "$context/rootfs/herald" ./cmd/herald
docker build --quiet --tag "$tag" --file "$deploy/Dockerfile.binary" "$context"
