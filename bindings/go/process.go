// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import "unsafe"

// A Process is a forward process dx = -beta/2 x dt + sqrt(g) dW, under which x_t given a training row y is
// N(m(t) y, sigma(t)^2 I). It is immutable.
type Process struct{ object *object }

// NewVPLinear is variance preserving: beta = g = betaMin + (t/T)(betaMax - betaMin), 0 <= t <= T = tEnd; m = exp(-B/2),
// sigma^2 = 1 - exp(-B), B the integral of beta. Song et al.: 0.1, 20, 1. betaMin = betaMax is the constant schedule.
func NewVPLinear(betaMin, betaMax, tEnd float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_vp_linear(C.double(betaMin), C.double(betaMax), C.double(tEnd), out, e)
	})
}

// NewSubVP is sub-VP (Song et al. 2021): m and beta as for [NewVPLinear] with T = 1, sigma = 1 - exp(-B),
// g = beta (1 - exp(-2B)).
func NewSubVP(betaMin, betaMax float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_sub_vp(C.double(betaMin), C.double(betaMax), out, e)
	})
}

// NewVEPower is variance exploding: beta = 0, g = k t^a, m = 1, sigma^2 = k t^(a+1) / (a+1). EDM (sigma = t) is k = 2,
// a = 1, tEnd = 80. k > 0, a > -1.
func NewVEPower(k, a, tEnd float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_ve_power(C.double(k), C.double(a), C.double(tEnd), out, e)
	})
}

// NewVEExponential is variance exploding: beta = 0, g = r^t, m = 1, sigma^2 = (r^t - 1) / ln r, r = rateBase > 0.
func NewVEExponential(rateBase, tEnd float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_ve_exponential(C.double(rateBase), C.double(tEnd), out, e)
	})
}

// NewVEGeometric is variance exploding (Song et al. 2021): m = 1, sigma = sigmaMin (sigmaMax / sigmaMin)^t, 0 <= t <=
// 1. sigma(0) is sigmaMin, not 0.
func NewVEGeometric(sigmaMin, sigmaMax float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_ve_geometric(C.double(sigmaMin), C.double(sigmaMax), out, e)
	})
}

// NewDiscrete is discrete variance preserving (DDPM): alphaBar[0] … alphaBar[n-1], strictly falling in (0, 1), belong
// to t = 1 … n; m = sqrt(alphaBar), sigma^2 = 1 - alphaBar, and between steps log(sigma/m) is linear in t. t lies in
// [1, n].
func NewDiscrete(alphaBar []float64) (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t {
		return C.mnemo_process_discrete(doubles(alphaBar), C.int64_t(len(alphaBar)), out, e)
	})
}

// NewFlow is flow matching (rectified flow): x_t = (1 - t) y + t eps, m = 1 - t, sigma = t, 0 <= t <= 1; beta = 2 / (1
// - t) and g = 2t / (1 - t) are infinite at t = 1. The ODE solvers start there all the same, but on the Karras grid.
func NewFlow() (*Process, error) {
	return newProcess(func(out **C.mnemo_process, e *C.mnemo_error) C.int32_t { return C.mnemo_process_flow(out, e) })
}

func newProcess(create func(**C.mnemo_process, *C.mnemo_error) C.int32_t) (*Process, error) {
	if errABI != nil {
		return nil, errABI
	}
	var native *C.mnemo_process
	var e C.mnemo_error
	if status := create(&native, &e); status != C.MNEMO_OK {
		return nil, failure(status, &e, nil)
	}
	release := func(p unsafe.Pointer) { C.mnemo_process_release((*C.mnemo_process)(p)) }
	return &Process{newObject(unsafe.Pointer(native), release)}, nil
}

// Close releases the process; scores made from it keep it. The error is nil.
func (p *Process) Close() error {
	p.handle().close()
	return nil
}

func (p *Process) handle() *object {
	if p == nil {
		return nil
	}
	return p.object
}

func (p *Process) use() (*C.mnemo_process, func(), error) {
	native, done, err := p.handle().use("process")
	return (*C.mnemo_process)(native), done, err
}

// Coefficients are those of a process at some times, one of each per time.
type Coefficients struct{ M, Sigma, Beta, G []float64 }

// Eval is the process at the times t.
func (p *Process) Eval(t ...float64) (Coefficients, error) {
	native, done, err := p.use()
	if err != nil {
		return Coefficients{}, err
	}
	defer done()
	n := len(t)
	at := Coefficients{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
	var e C.mnemo_error
	status := C.mnemo_process_eval(native, doubles(t), C.int64_t(n),
		doubles(at.M), doubles(at.Sigma), doubles(at.Beta), doubles(at.G), &e)
	if status != C.MNEMO_OK {
		return Coefficients{}, failure(status, &e, nil)
	}
	return at, nil
}

// TimeOfSigma is the inverse of sigma(t): the times at which the process has the given noise levels.
func (p *Process) TimeOfSigma(sigma ...float64) ([]float64, error) {
	native, done, err := p.use()
	if err != nil {
		return nil, err
	}
	defer done()
	t := make([]float64, len(sigma))
	var e C.mnemo_error
	status := C.mnemo_process_time_of_sigma(native, doubles(sigma), C.int64_t(len(sigma)), doubles(t), &e)
	if status != C.MNEMO_OK {
		return nil, failure(status, &e, nil)
	}
	return t, nil
}

func doubles(s []float64) *C.double {
	if len(s) == 0 {
		return nil
	}
	return (*C.double)(&s[0])
}
