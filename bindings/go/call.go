// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"context"
	"runtime/cgo"
)

// A CallOption is an option of any call that can take long.
type CallOption interface {
	SampleOption
	call(*callConfig)
}

type callOption func(*callConfig)

func (f callOption) call(c *callConfig)     { f(c) }
func (f callOption) sample(c *sampleConfig) { f(&c.callConfig) }

// Progress is called now and then with how much of the call is done, in units of the call's own (rows, steps). If it
// returns an error the call stops with [ErrCancelled], caused by that error.
func Progress(f func(done, total int) error) CallOption {
	return callOption(func(c *callConfig) { c.progress = f })
}

// Check asks a [CUDA] context to wait for the result, and to report NaN and Inf in a [DeviceMatrix], where they would give
// NaN. Matrices in the host's memory are always checked.
func Check() CallOption {
	return callOption(func(c *callConfig) { c.flags |= C.MNEMO_EXEC_CHECK })
}

// Stream is the CUDA stream of the call, of the context's device; initially 0, the legacy default stream. It must outlive the
// work that is queued on it. CPU contexts do not look at it.
func Stream(stream uintptr) CallOption {
	return callOption(func(c *callConfig) { c.stream = stream })
}

type callConfig struct {
	seed     uint64
	flags    uint32
	stream   uintptr
	progress func(done, total int) error
	observe  func(step int, t float64, x *C.mnemo_tensor) error
}

func callOptions(options []CallOption) *callConfig {
	c := new(callConfig)
	for _, o := range options {
		if o != nil {
			o.call(c)
		}
	}
	return c
}

// call is a call that may be cancelled or call back. The native call runs on a goroutine of its own and hands its
// callbacks to the caller's, so that a panic or a runtime.Goexit of a callback unwinds Go frames alone: going through
// native frames would leave their locks held and their memory unreleased.
type call struct {
	*callConfig
	requests chan func() error // callbacks, from the native call
	replies  chan bool         // whether the native call may go on
	ended    chan struct{}     // closed when the native call has returned
	failure  error             // what a callback returned
	stop     func()            // asks the native call to stop if ctx is done
}

// run makes a native call. callsBack tells that it may do so for a reason other than the configuration's.
func (config *callConfig) run(ctx context.Context, callsBack bool,
	native func(C.mnemo_go_exec, *C.mnemo_error) C.int32_t) error {
	if ctx == nil {
		return newError(ErrInvalid, nil, "ctx is nil")
	}
	if err := ctx.Err(); err != nil {
		return newError(ErrCancelled, err, "the call was not begun")
	}
	var e C.mnemo_error
	exec := C.mnemo_go_exec{
		seed: C.uint64_t(config.seed), flags: C.uint32_t(config.flags), stream: C.uintptr_t(config.stream),
	}
	callsBack = callsBack || config.progress != nil || config.observe != nil
	if ctx.Done() == nil && !callsBack {
		return failure(native(exec, &e), &e, nil)
	}

	c := &call{
		callConfig: config,
		requests:   make(chan func() error), replies: make(chan bool), ended: make(chan struct{}),
		stop: func() {},
	}
	handle := cgo.NewHandle(c)
	defer handle.Delete()
	exec.call = C.uintptr_t(handle)
	if config.progress != nil {
		exec.progress = 1
	}
	if ctx.Done() != nil {
		if status := C.mnemo_cancel_create(&exec.cancel, &e); status != C.MNEMO_OK {
			return failure(status, &e, nil)
		}
		defer C.mnemo_cancel_release(exec.cancel)
		c.stop = func() {
			if ctx.Err() != nil {
				C.mnemo_cancel_request(exec.cancel)
			}
		}
	}

	var status C.int32_t
	go func() {
		defer close(c.ended)
		status = native(exec, &e)
	}()
	c.serve(ctx.Done())
	cause := c.failure
	if cause == nil && status == C.MNEMO_E_CANCELLED {
		cause = ctx.Err()
	}
	return failure(status, &e, cause)
}

// serve runs the callbacks of the native call until it ends.
func (c *call) serve(done <-chan struct{}) {
	for {
		select {
		case callback := <-c.requests:
			c.answer(callback)
		case <-done:
			c.stop()
			done = nil
		case <-c.ended:
			return
		}
	}
}

func (c *call) answer(callback func() error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		// The callback panics, or ends the goroutine. The native call has to end before the frames it borrows from do.
		for c.replies <- false; ; {
			select {
			case <-c.requests:
				c.replies <- false
			case <-c.ended:
				return
			}
		}
	}()
	err := callback()
	returned = true
	if c.failure == nil {
		c.failure = err
	}
	c.stop() // a context that is done by now stops the call here, whatever else is ready
	c.replies <- err == nil
}

// callBack has the caller's goroutine run a callback; the result is that of a native callback.
func callBack(record C.uintptr_t, callback func(*call) error) C.int32_t {
	c := cgo.Handle(record).Value().(*call)
	c.requests <- func() error { return callback(c) }
	if <-c.replies {
		return 0
	}
	return 1
}

//export mnemoGoProgress
func mnemoGoProgress(record C.uintptr_t, done, total C.uint64_t) C.int32_t {
	return callBack(record, func(c *call) error { return c.progress(int(done), int(total)) })
}

//export mnemoGoObserve
func mnemoGoObserve(record C.uintptr_t, step C.uint64_t, t C.double, x *C.mnemo_tensor) C.int32_t {
	return callBack(record, func(c *call) error { return c.observe(int(step), float64(t), x) })
}
