// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"errors"
	"math"
	"testing"

	"mnemo"
)

var solvers = []mnemo.Solver{
	mnemo.SolverEuler, mnemo.SolverHeun, mnemo.SolverExponential, mnemo.SolverDPMpp2M, mnemo.SolverRK45,
	mnemo.SolverEulerMaruyama, mnemo.SolverAncestral, mnemo.SolverEDMStochastic,
}

// The probability flow of a Gaussian is a scaling about its mean, which every ODE solver finds on every grid.
func TestFlowOfGaussian(t *testing.T) {
	p := edm(t)
	g := newGaussian(p, mnemo.PredictX0)
	score := custom(t, p, 2, mnemo.Model{Prediction: g.prediction, Eval: evalOf[float64](g), Eval32: evalOf[float32](g)})
	const from, to = 10, 0.05
	shrink := math.Sqrt((g.width*g.width + to*to) / (g.width*g.width + from*from))
	var times []float64
	for i := 0; i <= 400; i++ {
		times = append(times, from*math.Pow(to/from, float64(i)/400))
	}
	combinations := 0
	for solver, tolerance := range map[mnemo.Solver]float64{
		mnemo.SolverEuler: 0.02, mnemo.SolverHeun: 1e-3, mnemo.SolverExponential: 0.02, mnemo.SolverDPMpp2M: 1e-3,
		mnemo.SolverRK45:          1e-4,
		mnemo.SolverEDMStochastic: 1e-3, // without churn
	} {
		for _, grid := range []mnemo.SampleOption{
			mnemo.GridKarras, mnemo.GridUniformS, mnemo.GridUniformT, mnemo.Times(times...),
		} {
			limit := tolerance
			if grid == mnemo.SampleOption(mnemo.GridUniformT) && solver != mnemo.SolverRK45 {
				limit = 0.3 // its steps are too long at the end
			}
			options := []mnemo.SampleOption{
				solver, grid, mnemo.Steps(400), mnemo.Rtol(1e-8), mnemo.Atol(1e-8), mnemo.TStart(from), mnemo.TEnd(to),
			}
			x, x32 := normal[float64](1, 4, 2), apart(normal[float32](1, 4, 2), 3)
			start := append([]float64(nil), x.Data...)
			check(t, score.Sample(ctx, x, options...))
			check(t, score.Sample(ctx, x32, options...))
			for i, v := range start {
				mean := g.mean[i%2]
				near(t, "a sample", x.Data[i], mean+shrink*(v-mean), limit)
				near(t, "a float32 sample", float64(x32.Row(i / 2)[i%2]), mean+shrink*(v-mean), limit+1e-4)
			}
			gapsUntouched(t, x32)
			combinations++
		}
	}
	if combinations != 24 {
		t.Errorf("%d combinations; expected 24", combinations)
	}
}

// The stochastic solvers draw from the data's distribution.
func TestDistributionOfGaussian(t *testing.T) {
	p := edm(t)
	g := newGaussian(p, mnemo.PredictScore)
	score := custom(t, p, 2, mnemo.Model{Eval: evalOf[float64](g)})
	const n = 2000
	for name, options := range map[string][]mnemo.SampleOption{
		"Euler-Maruyama": {mnemo.SolverEulerMaruyama, mnemo.Steps(150)},
		"alpha2 = 0.3":   {mnemo.SolverEulerMaruyama, mnemo.Alpha2(0.3), mnemo.Steps(150)},
		"ancestral":      {mnemo.SolverAncestral, mnemo.Steps(150)},
		"DDIM, eta":      {mnemo.SolverExponential, mnemo.Eta(0.7), mnemo.Steps(150)},
		"EDM": {mnemo.SolverEDMStochastic, mnemo.SChurn(20), mnemo.SMin(0.05), mnemo.SMax(50), mnemo.SNoise(1),
			mnemo.Steps(100)},
		"Heun, denoised": {mnemo.DenoiseLast(), mnemo.Rho(7), mnemo.GridKarras, mnemo.Steps(100)},
	} {
		x := mnemo.NewMatrix[float64](n, 2)
		check(t, score.Sample(ctx, x, append(options, mnemo.FromPrior(), mnemo.Seed(5))...))
		var sum, square float64
		for i := 0; i < n; i++ {
			off := x.Row(i)[0] - g.mean[0]
			sum, square = sum+off/n, square+off*off/n
		}
		near(t, name+": the mean's error", sum, 0, 0.06)
		near(t, name+": the standard deviation", math.Sqrt(square), g.width, 0.04)
	}
}

