package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
)

// picture is one of the document's pictures.
type picture struct {
	name string
	alt  string // for people who do not see it
	draw func(comparison) (*chart, error)
}

var pictures = []picture{
	{
		"memory", "Memory of an idle client, by transport and number of clients",
		dots("Server memory of an idle client", "KiB a client", direct, memoryIdle),
	},
	{
		"cpu", "CPU of a client and second over the rate of its records, with rings where a transport costs as much as SSE",
		lines("Server CPU of a client", "µs of CPU a client and second", cpuCost, 0),
	},
	{
		"wire", "Bytes on the wire for each event, over the rate of a client's records",
		lines("Bytes on the wire", "bytes an event, both directions", wireCost, 60),
	},
	{
		"latency", "Time from the producer to the client, p50 and p99, by transport",
		dotsOf("From the producer to the client, 1 record a second and client, 1,000 clients", "ms", func(p point) bool {
			return p.setting == direct && p.clients == middle && p.rate == 1 && (p.measure == latencyP50 || p.measure == latencyP99)
		}),
	},
	{
		"chromium-cpu", "CPU of Chromium for a page with one connection, by transport",
		dots("CPU of Chromium for a page with one connection", "ms of CPU a minute", chromium, pageCPU),
	},
	{
		"chromium-memory", "Memory of Chromium for a page with one connection, by transport",
		dots("Memory of Chromium for a page with one connection", "MiB", chromium, pageMemory),
	},
}

// dots draws one measure.
func dots(title, axis string, where setting, m measure) func(comparison) (*chart, error) {
	return dotsOf(title, axis, func(p point) bool { return p.setting == where && p.measure == m })
}

// dotsOf draws a row for each transport, and in it a dot with its spread for each measure, number of clients and rate.
func dotsOf(title, axis string, accept func(point) bool) func(comparison) (*chart, error) {
	return func(c comparison) (*chart, error) {
		var series []point
		for p := range c {
			if accept(p) && !slices.Contains(series, without(p)) {
				series = append(series, without(p))
			}
		}
		slices.SortFunc(series, func(a, b point) int {
			return cmp.Or(cmp.Compare(a.measure, b.measure), cmp.Compare(a.clients, b.clients), cmp.Compare(a.rate, b.rate))
		})
		names := c.names(accept)
		if len(names) == 0 {
			return nil, nil
		}
		out := newDotChart(title, axis, names)
		for i, s := range series {
			var rows []int
			var figures []figure
			for row, name := range names {
				s.transport = name
				if f, ok := c.figure(s); ok && c.reached(s) {
					rows, figures = append(rows, row), append(figures, f.scaled(cmp.Or(scales[s.measure], 1)))
				}
			}
			if err := out.addDots(i, seriesName(s, series), rows, figures); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

func without(p point) point {
	p.transport = ""
	return p
}

// seriesName says in what the series differs from the others.
func seriesName(p point, all []point) (name string) {
	add := func(differs func(point) bool, text string) {
		if slices.ContainsFunc(all, differs) {
			if name != "" {
				name += ", "
			}
			name += text
		}
	}
	add(func(q point) bool { return q.measure != p.measure }, map[measure]string{latencyP50: "p50", latencyP99: "p99"}[p.measure])
	add(func(q point) bool { return q.clients != p.clients }, number(float64(p.clients))+" clients")
	add(func(q point) bool { return q.rate != p.rate }, rateText(p.rate))
	return name
}

// lineNames are the transports of the pictures over the rate.
var lineNames = []string{"sse", "ws", "longpoll", "poll-1s", "poll-5s", "poll-30s"}

// lowest is the left end of the axis of rates: a logarithmic axis has no 0.
const lowest = 0.001

// lines draws a cost over the rate. With perEvent, the cost is divided by perEvent and the rate. Between measured
// rates the curves are as in the table of the break-even, and rings mark its crossings with SSE.
func lines(title, axis string, of cost, perEvent float64) func(comparison) (*chart, error) {
	return func(c comparison) (*chart, error) {
		var out *chart
		base := c.median("sse", of)
		for i, name := range lineNames {
			u := c.median(name, of)
			if len(u.rates) < 2 {
				continue
			}
			if out == nil {
				out = newLineChart(title, "records a second and client (1,000 clients)", axis)
			}
			shown := func(rate float64) float64 {
				if perEvent > 0 {
					return u.at(rate) / (perEvent * rate)
				}
				return u.at(rate)
			}
			if err := out.addLine(i, name, samples(u.rates[len(u.rates)-1]), u.rates, shown); err != nil {
				return nil, err
			}
			if s, rate := breakEven(u, base); shown(rate) > 0 && (s == above || s == below) && rate > lowest {
				if err := out.addRing(rate, shown(rate)); err != nil {
					return nil, err
				}
			}
		}
		if out != nil && out.lines == 0 {
			return nil, nil
		}
		return out, nil
	}
}

// median returns the medians of a transport's costs.
func (c comparison) median(transport string, of cost) (out curve) {
	byRate := map[float64][]float64{}
	for _, run := range c.runs() {
		u := c.curve(run, transport, of)
		for i, rate := range u.rates {
			byRate[rate] = append(byRate[rate], u.costs[i])
		}
	}
	for rate := range byRate {
		out.rates = append(out.rates, rate)
	}
	slices.Sort(out.rates)
	for _, rate := range out.rates {
		f, _ := figureOf(byRate[rate])
		out.costs = append(out.costs, f.median)
	}
	return out
}

// samples returns rates from the lowest to the highest, evenly on a logarithmic axis.
func samples(highest float64) (rates []float64) {
	const steps = 80
	for i := range steps + 1 {
		rates = append(rates, lowest*math.Pow(highest/lowest, float64(i)/steps))
	}
	return rates
}

// drawPictures returns the pictures that the results have data for, as SVG, by name.
func drawPictures(c comparison) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, p := range pictures {
		drawn, err := p.draw(c)
		if err != nil {
			return nil, fmt.Errorf("picture %s: %w", p.name, err)
		}
		if drawn == nil {
			continue
		}
		var svg bytes.Buffer
		if err := drawn.write(&svg); err != nil {
			return nil, fmt.Errorf("picture %s: %w", p.name, err)
		}
		out[p.name] = svg.Bytes()
	}
	return out, nil
}
