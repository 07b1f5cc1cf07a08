package main

import (
	"bytes"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chart is a plot with its legend at the right, on white, so that it is readable on a dark page, too.
type chart struct {
	plot   *plot.Plot
	legend plot.Legend
	rows   int              // of a chart of dots
	lines  int              // of a chart of lines
	ring   *plotter.Scatter // the last ring, for the legend
}

// colors is the palette of Okabe and Ito, which people with any colour vision can distinguish.
var (
	colors = []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff},
		color.RGBA{0xd5, 0x5e, 0x00, 0xff},
		color.RGBA{0x00, 0x9e, 0x73, 0xff},
		color.RGBA{0xcc, 0x79, 0xa7, 0xff},
		color.RGBA{0xe6, 0x9f, 0x00, 0xff},
		color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	}
	shapes = []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.PlusGlyph{}, draw.CrossGlyph{},
	}
	grey = color.Gray{0xdd}
)

const (
	chartWidth   = 560
	legendWidth  = 110
	lineHeight   = 320
	rowHeight    = 19
	frameHeight  = 90 // title, axis and its labels
	marginAround = 10
)

func newChart(title, xAxis string) *chart {
	c := &chart{plot: plot.New(), legend: plot.NewLegend()}
	c.plot.Title.Text = title
	c.plot.Title.TextStyle.Font.Size = 13
	c.plot.Title.Padding = 8
	c.plot.X.Label.Text = xAxis
	for _, axis := range []*plot.Axis{&c.plot.X, &c.plot.Y} {
		axis.Label.TextStyle.Font.Size = 11
		axis.Tick.Label.Font.Size = 11
	}
	c.legend.TextStyle.Font.Size = 11
	c.legend.Top, c.legend.Left = true, true
	c.legend.ThumbnailWidth = 18
	c.legend.Padding = 2
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = grey, grey
	c.plot.Add(grid)
	return c
}

// newDotChart returns a chart with a row for each name, from the top.
func newDotChart(title, xAxis string, names []string) *chart {
	c := newChart(title, xAxis)
	c.rows = len(names)
	upward := slices.Clone(names)
	slices.Reverse(upward)
	c.plot.NominalY(upward...)
	c.plot.Y.Padding = 6
	c.plot.Y.Min, c.plot.Y.Max = -0.5, float64(len(names))-0.5
	return c
}

// newLineChart returns a chart with two logarithmic axes.
func newLineChart(title, xAxis, yAxis string) *chart {
	c := newChart(title, xAxis)
	c.plot.Y.Label.Text = yAxis
	logarithmic(&c.plot.X)
	logarithmic(&c.plot.Y)
	return c
}

// logarithmic makes an axis logarithmic. Its ticks have the texts of the tables.
func logarithmic(axis *plot.Axis) {
	axis.Scale = plot.LogScale{}
	axis.AutoRescale = true
	axis.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick {
		ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
		wide := high/low > 30 // else the powers of ten alone would label one tick or two
		for i, t := range ticks {
			if digit := t.Value / math.Pow(10, math.Floor(math.Log10(t.Value)+1e-9)); t.Label != "" || !wide && (math.Round(digit) == 2 || math.Round(digit) == 5) {
				ticks[i].Label = number(t.Value)
			}
		}
		return ticks
	})
}

// addDots adds a series: a dot at the median, and a line from the lowest to the highest value.
func (c *chart) addDots(i int, name string, rows []int, figures []figure) error {
	spread := struct {
		plotter.XYs
		plotter.XErrors
	}{make(plotter.XYs, len(rows)), make(plotter.XErrors, len(rows))}
	for k, f := range figures {
		spread.XYs[k] = plotter.XY{X: f.median, Y: float64(c.rows - 1 - rows[k])}
		spread.XErrors[k].Low, spread.XErrors[k].High = f.median-f.low, f.high-f.median
		if f.low <= 0 {
			c.plot.X.Min = 0
		}
	}
	bars, err := plotter.NewXErrorBars(spread)
	if err != nil {
		return err
	}
	scatter, err := plotter.NewScatter(spread.XYs)
	if err != nil {
		return err
	}
	bars.Color = colors[i%len(colors)]
	scatter.GlyphStyle = draw.GlyphStyle{Color: colors[i%len(colors)], Radius: 3.5, Shape: shapes[i%len(shapes)]}
	c.plot.Add(bars, scatter)
	if name != "" {
		c.legend.Add(name, scatter)
	}
	return nil
}

// addLine adds a curve through the rates, and glyphs at the measured rates above 0.
func (c *chart) addLine(i int, name string, rates, measured []float64, y func(float64) float64) error {
	values := func(rates []float64) (list plotter.XYs) {
		for _, rate := range rates {
			if rate > 0 && y(rate) > 0 {
				list = append(list, plotter.XY{X: rate, Y: y(rate)})
			}
		}
		return list
	}
	if len(values(rates)) == 0 {
		return nil // a logarithmic axis has no place for 0
	}
	line, err := plotter.NewLine(values(rates))
	if err != nil {
		return err
	}
	glyphs, err := plotter.NewScatter(values(measured))
	if err != nil {
		return err
	}
	line.Color, line.Width = colors[i%len(colors)], 1.4
	glyphs.GlyphStyle = draw.GlyphStyle{Color: colors[i%len(colors)], Radius: 3.5, Shape: shapes[i%len(shapes)]}
	c.plot.Add(line, glyphs)
	c.lines++
	c.legend.Add(name, line, glyphs)
	return nil
}

// addRing marks a break-even.
func (c *chart) addRing(x, y float64) error {
	ring, err := plotter.NewScatter(plotter.XYs{{X: x, Y: y}})
	if err != nil {
		return err
	}
	ring.GlyphStyle = draw.GlyphStyle{Color: color.Black, Radius: 6, Shape: draw.RingGlyph{}}
	c.plot.Add(ring)
	c.ring = ring
	return nil
}

// write writes the chart as SVG.
func (c *chart) write(w io.Writer) error {
	height := vg.Length(lineHeight)
	if c.rows > 0 {
		height = vg.Length(frameHeight + rowHeight*c.rows)
		if c.plot.X.Min > 0 && c.plot.X.Max/c.plot.X.Min > 10 {
			logarithmic(&c.plot.X)
		} else {
			c.plot.X.Min = min(0, c.plot.X.Min)
		}
	}
	if c.lines > 0 && c.plot.Y.Min == c.plot.Y.Max { // plot would subtract 1, and a logarithmic axis begins above 0
		c.plot.Y.Min, c.plot.Y.Max = c.plot.Y.Min/2, c.plot.Y.Max*2
	}
	if c.ring != nil {
		c.legend.Add("as much as sse", c.ring)
	}
	canvas := vgsvg.New(chartWidth, height)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Path())
	inner := draw.Crop(all, marginAround, -marginAround, marginAround, -marginAround)
	c.plot.Draw(draw.Crop(inner, 0, -legendWidth, 0, 0))
	c.legend.Draw(draw.Crop(inner, chartWidth-legendWidth-marginAround, 0, 0, -30))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Readers without the font of the measurements see one of the same widths.
	_, err := w.Write(bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Serif"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")))
	return err
}
