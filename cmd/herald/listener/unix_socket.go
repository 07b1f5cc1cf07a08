package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode is the mode of a Unix socket. The user and the group of the process may connect. The umask does not
// change it: with the usual umask of 022 nobody else could connect, not even a proxy in the same group.
const socketMode fs.FileMode = 0o660

// maxSocketPath is the length of the longest path of a socket, in bytes: 107 on Linux, 103 on macOS (unix(7), sun_path).
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

func checkUnixPath(address, path string) error {
	switch {
	case path == "":
		return fmt.Errorf("%s: name a file, such as unix:/run/herald/herald.sock", address)
	case path[0] == '@': // package net would make an abstract socket of it, which every user may connect to
		return fmt.Errorf("%s: a path must not begin with @", address)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%s: the path is longer than %d bytes, the most that the system allows for a socket", address, maxSocketPath)
	}
	return nil
}

// listenUnix listens on a Unix socket, which its Close removes. A socket that an earlier process has left behind is
// replaced if nobody listens on it. Processes that begin at once take turns: a socket that is bound and does not listen yet
// looks like one that was left behind.
func listenUnix(ctx context.Context, address, path string) (net.Listener, error) {
	defer lockDirectory(filepath.Dir(path))()
	config := net.ListenConfig{Control: setMode}
	l, err := config.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(ctx, address, path); err != nil {
			return nil, err
		}
		l, err = config.Listen(ctx, "unix", path)
	}
	if err == nil {
		err = os.Chmod(path, socketMode)
		if err == nil {
			return l, nil
		}
		_ = l.Close()
	}
	advice := "choose another path"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		advice = "create the directory " + filepath.Dir(path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = "choose a directory that this user may write to"
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "another process has just begun to listen there"
	}
	return nil, adviceOn(address, err, advice)
}

// removeStale removes a socket that nobody listens on. It returns an error if somebody does, or if the file is not a
// socket.
func removeStale(ctx context.Context, address, path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has just gone
	}
	if err == nil && file.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s: this file is not a socket: choose another path, or remove the file", address)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // also full, or not ours to connect to
		return fmt.Errorf("%s: %w: stop what listens there, or choose another path", address, syscall.EADDRINUSE)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return adviceOn(address, err, "remove the socket of an earlier process, or choose another path")
	}
	return nil
}
