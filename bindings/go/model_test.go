// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"math"
	"testing"

	"mnemo"
)

// gaussian is the model of data N(mean, width^2 I), whose every prediction is known.
type gaussian struct {
	process    *mnemo.Process
	prediction mnemo.Prediction
	mean       []float64
	width      float64
	calls      int
}

func newGaussian(p *mnemo.Process, prediction mnemo.Prediction) *gaussian {
	return &gaussian{process: p, prediction: prediction, mean: []float64{1, -0.5}, width: 0.6}
}

// score is s = (m mean - x) / (m^2 width^2 + sigma^2); without the mean its derivative along x.
func (g *gaussian) score(x, mean, m, sigma float64) float64 {
	return (m*mean - x) / (m*m*g.width*g.width + sigma*sigma)
}

func (g *gaussian) of(s, eps, clean, m, sigma float64) float64 {
	switch g.prediction {
	case mnemo.PredictScore:
		return s
	case mnemo.PredictEps:
		return eps
	case mnemo.PredictX0:
		return clean
	case mnemo.PredictV:
		return m*eps - sigma*clean
	default:
		return eps - clean
	}
}

// predict writes the prediction, which is linear in x and s: at a tangent, with the score's derivative, its derivative.
func predict[T mnemo.Float](g *gaussian, x mnemo.Matrix[T], t []float64, out mnemo.Matrix[T], mean []float64) error {
	g.calls++
	at, err := g.process.Eval(t...) // callbacks may call the library
	if err != nil {
		return err
	}
	for i := range t {
		m, sigma := at.M[i], at.Sigma[i]
		for j := range x.Row(i) {
			value := float64(x.Row(i)[j])
			s := g.score(value, mean[j], m, sigma)
			eps, clean := -sigma*s, (value+sigma*sigma*s)/m
			out.Row(i)[j] = T(g.of(s, eps, clean, m, sigma))
		}
	}
	return nil
}

func evalOf[T mnemo.Float](g *gaussian) func(mnemo.Matrix[T], []float64, mnemo.Matrix[T]) error {
	return func(x mnemo.Matrix[T], t []float64, out mnemo.Matrix[T]) error { return predict(g, x, t, out, g.mean) }
}

func jvpOf[T mnemo.Float](g *gaussian) func(mnemo.Matrix[T], []float64, mnemo.Matrix[T], mnemo.Matrix[T]) error {
	return func(_ mnemo.Matrix[T], t []float64, v, out mnemo.Matrix[T]) error {
		return predict(g, v, t, out, make([]float64, len(g.mean)))
	}
}

// Score, denoised value and derivative of all predictions: of models for both element types and for one of them.
func TestPredictions(t *testing.T) {
	p := must(mnemo.NewVPLinear(0.1, 20, 1))(t)
	defer p.Close()
	for _, prediction := range []mnemo.Prediction{
		mnemo.PredictScore, mnemo.PredictEps, mnemo.PredictX0, mnemo.PredictV, mnemo.PredictFlow,
	} {
		g := newGaussian(p, prediction)
		wide := mnemo.Model{Prediction: prediction, Eval: evalOf[float64](g), JVP: jvpOf[float64](g)}
		narrow := mnemo.Model{Prediction: prediction, Eval32: evalOf[float32](g), JVP32: jvpOf[float32](g)}
		both := wide
		both.Eval32, both.JVP32 = narrow.Eval32, narrow.JVP32
		testPrediction[float64](t, g, wide, 1e-12)
		testPrediction[float64](t, g, narrow, 2e-4)
		testPrediction[float64](t, g, both, 1e-12)
		testPrediction[float32](t, g, wide, 1e-5)
		testPrediction[float32](t, g, narrow, 2e-4)
		testPrediction[float32](t, g, both, 2e-4)
	}
}

func testPrediction[T mnemo.Float](t *testing.T, g *gaussian, model mnemo.Model, tolerance float64) {
	t.Helper()
	score := custom(t, g.process, 2, model)
	x, v := apart(normal[T](1, 3, 2), 1), apart(normal[T](2, 3, 2), 2)
	times := []float64{0.1, 0.5, 0.8}
	at := must(g.process.Eval(times...))(t)
	s, denoised, jvp := mnemo.NewMatrix[T](3, 2), mnemo.NewMatrix[T](3, 2), mnemo.NewMatrix[T](3, 2)
	g.calls = 0
	check(t, score.Eval(ctx, x, mnemo.Vector(times...), mnemo.Outputs{Score: s, Denoised: denoised}))
	if g.calls != 1 {
		t.Errorf("%d evaluations; expected one for the batch and both outputs", g.calls)
	}
	check(t, score.JVP(ctx, x, mnemo.Vector(times...), v, jvp))
	for i := range times {
		m, sigma := at.M[i], at.Sigma[i]
		for j := range g.mean {
			value := float64(x.Row(i)[j])
			want := g.score(value, g.mean[j], m, sigma)
			near(t, "score", float64(s.Row(i)[j]), want, tolerance)
			near(t, "denoised", float64(denoised.Row(i)[j]), (value+sigma*sigma*want)/m, tolerance/m)
			near(t, "jvp", float64(jvp.Row(i)[j]), g.score(float64(v.Row(i)[j]), 0, m, sigma), tolerance)
		}
	}
	entropy := mnemo.Outputs{Entropy: mnemo.NewMatrix[float64](3, 1)}
	fails(t, score.Eval(ctx, x, mnemo.Vector(times...), entropy), mnemo.ErrUnsupported, "entropy")
}

