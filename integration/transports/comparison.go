package main

import (
	"cmp"
	"math"
	"slices"
)

// point is what one figure stands for: a result without its run and its value.
type point struct {
	setting   setting
	transport string
	clients   int
	rate      float64
	measure   measure
}

// comparison is all results: of each point, the value of each run.
type comparison map[point]map[int]float64

// newComparison orders results. If a run has a point twice, the later value counts: somebody has repeated a session.
func newComparison(list []result) comparison {
	c := comparison{}
	for _, r := range list {
		p := point{r.Setting, r.Transport, r.Clients, r.Rate, r.Measure}
		if c[p] == nil {
			c[p] = map[int]float64{}
		}
		c[p][r.Run] = r.Value
	}
	return c
}

// runs returns the numbers of all runs in order.
func (c comparison) runs() (list []int) {
	for _, values := range c {
		for run := range values {
			if !slices.Contains(list, run) {
				list = append(list, run)
			}
		}
	}
	slices.Sort(list)
	return list
}

// figure is the values of several runs.
type figure struct{ low, median, high float64 }

// figure returns the figure of a point. It reports false if no run has measured the point.
func (c comparison) figure(p point) (figure, bool) {
	var values []float64
	for _, v := range c[p] {
		values = append(values, v)
	}
	return figureOf(values)
}

func figureOf(values []float64) (figure, bool) {
	n := len(values)
	if n == 0 {
		return figure{}, false
	}
	slices.Sort(values)
	return figure{values[0], (values[(n-1)/2] + values[n/2]) / 2, values[n-1]}, true
}

// equals reports whether the spreads of two figures overlap, so that the difference may be noise.
func (f figure) equals(other figure) bool {
	return f.low <= other.high && other.low <= f.high
}

// scaled returns the figure in a unit that is the given number of times as large.
func (f figure) scaled(unit float64) figure {
	return figure{f.low / unit, f.median / unit, f.high / unit}
}

// sustained is the part of the records due in a window that must have arrived for the rate to count as reached.
const sustained = 0.9

// reached reports whether a transport keeps up with a rate: it has delivered the records of this rate and of all lower ones.
func (c comparison) reached(p point) bool {
	for _, rate := range c.rates(p.setting, p.clients, delivered) {
		f, ok := c.figure(point{p.setting, p.transport, p.clients, rate, delivered})
		if ok && rate <= p.rate && f.median < sustained {
			return false
		}
	}
	return true
}

// rates returns the rates at which a measure was taken with a number of clients, in order.
func (c comparison) rates(s setting, clients int, m measure) (list []float64) {
	for p := range c {
		if p.setting == s && p.clients == clients && p.measure == m && !slices.Contains(list, p.rate) {
			list = append(list, p.rate)
		}
	}
	slices.Sort(list)
	return list
}

// names returns the names of the transports of which the function accepts a point. The transports of the table come first,
// in its order. Other names follow, such as pages that only the browser has.
func (c comparison) names(accept func(point) bool) (list []string) {
	for p := range c {
		if accept(p) && !slices.Contains(list, p.transport) {
			list = append(list, p.transport)
		}
	}
	order := transportNames()
	slices.SortFunc(list, func(a, b string) int {
		// uint makes -1, not in the table, the largest number.
		return cmp.Or(cmp.Compare(uint(slices.Index(order, a)), uint(slices.Index(order, b))), cmp.Compare(a, b))
	})
	return list
}

// interpolate returns the value at x of the polygon through the points (xs, ys), whose xs ascend. Beyond the ends, it
// continues the first and the last segment.
func interpolate(xs, ys []float64, x float64) float64 {
	if len(xs) == 1 {
		return ys[0]
	}
	i := 1
	for i < len(xs)-1 && x > xs[i] {
		i++
	}
	return ys[i-1] + (ys[i]-ys[i-1])*(x-xs[i-1])/(xs[i]-xs[i-1])
}

// crossing returns where the segment from (x1, d1) to (x2, d2) is 0. d1 and d2 have different signs.
func crossing(x1, d1, x2, d2 float64) float64 {
	return x1 + (x2-x1)*math.Abs(d1)/(math.Abs(d1)+math.Abs(d2))
}
