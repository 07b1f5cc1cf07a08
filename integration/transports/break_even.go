package main

import (
	"math"
	"slices"
	"strings"
	"time"
)

// cost is something that a client costs.
type cost struct {
	name string
	idle measure
	busy measure // while records arrive
}

// The costs of a client that the break-even compares.
var (
	memoryCost = cost{"memory", memoryIdle, memoryAfter}
	cpuCost    = cost{"CPU", cpuServer, cpuServer}
	wireCost   = cost{"wire", wireMinute, wireMinute}
)

// streams are the transports that polling is compared with.
var streams = []string{"sse", "sse-nethttp", "ws"}

// curve is what one transport costs at each rate, in one run.
type curve struct{ rates, costs []float64 }

// curve returns the costs of a transport in a run, at the rates that the transport reaches.
func (c comparison) curve(run int, transport string, of cost) (out curve) {
	p := point{direct, transport, middle, 0, of.idle}
	if v, ok := c[p][run]; ok {
		out = curve{[]float64{0}, []float64{v}}
	}
	for _, rate := range c.rates(direct, middle, of.busy) {
		p.rate, p.measure = rate, of.busy
		v, ok := c[p][run]
		if rate == 0 || !ok || !c.reached(p) {
			continue
		}
		out.rates, out.costs = append(out.rates, rate), append(out.costs, v)
	}
	return out
}

// at returns the cost at a rate.
func (u curve) at(rate float64) float64 {
	return interpolate(u.rates, u.costs, rate)
}

// side is where polling costs less than a stream.
type side string

const (
	unknown side = ""
	never   side = "nowhere"
	always  side = "everywhere"
	above   side = "above "
	below   side = "below "
	several side = "changes several times"
)

// breakEven returns the side on which polling costs less, and the rate of the border. It looks at the rates that
// both have.
func breakEven(poll, stream curve) (s side, rate float64) {
	var rates, less []float64 // less < 0: polling costs less
	for i, r := range poll.rates {
		if j := slices.Index(stream.rates, r); j >= 0 {
			rates, less = append(rates, r), append(less, poll.costs[i]-stream.costs[j])
		}
	}
	if len(rates) < 2 {
		return unknown, 0
	}
	s = never
	if less[0] < 0 {
		s = always
	}
	for i := 1; i < len(rates); i++ {
		if (less[i-1] < 0) == (less[i] < 0) {
			continue
		}
		if s == above || s == below {
			return several, 0
		}
		s, rate = above, crossing(rates[i-1], less[i-1], rates[i], less[i])
		if less[i-1] < 0 {
			s = below
		}
	}
	return s, rate
}

// breakEvenCell returns the break-even of all runs. Runs that disagree about the side mean that both cost the same
// within the spread.
func (c comparison) breakEvenCell(poll, stream string, of cost) string {
	var sides []side
	var rates []float64
	for _, run := range c.runs() {
		s, rate := breakEven(c.curve(run, poll, of), c.curve(run, stream, of))
		if s == unknown {
			continue
		}
		if sides = append(sides, s); s != sides[0] {
			return "= within the spread"
		}
		rates = append(rates, rate)
	}
	if len(sides) == 0 {
		return ""
	}
	if sides[0] != above && sides[0] != below {
		return string(sides[0])
	}
	f, _ := figureOf(rates)
	return string(sides[0]) + eachText(f, pace)
}

// eachText returns median and spread as texts.
func eachText(f figure, text func(float64) string) string {
	if text(f.low) == text(f.high) {
		return text(f.median)
	}
	return text(f.median) + " (" + text(f.low) + " – " + text(f.high) + ")"
}

// pace returns a rate as a reader imagines it: some records a second, or one record in some time.
func pace(rate float64) string {
	if rate >= 1 {
		return number(rate) + "/s"
	}
	return "one in " + span(1/rate)
}

