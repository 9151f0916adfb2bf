// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"mnemo"
)

// made is what a call made; an example has no use for its error.
func made[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// Which of three training rows might two noisy points come from?
func ExampleScore_Eval() {
	machine := made(mnemo.NewContext())
	defer machine.Close()
	process := made(mnemo.NewVPLinear(0.1, 20, 1))
	defer process.Close()
	data := made(machine.NewDataset(mnemo.Matrix[float64]{Data: []float64{-1, -1, 0, 1, 1, -1}, Rows: 3, Cols: 2}, nil))
	defer data.Close()
	score := made(data.NewEmpiricalScore(process))
	defer score.Close()

	x := mnemo.Matrix[float64]{Data: []float64{0.9, -0.8, 0, -0.5}, Rows: 2, Cols: 2}
	denoised, entropy, nearest := mnemo.NewMatrix[float64](2, 2), mnemo.NewMatrix[float64](2, 1), mnemo.NewMatrix[int64](2, 1)
	err := score.Eval(context.Background(), x, mnemo.Vector(0.2), mnemo.Outputs{
		Denoised: denoised, Entropy: entropy, NearestIndex: nearest,
	})
	if err != nil {
		log.Fatal(err)
	}
	for i := 0; i < x.Rows; i++ {
		fmt.Printf("%4.1f: denoised %5.2f, nearest to row %d, entropy %.2f nats\n",
			x.Row(i), denoised.Row(i), nearest.Data[i], entropy.Data[i])
	}
	// Output:
	// [ 0.9 -0.8]: denoised [ 0.97 -0.99], nearest to row 2, entropy 0.11 nats
	// [ 0.0 -0.5]: denoised [ 0.00 -0.78], nearest to row 0, entropy 0.96 nats
}

// The nearest other row of each training row.
func ExampleDataset_Nearest() {
	machine := made(mnemo.NewContext())
	defer machine.Close()
	rows := mnemo.Vector[float32](0, 1, 5, 7)
	data := made(machine.NewDataset(rows, nil))
	defer data.Close()
	distance, index := mnemo.NewMatrix[float32](4, 2), mnemo.NewMatrix[int64](4, 2)
	if err := data.Nearest(context.Background(), rows, mnemo.MetricL2, 2, distance, index); err != nil {
		log.Fatal(err)
	}
	for i := range rows.Data {
		fmt.Printf("row %d: row %d at %v\n", i, index.Row(i)[1], distance.Row(i)[1])
	}
	// Output:
	// row 0: row 1 at 1
	// row 1: row 0 at 1
	// row 2: row 3 at 2
	// row 3: row 2 at 2
}

// The noise levels of a DDPM schedule, and the time of one of them.
func ExampleProcess_Eval() {
	process := made(mnemo.NewDiscrete([]float64{0.99, 0.75, 0.19}))
	defer process.Close()
	at := made(process.Eval(1, 2, 3))
	fmt.Printf("%.2f\n", at.Sigma)
	fmt.Printf("%.2f\n", made(process.TimeOfSigma(0.9)))
	// Output:
	// [0.10 0.50 0.90]
	// [3.00]
}

// A code is an error to compare with; an *Error has the details.
func ExampleError() {
	_, err := mnemo.NewVEPower(-2, 1, 80)
	var e *mnemo.Error
	fmt.Println(errors.Is(err, mnemo.ErrInvalid), errors.As(err, &e))
	fmt.Println(e.Message)
	// Output:
	// true true
	// k is -2.0; it must be finite and positive
}
