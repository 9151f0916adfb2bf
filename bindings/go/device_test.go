// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"testing"

	"mnemo"
)

// there is a matrix that says it is on a device; nobody touches it here.
func there(rows, cols int, of mnemo.DType) mnemo.DeviceMatrix {
	return mnemo.DeviceMatrix{Pointer: 4096, Rows: rows, Cols: cols, DType: of, Device: 3}
}

// Every matrix of a device reaches the library, and a context of the CPU says which one it cannot use.
func TestDeviceMatricesOnTheCPU(t *testing.T) {
	d := newDataset(t, newContext(t), normal[float64](1, 8, 2), nil)
	s := empirical(t, d, edm(t))
	x, at, out := normal[float64](2, 3, 2), mnemo.Vector(0.5), mnemo.NewMatrix[float64](3, 2)
	far, vector := there(3, 2, mnemo.F64), there(3, 1, mnemo.F64)
	_, report := d.Memorization(ctx, far, 0.1)
	for name, err := range map[string]error{
		"x":             s.Eval(ctx, far, at, mnemo.Outputs{Score: out}),
		"t":             s.Eval(ctx, x, vector, mnemo.Outputs{Score: out}),
		"outputs.score": s.Eval(ctx, x, at, mnemo.Outputs{Score: far}, mnemo.Stream(64)),
		"v":             s.JVP(ctx, x, at, far, out),
		"out":           d.Gather([]int64{0, 1, 2}, far),
		"x_inout":       s.Sample(ctx, far),
		"queries":       d.Nearest(ctx, far, mnemo.MetricL2, 1, nil, nil),
		"generated":     report,
	} {
		fails(t, err, mnemo.ErrDevice, name+": a CUDA tensor, but its context computes on the CPU")
	}
}

func TestObserversAndDevices(t *testing.T) {
	d := newDataset(t, newContext(t), normal[float64](1, 8, 2), nil)
	s := empirical(t, d, edm(t))
	onHost := mnemo.Observer(func(int, float64, mnemo.Matrix[float64]) error { return nil })
	onDevice := mnemo.DeviceObserver(func(int, float64, mnemo.DeviceMatrix) error { return nil })
	fails(t, s.Sample(ctx, there(3, 2, mnemo.F64), onHost), mnemo.ErrDevice, "a DeviceObserver for one of a device")
	fails(t, s.Sample(ctx, normal[float64](2, 3, 2), onDevice), mnemo.ErrDevice, "an Observer is for an x in the host's memory")
	fails(t, s.Sample(ctx, there(3, 2, mnemo.F64), onDevice), mnemo.ErrDevice, "x_inout: a CUDA tensor")
	check(t, s.Sample(ctx, normal[float64](2, 3, 2), onDevice, mnemo.DeviceObserver(nil)))
}

func TestAModelForDevicesOnly(t *testing.T) {
	model := mnemo.Model{
		EvalDevice: func(x, t, out mnemo.DeviceMatrix, stream uintptr) error { return nil },
		JVPDevice:  func(x, t, v, out mnemo.DeviceMatrix, stream uintptr) error { return nil },
	}
	s := custom(t, edm(t), 2, model)
	x, at, out := normal[float64](2, 3, 2), mnemo.Vector(0.5), mnemo.NewMatrix[float64](3, 2)
	for _, err := range []error{s.Eval(ctx, x, at, mnemo.Outputs{Score: out}), s.JVP(ctx, x, at, x, out)} {
		fails(t, err, mnemo.ErrCallback, "computes on the CPU, and the model has functions for the memory of a device only",
			"MNEMO_E_UNSUPPORTED")
	}
}
