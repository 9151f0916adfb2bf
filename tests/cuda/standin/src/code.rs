//! The driver's results (`CUresult`): numbers, names and sentences.

use std::ffi::CStr;

/// A result of the driver that is not success; the number is the driver's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub i32);

pub const SUCCESS: i32 = 0;

macro_rules! codes {
    ($($name:ident = $number:literal, $official:literal, $sentence:literal;)*) => {
        // Some are only ever answered on purpose, by number.
        $(#[allow(dead_code)] pub const $name: Code = Code($number);)*

        /// The name of a result and a sentence about it; `None` where the driver knows no such number.
        pub fn texts(number: i32) -> Option<(&'static CStr, &'static CStr)> {
            match number {
                SUCCESS => Some((c"CUDA_SUCCESS", c"no error")),
                $($number => Some(($official, $sentence)),)*
                _ => None,
            }
        }
    };
}

codes! {
    INVALID_VALUE = 1, c"CUDA_ERROR_INVALID_VALUE", c"an argument is not valid";
    OUT_OF_MEMORY = 2, c"CUDA_ERROR_OUT_OF_MEMORY", c"the device has too little memory left";
    NOT_INITIALIZED = 3, c"CUDA_ERROR_NOT_INITIALIZED", c"cuInit was not called";
    DEINITIALIZED = 4, c"CUDA_ERROR_DEINITIALIZED", c"the driver is shutting down";
    NO_DEVICE = 100, c"CUDA_ERROR_NO_DEVICE", c"there is no device";
    INVALID_DEVICE = 101, c"CUDA_ERROR_INVALID_DEVICE", c"there is no such device";
    INVALID_IMAGE = 200, c"CUDA_ERROR_INVALID_IMAGE", c"the image of a module is not valid";
    INVALID_CONTEXT = 201, c"CUDA_ERROR_INVALID_CONTEXT", c"no valid context is current";
    NO_BINARY_FOR_GPU = 209, c"CUDA_ERROR_NO_BINARY_FOR_GPU", c"the image has no code for this device";
    UNSUPPORTED_LIMIT = 215, c"CUDA_ERROR_UNSUPPORTED_LIMIT", c"the device knows no such limit";
    INVALID_PTX = 218, c"CUDA_ERROR_INVALID_PTX", c"the PTX does not compile";
    UNSUPPORTED_PTX_VERSION = 222, c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", c"the PTX is newer than the driver";
    FILE_NOT_FOUND = 301, c"CUDA_ERROR_FILE_NOT_FOUND", c"a file was not found";
    OPERATING_SYSTEM = 304, c"CUDA_ERROR_OPERATING_SYSTEM", c"a call of the operating system failed";
    INVALID_HANDLE = 400, c"CUDA_ERROR_INVALID_HANDLE", c"a handle is not valid";
    ILLEGAL_STATE = 401, c"CUDA_ERROR_ILLEGAL_STATE", c"an object is in a state that forbids the call";
    NOT_FOUND = 500, c"CUDA_ERROR_NOT_FOUND", c"no such name was found";
    NOT_READY = 600, c"CUDA_ERROR_NOT_READY", c"work has not finished yet";
    ILLEGAL_ADDRESS = 700, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"a kernel touched memory that it may not";
    LAUNCH_OUT_OF_RESOURCES = 701, c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", c"a launch asks for more than a block can have";
    LAUNCH_TIMEOUT = 702, c"CUDA_ERROR_LAUNCH_TIMEOUT", c"a kernel took too long";
    PRIMARY_CONTEXT_ACTIVE = 708, c"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", c"the primary context is in use";
    CONTEXT_IS_DESTROYED = 709, c"CUDA_ERROR_CONTEXT_IS_DESTROYED", c"the current context was destroyed";
    ASSERT = 710, c"CUDA_ERROR_ASSERT", c"an assertion of a kernel failed";
    HOST_MEMORY_ALREADY_REGISTERED = 712, c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", c"the host memory is registered already";
    HOST_MEMORY_NOT_REGISTERED = 713, c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", c"the host memory is not registered";
    ILLEGAL_INSTRUCTION = 715, c"CUDA_ERROR_ILLEGAL_INSTRUCTION", c"a kernel met an instruction that it may not run";
    MISALIGNED_ADDRESS = 716, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"a kernel used an address that is not aligned";
    LAUNCH_FAILED = 719, c"CUDA_ERROR_LAUNCH_FAILED", c"a kernel failed";
    NOT_PERMITTED = 800, c"CUDA_ERROR_NOT_PERMITTED", c"the call is not permitted";
    NOT_SUPPORTED = 801, c"CUDA_ERROR_NOT_SUPPORTED", c"the call is not supported";
    CAPTURE_UNSUPPORTED = 900, c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", c"the call is not permitted while a stream captures";
    CAPTURE_INVALIDATED = 901, c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", c"an earlier error invalidated the capture";
    CAPTURE_MERGE = 902, c"CUDA_ERROR_STREAM_CAPTURE_MERGE", c"two captures would merge";
    CAPTURE_UNMATCHED = 903, c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", c"the capture did not begin in this stream";
    CAPTURE_UNJOINED = 904, c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", c"work of a captured stream was not joined to the first stream";
    CAPTURE_ISOLATION = 905, c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION", c"captured work would depend on work outside";
    CAPTURE_IMPLICIT = 906, c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", c"the legacy stream would wait for a capturing stream";
    CAPTURED_EVENT = 907, c"CUDA_ERROR_CAPTURED_EVENT", c"the event was last recorded in a capture";
    CAPTURE_WRONG_THREAD = 908, c"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", c"another thread began the capture";
    UNKNOWN = 999, c"CUDA_ERROR_UNKNOWN", c"an unknown error";
}

impl Code {
    /// Whether the error stays with its context until that is destroyed.
    pub fn is_sticky(self) -> bool {
        matches!(
            self,
            ILLEGAL_ADDRESS | LAUNCH_TIMEOUT | ASSERT | ILLEGAL_INSTRUCTION | MISALIGNED_ADDRESS | LAUNCH_FAILED
        )
    }
}
