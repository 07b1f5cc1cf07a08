package listener

import "testing"

func TestClash(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8081", false},
		{"127.0.0.1:8080", "127.0.0.2:8080", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":0", "0.0.0.0:0", false},
		{"0.0.0.0:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", ":8080", true},
		{"[::]:8080", "192.0.2.1:08080", true},
		{"[::1]:8080", "[0:0::1]:8080", true},
		{"localhost:8080", "127.0.0.1:8080", true},
		{"a.example:8080", "A.example:8080", true},
		{"a.example:8080", "b.example:8080", false},
		{"unix:/run/a", "unix:/run/../run/a", true},
		{"unix:/run/a", "unix:/run/b", false},
		{"unix:/run/a", "127.0.0.1:8080", false},
		{Systemd, Systemd, false}, // two sockets with two names
		{"nonsense", "nonsense", false},
	} {
		if got := Clash(test.a, test.b); got != test.want || Clash(test.b, test.a) != test.want {
			t.Errorf("%s and %s: %v, want %v", test.a, test.b, got, test.want)
		}
	}
}