// Every option changes the samples of a solver that looks at it, and no other option does.
func TestEveryOptionCounts(t *testing.T) {
	p := edm(t)
	score := empirical(t, newDataset(t, newContext(t), normal[float64](1, 30, 2), nil), p, mnemo.Tikhonov(0.1))
	draw := func(options ...mnemo.SampleOption) []float64 {
		t.Helper()
		x := normal[float64](3, 8, 2)
		check(t, score.Sample(ctx, x, append([]mnemo.SampleOption{mnemo.TStart(20)}, options...)...))
		return x.Data
	}
	churn := []mnemo.SampleOption{mnemo.SolverEDMStochastic, mnemo.SChurn(10)}
	for name, pair := range map[string][2][]mnemo.SampleOption{
		"Steps":       {{}, {mnemo.Steps(9)}},
		"Solver":      {{}, {mnemo.SolverEuler}},
		"Grid":        {{}, {mnemo.GridUniformS}},
		"Times":       {{}, {mnemo.Times(20, 5, 1)}},
		"FromPrior":   {{}, {mnemo.FromPrior()}},
		"DenoiseLast": {{}, {mnemo.DenoiseLast()}},
		"TStart":      {{}, {mnemo.TStart(10)}},
		"TEnd":        {{}, {mnemo.TEnd(0.5)}},
		"Rho":         {{}, {mnemo.Rho(3)}},
		"Seed":        {{mnemo.FromPrior()}, {mnemo.FromPrior(), mnemo.Seed(1)}},
		"FirstSample": {{mnemo.FromPrior()}, {mnemo.FromPrior(), mnemo.FirstSample(1)}},
		"Alpha2":      {{mnemo.SolverEulerMaruyama}, {mnemo.SolverEulerMaruyama, mnemo.Alpha2(0)}},
		"Eta":         {{mnemo.SolverAncestral}, {mnemo.SolverAncestral, mnemo.Eta(0)}},
		"Eta of DDIM": {{mnemo.SolverExponential}, {mnemo.SolverExponential, mnemo.Eta(1)}},
		"Rtol":        {{mnemo.SolverRK45}, {mnemo.SolverRK45, mnemo.Rtol(1e-2)}},
		"Atol":        {{mnemo.SolverRK45}, {mnemo.SolverRK45, mnemo.Atol(1e-2)}},
		"SChurn":      {{mnemo.SolverEDMStochastic}, churn},
		"SMin":        {churn, append(churn[:2:2], mnemo.SMin(2))},
		"SMax":        {churn, append(churn[:2:2], mnemo.SMax(2))},
		"SNoise":      {churn, append(churn[:2:2], mnemo.SNoise(1.1))},
	} {
		if same(draw(pair[0]...), draw(pair[1]...)) {
			t.Errorf("%s does not count", name)
		}
	}
	nan := math.NaN()
	for name, pair := range map[string][2][]mnemo.SampleOption{
		"the initial values": {{}, {nil, mnemo.SolverHeun, mnemo.GridKarras, mnemo.Steps(18), mnemo.Rho(7), mnemo.TEnd(nan),
			mnemo.Seed(0), mnemo.FirstSample(0), mnemo.Rtol(1e-5), mnemo.Check(), mnemo.Stream(0), mnemo.Progress(nil),
			mnemo.Observer[float64](nil)}},
		"the last of a kind": {{mnemo.Steps(5)}, {mnemo.Times(3, 2, 1), mnemo.GridKarras, mnemo.Steps(4), mnemo.Steps(5)}},
		"eta is 1":           {{mnemo.SolverAncestral}, {mnemo.SolverAncestral, mnemo.Eta(1)}},
		"alpha2 is 1":        {{mnemo.SolverEulerMaruyama}, {mnemo.SolverEulerMaruyama, mnemo.Alpha2(1)}},
		"s_max is infinite":  {churn, append(churn[:2:2], mnemo.SMax(math.Inf(1)), mnemo.SMin(0), mnemo.SNoise(1))},
	} {
		if !same(draw(pair[0]...), draw(pair[1]...)) {
			t.Errorf("%s: the samples differ", name)
		}
	}
}

// The same bits in one batch and in parts, in any number of threads, and again.
func TestReproducible(t *testing.T) {
	p, data := edm(t), normal[float64](1, 50, 4)
	var first []float64
	for _, threads := range []int{1, 2, 5} {
		score := empirical(t, newDataset(t, newContext(t, mnemo.NumThreads(threads)), data, nil), p)
		options := []mnemo.SampleOption{mnemo.SolverEulerMaruyama, mnemo.FromPrior(), mnemo.Seed(9)}
		whole, parts := mnemo.NewMatrix[float64](10, 4), mnemo.NewMatrix[float64](10, 4)
		check(t, score.Sample(ctx, whole, options...))
		for _, part := range [][2]int{{0, 3}, {3, 10}} {
			m := mnemo.Matrix[float64]{Data: parts.Data[part[0]*4 : part[1]*4], Rows: part[1] - part[0], Cols: 4}
			check(t, score.Sample(ctx, m, append(options, mnemo.FirstSample(part[0]))...))
		}
		if first == nil {
			first = whole.Data
		}
		if !same(whole.Data, first) || !same(parts.Data, first) {
			t.Errorf("%d threads: the samples differ", threads)
		}
	}
}

