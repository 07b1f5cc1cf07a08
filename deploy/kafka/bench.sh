#!/usr/bin/env bash
# Starts an Apache Kafka broker, runs a command with the broker's address in HERALD_BENCH_BROKER, and removes
# the broker. The broker has the garbage collector options that Kafka's documentation recommends. The command
# reaches the broker at the container's address, because connections to a published port go through Docker's
# proxy, and the benchmark would measure the proxy too.
#
#   deploy/kafka/bench.sh go test -run '^$' -bench Drain ./consumer
#
# Environment
#   HERALD_KAFKA_IMAGE  default herald/kafka:4.3.1
#   KAFKA_MEMORY        heap of the broker; default 6g
#
# Needs a Docker engine on this machine.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
memory=${KAFKA_MEMORY:-6g}
# shellcheck disable=SC2016 # the container asks for its own address
container=$(docker create --entrypoint sh --volume "$here/start.sh:/kafka-start.sh:ro" \
	--env KAFKA_HEAP_OPTS="-Xms$memory -Xmx$memory -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35" \
	"${HERALD_KAFKA_IMAGE:-herald/kafka:4.3.1}" -c 'KAFKA_ADVERTISED=$(hostname -i):9092 exec sh /kafka-start.sh')
trap 'docker rm --force --volumes "$container" >/dev/null' EXIT
docker start "$container" >/dev/null
host=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container")

for ((waited = 0; ; waited++)); do
	if (: <>"/dev/tcp/$host/9092") 2>/dev/null; then
		break
	fi
	if ((waited == 120)) || [[ $(docker inspect --format '{{.State.Running}}' "$container") != true ]]; then
		docker logs --tail 30 "$container" >&2
		echo "bench.sh: Kafka accepts no connection: look at its log above, and check that this machine has memory for KAFKA_MEMORY=$memory" >&2
		exit 1
	fi
	sleep 1
done
HERALD_BENCH_BROKER=$host:9092 "$@"
