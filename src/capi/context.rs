//! Contexts: where computing happens.

use super::{
    Sized32, guard, hand_over, initialise, place, read_sized, required, reserved,
    status::mnemo_error,
    string, take_back,
    tensor::{MNEMO_CPU, MNEMO_CUDA},
};
use crate::cpu::{Cpu, InstructionSet};
use crate::cuda::Cuda;
use crate::engine::SharedEngine;
use crate::error::Error;
use std::ffi::c_char;
use std::sync::Arc;

/// Instruction set: the best that this processor has.
pub const MNEMO_ISA_BEST: u32 = 0;
/// Instruction set: none beyond what every processor of the architecture has.
pub const MNEMO_ISA_PORTABLE: u32 = 1;
/// Instruction set: x86-64 with AVX2 and FMA.
pub const MNEMO_ISA_AVX2: u32 = 2;
/// Instruction set: x86-64 with AVX-512 F, DQ, VL and VNNI.
pub const MNEMO_ISA_AVX512: u32 = 3;
/// Instruction set: the same with AVX-512 BW and AMX, on Linux. The first context that has it, be it as the best, asks the
/// system for the tile registers on behalf of the process; from then on an alternate signal stack must have
/// getauxval(AT_MINSIGSTKSZ) bytes. Where one is smaller already the system refuses, and AVX-512 is the best.
pub const MNEMO_ISA_AMX: u32 = 4;

/// A machine to compute on, with its own threads. Objects made from a context keep what they need of it: it may be
/// released before they are.
pub struct mnemo_context {
    pub(super) engine: SharedEngine,
}

/// How a context computes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mnemo_context_options {
    /// sizeof(mnemo_context_options).
    pub struct_size: u32,
    /// MNEMO_CPU (initially) or MNEMO_CUDA.
    pub device_type: u32,
    /// Which CUDA device; initially 0.
    pub device_id: i32,
    /// Threads of a CPU context; 0 (initially) means one per processor. They start with the first work that is worth
    /// it.
    pub num_threads: u32,
    /// Bytes of memory that the stored rows of one data set may take, and what is kept to find those near a sample (104
    /// bytes a row and one a number; up to 16 dimensions 16 a number instead), which is left out where it does not fit; 0
    /// (initially) means no limit. Rows of a larger file stay there: mnemo_dataset_open. A CUDA context keeps a copy of the
    /// rows on the device, and none of what finds near ones; rows of a larger file are MNEMO_E_UNSUPPORTED on it.
    pub memory_limit: u64,
    /// Folder for compiled CUDA kernels, UTF-8, copied; NULL (initially) means the user's cache folder. Who can write to it
    /// can have the device run what they like. One that cannot be written to costs time, and is no error.
    pub kernel_cache_dir: *const c_char,
    /// MNEMO_ISA_…, the kernels of a CPU context; initially MNEMO_ISA_BEST. Results on two machines have the same bits
    /// if they use the same one: a set that both have, or MNEMO_ISA_PORTABLE, which is several times slower.
    pub instruction_set: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, no padding, any bytes are valid.
unsafe impl Sized32 for mnemo_context_options {
    fn initial() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            device_type: MNEMO_CPU,
            device_id: 0,
            num_threads: 0,
            memory_limit: 0,
            kernel_cache_dir: std::ptr::null(),
            instruction_set: MNEMO_ISA_BEST,
            reserved: 0,
        }
    }
}

/// Fills `options` with its initial values; `size` is sizeof *options.
///
/// Threads: any. Errors: none; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_context_options_init(options: *mut mnemo_context_options, size: usize) {
    // SAFETY: the caller's promises; so throughout this file.
    unsafe { initialise(options, size) }
}

