// SPDX-License-Identifier: MIT OR Apache-2.0

// Package mnemo measures memorization in diffusion models: exact scores of a training set, samplers, and how much of a
// result is copied. It binds the native library of the same name.
//
// A [Context] is a machine to compute on. A [Dataset] holds training rows, a [Process] says how noise is added, and a
// [Score] is a model of grad log p_t(x): the exact one of the smoothed training set ([Dataset.NewEmpiricalScore]),
// regularized or conditional, or your own behind callbacks ([Context.NewCustomScore]). [Score.Eval] evaluates it,
// [Score.Sample] draws samples by integrating the reverse process, and [Dataset.Nearest] and [Dataset.Memorization] say
// what of them is copied.
//
// # Ownership
//
// Contexts, processes, data sets and scores are native objects. Close releases one; if it is forgotten, the garbage
// collector does so some time after the last use, but it does not know how much memory a data set holds, so close data
// sets. Objects may be closed in any order, more than once, and while other goroutines use them: a call that has begun
// ends as usual, a later one is [ErrClosed]. What a score needs of its data set, process and context it keeps.
//
// A [Matrix] is a view of a slice, which the library reads or writes during a call, without copies, and does not keep. A
// data set is a copy of its rows.
//
// # Options
//
// Options follow the arguments of a call, in any order; the last of a kind counts, and a nil option is ignored. What is
// not given has the library's initial value.
//
// # Goroutines
//
// Every function and method may be called from any number of goroutines at once, on the same objects; an output must
// not be shared. A context has its own native threads, beside those of the Go scheduler.
//
// Callbacks (a [Model], [Observer], [Progress]) run on the goroutine that made the call, one at a time, and may call
// the library. If one returns an error, the call stops and returns an error that wraps it. If one panics, or ends its
// goroutine with runtime.Goexit as testing.T.FailNow does, the native call is ended first, then the panic or the exit
// goes on through the caller, with its own stack trace. In both cases all objects can still be used.
//
// # Errors
//
// An error of a call is an [*Error]. errors.Is knows its [Code] ([ErrShape], [ErrCancelled], …) and what caused it: the
// error of a callback, or context.Canceled or context.DeadlineExceeded. On failure outputs are untouched.
package mnemo

// #cgo pkg-config: mnemo
// #cgo mnemo_static pkg-config: --static
// #cgo mnemo_static LDFLAGS: -Wl,--as-needed -l:libmnemo.a
// #include "shim.h"
import "C"

// Version is the version of the library that is loaded, such as "0.1.0".
func Version() string { return C.GoString(C.mnemo_version()) }

// ABIVersion is the version of the binary interface of the library that is loaded. A program refuses to make contexts
// and processes, with [ErrUnsupported], if it was compiled for another major or a later minor version.
func ABIVersion() (major, minor int) {
	v := uint32(C.mnemo_abi_version())
	return int(v >> 16), int(v & 0xffff)
}

// errABI is why the loaded library cannot be used, or nil. Every object descends from a context or a process.
var errABI = checkABI()

func checkABI() error {
	major, minor := ABIVersion()
	if major == C.MNEMO_ABI_MAJOR && minor >= C.MNEMO_ABI_MINOR {
		return nil
	}
	return newError(ErrUnsupported, nil,
		"the library that is loaded, %s, has ABI version %d.%d; the program was compiled for %d.%d",
		Version(), major, minor, C.MNEMO_ABI_MAJOR, C.MNEMO_ABI_MINOR)
}