func TestObserverAndProgress(t *testing.T) {
	p := edm(t)
	score := empirical(t, newDataset(t, newContext(t), normal[float64](1, 30, 2), nil), p)
	testObserver[float64](t, score)
	testObserver[float32](t, score)

	x := normal[float32](1, 4, 2)
	before := append([]float32(nil), x.Data...)
	wide := mnemo.Observer(func(int, float64, mnemo.Matrix[float64]) error { return nil })
	fails(t, score.Sample(ctx, x, wide), mnemo.ErrDType, "f64", "f32")
	halt := errors.New("enough")
	third := mnemo.Observer(func(step int, _ float64, _ mnemo.Matrix[float32]) error {
		if step == 3 {
			return halt
		}
		return nil
	})
	err := score.Sample(ctx, x, third)
	if e := fails(t, err, mnemo.ErrCallback, "step 3", "enough"); !errors.Is(err, halt) || e.Native != 1 {
		t.Errorf("%v (native %d) is not what the observer returned", err, e.Native)
	}
	if !same(x.Data, before) {
		t.Error("x was written although the call failed")
	}
}

func testObserver[T mnemo.Float](t *testing.T, score *mnemo.Score) {
	t.Helper()
	var times []float64
	var last []T
	x, steps, calls := normal[T](1, 4, 2), 0, 0
	start := append([]T(nil), x.Data...)
	check(t, score.Sample(ctx, x, mnemo.Steps(6), mnemo.DenoiseLast(),
		mnemo.Observer(func(step int, time float64, state mnemo.Matrix[T]) error {
			if step != len(times) || state.Rows != 4 || state.Cols != 2 {
				t.Errorf("step %d of %d x %d; expected step %d of 4 x 2", step, state.Rows, state.Cols, len(times))
			}
			if step == 0 && !same(state.Data, start) {
				t.Error("the first state is not the start")
			}
			times, last = append(times, time), append([]T(nil), state.Data...)
			return nil
		}),
		mnemo.Progress(func(done, total int) error {
			if done < steps || done > total || total != 6 {
				t.Errorf("progress %d of %d after %d", done, total, steps)
			}
			steps, calls = done, calls+1
			return nil
		})))
	if len(times) != 7 || times[0] != 80 || times[6] != 0 || !same(last, x.Data) {
		t.Errorf("observed %v; the last state is the result: %v", times, same(last, x.Data))
	}
	if steps != 6 || calls < 2 {
		t.Errorf("progress ends at %d after %d reports", steps, calls)
	}
}

func TestSampleErrors(t *testing.T) {
	c, p := newContext(t), edm(t)
	score := empirical(t, newDataset(t, c, normal[float64](1, 9, 2), nil), p)
	x, nan := normal[float64](2, 3, 2), math.NaN()
	before := append([]float64(nil), x.Data...)
	for _, refused := range [][]mnemo.SampleOption{
		{mnemo.Solver(99)}, {mnemo.Grid(99)}, {mnemo.Grid(3)}, {mnemo.Steps(0)}, {mnemo.Steps(-1)}, {mnemo.FirstSample(-1)},
		{mnemo.TStart(81)}, {mnemo.TEnd(-1)}, {mnemo.TStart(1), mnemo.TEnd(2)}, {mnemo.Rho(nan)},
		{mnemo.SolverEulerMaruyama, mnemo.Alpha2(-1)}, {mnemo.SolverAncestral, mnemo.Eta(2)}, {mnemo.SolverRK45, mnemo.Rtol(nan)},
		{mnemo.SolverRK45, mnemo.Atol(-1)}, {mnemo.SolverEDMStochastic, mnemo.SChurn(-1)},
		{mnemo.SolverEDMStochastic, mnemo.SMin(nan)},
		{mnemo.SolverEDMStochastic, mnemo.SMax(-1)}, {mnemo.SolverEDMStochastic, mnemo.SNoise(nan)},
		{mnemo.Times()}, {mnemo.Times(1)}, {mnemo.Times(1, 2)}, {mnemo.Times(nan, 1)}, {mnemo.Times(90, 1)},
	} {
		fails(t, score.Sample(ctx, x, refused...), mnemo.ErrInvalid)
	}
	fails(t, score.Sample(ctx, x, mnemo.Alpha2(1)), mnemo.ErrUnsupported, "alpha2")
	fails(t, score.Sample(ctx, nil), mnemo.ErrInvalid, "x_inout")
	observer := mnemo.Observer(func(int, float64, mnemo.Matrix[float32]) error { return nil })
	fails(t, score.Sample(ctx, nil, observer), mnemo.ErrInvalid, "x_inout")
	fails(t, score.Sample(ctx, mnemo.NewMatrix[float64](3, 3)), mnemo.ErrShape, "x_inout")
	fails(t, score.Sample(ctx, mnemo.NewMatrix[uint8](3, 2)), mnemo.ErrDType, "x_inout")
	fails(t, score.Sample(ctx, mnemo.Matrix[float64]{Rows: 3, Cols: 2}), mnemo.ErrShape, "0 elements")
	if !same(x.Data, before) {
		t.Error("x was written although the calls failed")
	}
	check(t, score.Sample(ctx, mnemo.NewMatrix[float64](0, 2)))
	single := normal[float64](1, 1, 2)
	check(t, score.Sample(ctx, single, mnemo.Times(5, 1, 0)))
}
