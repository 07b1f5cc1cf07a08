#!/bin/sh
# Runs after a removal (deb: remove, rpm: 0), after an upgrade (deb: upgrade, rpm: 1), and when the deb is purged.
# The removal of an rpm leaves the user: files that it owns could otherwise become files of another user.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl reset-failed herald.service herald.socket 2>/dev/null || true
	fi
	;;
purge)
	rm -rf /etc/herald /etc/default/herald
	if getent passwd herald >/dev/null; then
		userdel herald
	fi
	;;
esac
