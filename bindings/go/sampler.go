// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import "context"

// A SampleOption is an option of [Score.Sample]. A [Solver], a [Grid] and every [CallOption] is one too.
type SampleOption interface{ sample(*sampleConfig) }

type sampleConfig struct {
	callConfig
	options  C.mnemo_sampler_options
	times    []float64
	observes DType // the element type of the observer's matrix; 0 without an observer, or for one of any
	onDevice bool  // the observer takes a DeviceMatrix
}

type sampleOption func(*sampleConfig)

func (f sampleOption) sample(c *sampleConfig) { f(c) }

// A Solver integrates the reverse process.
type Solver uint32

const (
	SolverEuler         Solver = C.MNEMO_SOLVER_EULER          // explicit Euler on the ODE dx/dt = -beta/2 x - g/2 s
	SolverHeun          Solver = C.MNEMO_SOLVER_HEUN           // Heun on the ODE (Karras et al. 2022, Alg. 1); initially
	SolverExponential   Solver = C.MNEMO_SOLVER_EXPONENTIAL    // DDIM (Song et al. 2021); with Eta > 0 its stochastic form
	SolverDPMpp2M       Solver = C.MNEMO_SOLVER_DPMPP_2M       // DPM-Solver++(2M) (Lu et al. 2022)
	SolverRK45          Solver = C.MNEMO_SOLVER_RK45           // Dormand-Prince 5(4) on the ODE, per sample: Rtol, Atol
	SolverEulerMaruyama Solver = C.MNEMO_SOLVER_EULER_MARUYAMA // Euler-Maruyama on the SDE with noise Alpha2
	SolverAncestral     Solver = C.MNEMO_SOLVER_ANCESTRAL      // DDPM (Ho et al. 2020), with Eta times its noise
	SolverEDMStochastic Solver = C.MNEMO_SOLVER_EDM_STOCHASTIC // Karras et al. 2022, Alg. 2: SChurn, SMin, SMax, SNoise
)

func (s Solver) sample(c *sampleConfig) { c.options.solver = C.uint32_t(s) }

// A Grid lays out a sampler's times. For your own use [Times].
type Grid uint32

const (
	GridUniformT Grid = C.MNEMO_GRID_UNIFORM_T // equal steps in t
	GridUniformS Grid = C.MNEMO_GRID_UNIFORM_S // equal steps in log sigma
	GridKarras   Grid = C.MNEMO_GRID_KARRAS    // equal steps in (sigma/m)^(1/Rho); the initial value
)

func (g Grid) sample(c *sampleConfig) { c.options.grid, c.times = C.uint32_t(g), nil }

// Times are the nodes of a grid of your own, strictly falling; a last node of 0, where sigma is 0, means a denoising
// step. They take the place of a [Grid], [Steps], [TStart] and [TEnd].
func Times(t ...float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.grid, c.times = C.MNEMO_GRID_CUSTOM, t })
}

// Steps is the number of steps, the denoising one included; initially 18. Not looked at by SolverRK45.
func Steps(n int) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.steps = C.int64_t(n) })
}

// Seed is the seed of every random number of the call; initially 0.
func Seed(seed uint64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.seed = seed })
}

// FromPrior starts from sigma(t_start) z, z standard normal, which fits where m(t_start) y is small beside sigma;
// without it the start is the caller's x.
func FromPrior() SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.from_prior = 1 })
}

// DenoiseLast ends with x <- denoised(x, last time).
func DenoiseLast() SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.denoise_last = 1 })
}

// FirstSample is the index in the random stream of the first row of x: a batch that is split continues with the index
// of its part. Initially 0.
func FirstSample(index int) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.first_sample = C.int64_t(index) })
}

// TStart is the first time; initially, or if it is NaN, the process's last.
func TStart(t float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.t_start = C.double(t) })
}

// TEnd is the last time at which the score is evaluated, where sigma > 0; initially, or if it is NaN, that of sigma =
// 0.002, or the process's first.
func TEnd(t float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.t_end = C.double(t) })
}

// Alpha2 is alpha^2 >= 0 of the SDE, for SolverEulerMaruyama; initially 1 there. The ODE solvers accept 0 only.
func Alpha2(alpha2 float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.alpha2 = C.double(alpha2) })
}

