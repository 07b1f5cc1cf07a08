#!/bin/sh
# Starts one Apache Kafka 4.x node (KRaft, broker and controller in one) inside a container.
#
# The same script serves the official apache/kafka image and the local image of build.sh: both
# keep their jars in /opt/kafka/libs and a writable /var/lib/kafka/data. It is for tests and
# try-outs: plain text, no authentication, every internal topic with one replica, unless the
# environment says otherwise.
#
# Listeners
#   9092   for clients outside the container network, advertised as $KAFKA_ADVERTISED
#   19092  for clients on the container network, advertised as $KAFKA_HOST:19092
#   9093   controller, this node only unless KAFKA_VOTERS names others
#
# Environment
#   KAFKA_ADVERTISED   host:port that outside clients must use for port 9092. Unset: wait for the
#                      file $KAFKA_ADVERTISED_FILE, which whoever learns the mapped port copies in.
#   KAFKA_HOST         name of this container on its network (default: the container's hostname)
#   KAFKA_DATA         data directory (default /var/lib/kafka/data)
#   KAFKA_HEAP_OPTS    JVM heap flags (default -Xms256m -Xmx512m)
#   KAFKA_NODE_ID      id of this node (default 1)
#   KAFKA_VOTERS       nodes of a cluster, as id@host:9093,... with this one (default: it is alone)
#   KAFKA_RACK         rack of this broker (default: none)
#   KAFKA_PROPERTIES   more lines for server.properties; they override those below
#   KAFKA_FORMAT       more words for the formatting of the data directory, such as --add-scram ...
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
controller=${KAFKA_VOTERS:+:9093} # all interfaces, if others vote

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
	set -f # the brackets of --add-scram are no pattern
	# shellcheck disable=SC2086 # KAFKA_FORMAT is several words
	java -cp '/opt/kafka/libs/*' "$log_flag" kafka.tools.StorageTool format -t "$cluster_id" -c "$config" ${KAFKA_FORMAT:-}
	set +f
fi

# shellcheck disable=SC2086 # the heap options are several words
exec java ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} -XX:+ExitOnOutOfMemoryError \
	-cp '/opt/kafka/libs/*' "$log_flag" kafka.Kafka "$config"
