// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"math"
	"testing"

	"mnemo"
)

// mixture is the smoothed training set at one time, computed as its formulas read.
type mixture struct {
	rows     [][]float64
	m, sigma float64
}

// empiricalPoint is everything that is known of a mixture at one x.
type empiricalPoint struct {
	score, denoised, jvp                           []float64
	logDensity, logWeights, divergence, entropy, r float64
	nearest                                        int64
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func (mx mixture) at(x, v []float64) empiricalPoint {
	d, s2 := len(x), mx.sigma*mx.sigma
	p := empiricalPoint{r: math.Inf(1), score: make([]float64, d), denoised: make([]float64, d), jvp: make([]float64, d)}
	l := make([]float64, len(mx.rows))
	for n, y := range mx.rows {
		var square float64
		for j := range x {
			square += (x[j] - mx.m*y[j]) * (x[j] - mx.m*y[j])
		}
		if l[n] = -square / (2 * s2); math.Sqrt(square) < p.r {
			p.r, p.nearest = math.Sqrt(square), int64(n)
		}
	}
	var sum float64
	for n := range l {
		sum += math.Exp(l[n] - l[p.nearest])
	}
	p.logWeights = l[p.nearest] + math.Log(sum)
	p.logDensity = p.logWeights - math.Log(float64(len(l))) - float64(d)/2*math.Log(2*math.Pi*s2)
	mean := make([]float64, d)
	for n, y := range mx.rows {
		w := math.Exp(l[n] - p.logWeights)
		if w > 0 {
			p.entropy -= w * (l[n] - p.logWeights)
		}
		for j := range y {
			mean[j] += w * y[j]
		}
	}
	k := mx.m * mx.m / (s2 * s2)
	p.divergence = -float64(d) / s2
	for n, y := range mx.rows {
		w, off := math.Exp(l[n]-p.logWeights), make([]float64, d)
		for j := range y {
			off[j] = y[j] - mean[j]
		}
		p.divergence += k * w * dot(off, off)
		for j := range off {
			p.jvp[j] += k * w * off[j] * dot(off, v)
		}
	}
	for j := range x {
		p.score[j], p.denoised[j] = (mx.m*mean[j]-x[j])/s2, mean[j]
		p.jvp[j] -= v[j] / s2
	}
	return p
}

// regularize multiplies the score by a factor, which is a constant or has the gradient factor * s of empirical Bayes.
func (p empiricalPoint) regularize(factor float64, bayes bool, x, v []float64, m, sigma float64) empiricalPoint {
	inner, square := dot(p.score, v), dot(p.score, p.score)
	if !bayes {
		inner, square = 0, 0
	}
	out := p
	out.score, out.denoised, out.jvp = make([]float64, len(x)), make([]float64, len(x)), make([]float64, len(x))
	out.divergence = factor * (p.divergence + square)
	for j := range x {
		out.score[j] = factor * p.score[j]
		out.denoised[j] = (x[j] + sigma*sigma*out.score[j]) / m
		out.jvp[j] = factor * (p.jvp[j] + p.score[j]*inner)
	}
	return out
}

const dim, batch = 3, 5

// apart is the matrix with the same elements and gaps of 9 between its rows.
func apart[T mnemo.Float](m mnemo.Matrix[T], gap int) mnemo.Matrix[T] {
	out := mnemo.Matrix[T]{Rows: m.Rows, Cols: m.Cols, Stride: m.Cols + gap, Data: make([]T, m.Rows*(m.Cols+gap))}
	for i := range out.Data {
		out.Data[i] = 9
	}
	for i := 0; i < m.Rows; i++ {
		copy(out.Row(i), m.Row(i))
	}
	return out
}

func gapsUntouched[T mnemo.Float](t *testing.T, m mnemo.Matrix[T]) {
	t.Helper()
	for i := range m.Data {
		if i%m.Stride >= m.Cols && m.Data[i] != 9 {
			t.Fatalf("element %d between two rows was written", i)
		}
	}
}

// All outputs of all regularizers, in both element types, with a time for each row or one for all and rows apart.
func TestEmpirical(t *testing.T) {
	testEmpirical[float64](t, 1e-9)
	testEmpirical[float32](t, 2e-4)
}

func testEmpirical[T mnemo.Float](t *testing.T, tolerance float64) {
	machine, data := newContext(t, mnemo.NumThreads(2)), normal[float64](1, 40, dim)
	labels := make([]int64, data.Rows)
	for i := range labels {
		labels[i] = int64(i % 3)
	}
	d := newDataset(t, machine, data, mnemo.Vector(labels...))
	p := must(mnemo.NewVPLinear(0.1, 20, 1))(t)
	defer p.Close()
	x, v := apart(normal[T](2, batch, dim), 2), apart(normal[T](3, batch, dim), 1)
	times := []float64{0.2, 0.3, 0.4, 0.6, 0.9}
	at := must(p.Eval(times...))(t)

	// Between the densities, and between the summed weights, of the five rows.
	const c, density, logDensity, weight, logWeight = 0.03, 0.018, -3.7, 5, 2.4
	for name, kind := range map[string]struct {
		option  mnemo.EmpiricalOption
		label   int64
		factor  func(p empiricalPoint, sigma float64) float64
		limited bool // factor is of empirical Bayes where it is below 1
	}{
		"none":      {nil, -1, func(empiricalPoint, float64) float64 { return 1 }, false},
		"tolerance": {mnemo.Tolerance(0), -1, func(empiricalPoint, float64) float64 { return 1 }, false},
		"label":     {mnemo.Label(2), 2, func(empiricalPoint, float64) float64 { return 1 }, false},
		"Tikhonov":  {mnemo.Tikhonov(c), -1, func(_ empiricalPoint, s float64) float64 { return s * s / (s*s + c) }, false},
		"density": {mnemo.BayesDensity(density), -1,
			func(p empiricalPoint, _ float64) float64 { return math.Exp(p.logDensity) / density }, true},
		"density, log": {mnemo.BayesDensityLog(logDensity), -1,
			func(p empiricalPoint, _ float64) float64 { return math.Exp(p.logDensity - logDensity) }, true},
		"weight": {mnemo.BayesWeight(weight), -1,
			func(p empiricalPoint, _ float64) float64 { return math.Exp(p.logWeights) / weight }, true},
		"weight, log": {mnemo.BayesWeightLog(logWeight), -1,
			func(p empiricalPoint, _ float64) float64 { return math.Exp(p.logWeights - logWeight) }, true},
	} {
		score, limited := empirical(t, d, p, kind.option), 0
		matrix := func() mnemo.Matrix[T] { return apart(mnemo.NewMatrix[T](batch, dim), 3) }
		s, denoised, jvp := matrix(), matrix(), matrix()
		log, entropy := mnemo.NewMatrix[float64](batch, 1), mnemo.NewMatrix[float64](batch, 1)
		div, r := mnemo.NewMatrix[T](batch, 1), mnemo.NewMatrix[T](batch, 1)
		nearest := mnemo.NewMatrix[int64](batch, 1)
		bound, logBound := mnemo.NewMatrix[T](batch, 1), mnemo.NewMatrix[float64](batch, 1)
		check(t, score.Eval(ctx, x, mnemo.Vector(times...), mnemo.Outputs{
			Score: s, Denoised: denoised, LogDensity: log, Divergence: div, Entropy: entropy,
			NearestIndex: nearest, NearestDistance: r, DenoisedErrorBound: bound, LogDensityErrorBound: logBound,
		}))
		check(t, score.JVP(ctx, x, mnemo.Vector(times...), v, jvp))
		for _, m := range []mnemo.Matrix[T]{s, denoised, jvp} {
			gapsUntouched(t, m)
		}
		for i := 0; i < batch; i++ {
			mx := mixture{m: at.M[i], sigma: at.Sigma[i]}
			var number []int64 // of the mixture's rows in the data
			for n := 0; n < data.Rows; n++ {
				if kind.label < 0 || labels[n] == kind.label {
					mx.rows, number = append(mx.rows, data.Row(n)), append(number, int64(n))
				}
			}
			var wide, along []float64
			for j := 0; j < dim; j++ {
				wide, along = append(wide, float64(x.Row(i)[j])), append(along, float64(v.Row(i)[j]))
			}
			want := mx.at(wide, along)
			if factor := kind.factor(want, mx.sigma); factor < 1 {
				want = want.regularize(factor, kind.limited, wide, along, mx.m, mx.sigma)
				limited++
			}
			var off float64
			for j := 0; j < dim; j++ {
				off = math.Hypot(off, float64(denoised.Row(i)[j])-want.denoised[j])
				near(t, name+": score", float64(s.Row(i)[j]), want.score[j], tolerance)
				near(t, name+": denoised", float64(denoised.Row(i)[j]), want.denoised[j], tolerance)
				near(t, name+": jvp", float64(jvp.Row(i)[j]), want.jvp[j], tolerance*100)
			}
			near(t, name+": log density", log.Data[i], want.logDensity, tolerance)
			// The formulas here have errors of their own.
			const own = 1e-12
			if b := float64(bound.Data[i]); off > b+own || b > tolerance {
				t.Errorf("%s: denoised is off by %g; the bound is %g", name, off, b)
			}
			if b := logBound.Data[i]; math.Abs(log.Data[i]-want.logDensity) > b+own || b <= 0 || b > tolerance {
				t.Errorf("%s: the bound on log density is %g", name, b)
			}
			near(t, name+": divergence", float64(div.Data[i]), want.divergence, tolerance*100)
			near(t, name+": entropy", entropy.Data[i], want.entropy, tolerance)
			near(t, name+": nearest distance", float64(r.Data[i]), want.r, tolerance)
			if nearest.Data[i] != number[want.nearest] {
				t.Errorf("%s: row %d is nearest to %d; expected %d", name, i, nearest.Data[i], number[want.nearest])
			}
		}
		if kind.limited && (limited == 0 || limited == batch) {
			t.Errorf("%s: empirical Bayes limits %d rows of %d; the test wants both kinds", name, limited, batch)
		}

		// One time for all rows, as float32.
		one, each := mnemo.NewMatrix[T](batch, dim), mnemo.NewMatrix[T](batch, dim)
		check(t, score.Eval(ctx, x, mnemo.Vector[float32](0.5), mnemo.Outputs{Score: one}))
		check(t, score.Eval(ctx, x, mnemo.Vector[float64](0.5, 0.5, 0.5, 0.5, 0.5), mnemo.Outputs{Score: each}))
		if !same(one.Data, each.Data) {
			t.Errorf("%s: a time for all and a time for each disagree", name)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	s := empirical(t, newDataset(t, newContext(t), normal[float64](1, 9, dim), nil), edm(t))
	x, at := normal[float64](1, batch, dim), mnemo.Vector(1.0)
	nan := normal[float64](1, batch, dim)
	nan.Row(3)[1] = math.NaN()
	elsewhere := mnemo.DeviceMatrix{Pointer: 64, Rows: batch, Cols: 1, DType: mnemo.F64}
	matrix := mnemo.NewMatrix[float64]
	for _, refused := range []struct {
		x, t mnemo.Tensor
		out  mnemo.Outputs
		code mnemo.Code
		word string
	}{
		{nil, at, mnemo.Outputs{}, mnemo.ErrInvalid, "x"},
		{x, nil, mnemo.Outputs{}, mnemo.ErrInvalid, "t"},
		{nan, at, mnemo.Outputs{}, mnemo.ErrInvalid, "row 3, column 1"},
		{matrix(batch, dim+1), at, mnemo.Outputs{}, mnemo.ErrShape, "4 columns"},
		{mnemo.NewMatrix[uint8](batch, dim), at, mnemo.Outputs{}, mnemo.ErrDType, "x"},
		{x, mnemo.Vector[float64](1, 2), mnemo.Outputs{}, mnemo.ErrShape, "t"},
		{x, mnemo.Vector[int64](1), mnemo.Outputs{}, mnemo.ErrDType, "t"},
		{x, mnemo.Vector(-1.0), mnemo.Outputs{}, mnemo.ErrInvalid, "-1"},
		{x, mnemo.Vector(0.0), mnemo.Outputs{Score: x}, mnemo.ErrInvalid, ""},
		{x, at, mnemo.Outputs{Score: matrix(batch+1, dim)}, mnemo.ErrShape, "score"},
		{x, at, mnemo.Outputs{Denoised: mnemo.NewMatrix[float32](batch, dim)}, mnemo.ErrDType, "denoised"},
		{x, at, mnemo.Outputs{LogDensity: matrix(batch, 2)}, mnemo.ErrShape, "log_density"},
		{x, at, mnemo.Outputs{Divergence: mnemo.NewMatrix[int64](batch, 1)}, mnemo.ErrDType, "divergence"},
		{x, at, mnemo.Outputs{Entropy: mnemo.Matrix[float64]{Rows: batch, Cols: 1}}, mnemo.ErrShape, "entropy: 0 elements"},
		{x, at, mnemo.Outputs{NearestIndex: matrix(batch, 1)}, mnemo.ErrDType, "nearest_index"},
		{x, at, mnemo.Outputs{NearestDistance: elsewhere}, mnemo.ErrDevice, "nearest_distance"},
		{x, at, mnemo.Outputs{DenoisedErrorBound: matrix(batch, dim)}, mnemo.ErrShape, "denoised_error_bound"},
		{x, at, mnemo.Outputs{LogDensityErrorBound: mnemo.NewMatrix[int64](batch, 1)}, mnemo.ErrDType, "log_density_error"},
	} {
		fails(t, s.Eval(ctx, refused.x, refused.t, refused.out), refused.code, refused.word)
	}
	fails(t, s.JVP(ctx, x, at, matrix(batch, dim+1), matrix(batch, dim)), mnemo.ErrShape, "v")
	fails(t, s.JVP(ctx, x, at, x, matrix(batch+1, dim)), mnemo.ErrShape, "out")
	fails(t, s.JVP(ctx, x, at, x, nil), mnemo.ErrInvalid, "out")
	fails(t, s.JVP(ctx, x, at, mnemo.Matrix[float64]{Rows: batch, Cols: dim}, x), mnemo.ErrShape, "v: 0 elements")

	// On failure nothing is written.
	score, denoised := matrix(batch, dim), matrix(batch, dim)
	fails(t, s.Eval(ctx, nan, at, mnemo.Outputs{Score: score, Denoised: denoised}), mnemo.ErrInvalid)
	if !same(score.Data, matrix(batch, dim).Data) || !same(denoised.Data, score.Data) {
		t.Error("an output was written although the call failed")
	}
	// No rows, no outputs, and an output that is the input.
	empty := matrix(0, dim)
	check(t, s.Eval(ctx, empty, at, mnemo.Outputs{Score: empty, Entropy: matrix(0, 1)}))
	check(t, s.JVP(ctx, empty, at, empty, empty))
	check(t, s.Eval(ctx, x, at, mnemo.Outputs{}))
	check(t, s.Eval(ctx, x, at, mnemo.Outputs{Score: score}, mnemo.Check(), mnemo.Stream(0), nil))
	check(t, s.Eval(ctx, x, at, mnemo.Outputs{Score: x}))
	if !same(x.Data, score.Data) {
		t.Error("in place is something else")
	}
}

func TestEmpiricalErrors(t *testing.T) {
	c := newContext(t)
	d, p := newDataset(t, c, normal[float64](1, 9, dim), nil), edm(t)
	for _, refused := range []mnemo.EmpiricalOption{
		mnemo.Tikhonov(-1), mnemo.Tikhonov(math.NaN()), mnemo.BayesDensity(0), mnemo.BayesWeight(-1),
		mnemo.BayesDensityLog(math.Inf(1)), mnemo.Tolerance(1), mnemo.Tolerance(-1), mnemo.Label(0),
	} {
		_, err := d.NewEmpiricalScore(p, refused)
		fails(t, err, mnemo.ErrInvalid)
	}
	// The last of a kind counts.
	x, a, b := normal[float64](2, batch, dim), mnemo.NewMatrix[float64](batch, dim), mnemo.NewMatrix[float64](batch, dim)
	at, last := mnemo.Vector(1.0), mnemo.Tikhonov(0.5)
	check(t, empirical(t, d, p, mnemo.BayesWeightLog(-3), last).Eval(ctx, x, at, mnemo.Outputs{Score: a}))
	check(t, empirical(t, d, p, last).Eval(ctx, x, at, mnemo.Outputs{Score: b}))
	if !same(a.Data, b.Data) {
		t.Error("the first regularizer counts")
	}
}
