#!/bin/sh
# Runs before a removal (deb: remove, rpm: 0) and before an upgrade (deb: upgrade, rpm: 1).
set -e
case "$1" in
remove | 0)
	systemctl --no-reload disable herald.service herald.socket || true
	if [ -d /run/systemd/system ]; then
		systemctl stop herald.socket herald.service || true
	fi
	;;
esac
