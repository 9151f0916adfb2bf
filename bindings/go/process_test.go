// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"math"
	"testing"

	"mnemo"
)

// Every process against its closed form.
func TestProcesses(t *testing.T) {
	type point struct{ m, sigma, beta, g float64 }
	alphaBar := []float64{0.9, 0.5, 0.1}
	cases := []struct {
		name string
		made func() (*mnemo.Process, error)
		t    []float64
		at   func(t float64) point
	}{
		{"VPLinear", func() (*mnemo.Process, error) { return mnemo.NewVPLinear(0.1, 20, 2) }, []float64{0.1, 1, 2},
			func(t float64) point {
				beta, b := 0.1+t/2*19.9, 0.1*t+19.9*t*t/4
				return point{math.Exp(-b / 2), math.Sqrt(-math.Expm1(-b)), beta, beta}
			}},
		{"SubVP", func() (*mnemo.Process, error) { return mnemo.NewSubVP(0.1, 20) }, []float64{0.1, 0.5, 1},
			func(t float64) point {
				beta, b := 0.1+t*19.9, 0.1*t+19.9*t*t/2
				return point{math.Exp(-b / 2), -math.Expm1(-b), beta, -beta * math.Expm1(-2*b)}
			}},
		{"VEPower", func() (*mnemo.Process, error) { return mnemo.NewVEPower(3, 0.5, 10) }, []float64{0.1, 1, 10},
			func(t float64) point { return point{1, math.Sqrt(3 * math.Pow(t, 1.5) / 1.5), 0, 3 * math.Sqrt(t)} }},
		{"VEExponential", func() (*mnemo.Process, error) { return mnemo.NewVEExponential(100, 1) }, []float64{0.1, 0.5, 1},
			func(t float64) point {
				return point{1, math.Sqrt((math.Pow(100, t) - 1) / math.Log(100)), 0, math.Pow(100, t)}
			}},
		{"VEGeometric", func() (*mnemo.Process, error) { return mnemo.NewVEGeometric(0.01, 50) }, []float64{0, 0.5, 1},
			func(t float64) point {
				sigma := 0.01 * math.Pow(5000, t)
				return point{1, sigma, 0, 2 * math.Log(5000) * sigma * sigma}
			}},
		{"Discrete", func() (*mnemo.Process, error) { return mnemo.NewDiscrete(alphaBar) }, []float64{1, 2, 3},
			func(t float64) point {
				a := alphaBar[int(t)-1]
				return point{m: math.Sqrt(a), sigma: math.Sqrt(1 - a)}
			}},
		{"Flow", mnemo.NewFlow, []float64{0.1, 0.5, 1},
			func(t float64) point { return point{1 - t, t, 2 / (1 - t), 2 * t / (1 - t)} }},
	}
	for _, c := range cases {
		p := must(c.made())(t)
		got := must(p.Eval(c.t...))(t)
		for i, at := range c.t {
			want := c.at(at)
			near(t, c.name+".M", got.M[i], want.m, 1e-12)
			near(t, c.name+".Sigma", got.Sigma[i], want.sigma, 1e-12)
			if c.name != "Discrete" {
				near(t, c.name+".Beta", got.Beta[i], want.beta, 1e-12)
				near(t, c.name+".G", got.G[i], want.g, 1e-12)
			}
		}
		back := must(p.TimeOfSigma(got.Sigma...))(t)
		for i := range back {
			near(t, c.name+".TimeOfSigma", back[i], c.t[i], 1e-9)
		}
		check(t, p.Close())
	}
}

func TestProcessErrors(t *testing.T) {
	nan := math.NaN()
	made := func(p *mnemo.Process, err error) error {
		if p != nil {
			t.Error("a process and an error")
		}
		return err
	}
	fails(t, made(mnemo.NewVPLinear(nan, 20, 1)), mnemo.ErrInvalid, "beta_min")
	fails(t, made(mnemo.NewVPLinear(0.1, 20, -1)), mnemo.ErrInvalid, "t_end")
	fails(t, made(mnemo.NewSubVP(0.1, math.Inf(1))), mnemo.ErrInvalid, "beta_max")
	fails(t, made(mnemo.NewVEPower(-1, 1, 80)), mnemo.ErrInvalid, "k")
	fails(t, made(mnemo.NewVEExponential(0, 1)), mnemo.ErrInvalid, "rate_base")
	fails(t, made(mnemo.NewVEGeometric(1, 0.5)), mnemo.ErrInvalid, "sigma")
	fails(t, made(mnemo.NewDiscrete(nil)), mnemo.ErrInvalid, "alpha_bar")
	fails(t, made(mnemo.NewDiscrete([]float64{0.5, 0.9})), mnemo.ErrInvalid, "alpha_bar")

	p := edm(t)
	_, err := p.Eval(1, 81)
	fails(t, err, mnemo.ErrInvalid, "element 1", "81")
	_, err = p.TimeOfSigma(nan)
	fails(t, err, mnemo.ErrInvalid, "element 0")
	if at := must(p.Eval())(t); len(at.M)+len(at.Sigma)+len(at.Beta)+len(at.G) != 0 {
		t.Error("no times, but coefficients")
	}
	if times := must(p.TimeOfSigma())(t); len(times) != 0 {
		t.Error("no noise levels, but times")
	}
}
