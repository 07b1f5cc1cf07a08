package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"herald/auth"
)

// TestSlowBodiesLeaveRoom has a publisher begin as many bodies as the server takes, and end none. Another publisher
// must have room meanwhile, and the first one again when the bodies are given up.
func TestSlowBodiesLeaveRoom(t *testing.T) {
	s := startSecured(t, func(cfg *Config) { cfg.PublishRate = 0 })
	header := func(user string) string {
		return "POST /users/bob/notifications HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nAuthorization: Bearer " +
			s.token(t, auth.Identity{User: user, Publish: true}) + "\r\n"
	}
	slow := header("slow") + "Transfer-Encoding: chunked\r\n\r\n"
	taken, answers := 0, make(map[string]int)
	var conns []net.Conn
	for range maxBodies / DefaultConfig().PublishMaxBytes {
		conn := dial(t, s.Addr().String())
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, slow); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		answers[line]++
		if strings.HasPrefix(line, "HTTP/1.1 100 ") { // the server has reserved the memory and asks for the body
			taken++
		}
	}
	if taken != 17 { // a quarter of 64 MiB, and one
		t.Errorf("%d bodies of one publisher were taken, want 17: %v", taken, answers)
	}
	publish := func(user string) int {
		status, _, _ := send(t, http.MethodPost, s.url+"/users/bob/notifications", "hello", bearer(s.token(t, auth.Identity{User: user, Publish: true})))
		return status
	}
	if got := publish("other"); got != http.StatusCreated {
		t.Errorf("another publisher gets %d, want %d", got, http.StatusCreated)
	}
	if got := publish("slow"); got != http.StatusServiceUnavailable {
		t.Errorf("the slow publisher gets %d, want %d", got, http.StatusServiceUnavailable)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	await(t, "status of the slow publisher", http.StatusCreated, func() int { return publish("slow") })
}
