package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSessionsOfFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		run  runCommand
		want []string
	}{
		{"a transport with many clients", runCommand{Transport: []string{"sse"}}, []string{
			"direct sse 100 [1 10]", "direct sse 1000 [0.01 1 10] with cuts", "direct sse 10000 [1]",
		}},
		{"a transport with 1,000 clients", runCommand{Transport: []string{"ws-tls"}}, []string{"direct ws-tls 1000 [0.01 1 10]"}},
		{"slow polls", runCommand{Transport: []string{"poll-30s", "poll-30s-tls-new"}}, []string{
			"direct poll-30s 1000 [1]", "direct poll-30s-tls-new 1000 []",
		}},
		{"own numbers", runCommand{Transport: []string{"poll-30s"}, Clients: []int{5}, Rate: []float64{2, 9000}}, []string{"direct poll-30s 5 [2]"}},
		{"nginx", runCommand{Nginx: true}, []string{
			"nginx sse 100 [1]", "nginx ws 100 [1]", "nginx-upgrade ws 100 [1]", "nginx longpoll 100 [1]", "nginx poll-1s 100 [1]",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run.MaxRecords = 40_000
			list, err := test.run.sessions()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range list {
				text := fmt.Sprint(s.setting, " ", s.transport.name, " ", s.count, " ", s.rates)
				if s.cuts {
					text += " with cuts"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range []runCommand{{Transport: []string{"smoke"}}, {Transport: []string{"sse-tls"}, Nginx: true}} {
		if _, err := r.sessions(); err == nil {
			t.Errorf("%v: no error", r.Transport)
		}
	}
}
