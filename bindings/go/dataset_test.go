// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"mnemo"
)

// The same numbers in every element type, read back as float64 and float32.
func TestElementTypes(t *testing.T) {
	c := newContext(t)
	values := []float64{0, 1, 2, 3, 0.5, 255}
	bits := map[float64][2]uint16{ // of binary16 and bfloat16
		0: {0, 0}, 1: {0x3c00, 0x3f80}, 2: {0x4000, 0x4000}, 3: {0x4200, 0x4040}, 0.5: {0x3800, 0x3f00}, 255: {0x5bf8, 0x437f},
	}
	f32, f64 := mnemo.NewMatrix[float32](2, 3), mnemo.NewMatrix[float64](2, 3)
	f16, bf16 := mnemo.NewMatrix[mnemo.Float16](2, 3), mnemo.NewMatrix[mnemo.BFloat16](2, 3)
	u8 := mnemo.NewMatrix[uint8](2, 3)
	for i, v := range values {
		f32.Data[i], f64.Data[i] = float32(v), v
		f16.Data[i], bf16.Data[i] = mnemo.Float16(bits[v][0]), mnemo.BFloat16(bits[v][1])
		u8.Data[i] = uint8(v)
	}
	for dtype, rows := range map[mnemo.DType]mnemo.Tensor{
		mnemo.F32: f32, mnemo.F64: f64, mnemo.F16: f16, mnemo.BF16: bf16, mnemo.U8: u8,
	} {
		d := newDataset(t, c, rows, mnemo.Vector[int64](7, -7), mnemo.Scale(2), mnemo.Shift(-1), nil)
		info := must(d.Info())(t)
		want := mnemo.DatasetInfo{Rows: 2, Dim: 3, DType: dtype, Labels: 2, Min: -1, Max: 509}
		if info != want {
			t.Errorf("%v: the data set has %+v; expected %+v", dtype, info, want)
		}
		back, back32 := mnemo.NewMatrix[float64](3, 3), mnemo.NewMatrix[float32](3, 3)
		check(t, d.Gather([]int64{1, 0, 1}, back))
		check(t, d.Gather([]int64{1, 0, 1}, back32))
		for i, from := range []int{1, 0, 1} {
			for j := range back.Row(i) {
				value := values[3*from+j]
				if dtype == mnemo.U8 {
					value = math.Floor(value)
				}
				if want := 2*value - 1; back.Row(i)[j] != want || back32.Row(i)[j] != float32(want) {
					t.Errorf("%v: (%d, %d) is %v; expected %v", dtype, i, j, back.Row(i)[j], want)
				}
			}
		}
	}
	for text, dtype := range map[string]mnemo.DType{
		"f32": mnemo.F32, "f64": mnemo.F64, "f16": mnemo.F16, "bf16": mnemo.BF16, "u8": mnemo.U8, "i32": mnemo.I32,
		"i64": mnemo.I64, "DType(0)": 0, "DType(8)": 8,
	} {
		if dtype.String() != text {
			t.Errorf("%q is called %q", text, dtype)
		}
	}
}

func TestLabelTypes(t *testing.T) {
	c, p := newContext(t), edm(t)
	rows := mnemo.Matrix[float64]{Data: []float64{0, 10, 20}, Rows: 3, Cols: 1}
	for _, labels := range []mnemo.Tensor{
		mnemo.Vector[int64](3, 4, 3), mnemo.Vector[int32](3, 4, 3), mnemo.Vector[uint8](3, 4, 3),
		mnemo.Matrix[int64]{Data: []int64{3, 0, 4, 0, 3}, Rows: 3, Cols: 1, Stride: 2},
	} {
		d := newDataset(t, c, rows, labels)
		if n := must(d.Info())(t).Labels; n != 2 {
			t.Errorf("%d labels; expected 2", n)
		}
		denoised := mnemo.NewMatrix[float64](1, 1)
		only, one := empirical(t, d, p, mnemo.Label(4)), mnemo.Vector(1.0)
		check(t, only.Eval(ctx, one, one, mnemo.Outputs{Denoised: denoised}))
		near(t, "the one row of the label", denoised.Data[0], 10, 1e-12)
		_, err := d.NewEmpiricalScore(p, mnemo.Label(5))
		fails(t, err, mnemo.ErrInvalid, "5")
	}
	_, err := c.NewDataset(rows, mnemo.Vector[float64](1, 2, 3))
	fails(t, err, mnemo.ErrDType, "labels")
	_, err = c.NewDataset(rows, mnemo.Vector[int64](1))
	fails(t, err, mnemo.ErrShape, "labels")
	_, err = c.NewDataset(rows, mnemo.Vector[int64](1, 2, 3), mnemo.LabelsPath("x"))
	fails(t, err, mnemo.ErrInvalid, "labels_path")
}

