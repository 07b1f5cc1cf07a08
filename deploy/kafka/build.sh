#!/usr/bin/env bash
# Builds local images of Apache Kafka from the jars on Maven Central and a minimal Debian, on machines that cannot
# reach an image registry. On other machines, use the image apache/kafka. The images share the Debian.
#
#   deploy/kafka/build.sh                builds herald/kafka:4.3.1; does nothing if the image exists
#   deploy/kafka/build.sh 2.7.2 3.9.1    builds herald/kafka:2.7.2 and herald/kafka:3.9.1
#   FORCE=1 deploy/kafka/build.sh        builds it even if it exists
#
# The image has Java 17. Kafka 2.7.2 runs on it; 2.1.1 does not, because its ZooKeeper client cannot connect there
# (ZOOKEEPER-3779).
#
# Environment
#   DEBIAN_MIRROR   URL of the Debian mirror; default: debootstrap's default
#
# Needs root (debootstrap), a running Docker engine, debootstrap, mvn and a JDK.
set -euo pipefail

base=herald/kafka-base:bookworm # Debian with a Java runtime
here=$(cd "$(dirname "$0")" && pwd)
(($#)) || set -- 4.3.1

exists() { [[ -z ${FORCE:-} ]] && docker image inspect "$1" >/dev/null 2>&1; }

versions=()
for version; do
	if exists "herald/kafka:$version"; then
		echo "kafka image: herald/kafka:$version exists; nothing to build (FORCE=1 builds it again)"
	else
		versions+=("$version")
	fi
done
((${#versions[@]})) || exit 0
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

# build_base builds the image that all versions begin with.
build_base() {
	local root=$work/root
	debootstrap --variant=minbase --include=openjdk-17-jre-headless \
		bookworm "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" 2>&1 || {
		tail -n 30 "$work/debootstrap.log" >&2
		return 1
	}
	mkdir -p "$root/opt/kafka" "$root/var/lib/kafka/data"
	rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" \
		"$root/var/cache/apt" "$root/var/lib/apt/lists"
	chown -R 1000:1000 "$root/var/lib/kafka"
	tar --create --directory "$root" --numeric-owner . | docker import \
		--change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		--change 'USER 1000:1000' \
		--change 'EXPOSE 9092 19092' \
		--change 'VOLUME /var/lib/kafka/data' \
		--change 'ENTRYPOINT ["/opt/kafka/start.sh"]' \
		--message 'Debian with a Java runtime' - "$base" >/dev/null
}

# fetch_jars fetches the jars of all versions into $work/jars/VERSION/libs, in one run of Maven.
fetch_jars() {
	local version modules=
	for version in "${versions[@]}"; do
		mkdir -p "$work/jars/$version"
		sed "s/KAFKA_VERSION/$version/g" "$here/pom.xml" >"$work/jars/$version/pom.xml"
		modules+="<module>$version</module>"
	done
	cat >"$work/jars/pom.xml" <<-END
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>herald</groupId>
		  <artifactId>kafka-images</artifactId>
		  <version>1</version>
		  <packaging>pom</packaging>
		  <modules>$modules</modules>
		</project>
	END
	mvn --batch-mode --quiet -Dstyle.color=never --threads "${#versions[@]}" --file "$work/jars/pom.xml" \
		dependency:copy-dependencies -DincludeScope=runtime
	for version in "${versions[@]}"; do
		mv "$work/jars/$version/target/dependency" "$work/jars/$version/libs"
		case $version in # older versions bring a logging backend of their own
		[123].*) rm "$work/jars/$version"/libs/log4j-{api,core,slf4j-impl}-*.jar ;;
		esac
	done
}

# archive_classes starts a broker of the version and puts the classes that it has loaded into an archive in the image (JEP
# 350).
archive_classes() {
	local image=herald/kafka:$1 archive=broker-classes.jsa container waited=0
	container=$(docker run --detach --env KAFKA_ADVERTISED=localhost:9092 \
		--env KAFKA_HEAP_OPTS="-Xmx512m -XX:ArchiveClassesAtExit=/tmp/$archive" "$image")
	until docker logs "$container" 2>&1 | grep -q ' started (Kafka'; do
		if ((waited++ == 240)); then
			docker logs --tail 30 "$container" >&2
			echo "kafka image: the broker does not start: look at its log above" >&2
			return 1
		fi
		sleep 0.5
	done
	docker stop -t 120 "$container" >/dev/null
	docker cp --quiet "$container:/tmp/$archive" "$work/$archive"
	docker rm --volumes "$container" >/dev/null
	container=$(docker create "$image")
	docker cp --quiet "$work/$archive" "$container:/opt/kafka/$archive"
	docker commit --message "classes of Apache Kafka $1" "$container" "$image" >/dev/null
	docker rm --volumes "$container" >/dev/null
}

# Debian and the jars come from different servers, so they are fetched at the same time.
debian=
if exists "$base"; then
	echo "kafka image: $base exists"
else
	echo "kafka image: installing a minimal Debian with a Java runtime"
	build_base &
	debian=$!
fi
echo "kafka image: fetching the jars of Kafka ${versions[*]}"
fetch_jars
[[ -z $debian ]] || wait "$debian"

for version in "${versions[@]}"; do
	install -m 0755 "$here/start.sh" "$work/jars/$version/start.sh"
	container=$(docker create "$base")
	docker cp --quiet "$work/jars/$version/libs" "$container:/opt/kafka/libs"
	docker cp --quiet "$work/jars/$version/start.sh" "$container:/opt/kafka/start.sh"
	docker commit --message "Apache Kafka $version" "$container" "herald/kafka:$version" >/dev/null
	docker rm --volumes "$container" >/dev/null
	archive_classes "$version"
	echo "kafka image: built herald/kafka:$version"
done
