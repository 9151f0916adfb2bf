// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"context"
	"math"
	"unsafe"
)

// A Score is a model of grad log p_t(x). It is immutable, and keeps its data set, process and context.
type Score struct {
	object *object
	custom bool // evaluating it calls back
}

// An EmpiricalOption is an option of [Dataset.NewEmpiricalScore].
type EmpiricalOption interface {
	empirical(*C.mnemo_empirical_options)
}

type empiricalOption func(*C.mnemo_empirical_options)

func (f empiricalOption) empirical(o *C.mnemo_empirical_options) { f(o) }

// Tikhonov regularizes with strength c >= 0: s = (m ybar - x) / (sigma^2 + c).
func Tikhonov(c float64) EmpiricalOption { return regularizer(C.MNEMO_REG_TIKHONOV, c) }

// BayesDensity is empirical Bayes against the density, with strength c > 0: s min(1, p(x)/c).
func BayesDensity(c float64) EmpiricalOption { return regularizer(C.MNEMO_REG_BAYES_DENSITY, c) }

// BayesWeight is empirical Bayes against the unnormalised weights, with strength c > 0: s min(1, sum_n exp(l_n)/c).
func BayesWeight(c float64) EmpiricalOption { return regularizer(C.MNEMO_REG_BAYES_WEIGHT, c) }

// BayesDensityLog is [BayesDensity] with ln c, for a c beyond the range of float64, as in high dimension.
func BayesDensityLog(logC float64) EmpiricalOption { return bayesLog(C.MNEMO_REG_BAYES_DENSITY, logC) }

// BayesWeightLog is [BayesWeight] with ln c, for a c beyond the range of float64, as in high dimension: the weights at
// a noised training row sum to about exp(-d/2).
func BayesWeightLog(logC float64) EmpiricalOption { return bayesLog(C.MNEMO_REG_BAYES_WEIGHT, logC) }

func regularizer(kind C.uint32_t, c float64) EmpiricalOption {
	return empiricalOption(func(o *C.mnemo_empirical_options) {
		o.regularizer, o.strength, o.log_strength = kind, C.double(c), C.double(math.NaN())
	})
}

func bayesLog(kind C.uint32_t, logC float64) EmpiricalOption {
	return empiricalOption(func(o *C.mnemo_empirical_options) {
		o.regularizer, o.strength, o.log_strength = kind, 0, C.double(logC)
	})
}

// Tolerance is the summed weight below which training rows may be left out of ybar: in [0, 1), 0 leaves out none.
// Initially 1e-12, which is below what float64 results show.
func Tolerance(tolerance float64) EmpiricalOption {
	return empiricalOption(func(o *C.mnemo_empirical_options) { o.tolerance = C.double(tolerance) })
}

// Label makes the score conditional: the rows with this label alone form it.
func Label(label int64) EmpiricalOption {
	return empiricalOption(func(o *C.mnemo_empirical_options) { o.label, o.conditional = C.int64_t(label), 1 })
}

// NewEmpiricalScore makes the exact score of the training set smoothed by the process: with
// l_n = -|x - m y_n|^2 / (2 sigma^2), w = softmax(l) and ybar = sum_n w_n y_n, s = (m ybar - x) / sigma^2, or as a
// regularizer says ([Tikhonov], [BayesDensity], [BayesWeight]).
func (d *Dataset) NewEmpiricalScore(process *Process, options ...EmpiricalOption) (*Score, error) {
	data, done, err := d.use()
	if err != nil {
		return nil, err
	}
	defer done()
	p, done, err := process.use()
	if err != nil {
		return nil, err
	}
	defer done()
	var o C.mnemo_empirical_options
	C.mnemo_empirical_options_init(&o, C.sizeof_mnemo_empirical_options)
	for _, option := range options {
		if option != nil {
			option.empirical(&o)
		}
	}
	var native *C.mnemo_score
	var e C.mnemo_error
	if status := C.mnemo_score_empirical(data, p, &o, &native, &e); status != C.MNEMO_OK {
		return nil, failure(status, &e, nil)
	}
	return newScore(native, false), nil
}

