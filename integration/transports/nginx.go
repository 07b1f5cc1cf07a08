package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// nginxProxy is an nginx in front of the server.
type nginxProxy struct {
	command *exec.Cmd
	address string
	dir     string
}

// nginxConfig has what nginx needs to run without root and to pass requests on, and no access log. Every other setting is
// nginx's default; worker_connections is Debian's.
const nginxConfig = `
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 768; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / {
			proxy_pass http://%[3]s;
			%[4]s
		}
	}
}
`

// upgradeConfig are the lines that nginx's manual gives for WebSocket.
const upgradeConfig = `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`

// startNginx starts nginx in its default configuration, or with the lines for WebSocket.
func startNginx(ctx context.Context, upstream string, upgrade bool) (p *nginxProxy, err error) {
	dir, err := os.MkdirTemp("", "transports-nginx")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	free, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p = &nginxProxy{address: free.Addr().String(), dir: dir}
	_ = free.Close()
	file, more := filepath.Join(dir, "nginx.conf"), ""
	if upgrade {
		more = upgradeConfig
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, p.address, upstream, more), 0o600); err != nil {
		return nil, err
	}
	p.command = exec.CommandContext(context.WithoutCancel(ctx), "nginx", "-c", file, "-p", dir, "-g", "daemon off;") //nolint:gosec // of this function
	p.command.Stderr = os.Stderr
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	for range 100 {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.address)
		if err == nil {
			_ = conn.Close()
			return p, nil
		}
		sleep(ctx, 50*time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("nginx does not listen on %s", p.address)
}

func (p *nginxProxy) stop() {
	_ = p.command.Process.Signal(os.Interrupt)
	_ = p.command.Wait()
	_ = os.RemoveAll(p.dir)
}
