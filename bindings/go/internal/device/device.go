// SPDX-License-Identifier: MIT OR Apache-2.0

// Package device has memory of CUDA device 0 by the driver alone, for the binding's tests.
package device

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stddef.h>
// #include <stdint.h>
//
// static void *function(const char *name)
// {
//     static void *driver;
//     if (driver == NULL) driver = dlopen("libcuda.so.1", RTLD_NOW);
//     return driver == NULL ? NULL : dlsym(driver, name);
// }
//
// /* The device's primary context becomes the thread's. */
// static int enter(void)
// {
//     int (*init)(unsigned) = (int (*)(unsigned))function("cuInit");
//     int (*retain)(void **, int) = (int (*)(void **, int))function("cuDevicePrimaryCtxRetain");
//     int (*set)(void *) = (int (*)(void *))function("cuCtxSetCurrent");
//     static void *context;
//     if (init == NULL || retain == NULL || set == NULL) return -1;
//     int code = init(0);
//     if (code == 0 && context == NULL) code = retain(&context, 0);
//     return code != 0 ? code : set(context);
// }
//
// static int allocate(uintptr_t *to, size_t bytes)
// {
//     const int code = enter();
//     return code != 0 ? code : ((int (*)(uintptr_t *, size_t))function("cuMemAlloc_v2"))(to, bytes);
// }
//
// static int new_stream(uintptr_t *to)
// {
//     const int code = enter();
//     return code != 0 ? code : ((int (*)(uintptr_t *, unsigned))function("cuStreamCreate"))(to, 1);
// }
//
// static int upload(uintptr_t to, const uint8_t *from, size_t bytes, uintptr_t stream)
// {
//     int code = enter();
//     if (code == 0) code = ((int (*)(uintptr_t, const void *, size_t, uintptr_t))function("cuMemcpyHtoDAsync_v2"))(to, from, bytes, stream);
//     return code != 0 ? code : ((int (*)(uintptr_t))function("cuStreamSynchronize"))(stream);
// }
//
// static int download(uint8_t *to, uintptr_t from, size_t bytes, uintptr_t stream)
// {
//     int code = enter();
//     if (code == 0) code = ((int (*)(void *, uintptr_t, size_t, uintptr_t))function("cuMemcpyDtoHAsync_v2"))(to, from, bytes, stream);
//     return code != 0 ? code : ((int (*)(uintptr_t))function("cuStreamSynchronize"))(stream);
// }
import "C"

import (
	"fmt"
	"unsafe"
)

func check(what string, code C.int) {
	if code != 0 {
		panic(fmt.Sprintf("%s: CUDA error %d", what, code))
	}
}

// Put writes values, of which there is at least one, to the device.
func Put[T any](to uintptr, values []T, stream uintptr) {
	bytes := C.size_t(uintptr(len(values)) * unsafe.Sizeof(values[0]))
	check("upload", C.upload(C.uintptr_t(to), (*C.uint8_t)(unsafe.Pointer(&values[0])), bytes, C.uintptr_t(stream)))
}

// Get fills values, of which there is at least one, from the device, after what is queued on the stream.
func Get[T any](values []T, from, stream uintptr) {
	bytes := C.size_t(uintptr(len(values)) * unsafe.Sizeof(values[0]))
	check("download", C.download((*C.uint8_t)(unsafe.Pointer(&values[0])), C.uintptr_t(from), bytes, C.uintptr_t(stream)))
}

// Copy is the address of a copy of values on the device, which stays for good.
func Copy[T any](values []T) uintptr {
	var to C.uintptr_t
	check("allocate", C.allocate(&to, C.size_t(uintptr(len(values))*unsafe.Sizeof(values[0]))))
	Put(uintptr(to), values, 0)
	return uintptr(to)
}

// Stream is a new stream, which does not wait for the legacy stream.
func Stream() uintptr {
	var stream C.uintptr_t
	check("stream", C.new_stream(&stream))
	return uintptr(stream)
}