// Eta is eta in [0, 1] of SolverExponential (initially 0) and SolverAncestral (initially 1).
func Eta(eta float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.eta = C.double(eta) })
}

// Rtol is the relative tolerance of SolverRK45; initially 1e-5.
func Rtol(rtol float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.rtol = C.double(rtol) })
}

// Atol is the absolute tolerance of SolverRK45; initially 1e-5.
func Atol(atol float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.atol = C.double(atol) })
}

// Rho is rho of GridKarras; initially 7.
func Rho(rho float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.rho = C.double(rho) })
}

// SChurn is S_churn of SolverEDMStochastic; initially 0.
func SChurn(churn float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.s_churn = C.double(churn) })
}

// SMin: no churn below this sigma/m; initially 0.
func SMin(sigma float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.s_min = C.double(sigma) })
}

// SMax: no churn above this sigma/m; initially infinity.
func SMax(sigma float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.s_max = C.double(sigma) })
}

// SNoise is the standard deviation of the churn noise; initially 1.
func SNoise(s float64) SampleOption {
	return sampleOption(func(c *sampleConfig) { c.options.s_noise = C.double(s) })
}

// Observer is called after each step, and before the first with step = 0, with the time reached (0 after a denoising
// step; SolverRK45: that of the slowest sample) and the state [batch, dim]. T is the element type of the x that is
// sampled. The state is the library's memory: it must not be written to, nor kept after the call. An error stops the
// sampler with [ErrCallback], caused by that error.
func Observer[T Float](f func(step int, t float64, x Matrix[T]) error) SampleOption {
	return sampleOption(func(c *sampleConfig) {
		c.observes, c.onDevice, c.observe = dtypeOf[T](), false, nil
		if f == nil {
			return
		}
		c.observe = func(step int, t float64, x *C.mnemo_tensor) error { return f(step, t, borrow[T](x)) }
	})
}

// DeviceObserver is [Observer] where x is a [DeviceMatrix]: what f does with the state it queues on the [Stream] of the call.
func DeviceObserver(f func(step int, t float64, x DeviceMatrix) error) SampleOption {
	return sampleOption(func(c *sampleConfig) {
		c.observes, c.onDevice, c.observe = 0, true, nil
		if f == nil {
			return
		}
		c.observe = func(step int, t float64, x *C.mnemo_tensor) error { return f(step, t, borrowDevice(x)) }
	})
}

// Sample integrates the reverse process of the score. x [batch, dim] (float32 or float64) holds the initial states,
// unless [FromPrior] is given, and receives the samples. Without options it is EDM's deterministic sampler: SolverHeun,
// GridKarras, 18 steps, rho = 7.
//
// A sample's bits depend on its initial state, its index ([FirstSample] + row), the [Seed] and the options, not on the
// batch it is in nor on the number of threads.
func (s *Score) Sample(ctx context.Context, x Tensor, options ...SampleOption) error {
	native, done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	var config sampleConfig
	C.mnemo_sampler_options_init(&config.options, C.sizeof_mnemo_sampler_options)
	for _, o := range options {
		if o != nil {
			o.sample(&config)
		}
	}
	var v views
	to := v.of("x", x)
	if v.err != nil {
		return v.err
	}
	if x != nil && config.observe != nil {
		if given := DType(to.dtype); !config.onDevice && config.observes != given {
			return newError(ErrDType, nil, "Observer: it takes matrices of %v; x is of %v", config.observes, given)
		}
		if config.onDevice != (to.device_type == C.MNEMO_CUDA) {
			return newError(ErrDevice, nil, "an Observer is for an x in the host's memory, a DeviceObserver for one of a device")
		}
	}
	o, observe := config.options, C.int(0)
	o.times_count = C.int64_t(len(config.times))
	if config.observe != nil {
		observe = 1
	}
	return config.run(ctx, s.custom, func(exec C.mnemo_go_exec, e *C.mnemo_error) C.int32_t {
		return C.mnemo_go_sample(native, &o, doubles(config.times), observe, to, exec, e)
	})
}