func TestModelErrors(t *testing.T) {
	c, p := newContext(t), edm(t)
	zero := func(x mnemo.Matrix[float64], _ []float64, out mnemo.Matrix[float64]) error { return nil }
	zero32 := func(x mnemo.Matrix[float32], _ []float64, out mnemo.Matrix[float32]) error { return nil }
	for _, refused := range []struct {
		dim   int
		model mnemo.Model
		word  string
	}{
		{2, mnemo.Model{}, "eval"},
		{0, mnemo.Model{Eval: zero}, "dim"},
		{-1, mnemo.Model{Eval: zero}, "dim"},
		{2, mnemo.Model{Eval: zero, Prediction: 99}, "99"},
	} {
		_, err := c.NewCustomScore(p, refused.dim, refused.model)
		fails(t, err, mnemo.ErrInvalid, refused.word)
	}
	x, at := mnemo.NewMatrix[float64](3, 2), mnemo.Vector(1.0)
	fails(t, custom(t, p, 2, mnemo.Model{Eval: zero}).JVP(ctx, x, at, x, x), mnemo.ErrUnsupported, "jvp")

	bad := func(value float64) mnemo.Model {
		return mnemo.Model{Eval: func(_ mnemo.Matrix[float64], _ []float64, out mnemo.Matrix[float64]) error {
			out.Row(1)[1] = value
			return nil
		}}
	}
	out, out32 := mnemo.NewMatrix[float64](3, 2), mnemo.NewMatrix[float32](3, 2)
	fails(t, custom(t, p, 2, bad(math.NaN())).Eval(ctx, x, at, mnemo.Outputs{Score: out}), mnemo.ErrCallback, "row 1, column 1")
	check(t, custom(t, p, 2, bad(1e60)).Eval(ctx, x, at, mnemo.Outputs{Score: out}))
	fails(t, custom(t, p, 2, bad(1e60)).Eval(ctx, out32, at, mnemo.Outputs{Score: out32}), mnemo.ErrCallback, "row 1, column 1")
	x.Row(2)[0] = 1e60
	err := custom(t, p, 2, mnemo.Model{Eval32: zero32}).Eval(ctx, x, at, mnemo.Outputs{Score: out})
	fails(t, err, mnemo.ErrCallback, "beyond the range of float32")
	fails(t, err, mnemo.ErrCallback, "MNEMO_E_UNSUPPORTED")

	// An empty batch, whether or not the model is asked about it.
	empty := mnemo.NewMatrix[float64](0, 2)
	check(t, custom(t, p, 2, mnemo.Model{Eval32: zero32}).Eval(ctx, empty, at, mnemo.Outputs{Score: empty}))
}

// through is the model that asks another score.
func through(inner *mnemo.Score) mnemo.Model {
	return mnemo.Model{Eval: func(x mnemo.Matrix[float64], times []float64, out mnemo.Matrix[float64]) error {
		return inner.Eval(ctx, x, mnemo.Vector(times...), mnemo.Outputs{Score: out})
	}}
}

// A model that evaluates another score, which evaluates a third, on the same goroutine.
func TestNestedModels(t *testing.T) {
	p := edm(t)
	data := newDataset(t, newContext(t), normal[float64](1, 20, 2), nil)
	exact := empirical(t, data, p)
	inner := custom(t, p, 2, through(exact))
	outer := custom(t, p, 2, through(custom(t, p, 2, through(inner))))
	direct, nested := normal[float64](2, 6, 2), normal[float64](2, 6, 2)
	check(t, inner.Sample(ctx, direct))
	check(t, outer.Sample(ctx, nested))
	if !same(direct.Data, nested.Data) {
		t.Error("through three models the samples differ")
	}
	fails(t, outer.Eval(ctx, mnemo.NewMatrix[float64](1, 3), mnemo.Vector(1.0), mnemo.Outputs{}), mnemo.ErrShape)
	// The innermost failure is seen from outside.
	failing := custom(t, p, 2, through(custom(t, p, 3, through(exact))))
	err := failing.Eval(ctx, direct, mnemo.Vector(1.0), mnemo.Outputs{Score: nested})
	fails(t, err, mnemo.ErrCallback, "columns", "MNEMO_E_SHAPE")
}
