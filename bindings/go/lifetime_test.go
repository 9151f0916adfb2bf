// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"mnemo"
)

// A thousand goroutines on one score, of which three in four fail, each in a way that only this call can have.
func TestEveryErrorStaysWithItsCall(t *testing.T) {
	const goroutines, calls = 1000, 4
	c, p := newContext(t, mnemo.NumThreads(2)), edm(t)
	score := empirical(t, newDataset(t, c, normal[float64](1, 50, 8), nil), p)
	model := custom(t, p, 8, mnemo.Model{Eval: func(x mnemo.Matrix[float64], _ []float64, _ mnemo.Matrix[float64]) error {
		return fmt.Errorf("the model was called with %v", x.Row(0)[0])
	}})
	points, expected := normal[float64](2, 4, 8), mnemo.NewMatrix[float64](4, 8)
	check(t, score.Eval(ctx, points, mnemo.Vector(0.5), mnemo.Outputs{Score: expected}))
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()

	one := func(me, call int) error {
		x, out := mnemo.NewMatrix[float64](4, 8), mnemo.NewMatrix[float64](4, 8)
		copy(x.Data, points.Data)
		number := me*calls + call
		var err error
		var want string
		switch (me + call) % 4 {
		case 0:
			err = score.Eval(cancellable, x, mnemo.Vector(0.5), mnemo.Outputs{Score: out})
			if err != nil || !same(out.Data, expected.Data) {
				return fmt.Errorf("call %d is not the same to the bit: %v", number, err)
			}
			return nil
		case 1:
			_, err = p.Eval(float64(1000 + number))
			want = fmt.Sprintf(" %d", 1000+number)
		case 2:
			cols := 9 + number
			err = score.Eval(cancellable, mnemo.NewMatrix[float64](1, cols), mnemo.Vector(1.0), mnemo.Outputs{})
			want = fmt.Sprintf("x: %d columns", cols)
		default:
			x.Row(0)[0] = float64(number)
			err = model.Eval(ctx, x, mnemo.Vector(0.5), mnemo.Outputs{Score: out})
			want = fmt.Sprintf("called with %d ", number)
		}
		var e *mnemo.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("call %d: %q instead of %q", number, err, want)
		}
		if !same(out.Data, make([]float64, 32)) {
			return fmt.Errorf("call %d failed, but wrote", number)
		}
		return nil
	}
	start, wrong := make(chan bool), make(chan error, goroutines*calls)
	var wait sync.WaitGroup
	for me := 0; me < goroutines; me++ {
		wait.Add(1)
		go func(me int) {
			defer wait.Done()
			<-start
			for call := 0; call < calls; call++ {
				if err := one(me, call); err != nil {
					wrong <- err
				}
			}
		}(me)
	}
	close(start)
	wait.Wait()
	close(wrong)
	for err := range wrong {
		t.Error(err)
	}
}

// Objects are closed in random order and several times, while goroutines use them: a call works or finds them closed.
func TestCloseWhileInUse(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for round := 0; round < 30; round++ {
		c, p := must(mnemo.NewContext(mnemo.NumThreads(2)))(t), must(mnemo.NewVEPower(2, 1, 80))(t)
		d := must(c.NewDataset(normal[float64](1, 40, 4), nil))(t)
		s := must(d.NewEmpiricalScore(p))(t)
		g := must(c.NewCustomScore(p, 4, through(s)))(t)
		calls := []func() error{
			func() error { _, err := p.Eval(1); return err },
			func() error { _, err := d.Info(); return err },
			func() error { return d.Gather([]int64{0}, mnemo.NewMatrix[float64](1, 4)) },
			func() error { _, err := d.Memorization(ctx, normal[float64](1, 2, 4), 1); return err },
			func() error { _, err := p.TimeOfSigma(1); return err },
			func() error { return s.Eval(ctx, normal[float64](1, 2, 4), mnemo.Vector(1.0), mnemo.Outputs{}) },
			func() error {
				x := normal[float64](1, 2, 4)
				return s.JVP(ctx, x, mnemo.Vector(1.0), x, x)
			},
			func() error { _, err := c.Describe(); return err },
			func() error { return s.Sample(ctx, normal[float64](1, 2, 4)) },
			func() error { return g.Sample(ctx, normal[float64](1, 2, 4)) },
			func() error { return d.Nearest(ctx, normal[float64](1, 2, 4), mnemo.MetricL2, 2, nil, nil) },
			func() error {
				s, err := d.NewEmpiricalScore(p)
				if err == nil {
					err = s.Close()
				}
				return err
			},
		}
		closers := []io.Closer{c, p, d, s, g, d, s, g, p, c}
		random.Shuffle(len(closers), func(i, j int) { closers[i], closers[j] = closers[j], closers[i] })
		var wait sync.WaitGroup
		errs := make(chan error, 10*len(calls))
		for _, call := range calls {
			wait.Add(1)
			go func(call func() error) {
				defer wait.Done()
				for i := 0; i < 10; i++ {
					errs <- call()
				}
			}(call)
		}
		for _, closer := range closers {
			runtime.Gosched()
			check(t, closer.Close())
		}
		wait.Wait()
		close(errs)
		for err := range errs {
			if err != nil && !errors.Is(err, mnemo.ErrClosed) {
				t.Fatal(err)
			}
		}
	}
}

