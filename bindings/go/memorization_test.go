// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"math"
	"sort"
	"testing"

	"mnemo"
)

type neighbour struct {
	distance float64
	index    int64
}

// The nearest rows of queries in both element types against a sort of all distances.
func TestNearest(t *testing.T) {
	testNearest[float64](t, 1e-12)
	testNearest[float32](t, 1e-5)
}

func testNearest[T mnemo.Float](t *testing.T, tolerance float64) {
	t.Helper()
	data, queries := normal[float64](1, 60, 4), apart(normal[T](2, 7, 4), 2)
	d := newDataset(t, newContext(t), data, nil)
	const k = 5
	distance, index := apart(mnemo.NewMatrix[T](7, k), 1), mnemo.NewMatrix[int64](7, k)
	check(t, d.Nearest(ctx, queries, mnemo.MetricL2, k, distance, index))
	gapsUntouched(t, distance)
	only, which := mnemo.NewMatrix[float64](7, k), mnemo.NewMatrix[int64](7, k)
	check(t, d.Nearest(ctx, queries, mnemo.MetricL2, k, only, nil))
	check(t, d.Nearest(ctx, queries, mnemo.MetricL2, k, nil, which))
	check(t, d.Nearest(ctx, queries, mnemo.MetricL2, k, nil, nil))
	if !same(which.Data, index.Data) {
		t.Error("the indices depend on what else is asked for")
	}
	for i := 0; i < 7; i++ {
		var rows []neighbour
		for n := 0; n < data.Rows; n++ {
			var square float64
			for j, y := range data.Row(n) {
				square += (float64(queries.Row(i)[j]) - y) * (float64(queries.Row(i)[j]) - y)
			}
			rows = append(rows, neighbour{math.Sqrt(square), int64(n)})
		}
		sort.Slice(rows, func(a, b int) bool { return rows[a].distance < rows[b].distance })
		for j := 0; j < k; j++ {
			near(t, "a distance", float64(distance.Row(i)[j]), rows[j].distance, tolerance)
			near(t, "a distance alone", only.Row(i)[j], rows[j].distance, 1e-12)
			if index.Row(i)[j] != rows[j].index {
				t.Errorf("query %d: row %d is at place %d; expected %d", i, index.Row(i)[j], j, rows[j].index)
			}
		}
	}
}

// The nearest rows by direction; a row of zeros has none.
func TestNearestCosine(t *testing.T) {
	data := mnemo.Matrix[float64]{Data: []float64{0, 0, 3, 4, -6, -8, 4, 3}, Rows: 4, Cols: 2}
	distance, index := mnemo.NewMatrix[float64](1, 4), mnemo.NewMatrix[int64](1, 4)
	d := newDataset(t, newContext(t), data, nil)
	query := mnemo.Matrix[float64]{Data: []float64{300, 400}, Rows: 1, Cols: 2}
	check(t, d.Nearest(ctx, query, mnemo.MetricCosine, 4, distance, index))
	if !same(index.Data, []int64{1, 3, 0, 2}) {
		t.Errorf("the rows are %v", index.Data)
	}
	for i, expected := range []float64{0, 0.04, 1, 2} {
		near(t, "a cosine distance", distance.Data[i], expected, 1e-14)
	}
}

func TestMemorization(t *testing.T) {
	d := newDataset(t, newContext(t), mnemo.Vector[float64](0, 10, 20), nil)
	for _, x := range []mnemo.Tensor{mnemo.Vector[float64](0.5, 9, 13, 20), mnemo.Vector[float32](0.5, 9, 13, 20)} {
		got := must(d.Memorization(ctx, x, 1, mnemo.Progress(func(_, _ int) error { return nil })))(t)
		want := mnemo.MemorizationReport{
			Samples: 4, Copied: 3, FractionCopied: 0.75, MinDistance: 0, MedianDistance: 0.75, MaxDistance: 3,
		}
		if got != want {
			t.Errorf("the report is %+v; expected %+v", got, want)
		}
	}
	for _, threshold := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		report, err := d.Memorization(ctx, mnemo.Vector(1.0), threshold)
		fails(t, err, mnemo.ErrInvalid, "threshold")
		if report != (mnemo.MemorizationReport{}) {
			t.Error("an error and a report")
		}
	}
	_, err := d.Memorization(ctx, nil, 1)
	fails(t, err, mnemo.ErrInvalid, "generated")
	_, err = d.Memorization(ctx, mnemo.NewMatrix[float64](0, 1), 1)
	fails(t, err, mnemo.ErrInvalid)
	_, err = d.Memorization(ctx, mnemo.Matrix[float64]{Rows: 1, Cols: 1}, 1)
	fails(t, err, mnemo.ErrShape, "generated")
}

func TestNearestErrors(t *testing.T) {
	d := newDataset(t, newContext(t), normal[float64](1, 5, 2), nil)
	q, out := normal[float64](1, 3, 2), mnemo.NewMatrix[float64](3, 2)
	fails(t, d.Nearest(ctx, q, mnemo.MetricL2, 0, nil, nil), mnemo.ErrInvalid, "k")
	fails(t, d.Nearest(ctx, q, mnemo.MetricL2, 6, nil, nil), mnemo.ErrInvalid, "k")
	fails(t, d.Nearest(ctx, q, mnemo.Metric(9), 2, out, nil), mnemo.ErrInvalid, "metric")
	fails(t, d.Nearest(ctx, mnemo.NewMatrix[float64](3, 2), mnemo.MetricCosine, 2, out, nil), mnemo.ErrInvalid, "row 0")
	fails(t, d.Nearest(ctx, nil, mnemo.MetricL2, 2, out, nil), mnemo.ErrInvalid, "queries")
	fails(t, d.Nearest(ctx, normal[float64](1, 3, 3), mnemo.MetricL2, 2, out, nil), mnemo.ErrShape, "queries")
	fails(t, d.Nearest(ctx, q, mnemo.MetricL2, 3, out, nil), mnemo.ErrShape, "distance")
	fails(t, d.Nearest(ctx, q, mnemo.MetricL2, 2, nil, out), mnemo.ErrDType, "index")
	none := mnemo.Matrix[float64]{Rows: 3, Cols: 2}
	fails(t, d.Nearest(ctx, q, mnemo.MetricL2, 2, none, nil), mnemo.ErrShape, "distance: 0 elements")
	check(t, d.Nearest(ctx, mnemo.NewMatrix[float64](0, 2), mnemo.MetricL2, 2, mnemo.NewMatrix[float64](0, 2), nil))
}