/// Makes a context into `out`. `options` may be NULL. Owned by the caller: mnemo_context_release.
///
/// After a fork the child may go on using its parent's CPU contexts: each process starts threads of its own. Calls on its
/// parent's CUDA contexts, and with what was made on them, are MNEMO_E_POISONED there.
///
/// A CUDA context needs NVIDIA's driver, for CUDA 12.0 or later, and a device of compute capability 8.0 or higher; what is
/// missing is MNEMO_E_DEVICE, and no CUDA context ever computes on the CPU. Kernels are compiled by NVRTC 12.0 or later, if
/// it is found (the file that MNEMO_NVRTC names, or where the loader, CUDA's installer and the PyPI packages of NVRTC put
/// it), and kept in kernel_cache_dir; without it the driver compiles the PTX that is in the library.
///
/// Threads: any; one context may be used by many threads at once. Errors: MNEMO_E_INVALID, MNEMO_E_UNSUPPORTED,
/// MNEMO_E_DEVICE if the device or its driver is not there, or the processor does not have the instruction set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_context_create(
    options: *const mnemo_context_options,
    out: *mut *mut mnemo_context,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let out = place(out)?;
            let o = read_sized("options", options)?;
            reserved("options", o.reserved)?;
            let cache = string("kernel_cache_dir", o.kernel_cache_dir)?;
            let limit = (o.memory_limit > 0).then_some(o.memory_limit);
            let isa = match o.instruction_set {
                MNEMO_ISA_BEST => InstructionSet::best(),
                MNEMO_ISA_PORTABLE => InstructionSet::Portable,
                MNEMO_ISA_AVX2 => InstructionSet::Avx2,
                MNEMO_ISA_AVX512 => InstructionSet::Avx512,
                MNEMO_ISA_AMX => InstructionSet::Amx,
                other => return Err(Error::invalid(format!("instruction_set is {other}; it is MNEMO_ISA_…, 0 to 4"))),
            };
            let engine: SharedEngine = match o.device_type {
                MNEMO_CPU => Arc::new(Cpu::with_instruction_set(o.num_threads as usize, limit, isa)?),
                MNEMO_CUDA => Arc::new(Cuda::new(o.device_id, cache, limit).map_err(|e| match e {
                    Error::Device(why) => Error::Device(format!("device_type is MNEMO_CUDA: {why}")),
                    other => other,
                })?),
                other => {
                    return Err(Error::invalid(format!(
                        "device_type is {other}; it is MNEMO_CPU (1) or MNEMO_CUDA (2)"
                    )));
                }
            };
            hand_over(out, mnemo_context { engine });
            Ok(())
        })
    }
}

/// Makes ready on a CUDA `context` what its first calls would otherwise do: all kernels are compiled, or read from the
/// cache, and loaded. A CPU context needs nothing. Work space is taken by the first call of each size on each stream.
///
/// Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_COMPILE, MNEMO_E_CUDA, MNEMO_E_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_context_warm_up(context: *const mnemo_context, err: *mut mnemo_error) -> i32 {
    // SAFETY: as above.
    unsafe { guard(err, || required("context", context)?.engine.warm_up()) }
}

/// Describes `context` as a JSON object with the members "backend", "instruction_set", "threads" and "device". A CUDA
/// context's instruction set is its compute capability, such as "sm_90"; it adds "device_id", "driver" (the CUDA version
/// it is for), "nvrtc" (its version, or null), "cache" (the folder, or null) and "kernels", how many files of them were
/// compiled, read from the cache, taken from the library's own PTX, and not yet loaded.
///
/// Writes it with its NUL to `json`, of `capacity` bytes, and the bytes that takes to `needed` (which may be NULL).
/// With json = NULL and capacity = 0 it only tells `needed`.
///
/// Threads: any. Errors: MNEMO_E_INVALID; if `capacity` is too small `needed` is set all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_context_describe(
    context: *const mnemo_context,
    json: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    err: *mut mnemo_error,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(err, || {
            let text = required("context", context)?.engine.describe();
            let bytes = text.len() + 1;
            if json.is_null() && capacity > 0 {
                return Err(Error::invalid(format!("json is NULL, but capacity is {capacity}")));
            }
            if let Some(needed) = needed.as_mut() {
                *needed = bytes;
            }
            if json.is_null() {
                return Ok(());
            }
            if capacity < bytes {
                return Err(Error::invalid(format!("capacity is {capacity}; the description takes {bytes} bytes")));
            }
            std::ptr::copy_nonoverlapping(text.as_ptr(), json.cast(), text.len());
            *json.add(text.len()) = 0;
            Ok(())
        })
    }
}

/// Releases `context`; NULL is ignored. When the last object that computes on it is gone too, its threads have ended.
///
/// Threads: any. Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mnemo_context_release(context: *mut mnemo_context) {
    // SAFETY: as above.
    unsafe { take_back(context) }
}
