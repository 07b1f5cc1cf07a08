#!/usr/bin/env bash
# Installs, uses and removes the packages of a release in a Debian whose PID 1 is systemd, in a container.
# Usage: deploy/package/check.sh DIRECTORY, with the files that deploy/release.sh has made. Needs a Docker engine; the
# first run also needs root and debootstrap, to build the image herald/systemd:bookworm.
set -euo pipefail
release=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
image=herald/systemd:bookworm
arch=$(dpkg --print-architecture)

if ! docker image inspect "$image" >/dev/null 2>&1; then
	echo "check: building $image"
	root=$(mktemp -d)
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,ca-certificates,rpm bookworm "$root" \
		${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$root.log" 2>&1 || { tail -n 30 "$root.log" >&2; exit 1; }
	tar --create --directory "$root" --numeric-owner . | docker import \
		--change 'ENV container=docker' --change 'ENTRYPOINT ["/lib/systemd/systemd"]' - "$image" >/dev/null
	rm -rf "$root" "$root.log"
fi

# Not --privileged, which Docker refuses on a machine that lacks any right. systemd needs SYS_ADMIN to mount, and SYS_PTRACE to
# see processes of ProtectProc=invisible.
container=$(docker run --detach --cap-add SYS_ADMIN --cap-add SYS_PTRACE --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
	--security-opt systempaths=unconfined --cgroupns=private --tmpfs /run --tmpfs /tmp --stop-signal SIGRTMIN+3 "$image")
trap 'docker rm --force "$container" >/dev/null' EXIT
case $arch in
amd64) rpm_arch=x86_64 ;;
arm64) rpm_arch=aarch64 ;;
*) echo "check: no package for $arch" >&2; exit 1 ;;
esac
docker exec "$container" mkdir /packages
docker cp "$(compgen -G "$release/*_$arch.deb")" "$container:/packages/herald.deb" >/dev/null
docker cp "$(compgen -G "$release/*.$rpm_arch.rpm")" "$container:/packages/herald.rpm" >/dev/null
docker exec --interactive "$container" bash -s <"$here/check-inside.sh"
