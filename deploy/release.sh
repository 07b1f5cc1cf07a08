#!/usr/bin/env bash
# Makes the files of a release in a directory: for Linux and macOS on amd64 and arm64 an archive and its bill of
# materials (CycloneDX); for Linux also a deb and an rpm; the Helm chart; and SHA256SUMS. Two runs at one commit make the same bytes.
# Usage: deploy/release.sh DIRECTORY. Needs Go, git and GNU tar; go fetches the tools of deploy/tools/go.mod.
set -euo pipefail
export LC_ALL=C TZ=UTC CGO_ENABLED=0
umask 022

mkdir -p "$1"
out=$(cd "$1" && pwd)
[[ -z $(ls -A "$out") ]] || { echo "release: $out is not empty" >&2; exit 1; }
cd "$(dirname "$0")/.."
version=$(git describe --tags --always --dirty)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
COMMIT_TIME=$(date -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
export SOURCE_DATE_EPOCH # which nfpm takes, too

# Packages want a version that begins with a digit. 0~DATE.HASH of a commit before the first tag is older than any release.
PACKAGE_VERSION=${version#v}
[[ $version =~ ^v[0-9] ]] || PACKAGE_VERSION="0~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$version"
PACKAGE_VERSION=$(sed -E 's/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/; s/-dirty$/+dirty/; s/-/~/g' <<<"$PACKAGE_VERSION")
export PACKAGE_VERSION

tool() { go tool -modfile=deploy/tools/go.mod "$@"; }
build() { GOOS=$1 GOARCH=$2 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$3" ./cmd/herald; }
# archive FILE NAME…: packs files of the work directory, without what differs between two machines
archive() {
	tar --create --directory "$work" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner \
		--mtime="@$SOURCE_DATE_EPOCH" "${@:2}" | gzip -9n >"$1"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

common=$work/common
mkdir -p "$common/completions" "$work/doc"
build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "$work/herald"
"$work/herald" man >"$common/herald.1"
"$work/herald" completion bash >"$common/completions/herald.bash"
"$work/herald" completion fish >"$common/completions/herald.fish"
"$work/herald" completion zsh >"$common/completions/_herald"
cp LICENSE README.md CHANGELOG.md "$common"
gzip -9nc "$common/herald.1" >"$work/herald.1.gz"
git ls-files -- '*.md' deploy/monitoring deploy/proxies | while read -r file; do
	install -D -m 0644 "$file" "$work/doc/$file"
done
find "$work/doc" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	export ARCH=${platform#*/}
	name=herald_${version}_${platform%/*}_$ARCH
	root=$work/$name
	cp -r "$common" "$root"
	build "${platform%/*}" "$ARCH" "$root/herald"
	tool cyclonedx-gomod bin -json -noserial -version "$version" -output "$work/sbom" "$root/herald" 2>"$work/log" ||
		{ cat "$work/log" >&2; exit 1; }
	sed "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$COMMIT_TIME\"/" "$work/sbom" >"$out/$name.cdx.json"
	archive "$out/$name.tar.gz" "$name"
	[[ $platform == linux/* ]] || continue
	cp "$work/herald.1.gz" "$root"
	cp -r "$work/doc" "$root/doc"
	for packager in deb rpm; do
		ROOT=$root tool nfpm package --config deploy/package/nfpm.yaml --packager "$packager" --target "$out" >"$work/log" 2>&1 ||
			{ cat "$work/log" >&2; exit 1; }
	done
done

# What helm package does, but without the time. The version of a chart has three numbers (SemVer).
chart_version=${version#v}
[[ $version =~ ^v[0-9] ]] || chart_version=0.0.0-g$version
git ls-files deploy/chart ':!deploy/chart/ci' | while read -r file; do
	install -D -m 0644 "$file" "$work/chart/herald/${file#deploy/chart/}"
done
sed -i -E "s/^(version|appVersion): .*/\\1: $chart_version/" "$work/chart/herald/Chart.yaml"
archive "$out/herald-$chart_version.tgz" --directory chart herald
(cd "$out" && sha256sum -- * >SHA256SUMS)
