# check.sh runs this in its container: each line that it prints is something that a user of the packages has seen to work.
set -Eeuo pipefail # so grep in a pipe must read to the end: no --quiet there
secret=/etc/herald/jwt-secret
base=http://127.0.0.1:8080

fail() {
	echo "FAILED: $*" >&2
	journalctl --unit herald --no-pager --lines 40 --output cat >&2 || true
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
passed() { echo "ok: $*"; }
# await SECONDS COMMAND…: runs the command until it succeeds
await() {
	local end=$((SECONDS + $1))
	until "${@:2}" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "${*:2}: not within $1 s"
		sleep 0.2
	done
}
is() { [[ $(systemctl show --property "$1" --value herald) == "$2" ]] || fail "$1=$(systemctl show --property "$1" --value herald), want $2"; }
pid() { systemctl show --property MainPID --value herald; }
# status TOKEN: the status of a request for a stream
status() { curl --silent --head --output /dev/null --write-out "%{http_code}" --max-time 5 --header "Authorization: Bearer $1" $base/events; }
ready() { curl --silent --fail --output /dev/null http://127.0.0.1:8081/readyz; }
metric() { curl --silent http://127.0.0.1:8081/metrics | grep --line-regexp "$1" >/dev/null; }
token() { /tmp/herald token --jwt-secret-file "$1" --user alice; }
produce() { /tmp/herald produce --brokers 127.0.0.1:9092 --topic notifications --user alice "$1" >/dev/null; }
# rotate FILE: what an operator does with a new secret
rotate() { install -m 640 -o root -g herald "$1" "$secret"; }
# follow TOKEN: opens a stream into /tmp/stream
follow() {
	curl --silent --no-buffer --header "Authorization: Bearer $1" $base/events >/tmp/stream &
	stream=$!
	await 20 grep --quiet 'event: checkpoint' /tmp/stream
}
# files lists all files but those that any installation changes: logs, databases of packages, backups of passwd
files() {
	find / \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg \
		-o -path /var/lib/rpm -o -path /root/.rpmdb -o -path /var/lib/systemd -o -path /var/tmp \) -prune -o ! -name '*-' ! -name .pwd.lock -print | sort
}
configure() {
	printf '%s\n' 'brokers: [127.0.0.1:9092]' 'topic: [notifications]' "jwt-secret-file: $secret" >>/etc/herald/herald.yaml
	rotate /tmp/secret-1
}

await 60 systemctl is-system-running
dpkg-deb --fsys-tarfile /packages/herald.deb | tar -xO ./usr/bin/herald >/tmp/herald && chmod +x /tmp/herald
mount -o remount,exec /tmp 2>/dev/null || true
systemd-run --quiet --unit broker /tmp/herald dev --listen 127.0.0.1:9080 --admin-listen 127.0.0.1:9081 --topic notifications
/tmp/herald token --new-secret /tmp/secret-1
/tmp/herald token --new-secret /tmp/secret-2
files >/tmp/before

dpkg --install /packages/herald.deb >/tmp/log 2>&1 || { cat /tmp/log; fail dpkg; }
[[ $(systemctl is-active herald) == inactive && $(systemctl is-enabled herald) == disabled ]] || fail 'the installation starts or enables Herald'
[[ $(stat --format '%U:%G %a' /etc/herald /etc/herald/herald.yaml | paste --serial --delimiters ,) == 'root:herald 750,root:herald 640' ]] || fail 'owners'
bash -n /usr/share/bash-completion/completions/herald && zcat /usr/share/man/man1/herald.1.gz | grep '^.TH HERALD' >/dev/null
passed 'deb installed, nothing started, settings are for root and the group herald'

configure
runuser -u herald -- herald check --connect --config /etc/herald/herald.yaml >/tmp/log 2>&1 || { cat /tmp/log; fail 'herald check'; }
systemctl --quiet enable --now herald || fail 'systemctl enable --now'
await 30 ready
[[ $(stat --format %U "/proc/$(pid)") == herald ]] || fail 'the user of the process'
is NRestarts 0
is WatchdogUSec 30s
passed '/readyz is 200, the process is of the user herald'

old=$(token /tmp/secret-1) new=$(token /tmp/secret-2) before=$(pid)
follow "$old"
produce 'before the reload'
await 20 grep --quiet 'before the reload' /tmp/stream
rotate /tmp/secret-2
systemctl reload herald
await 10 metric 'herald_config_last_reload_successful 1'
await 10 eval '[[ $(status "$new") == 200 ]]'
[[ $(status "$old") == 401 ]] || fail "the old secret's token: $(status "$old")"
produce 'after the reload'
await 20 grep --quiet 'after the reload' /tmp/stream
[[ $(pid) == "$before" ]] && kill -0 "$stream" || fail 'the process or the stream is another one'
passed 'systemctl reload: a rotated secret is in use, the stream of before is open'

echo short >$secret
systemctl reload herald
await 10 metric 'herald_config_last_reload_successful 0'
is ActiveState active
is SubState running
[[ $(status "$new") == 200 ]] || fail 'a broken file changes the key in use'
rotate /tmp/secret-2
systemctl reload herald
await 10 metric 'herald_config_last_reload_successful 1'
passed 'a reload of a broken secret changes nothing'

systemctl stop herald
wait "$stream" || fail 'the stream was cut'
tail --lines 6 /tmp/stream | grep draining >/dev/null || { tail --lines 6 /tmp/stream; fail 'no end with draining'; }
is Result success
is ExecMainStatus 0
passed 'systemctl stop: the stream got its end with draining'

mkdir -p /run/systemd/system/herald.service.d
printf '[Service]\nWatchdogSec=4s\n' >/run/systemd/system/herald.service.d/watchdog.conf
systemctl daemon-reload
systemctl start herald
await 30 ready
sleep 6
is NRestarts 0
kill -STOP "$(pid)"
await 40 eval '[[ $(systemctl show --property NRestarts --value herald) == 1 ]]'
await 30 ready
[[ $(journalctl --unit herald --no-pager --output cat) == *'Watchdog timeout'*'goroutine '* ]] || fail 'no watchdog, or no stacks of goroutines, in the journal'
rm -r /run/systemd/system/herald.service.d
systemctl daemon-reload
passed 'the watchdog lets a live process be, and restarts a stopped one; the journal has its goroutines'

before=$(pid)
dpkg --install /packages/herald.deb >/tmp/log 2>&1 || { cat /tmp/log; fail 'dpkg, again'; }
await 30 ready
[[ $(pid) != "$before" ]] && grep --quiet '^brokers' /etc/herald/herald.yaml || fail 'the upgrade leaves the old process or replaces the settings'
passed 'an upgrade restarts the service and keeps the settings'

dpkg --remove herald >/tmp/log 2>&1 || { cat /tmp/log; fail 'dpkg --remove'; }
[[ $(systemctl is-active herald) == inactive && -e /etc/herald/herald.yaml && ! -e /usr/bin/herald ]] || fail 'after the removal'
dpkg --purge herald >/tmp/log 2>&1 || { cat /tmp/log; fail 'dpkg --purge'; }
files | diff /tmp/before - || fail 'purge leaves files'
! getent passwd herald && ! getent group herald || fail 'purge leaves the user or the group'
! systemctl cat herald >/dev/null 2>&1 || fail 'purge leaves the unit'
passed 'removed and purged: no file, no user, no unit'

rpm --install --nodeps /packages/herald.rpm >/tmp/log 2>&1 || { cat /tmp/log; fail 'rpm --install'; } # its database has no systemd
[[ $(systemctl is-active herald) == inactive && $(stat --format '%U:%G %a' /etc/herald) == 'root:herald 750' ]] || fail 'after rpm --install'
configure
systemctl --quiet enable --now herald
await 30 ready
before=$(pid)
rpm --upgrade --nodeps --replacepkgs /packages/herald.rpm >/tmp/log 2>&1 || { cat /tmp/log; fail 'rpm --upgrade'; }
await 30 ready
[[ $(pid) != "$before" && $(stat --format '%U:%G %a' /etc/herald/herald.yaml) == 'root:herald 640' ]] || fail 'after rpm --upgrade'
rpm --erase herald >/tmp/log 2>&1 || { cat /tmp/log; fail 'rpm --erase'; }
[[ $(systemctl is-active herald) == inactive && ! -e /usr/bin/herald && ! -e /usr/lib/systemd/system/herald.service ]] || fail 'after rpm --erase'
passed 'rpm installed, started, upgraded and erased (in Debian, without its dependencies)'
