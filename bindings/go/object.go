// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

import (
	"runtime"
	"sync"
	"unsafe"
)

// object owns a native object. It is released when it has been closed and the last call that uses it has returned: a
// count and not a lock, so that a callback may close what its own call uses.
type object struct {
	release func(unsafe.Pointer)
	native  unsafe.Pointer

	mu     sync.Mutex
	users  int // the calls that use it, and one more until it is closed
	closed bool
}

func newObject(native unsafe.Pointer, release func(unsafe.Pointer)) *object {
	o := &object{release: release, native: native, users: 1}
	runtime.SetFinalizer(o, (*object).close)
	return o
}

// use returns the native object, which lives until done is called.
func (o *object) use(kind string) (native unsafe.Pointer, done func(), err error) {
	if o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !o.closed {
			o.users++
			return o.native, o.leave, nil
		}
	}
	return nil, nil, newError(ErrInvalid, ErrClosed, "%s", kind)
}

func (o *object) leave() {
	o.mu.Lock()
	o.users--
	last := o.users == 0
	o.mu.Unlock()
	if last { // not under the lock: releasing a score of one's own calls back
		o.release(o.native)
	}
}

func (o *object) close() {
	if o == nil {
		return
	}
	o.mu.Lock()
	closed := o.closed
	o.closed = true
	o.mu.Unlock()
	if !closed {
		runtime.SetFinalizer(o, nil)
		o.leave()
	}
}
