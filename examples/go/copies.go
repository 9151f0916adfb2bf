// SPDX-License-Identifier: MIT OR Apache-2.0

// Copies tells which models copy their training set. The short audit; the same program is in every language of examples/.
//
//	go run . ../data/digits.npy
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sort"

	"mnemo"
)

const (
	samples    = 64
	neighbours = 500
	seed       = 1
)

var ctx = context.Background()

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal("copies: ", err)
	}
}

// firstRows are rows 0 … count - 1.
func firstRows(data *mnemo.Dataset, count, dim int) mnemo.Matrix[float64] {
	index := make([]int64, count)
	for i := range index {
		index[i] = int64(i)
	}
	rows := mnemo.NewMatrix[float64](count, dim)
	check(data.Gather(index, rows))
	return rows
}

// copyDistance is half the median distance between a row and its nearest other row: what is nearer than that is a copy.
func copyDistance(data *mnemo.Dataset, dim int) float64 {
	distance := mnemo.NewMatrix[float64](neighbours, 2)
	check(data.Nearest(ctx, firstRows(data, neighbours, dim), mnemo.MetricL2, 2, distance, nil))
	other := make([]float64, neighbours)
	for i := range other {
		other[i] = distance.Row(i)[1]
	}
	sort.Float64s(other)
	return other[neighbours/2] / 2
}

// gaussian is a model of our own: the Gaussian with the data's mean and mean variance.
type gaussian struct {
	mean     []float64
	variance float64
}

func fit(data *mnemo.Dataset, count, dim int) gaussian {
	g := gaussian{mean: make([]float64, dim)}
	rows := firstRows(data, count, dim)
	for i, value := range rows.Data {
		g.mean[i%dim] += value / float64(count)
	}
	for i, value := range rows.Data {
		off := value - g.mean[i%dim]
		g.variance += off * off / float64(count*dim)
	}
	return g
}

// denoise is E[y | x] = mean + v / (v + sigma^2) (x - mean), where sigma = t.
func (g gaussian) denoise(x mnemo.Matrix[float64], t []float64, out mnemo.Matrix[float64]) error {
	for i, sigma := range t {
		keep := g.variance / (g.variance + sigma*sigma)
		to := out.Row(i)
		for j, value := range x.Row(i) {
			to[j] = g.mean[j] + keep*(value-g.mean[j])
		}
	}
	return nil
}

// audit prints how near samples of a score, by EDM's sampler, come to the training rows. It closes the score.
func audit(name string, score *mnemo.Score, data *mnemo.Dataset, dim int, threshold float64) {
	defer score.Close()
	x := mnemo.NewMatrix[float64](samples, dim)
	check(score.Sample(ctx, x, mnemo.FromPrior(), mnemo.Seed(seed))) // Heun, Karras grid, 18 steps
	report := must(data.Memorization(ctx, x, threshold))
	fmt.Printf("%-15s %3d of %d %9.4f %9.4f %9.4f\n", name, report.Copied, samples, report.MinDistance,
		report.MedianDistance, report.MaxDistance)
}

func main() {
	log.SetFlags(0)
	path := "digits.npy"
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	machine := must(mnemo.NewContext())
	defer machine.Close()
	process := must(mnemo.NewVEPower(2, 1, 80)) // EDM: sigma(t) = t, up to 80
	defer process.Close()

	// The images as they are, then scaled to [-1, 1], which EDM's noise levels are meant for.
	raw := must(machine.OpenDataset(path))
	info := must(raw.Info())
	raw.Close()
	scale := 2 / (info.Max - info.Min)
	data := must(machine.OpenDataset(path, mnemo.Scale(scale), mnemo.Shift(-1-info.Min*scale)))
	defer data.Close()
	threshold := copyDistance(data, info.Dim)
	fmt.Printf("%d rows of %d values in [%.1f, %.1f], scaled to [-1, 1]\n", info.Rows, info.Dim, info.Min, info.Max)
	fmt.Printf("a copy is within %.4f of a training row\n\n", threshold)
	fmt.Printf("%-15s %9s %9s %9s %9s\n", "model", "copied", "nearest", "median", "farthest")

	audit("exact", must(data.NewEmpiricalScore(process)), data, info.Dim, threshold)
	for c := 0.01; c < 1; c *= 4 {
		score := must(data.NewEmpiricalScore(process, mnemo.Tikhonov(c)))
		audit(fmt.Sprintf("Tikhonov %.2f", c), score, data, info.Dim, threshold)
	}
	g := fit(data, info.Rows, info.Dim)
	model := mnemo.Model{Prediction: mnemo.PredictX0, Eval: g.denoise}
	audit("Gaussian", must(machine.NewCustomScore(process, info.Dim, model)), data, info.Dim, threshold)
}