func TestDatasetErrors(t *testing.T) {
	c := newContext(t)
	nan := mnemo.NewMatrix[float64](3, 2)
	nan.Data[5] = math.NaN()
	for _, refused := range []struct {
		rows mnemo.Tensor
		code mnemo.Code
		word string
	}{
		{nil, mnemo.ErrInvalid, "rows"},
		{nan, mnemo.ErrInvalid, "row 2, column 1"},
		{mnemo.NewMatrix[int64](3, 2), mnemo.ErrDType, "rows"},
		{mnemo.NewMatrix[int32](3, 2), mnemo.ErrDType, "rows"},
		{mnemo.NewMatrix[float32](0, 2), mnemo.ErrInvalid, "0 x 2"},
		{mnemo.NewMatrix[float32](2, 0), mnemo.ErrInvalid, "2 x 0"},
		{mnemo.DeviceMatrix{Pointer: 4096, Rows: 3, Cols: 2, DType: mnemo.F32}, mnemo.ErrDevice, "rows"},
		{mnemo.DeviceMatrix{Pointer: 4096, Rows: 3, Cols: 2, DType: mnemo.F32, Device: 1 << 40}, mnemo.ErrInvalid, "rows"},
		{mnemo.DeviceMatrix{Pointer: 4096, Rows: 3, Cols: 2}, mnemo.ErrDType, "rows"},
	} {
		_, err := c.NewDataset(refused.rows, nil)
		fails(t, err, refused.code, refused.word)
	}
	for _, option := range []mnemo.DatasetOption{mnemo.Scale(math.NaN()), mnemo.Shift(math.Inf(1))} {
		_, err := c.NewDataset(mnemo.NewMatrix[float32](1, 1), nil, option)
		fails(t, err, mnemo.ErrInvalid)
	}
	d := newDataset(t, c, mnemo.NewMatrix[float32](3, 2), nil)
	fails(t, d.Gather([]int64{0, 3}, mnemo.NewMatrix[float64](2, 2)), mnemo.ErrInvalid, "row 1 is 3")
	fails(t, d.Gather([]int64{-1}, mnemo.NewMatrix[float64](1, 2)), mnemo.ErrInvalid, "-1")
	fails(t, d.Gather([]int64{0}, mnemo.NewMatrix[float64](2, 2)), mnemo.ErrShape, "out")
	fails(t, d.Gather([]int64{0}, mnemo.NewMatrix[uint8](1, 2)), mnemo.ErrDType, "out")
	fails(t, d.Gather([]int64{0}, nil), mnemo.ErrInvalid, "out")
	check(t, d.Gather(nil, mnemo.NewMatrix[float64](0, 2)))
}

