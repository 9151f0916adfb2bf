// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"context"
	"errors"
	"math"
	"math/rand"
	"strings"
	"testing"
	"time"

	"mnemo"
)

var ctx = context.Background()

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err is an *Error of that code, whose text has the words.
func fails(t testing.TB, err error, code mnemo.Code, words ...string) *mnemo.Error {
	t.Helper()
	var e *mnemo.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *mnemo.Error; expected %v", err, code)
	}
	if e.Code != code || e.Name != code.String() || !errors.Is(err, code) {
		t.Fatalf("%v; expected %v", err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not contain %q", err, word)
		}
	}
	return e
}

// near checks an error relative to 1 + |want|.
func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if got == want {
		return
	}
	if !(math.Abs(got-want) <= tolerance*(1+math.Abs(want))) {
		t.Fatalf("%s is %v; expected %v", what, got, want)
	}
}

func newContext(t testing.TB, options ...mnemo.ContextOption) *mnemo.Context {
	t.Helper()
	c := must(mnemo.NewContext(options...))(t)
	t.Cleanup(func() { c.Close() })
	return c
}

func edm(t testing.TB) *mnemo.Process {
	t.Helper()
	p := must(mnemo.NewVEPower(2, 1, 80))(t)
	t.Cleanup(func() { p.Close() })
	return p
}

func newDataset(t testing.TB, c *mnemo.Context, rows, labels mnemo.Tensor, options ...mnemo.DatasetOption) *mnemo.Dataset {
	t.Helper()
	d := must(c.NewDataset(rows, labels, options...))(t)
	t.Cleanup(func() { d.Close() })
	return d
}

func empirical(t testing.TB, d *mnemo.Dataset, p *mnemo.Process, options ...mnemo.EmpiricalOption) *mnemo.Score {
	t.Helper()
	s := must(d.NewEmpiricalScore(p, options...))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

func custom(t testing.TB, p *mnemo.Process, dim int, model mnemo.Model) *mnemo.Score {
	t.Helper()
	s := must(newContext(t, mnemo.NumThreads(1)).NewCustomScore(p, dim, model))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

// normal is a matrix of standard normal numbers.
func normal[T mnemo.Float](seed int64, rows, cols int) mnemo.Matrix[T] {
	random, m := rand.New(rand.NewSource(seed)), mnemo.NewMatrix[T](rows, cols)
	for i := range m.Data {
		m.Data[i] = T(random.NormFloat64())
	}
	return m
}

// same is whether two slices have the same elements.
func same[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// eventually waits for a condition that other goroutines, or the garbage collector, bring about.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
	}
}
