#!/bin/sh
# Runs after an installation and after an upgrade, of the deb and of the rpm.
set -e
systemd-sysusers herald.conf
# The service reads what root writes, and nobody else does. rpm gives the group back to root at each upgrade.
chgrp herald /etc/herald /etc/herald/herald.yaml
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# An upgrade replaces the running program. Nothing starts a service that does not run: it has no settings yet.
	systemctl try-restart herald.service || true
fi
