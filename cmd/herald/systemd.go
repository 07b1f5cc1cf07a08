package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"herald/cmd/herald/server"
)

// superviseBySystemd reports the state of a server that listens to systemd, if systemd has started the process with
// Type=notify (sd_notify(3)): READY now, STOPPING when ctx ends, and, if the unit has WatchdogSec=, WATCHDOG while the
// server is alive. The caller calls stop when the server has stopped.
//
// READY does not wait for Kafka: the unit of a server would otherwise fail by its start time-out while Kafka is down,
// and systemd would restart it for nothing. /readyz says when the server is ready.
func superviseBySystemd(ctx context.Context, srv *server.Server, log *slog.Logger) (stop func()) {
	if !notifySystemd(log, daemon.SdNotifyReady) {
		return func() {}
	}
	forget := context.AfterFunc(ctx, func() { notifySystemd(log, daemon.SdNotifyStopping) })
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog has no notifications", "error", err)
	}
	ended := make(chan struct{})
	var watchdog sync.WaitGroup
	if limit > 0 {
		watchdog.Go(func() { feedWatchdog(srv, log, limit/2, ended) })
	}
	return func() {
		forget()
		close(ended)
		watchdog.Wait()
	}
}

// feedWatchdog sends WATCHDOG until ended is closed. If a lock of the server is never released, [server.Server.AwaitLocks]
// does not return, and systemd ends the process when WatchdogSec= has passed.
func feedWatchdog(srv *server.Server, log *slog.Logger, pause time.Duration, ended <-chan struct{}) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		srv.AwaitLocks()
		notifySystemd(log, daemon.SdNotifyWatchdog)
		select {
		case <-ticker.C:
		case <-ended:
			return
		}
	}
}

// reportReload reports to systemd that reload runs, so that systemctl status shows it, and that the service runs again.
// Type=notify-reload (systemd 253) needs the time of the beginning: it tells this reload from earlier ones.
func reportReload(log *slog.Logger, reload func()) {
	notifySystemd(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	reload()
	notifySystemd(log, daemon.SdNotifyReady)
}

// notifySystemd sends the state. It returns false if systemd does not expect notifications.
func notifySystemd(log *slog.Logger, state string) bool {
	sent, err := daemon.SdNotify(false, state)
	if err != nil {
		log.Warn("systemd not notified", "state", state, "error", err)
	}
	return sent || err != nil
}