// What a score needs outlives the objects that it was made from, in every order; and a callback may close its own score.
func TestScoreKeepsWhatItNeeds(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		c, p := must(mnemo.NewContext())(t), must(mnemo.NewVEPower(2, 1, 80))(t)
		d := must(c.NewDataset(normal[float64](1, 40, 2), nil))(t)
		s := must(d.NewEmpiricalScore(p))(t)
		var g *mnemo.Score
		calls := 0
		closing := through(s)
		eval := closing.Eval
		closing.Eval = func(x mnemo.Matrix[float64], times []float64, out mnemo.Matrix[float64]) error {
			if calls++; calls == 3 {
				g.Close()
			}
			return eval(x, times, out)
		}
		g = must(c.NewCustomScore(p, 2, closing))(t)
		plain := must(c.NewCustomScore(p, 2, through(s)))(t)
		closers := []io.Closer{c, p, d}
		for _, i := range order {
			check(t, closers[i].Close())
		}
		a, b := normal[float64](3, 5, 2), normal[float64](3, 5, 2)
		check(t, plain.Sample(ctx, a))
		check(t, g.Sample(ctx, b))
		check(t, plain.Close())
		if !same(a.Data, b.Data) || calls < 18 {
			t.Errorf("the samples differ after %d evaluations", calls)
		}
		if err := g.Sample(ctx, b); !errors.Is(err, mnemo.ErrClosed) {
			t.Errorf("a closed score samples: %v", err)
		}
		check(t, s.Close())
	}
}

func TestTwoContexts(t *testing.T) {
	one, two, p := newContext(t, mnemo.NumThreads(1)), newContext(t, mnemo.NumThreads(3)), edm(t)
	data := normal[float64](1, 50, 3)
	a, b := empirical(t, newDataset(t, one, data, nil), p), empirical(t, newDataset(t, two, data, nil), p)
	x, y := normal[float64](2, 6, 3), normal[float64](2, 6, 3)
	check(t, a.Sample(ctx, x))
	check(t, one.Close())
	check(t, b.Sample(ctx, y))
	check(t, b.Sample(ctx, normal[float64](2, 6, 3)))
	if !same(x.Data, y.Data) {
		t.Error("two contexts sample differently")
	}
}

// forgotten makes and uses a score with callbacks, and forgets it.
func forgotten(t *testing.T, finalized chan<- int) {
	c, p := must(mnemo.NewContext())(t), must(mnemo.NewVEPower(2, 1, 80))(t)
	token, seen := new([16]int), new([16]int)
	runtime.SetFinalizer(token, func(*[16]int) { finalized <- 1 })
	runtime.SetFinalizer(seen, func(*[16]int) { finalized <- 1 })
	identity := func(x mnemo.Matrix[float64], _ []float64, out mnemo.Matrix[float64]) error {
		token[0]++
		copy(out.Data, x.Data)
		return nil
	}
	s := must(c.NewCustomScore(p, 2, mnemo.Model{Eval: identity}))(t)
	progress := mnemo.Progress(func(_, _ int) error { seen[0]++; return nil })
	check(t, s.Sample(ctx, mnemo.NewMatrix[float64](1, 2), progress))
}

// The garbage collector releases what the library holds of Go: the models of scores that are forgotten, the functions of
// calls that have returned.
func TestCallbacksAreReleased(t *testing.T) {
	const rounds = 50
	finalized := make(chan int, 2*rounds)
	for i := 0; i < rounds; i++ {
		forgotten(t, finalized)
	}
	eventually(t, "models and progress functions are released", func() bool {
		runtime.GC()
		return len(finalized) == 2*rounds
	})
}

// A call keeps its object although it is the last to know it.
func TestCallKeepsItsObject(t *testing.T) {
	released := make(chan bool, 1)
	func() {
		token := new([16]int)
		runtime.SetFinalizer(token, func(*[16]int) { released <- true })
		calls := 0
		x := mnemo.NewMatrix[float64](1, 2)
		s := must(newContext(t).NewCustomScore(edm(t), 2, mnemo.Model{
			Eval: func(_ mnemo.Matrix[float64], _ []float64, _ mnemo.Matrix[float64]) error {
				calls++
				token[0]++
				runtime.GC()
				return nil
			},
		}))(t)
		check(t, s.Sample(ctx, x, mnemo.SolverEuler)) // s is not used any more
		if calls != 18 {
			t.Errorf("%d evaluations", calls)
		}
	}()
	eventually(t, "the model is released", func() bool { runtime.GC(); return len(released) == 1 })
}

// nativeThreads counts the library's own threads in this process.
func nativeThreads(t *testing.T) (n int) {
	names, err := filepath.Glob("/proc/self/task/*/comm")
	check(t, err)
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && bytes.HasPrefix(text, []byte("mnemo-")) {
			n++
		}
	}
	return n
}

