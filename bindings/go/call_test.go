// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mnemo"
)

// long are calls that would take minutes, by what they need to be stopped.
func long(t *testing.T) map[string]func(context.Context) error {
	c, p := newContext(t), edm(t)
	rows := normal[float64](1, 20000, 16)
	data := newDataset(t, c, rows, nil)
	score := empirical(t, newDataset(t, c, normal[float64](1, 1000, 2), nil), p)
	g := newGaussian(p, mnemo.PredictScore)
	model := custom(t, p, 2, mnemo.Model{Eval: evalOf[float64](g)})
	many := []mnemo.SampleOption{mnemo.Steps(2000000), mnemo.GridUniformT}
	return map[string]func(context.Context) error{
		"Sample": func(c context.Context) error { return score.Sample(c, normal[float64](1, 8, 2), many...) },
		"Sample of a model": func(c context.Context) error {
			return model.Sample(c, normal[float64](1, 8, 2), many...)
		},
		"Nearest": func(c context.Context) error { return data.Nearest(c, rows, mnemo.MetricL2, 5, nil, nil) },
	}
}

func TestCancel(t *testing.T) {
	for name, call := range long(t) {
		cancellable, cancel := context.WithCancel(ctx)
		time.AfterFunc(30*time.Millisecond, cancel)
		start := time.Now()
		err := call(cancellable)
		if fails(t, err, mnemo.ErrCancelled, "canceled"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is not context.Canceled", name, err)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("%s: stopped after %v", name, took)
		}

		limited, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		err = call(limited)
		fails(t, err, mnemo.ErrCancelled, "deadline")
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is not context.DeadlineExceeded", name, err)
		}
		cancel()

		err = call(limited) // done before the call begins
		if fails(t, err, mnemo.ErrCancelled, "not begun"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v is not context.DeadlineExceeded", name, err)
		}
		fails(t, call(nil), mnemo.ErrInvalid, "ctx is nil")
	}
}

// A call that ends by itself leaves no goroutine behind that waits for its context.
func TestNoGoroutineIsLeft(t *testing.T) {
	score := empirical(t, newDataset(t, newContext(t), normal[float64](1, 9, 2), nil), edm(t))
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()
	before := runtime.NumGoroutine()
	for i := 0; i < 200; i++ {
		check(t, score.Sample(cancellable, normal[float64](1, 2, 2), mnemo.Progress(func(_, _ int) error { return nil })))
		fails(t, score.Sample(cancellable, normal[float64](1, 2, 3)), mnemo.ErrShape)
	}
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// A callback that cancels its own call: the call stops at that callback, whatever else is ready.
func TestCancelInCallback(t *testing.T) {
	score := empirical(t, newDataset(t, newContext(t), normal[float64](1, 9, 2), nil), edm(t))
	for i := 0; i < 500; i++ {
		cancellable, cancel := context.WithCancel(ctx)
		last := 0
		at4 := mnemo.Observer(func(step int, _ float64, _ mnemo.Matrix[float64]) error {
			if last = step; step == 4 {
				cancel()
			}
			return nil
		})
		err := score.Sample(cancellable, normal[float64](1, 2, 2), at4)
		if fails(t, err, mnemo.ErrCancelled); !errors.Is(err, context.Canceled) || last != 4 {
			t.Fatalf("after step %d: %v", last, err)
		}
	}
}

type failure struct{ text string }

func (f *failure) Error() string { return f.text }

// callbacks are calls by each kind of callback, which runs what it is given.
func callbacks(t testing.TB) map[string]func(func() error) error {
	c, p := newContext(t), edm(t)
	data := newDataset(t, c, normal[float64](1, 9, 2), nil)
	exact := empirical(t, data, p)
	x, at := normal[float64](1, 3, 2), mnemo.Vector(1.0)
	model := func(f func() error) *mnemo.Score {
		return custom(t, p, 2, mnemo.Model{
			Eval: func(_ mnemo.Matrix[float64], _ []float64, _ mnemo.Matrix[float64]) error { return f() },
			JVP:  func(_ mnemo.Matrix[float64], _ []float64, _, _ mnemo.Matrix[float64]) error { return f() },
		})
	}
	out := func() mnemo.Matrix[float64] { return mnemo.NewMatrix[float64](3, 2) }
	progress := func(f func() error) mnemo.CallOption { return mnemo.Progress(func(_, _ int) error { return f() }) }
	return map[string]func(func() error) error{
		"Eval":     func(f func() error) error { return model(f).Eval(ctx, x, at, mnemo.Outputs{Score: out()}) },
		"JVP":      func(f func() error) error { return model(f).JVP(ctx, x, at, x, out()) },
		"Sample":   func(f func() error) error { return model(f).Sample(ctx, out(), mnemo.FromPrior()) },
		"Progress": func(f func() error) error { return exact.Sample(ctx, out(), mnemo.FromPrior(), progress(f)) },
		"Progress of Nearest": func(f func() error) error {
			return data.Nearest(ctx, x, mnemo.MetricL2, 2, nil, nil, progress(f))
		},
		"Observer": func(f func() error) error {
			return exact.Sample(ctx, out(), mnemo.FromPrior(),
				mnemo.Observer(func(int, float64, mnemo.Matrix[float64]) error { return f() }))
		},
	}
}

// An error of a callback comes out of the call, wrapped; the call stops; afterwards everything works.
func TestErrorInCallback(t *testing.T) {
	for name, call := range callbacks(t) {
		calls, mine := 0, &failure{"of my own: " + name}
		err := call(func() error { calls++; return fmt.Errorf("wrapped: %w", mine) })
		code := mnemo.ErrCallback
		if strings.HasPrefix(name, "Progress") {
			code = mnemo.ErrCancelled
		}
		e := fails(t, err, code, "wrapped: of my own: "+name)
		var back *failure
		if !errors.Is(err, mine) || !errors.As(err, &back) || back != mine || strings.Contains(e.Message, "own") {
			t.Errorf("%s: %v does not wrap its cause", name, err)
		}
		if calls != 1 {
			t.Errorf("%s: the callback was called %d times", name, calls)
		}
		check(t, call(func() error { return nil }))
	}
}

func panicking(value any) error { panic(value) }

// inNative tells whether a goroutine is in a native call that can call back.
func inNative() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "_Cfunc_mnemo_go_")
}

