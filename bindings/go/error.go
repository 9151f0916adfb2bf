// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// A Code says what kind of failure an [*Error] is. Codes are errors themselves, for errors.Is:
//
//	if errors.Is(err, mnemo.ErrShape) { … }
type Code int32

const (
	ErrInvalid     Code = C.MNEMO_E_INVALID     // an argument has a value that is not accepted
	ErrShape       Code = C.MNEMO_E_SHAPE       // sizes or strides do not agree, or are not accepted
	ErrDType       Code = C.MNEMO_E_DTYPE       // an element type is not accepted
	ErrDevice      Code = C.MNEMO_E_DEVICE      // the device is not there, or is not that of the context
	ErrNoMemory    Code = C.MNEMO_E_NOMEM       // memory could not be had, or MemoryLimit would be passed
	ErrIO          Code = C.MNEMO_E_IO          // a file could not be read; Native is errno or 0
	ErrCUDA        Code = C.MNEMO_E_CUDA        // the CUDA driver reported an error; Native is its number
	ErrCompile     Code = C.MNEMO_E_COMPILE     // a kernel could not be compiled; Native is NVRTC's number
	ErrCancelled   Code = C.MNEMO_E_CANCELLED   // the context.Context or a Progress function asked to stop
	ErrCallback    Code = C.MNEMO_E_CALLBACK    // a Model or an Observer failed
	ErrUnsupported Code = C.MNEMO_E_UNSUPPORTED // understood, but this object or this version cannot do it
	ErrPoisoned    Code = C.MNEMO_E_POISONED    // the context cannot be used any more
	ErrPanic       Code = C.MNEMO_E_PANIC       // a bug in the library; close the object that was being worked on
)

// ErrClosed is the cause of the [ErrInvalid] that a call with a closed object, or with none, returns.
var ErrClosed = errors.New("the object is closed")

// String is the code's name in the library's C header, such as "MNEMO_E_SHAPE".
func (c Code) String() string { return C.GoString(C.mnemo_status_name(C.int32_t(c))) }

// Error is [Code.String].
func (c Code) Error() string { return c.String() }

// An Error is a failed call.
type Error struct {
	Code    Code
	Native  int32  // the number of the layer below (errno, a CUDA error); 1 for a callback's error; 0 if there is none
	Name    string // Code.String
	Message string // names the argument, what was given and what is accepted
	cause   error
}

// Error is the message, the cause if there is one, and the code's name.
func (e *Error) Error() string {
	text := "mnemo: " + e.Message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text + " (" + e.Name + ")"
}

// Is tells whether target is the error's [Code].
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// Unwrap is what caused the error: a callback's error, that of the context.Context, [ErrClosed], or nil.
func (e *Error) Unwrap() error { return e.cause }

func newError(code Code, cause error, format string, values ...any) error {
	return &Error{Code: code, Name: code.String(), Message: fmt.Sprintf(format, values...), cause: cause}
}

// failure is the error of a status, or nil.
func failure(status C.int32_t, e *C.mnemo_error, cause error) error {
	if status == C.MNEMO_OK {
		return nil
	}
	message := C.GoStringN((*C.char)(unsafe.Pointer(&e.message)), C.int(e.len))
	return &Error{Code: Code(status), Native: int32(e.native), Name: Code(status).String(), Message: message, cause: cause}
}
