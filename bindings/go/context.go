// SPDX-License-Identifier: MIT OR Apache-2.0

package mnemo

// #include "shim.h"
import "C"

import (
	"encoding/json"
	"math"
	"strings"
	"unsafe"
)

// A Context is a machine to compute on, with its own threads. It is not a context.Context, by which calls are
// cancelled.
type Context struct{ object *object }

// A ContextOption is an option of [NewContext]. An [InstructionSet] is one too.
type ContextOption interface{ context(*contextConfig) }

type contextConfig struct {
	options        C.mnemo_context_options
	kernelCacheDir *string
	err            error
}

type contextOption func(*contextConfig)

func (f contextOption) context(c *contextConfig) { f(c) }

// NumThreads is the number of threads of a CPU context; 0, the initial value, means one per processor.
func NumThreads(n int) ContextOption {
	return contextOption(func(c *contextConfig) {
		if n < 0 || uint64(n) > math.MaxUint32 {
			c.err = newError(ErrInvalid, nil, "NumThreads is %d; it is 0 to %d", n, uint32(math.MaxUint32))
		}
		c.options.num_threads = C.uint32_t(n)
	})
}

// MemoryLimit is how many bytes of memory the stored rows of one data set may take; 0, the initial value, means no limit.
// Rows of a larger file that is not compressed stay there and are read when they are needed: see [Context.OpenDataset].
func MemoryLimit(bytes uint64) ContextOption {
	return contextOption(func(c *contextConfig) { c.options.memory_limit = C.uint64_t(bytes) })
}

// CUDA has the context compute on a CUDA device; it is [ErrDevice] if that is not there. A [DeviceMatrix] on the device is
// used where it is, a [Matrix] by a copy. Work is queued on the [Stream] of the call, which waits for it where a Matrix takes
// part (times apart), and where the header of the library, mnemo.h, says so.
func CUDA(device int) ContextOption {
	return contextOption(func(c *contextConfig) {
		if int(int32(device)) != device {
			c.err = newError(ErrInvalid, nil, "CUDA: there is no device %d", device)
		}
		c.options.device_type, c.options.device_id = C.MNEMO_CUDA, C.int32_t(device)
	})
}

// KernelCacheDir is the folder for compiled CUDA kernels; initially the user's cache folder.
func KernelCacheDir(path string) ContextOption {
	return contextOption(func(c *contextConfig) { c.kernelCacheDir = &path })
}

// An InstructionSet is the kind of kernels of a CPU context. Results on two machines have the same bits if they use the
// same one.
type InstructionSet uint32

const (
	ISABest     InstructionSet = C.MNEMO_ISA_BEST     // the best that this processor has; the initial value
	ISAPortable InstructionSet = C.MNEMO_ISA_PORTABLE // what every processor has; several times slower
	ISAAVX2     InstructionSet = C.MNEMO_ISA_AVX2     // x86-64 with AVX2 and FMA
	ISAAVX512   InstructionSet = C.MNEMO_ISA_AVX512   // x86-64 with AVX-512 F, DQ, VL and VNNI
	ISAAMX      InstructionSet = C.MNEMO_ISA_AMX      // the same with AVX-512 BW and AMX, on Linux
)

func (s InstructionSet) context(c *contextConfig) { c.options.instruction_set = C.uint32_t(s) }

// NewContext makes a context; without options, on the CPU with a thread per processor. It fails with [ErrDevice] if the
// device is not there or the processor does not have the instruction set.
func NewContext(options ...ContextOption) (*Context, error) {
	if errABI != nil {
		return nil, errABI
	}
	var config contextConfig
	C.mnemo_context_options_init(&config.options, C.sizeof_mnemo_context_options)
	for _, o := range options {
		if o != nil {
			o.context(&config)
		}
	}
	if config.err != nil {
		return nil, config.err
	}
	o := config.options
	path, err := optionalString("KernelCacheDir", config.kernelCacheDir)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(path))
	o.kernel_cache_dir = path
	var native *C.mnemo_context
	var e C.mnemo_error
	if status := C.mnemo_context_create(&o, &native, &e); status != C.MNEMO_OK {
		return nil, failure(status, &e, nil)
	}
	release := func(p unsafe.Pointer) { C.mnemo_context_release((*C.mnemo_context)(p)) }
	return &Context{newObject(unsafe.Pointer(native), release)}, nil
}

// Close releases the context; what was made from it goes on. The error is nil.
func (c *Context) Close() error {
	c.handle().close()
	return nil
}

func (c *Context) handle() *object {
	if c == nil {
		return nil
	}
	return c.object
}

func (c *Context) use() (*C.mnemo_context, func(), error) {
	native, done, err := c.handle().use("context")
	return (*C.mnemo_context)(native), done, err
}

// WarmUp compiles and loads all kernels of a [CUDA] context, which its first calls would otherwise wait for. A CPU context
// has nothing to do.
func (c *Context) WarmUp() error {
	native, done, err := c.use()
	if err != nil {
		return err
	}
	defer done()
	var e C.mnemo_error
	return failure(C.mnemo_context_warm_up(native, &e), &e, nil)
}

// A Description says what a context computes on.
type Description struct {
	Backend        string `json:"backend"`
	InstructionSet string `json:"instruction_set"`
	Threads        int    `json:"threads"`
	Device         string `json:"device"`

	// Of a CUDA context.
	DeviceID int     `json:"device_id"`
	Driver   string  `json:"driver"` // the CUDA version that it is for
	NVRTC    *string `json:"nvrtc"`  // its version; nil if it is not there
	Cache    *string `json:"cache"`  // the folder of compiled kernels, if there is one
	Kernels  struct {
		Compiled  int `json:"compiled"`
		Cached    int `json:"cached"` // read from the cache
		PTX       int `json:"ptx"`    // taken from the library's own
		NotLoaded int `json:"not_loaded"`
	} `json:"kernels"` // how many files of them
}

// Describe says what the context computes on.
func (c *Context) Describe() (Description, error) {
	var d Description
	native, done, err := c.use()
	if err != nil {
		return d, err
	}
	defer done()
	var needed C.size_t
	var e C.mnemo_error
	if status := C.mnemo_context_describe(native, nil, 0, &needed, &e); status != C.MNEMO_OK {
		return d, failure(status, &e, nil)
	}
	text := make([]byte, needed)
	status := C.mnemo_context_describe(native, (*C.char)(unsafe.Pointer(&text[0])), needed, nil, &e)
	if status != C.MNEMO_OK {
		return d, failure(status, &e, nil)
	}
	if err := json.Unmarshal(text[:needed-1], &d); err != nil {
		return Description{}, newError(ErrUnsupported, err, "the library's description is not understood")
	}
	return d, nil
}

// optionalString is s in C's memory, to be freed, or NULL.
func optionalString(name string, s *string) (*C.char, error) {
	if s == nil {
		return nil, nil
	}
	if strings.IndexByte(*s, 0) >= 0 {
		return nil, newError(ErrInvalid, nil, "%s contains a zero byte", name)
	}
	return C.CString(*s), nil
}
