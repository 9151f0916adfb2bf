// SPDX-License-Identifier: MIT OR Apache-2.0

//go:build mnemo_cuda

// CUDA contexts on device 0, or a stand-in for it: see test-cuda.sh.

package mnemo_test

import (
	"errors"
	"math"
	"testing"

	"mnemo"
	"mnemo/internal/device"
)

func onDevice[T mnemo.Element](m mnemo.Matrix[T], of mnemo.DType) mnemo.DeviceMatrix {
	return mnemo.DeviceMatrix{Pointer: device.Copy(m.Data), Rows: m.Rows, Cols: m.Cols, DType: of}
}

func numbers(m mnemo.DeviceMatrix, stream uintptr) []float64 {
	values := make([]float64, m.Rows*m.Cols)
	device.Get(values, m.Pointer, stream)
	return values
}

func TestCUDAContext(t *testing.T) {
	c := newContext(t, mnemo.CUDA(0), mnemo.KernelCacheDir(t.TempDir()))
	check(t, c.WarmUp())
	d := must(c.Describe())(t)
	if d.Backend != "cuda" || d.DeviceID != 0 || d.Driver == "" || d.Kernels.NotLoaded != 0 || d.Cache == nil {
		t.Errorf("the context is %+v", d)
	}
}

func TestCUDAData(t *testing.T) {
	c := newContext(t, mnemo.CUDA(0))
	rows := normal[float64](1, 8, 2)
	for _, given := range []mnemo.Tensor{rows, onDevice(rows, mnemo.F64)} {
		d, there := newDataset(t, c, given, nil), onDevice(mnemo.NewMatrix[float64](2, 2), mnemo.F64)
		check(t, d.Gather([]int64{7, 0}, there))
		if got := numbers(there, 0); !same(got, append(append([]float64{}, rows.Row(7)...), rows.Row(0)...)) {
			t.Errorf("rows 7 and 0 are %v", got)
		}
	}
}

// halve is the denoised value of N(0, I / 2) at sigma = t.
func halve(x, t []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		s := t[i*len(t)/len(x)]
		out[i] = 0.5 / (0.5 + s*s) * x[i]
	}
	return out
}

func TestCUDAModel(t *testing.T) {
	c, p := newContext(t, mnemo.CUDA(0)), edm(t)
	var streams []uintptr
	model := mnemo.Model{
		Prediction: mnemo.PredictX0,
		EvalDevice: func(x, t, out mnemo.DeviceMatrix, stream uintptr) error {
			streams = append(streams, stream)
			device.Put(out.Pointer, halve(numbers(x, stream), numbers(t, stream)), stream)
			return nil
		},
		JVPDevice: func(x, t, v, out mnemo.DeviceMatrix, stream uintptr) error {
			device.Put(out.Pointer, halve(numbers(v, stream), numbers(t, stream)), stream)
			return nil
		},
	}
	s := must(c.NewCustomScore(p, 2, model))(t)
	defer s.Close()
	x, at := normal[float64](2, 3, 2), mnemo.Vector(0.5, 1, 2)
	want := halve(x.Data, at.Data)
	for _, stream := range []uintptr{0, device.Stream()} {
		there, out := onDevice(x, mnemo.F64), onDevice(mnemo.NewMatrix[float64](3, 2), mnemo.F64)
		streams = nil
		check(t, s.Eval(ctx, there, at, mnemo.Outputs{Denoised: out}, mnemo.Stream(stream)))
		for i, got := range numbers(out, stream) {
			near(t, "the denoised value", got, want[i], 1e-12)
		}
		if !same(streams, []uintptr{stream}) {
			t.Errorf("the model's streams are %v", streams)
		}
		check(t, s.JVP(ctx, there, at, there, out, mnemo.Stream(stream)))
	}

	host := mnemo.NewMatrix[float64](3, 2)
	check(t, s.Eval(ctx, x, at, mnemo.Outputs{Denoised: host}))
	for i, got := range host.Data {
		near(t, "the denoised value", got, want[i], 1e-12)
	}

	there, steps := onDevice(x, mnemo.F64), 0
	check(t, s.Sample(ctx, there, mnemo.Steps(3), mnemo.DeviceObserver(func(step int, _ float64, state mnemo.DeviceMatrix) error {
		steps++
		if step == 0 && !same(numbers(state, 0), x.Data) {
			return errors.New("the first state is not x")
		}
		return nil
	})))
	copied := mnemo.Matrix[float64]{Data: append([]float64{}, x.Data...), Rows: 3, Cols: 2}
	check(t, s.Sample(ctx, copied, mnemo.Steps(3)))
	if steps != 4 || !same(numbers(there, 0), copied.Data) {
		t.Errorf("%d steps to %v; in the host's memory %v", steps, numbers(there, 0), copied.Data)
	}
}

func TestCUDARefuses(t *testing.T) {
	c, p := newContext(t, mnemo.CUDA(0)), edm(t)
	s := must(c.NewCustomScore(p, 2, mnemo.Model{
		Eval: func(x mnemo.Matrix[float64], t []float64, out mnemo.Matrix[float64]) error { return nil },
	}))(t)
	defer s.Close()
	x, at := normal[float64](2, 3, 2), mnemo.Vector(0.5)
	fails(t, s.Eval(ctx, x, at, mnemo.Outputs{Score: x}), mnemo.ErrCallback, "EvalDevice", "MNEMO_E_UNSUPPORTED")
	x.Data[3] = math.NaN()
	there := onDevice(x, mnemo.F64)
	fails(t, s.Eval(ctx, there, at, mnemo.Outputs{Score: there}, mnemo.Check()), mnemo.ErrInvalid, "x: row 1")
	there.Device = 1
	fails(t, s.Eval(ctx, there, at, mnemo.Outputs{Score: there}), mnemo.ErrDevice, "x: on CUDA device 1")
}