func newScore(native *C.mnemo_score, custom bool) *Score {
	release := func(p unsafe.Pointer) { C.mnemo_score_release((*C.mnemo_score)(p)) }
	return &Score{newObject(unsafe.Pointer(native), release), custom}
}

// Close releases the score. The error is nil.
func (s *Score) Close() error {
	s.handle().close()
	return nil
}

func (s *Score) handle() *object {
	if s == nil {
		return nil
	}
	return s.object
}

func (s *Score) use() (*C.mnemo_score, func(), error) {
	native, done, err := s.handle().use("score")
	return (*C.mnemo_score)(native), done, err
}

// Outputs are what [Score.Eval] computes: those that are not nil, all in one pass over the data. Matrices are [batch, dim]
// of the element type of x; vectors are [batch, 1], float64 or float32 unless said otherwise. A custom score has Score
// and Denoised only.
type Outputs struct {
	Score           Tensor // s(x, t), the score with its regularizer
	Denoised        Tensor // (x + sigma^2 s) / m of that score; without a regularizer, ybar
	LogDensity      Tensor // vector: ln p_t(x) of the unregularized mixture, nats
	Divergence      Tensor // vector: div s, the trace of the score's derivative
	Entropy         Tensor // vector: entropy of the weights w, nats
	NearestIndex    Tensor // vector of int64: argmin_n |x - m y_n|, ties to the lowest index
	NearestDistance Tensor // vector: min_n |x - m y_n|

	// Vectors: upper bounds on the error of Denoised (its length, in the element type of x) and of LogDensity, by what was
	// left out and rounded, whether or not these are asked for. Rigorous but for the roundings of products where many rows
	// have weight: these are taken as independent, and eight standard deviations of their sum as its most. See
	// mnemo_score_outputs.
	DenoisedErrorBound, LogDensityErrorBound Tensor
}

// Eval evaluates the score at x [batch, dim] (float32 or float64) and times t (a vector of one, or of one per row;
// float64 or float32).
func (s *Score) Eval(ctx context.Context, x, t Tensor, outputs Outputs, options ...CallOption) error {
	native, done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	var v views
	at, times := v.of("x", x), v.of("t", t)
	out := C.mnemo_go_outputs{
		score:            v.of("score", outputs.Score),
		denoised:         v.of("denoised", outputs.Denoised),
		log_density:      v.of("log_density", outputs.LogDensity),
		divergence:       v.of("divergence", outputs.Divergence),
		entropy:          v.of("entropy", outputs.Entropy),
		nearest_index:    v.of("nearest_index", outputs.NearestIndex),
		nearest_distance: v.of("nearest_distance", outputs.NearestDistance),

		denoised_error_bound:    v.of("denoised_error_bound", outputs.DenoisedErrorBound),
		log_density_error_bound: v.of("log_density_error_bound", outputs.LogDensityErrorBound),
	}
	if v.err != nil {
		return v.err
	}
	return callOptions(options).run(ctx, s.custom, func(exec C.mnemo_go_exec, e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_score_eval(native, at, times, out, exec, e)
	})
}

// JVP writes the derivative of the score along v, J v, at x and t as for [Score.Eval] to out. v and out are [batch,
// dim] of the element type of x. A custom score needs a model with a JVP.
func (s *Score) JVP(ctx context.Context, x, t, v, out Tensor, options ...CallOption) error {
	native, done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	var all views
	at, times, along, to := all.of("x", x), all.of("t", t), all.of("v", v), all.of("out", out)
	if all.err != nil {
		return all.err
	}
	return callOptions(options).run(ctx, s.custom, func(exec C.mnemo_go_exec, e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_score_jvp(native, at, times, along, to, exec, e)
	})
}
