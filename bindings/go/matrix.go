// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// A DType is an element type.
type DType uint32

const (
	F32  DType = C.MNEMO_F32
	F64  DType = C.MNEMO_F64
	F16  DType = C.MNEMO_F16
	BF16 DType = C.MNEMO_BF16
	U8   DType = C.MNEMO_U8
	I32  DType = C.MNEMO_I32
	I64  DType = C.MNEMO_I64
)

// String is the type's short name, such as "f32".
func (d DType) String() string {
	names := [...]string{F32: "f32", F64: "f64", F16: "f16", BF16: "bf16", U8: "u8", I32: "i32", I64: "i64"}
	if uint64(d) < uint64(len(names)) && names[d] != "" {
		return names[d]
	}
	return fmt.Sprintf("DType(%d)", uint32(d))
}

// Float16 is the bits of an IEEE binary16 number.
type Float16 uint16

// BFloat16 is the bits of a bfloat16 number, the upper half of a float32.
type BFloat16 uint16

// Float is what samples, scores and vectors of results are made of.
type Float interface{ float32 | float64 }

// Element is what a [Matrix] is made of. Rows of a data set may be of any floating-point type or uint8, labels int64,
// int32 or uint8, indices are int64; everything else is a [Float].
type Element interface {
	Float | Float16 | BFloat16 | uint8 | int32 | int64
}

// A Tensor is a [Matrix] of any element type, or a [DeviceMatrix].
type Tensor interface {
	view(name string) (C.mnemo_go_view, error)
}

// A Matrix is a view of a slice as a row-major matrix. Element (i, j) is Data[i*Stride+j].
type Matrix[T Element] struct {
	Data       []T
	Rows, Cols int
	Stride     int // elements from one row to the next, at least Cols; 0 means Cols
}

// NewMatrix makes a matrix of zeros.
func NewMatrix[T Element](rows, cols int) Matrix[T] {
	return Matrix[T]{Data: make([]T, rows*cols), Rows: rows, Cols: cols}
}

// Vector is the matrix of one column over the values, which are not copied if they come as a slice: Vector(t...). Times
// of a batch are a vector of one per row, or of one.
func Vector[T Element](values ...T) Matrix[T] {
	return Matrix[T]{Data: values, Rows: len(values), Cols: 1}
}

// Row is row i, a part of m.Data.
func (m Matrix[T]) Row(i int) []T {
	stride := m.Stride
	if stride == 0 {
		stride = m.Cols
	}
	return m.Data[i*stride : i*stride+m.Cols : i*stride+m.Cols]
}

func (m Matrix[T]) view(name string) (C.mnemo_go_view, error) {
	v := C.mnemo_go_view{
		rows: C.int64_t(m.Rows), cols: C.int64_t(m.Cols), row_stride: C.int64_t(m.Stride),
		present: 1, dtype: C.uint32_t(dtypeOf[T]()), device_type: C.MNEMO_CPU,
	}
	need, ok := m.extent()
	if !ok || need == 0 {
		return v, nil // no element is looked at: there is none, or the library says what is wrong
	}
	if need > uint64(len(m.Data)) {
		return v, newError(ErrShape, nil, "%s: %d elements of data; %d rows of %d columns, %d elements apart, take %d",
			name, len(m.Data), m.Rows, m.Cols, max(m.Stride, m.Cols), need)
	}
	v.data = (*C.uint8_t)(unsafe.Pointer(&m.Data[0]))
	return v, nil
}

// extent is how many elements of Data the matrix takes; not ok if there is no such matrix.
func (m Matrix[T]) extent() (need uint64, ok bool) {
	if m.Rows < 0 || m.Cols < 0 {
		return 0, false
	}
	if m.Rows == 0 || m.Cols == 0 {
		return 0, true
	}
	stride := m.Cols
	if m.Rows > 1 && m.Stride != 0 {
		if stride = m.Stride; stride < m.Cols {
			return 0, false
		}
	}
	over, need := bits.Mul64(uint64(m.Rows-1), uint64(stride))
	need, carry := bits.Add64(need, uint64(m.Cols), 0)
	return need, over == 0 && carry == 0
}

// A DeviceMatrix is a row-major matrix in the memory of a CUDA device, for contexts that compute there (see [CUDA]), which
// use it where it is. The memory must stay until the [Stream] of the call has passed.
type DeviceMatrix struct {
	Pointer    uintptr // the device's address of the first element
	Rows, Cols int
	Stride     int // elements from one row to the next, at least Cols; 0 means Cols
	DType      DType
	Device     int // which CUDA device
}

func (m DeviceMatrix) view(name string) (C.mnemo_go_view, error) {
	if int(int32(m.Device)) != m.Device {
		return C.mnemo_go_view{}, newError(ErrInvalid, nil, "%s: there is no device %d", name, m.Device)
	}
	return C.mnemo_go_view{
		device_data: C.uintptr_t(m.Pointer),
		rows:        C.int64_t(m.Rows), cols: C.int64_t(m.Cols), row_stride: C.int64_t(m.Stride),
		present: 1, dtype: C.uint32_t(m.DType), device_type: C.MNEMO_CUDA, device_id: C.int32_t(m.Device),
	}, nil
}

func dtypeOf[T Element]() DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return F32
	case float64:
		return F64
	case Float16:
		return F16
	case BFloat16:
		return BF16
	case uint8:
		return U8
	case int32:
		return I32
	default:
		return I64
	}
}

// views collects the views of a call's tensors and the first error among them.
type views struct{ err error }

// of is the view of t, which may be nil.
func (v *views) of(name string, t Tensor) C.mnemo_go_view {
	if t == nil {
		return C.mnemo_go_view{}
	}
	view, err := t.view(name)
	if v.err == nil {
		v.err = err
	}
	return view
}

// borrow is the library's matrix as a view, for the time of a callback.
func borrow[T Float](t *C.mnemo_tensor) Matrix[T] {
	rows, cols := int(t.rows), int(t.cols)
	return Matrix[T]{Data: unsafe.Slice((*T)(t.data), rows*cols), Rows: rows, Cols: cols}
}

// borrowDevice is the library's matrix in the memory of a device, for the time of a callback.
func borrowDevice(t *C.mnemo_tensor) DeviceMatrix {
	return DeviceMatrix{
		Pointer: uintptr(t.data), Rows: int(t.rows), Cols: int(t.cols), Stride: int(t.row_stride),
		DType: DType(t.dtype), Device: int(t.device_id),
	}
}

// max is not yet in the language of go.mod.
func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