// span returns a time in its largest unit, by two digits.
func span(seconds float64) string {
	switch {
	case seconds < 100:
		return twoDigits(seconds) + " s"
	case seconds < 100*60:
		return twoDigits(seconds/60) + " min"
	}
	return twoDigits(seconds/3600) + " h"
}

func twoDigits(v float64) string {
	unit := math.Pow(10, math.Floor(math.Log10(v))-1)
	return number(math.Round(v/unit) * unit)
}

// longestInterval is after how many seconds Herald closes a connection without requests. Polls with more time between them
// need new connections, and cost more.
const longestInterval = 150

// interval returns how long the time between two polls must be for polling to cost what a stream costs at a rate, in
// seconds. Between two measured intervals, the cost is a straight line over the number of polls a second. Beyond the longest,
// interval looks at idle clients only, and each poll costs as much as one of the longest interval; at other rates, interval
// returns +Inf.
func (c comparison) interval(run int, stream string, of cost, rate float64) (seconds float64, ok bool) {
	target := c.curve(run, stream, of)
	if !slices.Contains(target.rates, rate) {
		return 0, false
	}
	var polls, values []float64
	for _, every := range []string{"poll-30s", "poll-5s", "poll-1s"} {
		u := c.curve(run, every, of)
		if t, err := transportOf(every); err == nil && slices.Contains(u.rates, rate) {
			polls, values = append(polls, float64(time.Second)/float64(t.every)), append(values, u.at(rate))
		}
	}
	if len(polls) < 3 {
		return 0, false
	}
	want := target.at(rate)
	if want >= values[len(values)-1] {
		return 1, true
	}
	for i := len(polls) - 1; i > 0; i-- {
		if values[i-1] <= want {
			return 1 / crossing(polls[i-1], values[i-1]-want, polls[i], values[i]-want), true
		}
	}
	if rate > 0 || want <= 0 {
		return math.Inf(1), true
	}
	return values[0] / (want * polls[0]), true
}

// intervalCell returns the interval of all runs.
func (c comparison) intervalCell(stream string, of cost, rate float64) string {
	var all []float64
	for _, run := range c.runs() {
		if seconds, ok := c.interval(run, stream, of, rate); ok {
			all = append(all, seconds)
		}
	}
	f, ok := figureOf(all)
	if !ok {
		return ""
	}
	return eachText(f, func(v float64) string {
		switch {
		case math.IsInf(v, 1):
			return "more than 30 s"
		case v > longestInterval:
			return "more than " + span(longestInterval)
		case v <= 1:
			return "1 s or less"
		}
		return span(v)
	})
}

// breakEvenMarkdown returns the table of the rates from which polling costs less than a stream.
func breakEvenMarkdown(c comparison) string {
	head, costs := []string{"", "against"}, []cost{memoryCost, cpuCost, wireCost}
	for _, of := range costs {
		head = append(head, of.name)
	}
	rows := [][]string{head}
	for _, t := range transports {
		for _, stream := range streams {
			row := []string{"`" + t.name + "`", "`" + stream + "`"}
			for _, of := range costs {
				row = append(row, c.breakEvenCell(t.name, stream, of))
			}
			if t.protocol == poll && strings.Join(row[2:], "") != "" {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) == 1 {
		return notMeasured
	}
	return markdownRows(rows)
}

// intervalMarkdown returns the table of the times between two polls with which polling costs as much as a stream.
func intervalMarkdown(c comparison) string {
	head, rows := []string{"records", "against"}, [][]string{nil}
	costs := []cost{cpuCost, wireCost} // memory hardly depends on the interval
	for _, of := range costs {
		head = append(head, of.name)
	}
	rows[0] = head
	for _, rate := range c.rates(direct, middle, cpuServer) {
		for _, stream := range streams {
			row := []string{rateText(rate), "`" + stream + "`"}
			for _, of := range costs {
				row = append(row, c.intervalCell(stream, of, rate))
			}
			if strings.Join(row[2:], "") != "" {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) == 1 {
		return notMeasured
	}
	return markdownRows(rows)
}
