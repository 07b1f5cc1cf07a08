#!/bin/sh
# Starts one node of Apache Kafka inside a container. From Kafka 3.3 on, the node is a broker and a KRaft controller.
# Before, the node is a broker, and the first node runs ZooKeeper too.
#
# The script works in the official apache/kafka image and in the local images that build.sh builds. They have the
# jars in /opt/kafka/libs and a writable /var/lib/kafka/data. The script is for tests and for trying Herald out:
# by default, connections are plain text without authentication, and each internal topic has one replica.
#
# Listeners
#   9092   for clients outside the container network, advertised as $KAFKA_ADVERTISED
#   19092  for clients on the container network, advertised as $KAFKA_HOST:19092
#   9093   controller; open to other nodes only if KAFKA_VOTERS names them
#   2181   ZooKeeper; open to other nodes only if KAFKA_VOTERS names them
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
#                      --add-scram ...; needs KRaft
set -eu

data=${KAFKA_DATA:-/var/lib/kafka/data}
advertised_file=${KAFKA_ADVERTISED_FILE:-/tmp/kafka-advertised}
config=/tmp/server.properties
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
voters=${KAFKA_VOTERS:-$node@localhost:9093}
for jar in /opt/kafka/libs/kafka-clients-*.jar; do
	version=${jar##*-}
done
case $version in
[12].* | 3.[012].*) mode=zookeeper ;;
*) mode=kraft ;;
esac

# Kafka before 4.0 logs by log4j 1 or reload4j, and from 4.0 on by log4j 2.
cat >/tmp/log4j2.properties <<END
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=stdout
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
END
cat >/tmp/log4j.properties <<END
log4j.rootLogger=WARN, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c{1})%n
log4j.logger.kafka.server.KafkaServer=INFO
log4j.logger.kafka.server.KafkaRaftServer=INFO
END

# The images of build.sh have an archive of the classes that a broker loads. With it, a JVM starts with half the CPU time.
archive=/opt/kafka/broker-classes.jsa

# run_java replaces the shell by a JVM with Kafka's jars.
run_java() {
	[ ! -f "$archive" ] || set -- "-XX:SharedArchiveFile=$archive" "$@"
	exec java -Dlog4j2.configurationFile=/tmp/log4j2.properties -Dlog4j.configuration=file:/tmp/log4j.properties \
		-cp '/opt/kafka/libs/*' "$@"
}

# configure_kraft writes the lines of a node that is a broker and a controller.
configure_kraft() {
	controller=${KAFKA_VOTERS:+:9093} # on all interfaces if there are other voters
	cat <<-END
		process.roles=broker,controller
		node.id=$node
		controller.quorum.voters=$voters
		controller.listener.names=CONTROLLER
		log.dirs=$data
		listeners=EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://${controller:-localhost:9093}
		# The default is 9 s, in which a busy machine may not run the broker. After kill -9, the broker returns
		# only when this time is over.
		broker.session.timeout.ms=18000
	END
}

# configure_zookeeper writes the lines of a broker that uses the ZooKeeper of the first node.
configure_zookeeper() {
	zookeeper=${voters%%:*} # id@host
	cat <<-END
		broker.id=$node
		zookeeper.connect=${zookeeper#*@}:2181
		zookeeper.connection.timeout.ms=60000
		zookeeper.session.timeout.ms=6000
		log.dirs=$data/log
		listeners=EXTERNAL://:9092,INTERNAL://:19092
	END
}

# start_zookeeper starts ZooKeeper in the background if this is the first node. A broker that was killed is still
# registered there until its session ends, and Kafka would refuse to start. So start_zookeeper deletes the registration.
start_zookeeper() {
	cat >/tmp/zookeeper.properties <<-END
		dataDir=$data/zookeeper
		clientPort=2181
		admin.enableServer=false
	END
	[ -n "${KAFKA_VOTERS:-}" ] || echo clientPortAddress=127.0.0.1 >>/tmp/zookeeper.properties
	again=
	[ ! -d "$data/log" ] || again=yes
	[ "${zookeeper%@*}" != "$node" ] ||
		(run_java -Xmx64m org.apache.zookeeper.server.quorum.QuorumPeerMain /tmp/zookeeper.properties) &
	until [ -z "$again" ] || zookeeper_shell | grep -q quota; do
		sleep 0.1
	done
}

# zookeeper_shell deletes what a killed broker has left in ZooKeeper. It prints quota if ZooKeeper answers.
zookeeper_shell() {
	{
		echo ls /zookeeper
		echo "delete /brokers/ids/$node"
		[ -n "${KAFKA_VOTERS:-}" ] || echo delete /controller # another node may be the controller
		echo quit
	} | (run_java -Xmx64m org.apache.zookeeper.ZooKeeperMain -server "${zookeeper#*@}:2181") 2>&1
}

# format_storage prepares the data directory of a KRaft node.
format_storage() {
	set -f # the brackets of --add-scram are not a file pattern
	# shellcheck disable=SC2086 # KAFKA_FORMAT is several words
	(run_java kafka.tools.StorageTool format -t "$cluster_id" -c "$config" ${KAFKA_FORMAT:-})
	set +f
}

"configure_$mode" >"$config"
cat >>"$config" <<END
advertised.listeners=EXTERNAL://$KAFKA_ADVERTISED,INTERNAL://${KAFKA_HOST:-$(hostname)}:19092
listener.security.protocol.map=EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
${KAFKA_RACK:+broker.rack=$KAFKA_RACK}
${KAFKA_PROPERTIES:-}
END

if [ "$mode" = zookeeper ]; then
	start_zookeeper
elif [ ! -f "$data/meta.properties" ]; then
	format_storage
fi

# shellcheck disable=SC2086 # the heap options are several words
run_java ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} -XX:+ExitOnOutOfMemoryError kafka.Kafka "$config"