// What a matrix says of itself against the slice that it has.
func TestMatrixShapes(t *testing.T) {
	data := func(n int) []float64 { return make([]float64, n) }
	d := newDataset(t, newContext(t), mnemo.NewMatrix[float64](4, 3), nil)
	index := []int64{0, 1}
	for _, refused := range []struct {
		m    mnemo.Matrix[float64]
		word string
	}{
		{mnemo.Matrix[float64]{Data: data(5), Rows: 2, Cols: 3}, "5 elements"},
		{mnemo.Matrix[float64]{Rows: 2, Cols: 3}, "0 elements"},
		{mnemo.Matrix[float64]{Data: data(7), Rows: 2, Cols: 3, Stride: 5}, "take 8"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: 2, Cols: 3, Stride: 2}, "row_stride"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: 2, Cols: 3, Stride: -3}, "row_stride"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: -2, Cols: 3}, "rows"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: 2, Cols: -3}, "cols"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: math.MaxInt64, Cols: math.MaxInt64}, "memory"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: math.MaxInt64, Cols: 3, Stride: math.MaxInt64}, "memory"},
		{mnemo.Matrix[float64]{Data: data(6), Rows: 2, Cols: 3, Stride: math.MaxInt64}, "out: 6 elements"},
	} {
		fails(t, d.Gather(index, refused.m), mnemo.ErrShape, "out", refused.word)
	}
	// Rows apart: what lies between them is not touched. The last row needs no padding, a single row no stride.
	apart := mnemo.Matrix[float64]{Data: []float64{9, 9, 9, 9, 9, 9, 9, 9}, Rows: 2, Cols: 3, Stride: 5}
	check(t, d.Gather(index, apart))
	if !same(apart.Data, []float64{0, 0, 0, 9, 9, 0, 0, 0}) || len(apart.Row(1)) != 3 || cap(apart.Row(0)) != 3 {
		t.Errorf("rows apart: %v", apart.Data)
	}
	check(t, d.Gather([]int64{3}, mnemo.Matrix[float64]{Data: data(3), Rows: 1, Cols: 3, Stride: 1}))
	// A slice inside an object with pointers: the pointers are no business of the library's.
	inside := &struct {
		pointer *int
		data    [6]float64
	}{pointer: new(int)}
	check(t, d.Gather(index, mnemo.Matrix[float64]{Data: inside.data[:], Rows: 2, Cols: 3}))
}

func npy(descr, shape string, data any) []byte {
	header := "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }"
	for (10+len(header)+1)%64 != 0 {
		header += " "
	}
	header += "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	binary.Write(&b, binary.LittleEndian, uint16(len(header)))
	b.WriteString(header)
	binary.Write(&b, binary.LittleEndian, data)
	return b.Bytes()
}

func TestOpen(t *testing.T) {
	c, dir := newContext(t), t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, content, 0o600))
		return path
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60})
	check(t, w.Close())
	rows := write("rows ü.npy", npy("<f4", "(2, 3)", []float32{10, 20, 30, 40, 50, 60}))
	idx := write("rows.idx.gz", packed.Bytes())
	labels := write("labels.npy", npy("<i8", "(2,)", []int64{5, 6}))
	for _, path := range []string{rows, idx} {
		d := must(c.OpenDataset(path, mnemo.LabelsPath(labels), mnemo.Scale(0.1)))(t)
		info := must(d.Info())(t)
		if info.Rows != 2 || info.Dim != 3 || info.Labels != 2 {
			t.Errorf("%s has %+v", path, info)
		}
		near(t, "the smallest value", info.Min, 1, 1e-12)
		near(t, "the largest value", info.Max, 6, 1e-12)
		check(t, d.Close())
	}
	_, err := c.OpenDataset(write("short.npy", npy("<f4", "(2, 3)", []float32{1})))
	fails(t, err, mnemo.ErrIO)
	_, err = c.OpenDataset(rows, mnemo.LabelsPath(filepath.Join(dir, "absent")))
	fails(t, err, mnemo.ErrIO, "absent")
	_, err = c.OpenDataset(rows, mnemo.LabelsPath("a\x00b"))
	fails(t, err, mnemo.ErrInvalid, "LabelsPath", "zero byte")
	_, err = c.OpenDataset(rows + "\x00")
	fails(t, err, mnemo.ErrInvalid, "path", "zero byte")
	_, err = c.OpenDataset("\xff\xfe")
	fails(t, err, mnemo.ErrInvalid, "path")
	_, err = c.OpenDataset("")
	fails(t, err, mnemo.ErrIO)
}