// The threads of a context end when the last object that computes on it is closed.
func TestThreadsEnd(t *testing.T) {
	c := newContext(t, mnemo.NumThreads(3))
	rows := normal[float64](1, 2000, 8)
	before := nativeThreads(t)
	d := newDataset(t, c, rows, nil)
	check(t, d.Nearest(ctx, rows, mnemo.MetricL2, 3, nil, nil))
	if n := nativeThreads(t) - before; n < 2 {
		t.Fatalf("%d threads of three", n)
	}
	check(t, c.Close())
	check(t, d.Nearest(ctx, rows, mnemo.MetricL2, 3, nil, nil))
	check(t, d.Close())
	eventually(t, "the threads end", func() bool { return nativeThreads(t) <= before })
}

// Random options, good and bad: a call works and leaves finite numbers, or it is an error and leaves x as it was.
func TestOptionSweep(t *testing.T) {
	random := rand.New(rand.NewSource(7))
	c := newContext(t, mnemo.NumThreads(2))
	data := normal[float64](1, 20, 2)
	labels := make([]int64, 20)
	for i := range labels {
		labels[i] = int64(i % 2)
	}
	d := newDataset(t, c, data, mnemo.Vector(labels...))
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, -1, 1e-300, 1e300, 1, 0.5}
	number := func(usual float64) float64 {
		if random.Intn(12) == 0 {
			return odd[random.Intn(len(odd))]
		}
		return usual * random.Float64()
	}
	processes := []func() (*mnemo.Process, error){
		func() (*mnemo.Process, error) { return mnemo.NewVPLinear(number(0.2), number(40), 1) },
		func() (*mnemo.Process, error) { return mnemo.NewSubVP(number(0.2), number(40)) },
		func() (*mnemo.Process, error) { return mnemo.NewVEPower(number(4), number(2), number(80)) },
		func() (*mnemo.Process, error) { return mnemo.NewVEExponential(number(100), 1) },
		func() (*mnemo.Process, error) { return mnemo.NewVEGeometric(number(0.02), number(80)) },
		func() (*mnemo.Process, error) { return mnemo.NewDiscrete([]float64{number(2), number(1), number(0.5)}) },
		mnemo.NewFlow,
	}
	good, bad := 0, 0
	failed := func(err error) bool {
		t.Helper()
		if err == nil {
			good++
			return false
		}
		var e *mnemo.Error
		if !errors.As(err, &e) || e.Message == "" || e.Code == mnemo.ErrPanic {
			t.Fatalf("not an error of the library: %v", err)
		}
		bad++
		return true
	}
	for round := 0; round < 1500; round++ {
		p, err := processes[random.Intn(len(processes))]()
		if failed(err) {
			continue
		}
		regularizer := []mnemo.EmpiricalOption{
			nil, mnemo.Tikhonov(number(1)), mnemo.BayesDensity(number(1)), mnemo.BayesWeight(number(1)),
			mnemo.BayesDensityLog(number(-9)), mnemo.BayesWeightLog(number(-9)), mnemo.Label(int64(random.Intn(3))),
		}
		s, err := d.NewEmpiricalScore(p, regularizer[random.Intn(len(regularizer))], mnemo.Tolerance(number(1e-9)))
		if failed(err) {
			check(t, p.Close())
			continue
		}
		options := []mnemo.SampleOption{
			mnemo.SolverRK45, mnemo.SolverEuler, mnemo.SolverAncestral, mnemo.SolverDPMpp2M, mnemo.SolverEDMStochastic,
			mnemo.SolverExponential, mnemo.SolverEulerMaruyama, mnemo.Solver(random.Intn(10)), mnemo.GridUniformT, mnemo.GridUniformS,
			mnemo.Grid(random.Intn(5)), mnemo.Times(number(5), number(1), number(0.1)), mnemo.Steps(random.Intn(30) - 1),
			mnemo.FromPrior(), mnemo.DenoiseLast(), mnemo.Seed(random.Uint64()), mnemo.FirstSample(random.Intn(9) - 1),
			mnemo.TStart(number(90)), mnemo.TEnd(number(1)), mnemo.Alpha2(number(2)), mnemo.Eta(number(1)), mnemo.Rtol(number(0.1)),
			mnemo.Atol(number(0.1)), mnemo.Rho(number(10)), mnemo.SChurn(number(20)), mnemo.SMin(number(1)), mnemo.SMax(number(50)),
			mnemo.SNoise(number(1)),
		}
		random.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
		x := normal[float64](int64(round), 1+random.Intn(3), 2)
		before := append([]float64(nil), x.Data...)
		if failed(s.Sample(ctx, x, options[:random.Intn(5)]...)) {
			if !same(x.Data, before) {
				t.Fatal("x was written although the call failed")
			}
		} else {
			for _, v := range x.Data {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Fatalf("a sample is %v", v)
				}
			}
		}
		check(t, s.Close())
		check(t, p.Close())
	}
	if good < 500 || bad < 300 {
		t.Errorf("%d calls worked and %d failed: the sweep is too narrow", good, bad)
	}
}
