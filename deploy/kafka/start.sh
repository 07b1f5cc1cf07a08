#!/bin/sh
# Starts one node of Apache Kafka 4.x inside a container. The node is a broker and a KRaft controller.
#
# The script works in the official apache/kafka image and in the local image that build.sh builds. Both have the
# jars in /opt/kafka/libs and a writable /var/lib/kafka/data. The script is for tests and for trying Herald out:
# by default, connections are plain text without authentication, and each internal topic has one replica.
#
# Listeners
#   9092   for clients outside the container network, advertised as $KAFKA_ADVERTISED
#   19092  for clients on the container network, advertised as $KAFKA_HOST:19092
#   9093   controller; open to other nodes only if KAFKA_VOTERS names them
#
# Environment
#   KAFKA_ADVERTISED   host:port at which outside clients reach port 9092. If it is unset, the script waits
#                      until the file $KAFKA_ADVERTISED_FILE (default /tmp/kafka-advertised) contains
#                      the address. The caller copies the file in when it knows the mapped port.
#   KAFKA_HOST         name of this container on its network; default: the container's hostname
#   KAFKA_DATA         data directory, default /var/lib/kafka/data
#   KAFKA_HEAP_OPTS    JVM heap flags, default -Xms256m -Xmx512m
#   KAFKA_NODE_ID      id of this node, default 1
#   KAFKA_VOTERS       all nodes of the cluster, as id@host:9093,...; default: this node only
#   KAFKA_RACK         rack of this broker; default: none
#   KAFKA_PROPERTIES   lines added to server.properties; they override the lines of this script
#   KAFKA_FORMAT       arguments added to the command that formats the data directory, such as
#                      --add-scram ...
set -eu

data=${KAFKA_DATA:-/var/lib/kafka/data}
advertised_file=${KAFKA_ADVERTISED_FILE:-/tmp/kafka-advertised}
config=/tmp/server.properties
logging=/tmp/log4j2.properties
cluster_id=aGVyYWxkLXRlc3Qta2Fma2

if [ -z "${KAFKA_ADVERTISED:-}" ]; then
	waited=0
	until [ -s "$advertised_file" ]; do
		if [ "$waited" -ge 600 ]; then
			echo "start.sh: no $advertised_file after 60 s: copy a file with host:port there, or set KAFKA_ADVERTISED" >&2
			exit 1
		fi
		waited=$((waited + 1))
		sleep 0.1
	done
	KAFKA_ADVERTISED=$(cat "$advertised_file")
fi

node=${KAFKA_NODE_ID:-1}
controller=${KAFKA_VOTERS:+:9093} # on all interfaces if there are other voters

cat >"$config" <<END
process.roles=broker,controller
node.id=$node
controller.quorum.voters=${KAFKA_VOTERS:-$node@localhost:9093}
listeners=EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://${controller:-localhost:9093}
advertised.listeners=EXTERNAL://$KAFKA_ADVERTISED,INTERNAL://${KAFKA_HOST:-$(hostname)}:19092
listener.security.protocol.map=EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
log.dirs=$data
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
${KAFKA_RACK:+broker.rack=$KAFKA_RACK}
${KAFKA_PROPERTIES:-}
END

cat >"$logging" <<END
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=stdout
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
END

log_flag=-Dlog4j2.configurationFile=$logging
if [ ! -f "$data/meta.properties" ]; then
	set -f # the brackets of --add-scram are not a file pattern
	# shellcheck disable=SC2086 # KAFKA_FORMAT is several words
	java -cp '/opt/kafka/libs/*' "$log_flag" kafka.tools.StorageTool format -t "$cluster_id" -c "$config" ${KAFKA_FORMAT:-}
	set +f
fi

# shellcheck disable=SC2086 # the heap options are several words
exec java ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} -XX:+ExitOnOutOfMemoryError \
	-cp '/opt/kafka/libs/*' "$log_flag" kafka.Kafka "$config"
