// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// An object that is closed in the middle of a call is released after the call, once, and no sooner.
func TestReleasedAfterTheCall(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	machine, err := NewContext(NumThreads(1))
	check(err)
	defer machine.Close()
	process, err := NewVEPower(2, 1, 80)
	check(err)
	defer process.Close()
	x, at := NewMatrix[float64](2, 1), Vector(0.5)
	var during func() // what the callback of a call does
	score := func() *Score {
		s, err := machine.NewCustomScore(process, 1, Model{
			Eval: func(_ Matrix[float64], _ []float64, _ Matrix[float64]) error { during(); return nil },
			JVP:  func(_ Matrix[float64], _ []float64, _, _ Matrix[float64]) error { during(); return nil },
		})
		check(err)
		return s
	}
	data := func() *Dataset {
		d, err := machine.NewDataset(Vector(1.0), nil)
		check(err)
		return d
	}
	progress := Progress(func(_, _ int) error { during(); return nil })
	s1, s2, s3, d1, d2 := score(), score(), score(), data(), data()
	for name, c := range map[string]struct {
		object *object
		call   func() error
	}{
		"Eval":    {s1.object, func() error { return s1.Eval(ctx, x, at, Outputs{Score: x}) }},
		"JVP":     {s2.object, func() error { return s2.JVP(ctx, x, at, x, x) }},
		"Sample":  {s3.object, func() error { return s3.Sample(ctx, x, SolverEuler, GridUniformT) }},
		"Nearest": {d1.object, func() error { return d1.Nearest(ctx, x, MetricL2, 1, nil, nil, progress) }},
		"Memorization": {d2.object, func() error {
			_, err := d2.Memorization(ctx, x, 1, progress)
			return err
		}},
	} {
		callbacks, released, release := 0, 0, c.object.release
		c.object.release = func(native unsafe.Pointer) { released++; release(native) }
		during = func() {
			callbacks++
			c.object.close()
			if released != 0 {
				t.Errorf("%s: released during the call", name)
			}
		}
		check(c.call())
		if c.object.close(); callbacks == 0 || released != 1 {
			t.Errorf("%s: released %d times after %d callbacks", name, released, callbacks)
		}
	}
}

// Objects that are forgotten are released by their finalizers, those of a score before or after it, each once.
func TestForgottenObjects(t *testing.T) {
	const rounds = 50
	var released [4]int32
	func() {
		for i := 0; i < rounds; i++ {
			c, err := NewContext(NumThreads(1))
			if err != nil {
				t.Fatal(err)
			}
			p, _ := NewFlow()
			d, err := c.NewDataset(NewMatrix[float64](10, 2), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := d.NewEmpiricalScore(p)
			if err != nil {
				t.Fatal(err)
			}
			for kind, o := range []*object{c.object, p.object, d.object, s.object} {
				count, release := &released[kind], o.release
				o.release = func(native unsafe.Pointer) {
					atomic.AddInt32(count, 1)
					release(native)
				}
			}
		}
	}()
	all := func() (n int32) {
		for kind := range released {
			n += atomic.LoadInt32(&released[kind])
		}
		return n
	}
	for end := time.Now().Add(20 * time.Second); all() < 4*rounds && time.Now().Before(end); time.Sleep(time.Millisecond) {
		runtime.GC()
	}
	runtime.GC()
	for kind, name := range []string{"contexts", "processes", "data sets", "scores"} {
		if n := atomic.LoadInt32(&released[kind]); n != rounds {
			t.Errorf("%d of %d %s are released", n, rounds, name)
		}
	}
}