// A panic of a callback goes on through the caller with its value and its stack, after the native call; afterwards
// everything works.
func TestPanicInCallback(t *testing.T) {
	for name, call := range callbacks(t) {
		for _, value := range []any{&failure{"value"}, "text", 42} {
			calls, got, stack := 0, any(nil), ""
			func() {
				defer func() {
					if got, stack = recover(), string(debug.Stack()); inNative() {
						t.Errorf("%s: the native call goes on", name)
					}
				}()
				err := call(func() error { calls++; return panicking(value) })
				t.Errorf("%s: the call returned %v", name, err)
			}()
			if got != value || calls != 1 {
				t.Errorf("%s: recovered %v after %d callbacks; expected %v after 1", name, got, calls, value)
			}
			if !strings.Contains(stack, "mnemo_test.panicking(") {
				t.Errorf("%s: the stack is not that of the panic:\n%s", name, stack)
			}
		}
		check(t, call(func() error { return nil }))
	}
}

// runtime.Goexit in a callback ends the caller's goroutine, running its deferred functions; afterwards everything works.
func TestGoexitInCallback(t *testing.T) {
	for name, call := range callbacks(t) {
		name, ended, returned := name, make(chan bool), false
		go func() {
			defer close(ended)
			defer func() {
				if inNative() {
					t.Errorf("%s: the native call goes on", name)
				}
			}()
			call(func() error { runtime.Goexit(); return nil })
			returned = true
		}()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal(name, ": the goroutine hangs")
		}
		if returned {
			t.Errorf("%s: the call returned", name)
		}
		check(t, call(func() error { return nil }))
	}
}

// A test that fails in a callback fails, and the tests after it run.
func TestFailNowInCallback(t *testing.T) {
	if os.Getenv("MNEMO_TEST_CHILD") != "" {
		for name, call := range callbacks(t) {
			call := call
			t.Run(name, func(t *testing.T) {
				call(func() error { t.FailNow(); return nil })
				fmt.Println("not reached")
			})
		}
		return
	}
	out := runChild(t)
	n := strings.Count(out, "    --- FAIL: TestFailNowInCallback/")
	if n != 6 || strings.Contains(out, "not reached") || strings.Contains(out, "panic") {
		t.Errorf("%d of 6 tests failed:\n%s", n, out)
	}
}

// Callbacks run on the goroutine that made the call: what is locked to its thread stays there.
func TestCallbackRunsOnTheCallersGoroutine(t *testing.T) {
	id := func() string { return strings.Fields(string(debug.Stack()))[1] }
	for name, call := range callbacks(t) {
		here, there := id(), ""
		check(t, call(func() error { there = id(); return nil }))
		if here != there {
			t.Errorf("%s: called by goroutine %s on goroutine %s", name, here, there)
		}
	}
}

// Callbacks within callbacks: the inner call stops and fails by itself.
func TestNestedCallbacks(t *testing.T) {
	for outer, call := range callbacks(t) {
		for inner, nested := range callbacks(t) {
			mine := errors.New("inner")
			check(t, call(func() error {
				if err := nested(func() error { return mine }); !errors.Is(err, mine) {
					t.Errorf("%s in %s: %v", inner, outer, err)
				}
				return nil
			}))
			func() {
				defer func() {
					if got := recover(); got != any(mine) {
						t.Errorf("%s in %s: recovered %v", inner, outer, got)
					}
				}()
				call(func() error { return nested(func() error { panic(mine) }) })
			}()
			if err := call(func() error { return nested(func() error { return mine }) }); !errors.Is(err, mine) {
				t.Errorf("%s in %s: %v", inner, outer, err)
			}
		}
	}
}
