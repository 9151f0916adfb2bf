// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"math"
	"runtime/cgo"
	"unsafe"
)

// A Prediction is what a [Model] computes.
type Prediction uint32

const (
	PredictScore Prediction = C.MNEMO_PREDICT_SCORE // the score s
	PredictEps   Prediction = C.MNEMO_PREDICT_EPS   // the noise, eps = -sigma s
	PredictX0    Prediction = C.MNEMO_PREDICT_X0    // the denoised value, x0 = (x + sigma^2 s) / m
	PredictV     Prediction = C.MNEMO_PREDICT_V     // the velocity, v = m eps - sigma x0
	PredictFlow  Prediction = C.MNEMO_PREDICT_FLOW  // the flow velocity, u = eps - x0
)

// A Model is a score of your own. Its functions run once per evaluation for the whole batch, on the goroutine that uses
// the score, and may call the library. Goroutines that share the score call them at the same time.
//
// x, v and out are [batch, dim] and contiguous, t has one time per row. They are the library's memory: read and write
// their elements during the call, and keep no part of them after it.
//
// A batch of float32 is for Eval32 and JVP32, one of float64 for Eval and JVP. If the one is nil, the other is given a
// converted copy of the batch: a model needs one of a kind. One of float32 alone has the accuracy of float32
// everywhere.
//
// On a [CUDA] context a batch is in its device's memory, and for EvalDevice and JVPDevice alone: without them it is
// [ErrUnsupported]. What they do with it they queue on stream, that of the call.
//
// A model lives as long as its score. One that holds its own score is released by Close only.
type Model struct {
	Prediction Prediction // what Eval writes; the zero value is PredictScore

	// Eval writes the prediction at (x, t) to out.
	Eval   func(x Matrix[float64], t []float64, out Matrix[float64]) error
	Eval32 func(x Matrix[float32], t []float64, out Matrix[float32]) error
	// EvalDevice does so on a CUDA context. x and out are of F32 or F64, t is a vector of F64.
	EvalDevice func(x, t, out DeviceMatrix, stream uintptr) error

	// JVP writes the derivative of the prediction along v to out. Without one, [Score.JVP] is [ErrUnsupported].
	JVP   func(x Matrix[float64], t []float64, v, out Matrix[float64]) error
	JVP32 func(x Matrix[float32], t []float64, v, out Matrix[float32]) error
	// JVPDevice does so on a CUDA context.
	JVPDevice func(x, t, v, out DeviceMatrix, stream uintptr) error
}

// NewCustomScore makes a score of your own model, of dimension dim.
func (c *Context) NewCustomScore(process *Process, dim int, model Model) (*Score, error) {
	context, done, err := c.use()
	if err != nil {
		return nil, err
	}
	defer done()
	p, done, err := process.use()
	if err != nil {
		return nil, err
	}
	defer done()
	flag := func(has bool) C.int {
		if has {
			return 1
		}
		return 0
	}
	handle := cgo.NewHandle(&model) // deleted by mnemoGoDrop
	var native *C.mnemo_score
	var e C.mnemo_error
	status := C.mnemo_go_score_custom(context, p, C.int64_t(dim), C.uint32_t(model.Prediction),
		flag(model.Eval != nil || model.Eval32 != nil || model.EvalDevice != nil),
		flag(model.JVP != nil || model.JVP32 != nil || model.JVPDevice != nil),
		C.uintptr_t(handle), &native, &e)
	if status != C.MNEMO_OK {
		handle.Delete()
		return nil, failure(status, &e, nil)
	}
	return newScore(native, true), nil
}

//export mnemoGoDrop
func mnemoGoDrop(model C.uintptr_t) { cgo.Handle(model).Delete() }

//export mnemoGoPredict
func mnemoGoPredict(record, model C.uintptr_t, x, t, v, out *C.mnemo_tensor, stream C.uintptr_t) C.int32_t {
	m := cgo.Handle(model).Value().(*Model)
	return callBack(record, func(*call) error {
		if x.device_type == C.MNEMO_CPU {
			return m.predict(x, t, v, out)
		}
		return m.predictOnDevice(x, t, v, out, uintptr(stream))
	})
}

// predictOnDevice is EvalDevice, or with v JVPDevice.
func (m *Model) predictOnDevice(x, t, v, out *C.mnemo_tensor, stream uintptr) error {
	if v == nil && m.EvalDevice != nil {
		return m.EvalDevice(borrowDevice(x), borrowDevice(t), borrowDevice(out), stream)
	}
	if v != nil && m.JVPDevice != nil {
		return m.JVPDevice(borrowDevice(x), borrowDevice(t), borrowDevice(v), borrowDevice(out), stream)
	}
	return newError(ErrUnsupported, nil,
		"the context computes on a CUDA device, and the model has no function for its memory: EvalDevice, JVPDevice")
}

// predict is Eval, or with v JVP.
func (m *Model) predict(x, t, v, out *C.mnemo_tensor) error {
	inputs, f64, f32 := []*C.mnemo_tensor{x}, evalOf(m.Eval), evalOf(m.Eval32)
	if v != nil {
		inputs, f64, f32 = append(inputs, v), jvpOf(m.JVP), jvpOf(m.JVP32)
	}
	times := unsafe.Slice((*float64)(t.data), int(t.rows))
	if DType(x.dtype) == F32 {
		return apply(f32, f64, inputs, times, out)
	}
	return apply(f64, f32, inputs, times, out)
}

// function is an Eval of (x) or a JVP of (x, v).
type function[T Float] func(inputs []Matrix[T], t []float64, out Matrix[T]) error

func evalOf[T Float](eval func(x Matrix[T], t []float64, out Matrix[T]) error) function[T] {
	if eval == nil {
		return nil
	}
	return func(in []Matrix[T], t []float64, out Matrix[T]) error { return eval(in[0], t, out) }
}

func jvpOf[T Float](jvp func(x Matrix[T], t []float64, v, out Matrix[T]) error) function[T] {
	if jvp == nil {
		return nil
	}
	return func(in []Matrix[T], t []float64, out Matrix[T]) error { return jvp(in[0], t, in[1], out) }
}

// apply calls the function for a batch of T, or if there is none the one for U with copies.
func apply[T, U Float](same function[T], other function[U], inputs []*C.mnemo_tensor, t []float64,
	out *C.mnemo_tensor) error {
	lent, to := make([]Matrix[T], len(inputs)), borrow[T](out)
	for i, input := range inputs {
		lent[i] = borrow[T](input)
	}
	if same != nil {
		return same(lent, t, to)
	}
	if other == nil {
		return newError(ErrUnsupported, nil,
			"the context computes on the CPU, and the model has functions for the memory of a device only")
	}
	copies, result := make([]Matrix[U], len(lent)), NewMatrix[U](to.Rows, to.Cols)
	for i, from := range lent {
		copies[i] = NewMatrix[U](from.Rows, from.Cols)
		convert(copies[i].Data, from.Data)
		if infinite(copies[i].Data) {
			return newError(ErrUnsupported, nil,
				"a value is beyond the range of float32, and the model has no function for float64")
		}
	}
	if err := other(copies, t, result); err != nil {
		return err
	}
	convert(to.Data, result.Data)
	return nil
}

func convert[T, U Float](to []T, from []U) {
	for i, v := range from {
		to[i] = T(v)
	}
}

func infinite[T Float](values []T) bool {
	for _, v := range values {
		if math.IsInf(float64(v), 0) {
			return true
		}
	}
	return false
}
