#!/usr/bin/env bash
# Builds a local image of Apache Kafka from the jars on Maven Central and a minimal Debian, on machines that
# cannot reach an image registry. On other machines, use the image apache/kafka.
#
#   deploy/kafka/build.sh            builds herald/kafka:4.3.1; does nothing if the image exists
#   FORCE=1 deploy/kafka/build.sh    builds it even if it exists
#
# Environment
#   KAFKA_VERSION   version of Kafka, default 4.3.1; Maven Central must have kafka-tools in this version
#   KAFKA_IMAGE     tag of the image, default herald/kafka:$KAFKA_VERSION
#   DEBIAN_MIRROR   URL of the Debian mirror; default: debootstrap's default
#
# Needs root (debootstrap), a running Docker engine, debootstrap, mvn and a JDK.
set -euo pipefail

version=${KAFKA_VERSION:-4.3.1}
image=${KAFKA_IMAGE:-herald/kafka:$version}
here=$(cd "$(dirname "$0")" && pwd)

if [[ -z ${FORCE:-} ]] && docker image inspect "$image" >/dev/null 2>&1; then
	echo "kafka image: $image exists; nothing to build (FORCE=1 builds it again)"
	exit 0
fi
if [[ $(id -u) -ne 0 ]]; then
	echo "kafka image: debootstrap needs root: run this script with sudo" >&2
	exit 1
fi
for tool in docker debootstrap mvn; do
	if ! command -v "$tool" >/dev/null; then
		echo "kafka image: $tool is missing: apt-get install docker.io debootstrap maven default-jdk-headless" >&2
		exit 1
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

echo "kafka image: fetching the jars of Kafka $version"
cp "$here/pom.xml" "$work/pom.xml"
mvn --batch-mode --quiet -Dstyle.color=never --file "$work/pom.xml" -Dkafka.version="$version" \
	dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs"

echo "kafka image: installing a minimal Debian with a Java runtime"
debootstrap --variant=minbase --include=openjdk-17-jre-headless \
	bookworm "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" 2>&1 || {
	tail -n 30 "$work/debootstrap.log" >&2
	exit 1
}

mkdir -p "$root/opt/kafka" "$root/var/lib/kafka/data"
mv "$work/libs" "$root/opt/kafka/libs"
install -m 0755 "$here/start.sh" "$root/opt/kafka/start.sh"
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" \
	"$root/var/cache/apt" "$root/var/lib/apt/lists"
chown -R 1000:1000 "$root/var/lib/kafka"

tar --create --directory "$root" --numeric-owner . | docker import \
	--change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
	--change 'USER 1000:1000' \
	--change 'EXPOSE 9092 19092' \
	--change 'VOLUME /var/lib/kafka/data' \
	--change 'ENTRYPOINT ["/opt/kafka/start.sh"]' \
	--message "Apache Kafka $version" - "$image" >/dev/null
echo "kafka image: built $image"
