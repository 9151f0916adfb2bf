//! Devices and what they say of themselves.

use crate::code;
use crate::driver::{Driver, Handle, export, put};
use crate::interpreter::Board;
use std::ffi::c_char;

pub struct Device {
    pub board: Board,
    pub memory: u64,
    /// The primary context's handle, the same whenever it is retained.
    pub primary: Handle,
    pub primary_flags: u32,
}

impl Device {
    pub fn new(ordinal: usize, memory: u64) -> Self {
        Self { board: Board::new(ordinal, memory), memory, primary: 0, primary_flags: 0 }
    }
}

/// The numbers that differ between generations.
pub struct Model {
    pub multiprocessors: i32,
    pub threads_per_multiprocessor: i32,
    pub blocks_per_multiprocessor: i32,
    pub shared_per_multiprocessor: i32,
    /// The most that a block can opt in to.
    pub shared_per_block: i32,
    pub cache: i32,
}

/// Shared memory of a block without opting in.
pub const SHARED_WITHOUT_OPT_IN: i32 = 48 << 10;
/// Shared memory of each block that the system keeps for itself, since compute capability 8.0.
pub const SHARED_RESERVED: i32 = 1 << 10;
pub const THREADS_PER_BLOCK: i32 = 1024;
pub const BLOCK: [i32; 3] = [1024, 1024, 64];
pub const GRID: [i32; 3] = [i32::MAX, 65535, 65535];
const REGISTERS: i32 = 65536;

/// Numbers of a device of a compute capability: T4, A100, RTX 3090, RTX 4090, H100, B200, RTX 5090.
pub fn model(capability: (i32, i32)) -> Model {
    let numbers = match capability {
        (..=7, _) => [40, 1024, 16, 64, 64, 4],
        (8, 0) => [108, 2048, 32, 164, 163, 40],
        (8, ..=7) => [82, 1536, 16, 100, 99, 6],
        (8, _) => [128, 1536, 24, 100, 99, 72],
        (9, _) => [132, 2048, 32, 228, 227, 50],
        (10..=11, _) => [148, 2048, 32, 228, 227, 126],
        _ => [170, 1536, 24, 100, 99, 96],
    };
    Model {
        multiprocessors: numbers[0],
        threads_per_multiprocessor: numbers[1],
        blocks_per_multiprocessor: numbers[2],
        shared_per_multiprocessor: numbers[3] << 10,
        shared_per_block: numbers[4] << 10,
        cache: numbers[5] << 20,
    }
}

impl Driver {
    fn attribute(&self, attribute: i32, device: usize) -> Option<i32> {
        let model = model(self.settings.capability);
        let capability = self.settings.capability;
        Some(match attribute {
            1 => THREADS_PER_BLOCK,
            2..=4 => BLOCK[attribute as usize - 2],
            5..=7 => GRID[attribute as usize - 5],
            8 => SHARED_WITHOUT_OPT_IN,
            9 => 64 << 10,  // constant memory
            10 => 32,       // threads of a warp
            11 => i32::MAX, // pitch
            12 | 82 => REGISTERS,
            13 => 1_410_000, // clock, kHz
            14 => 512,       // alignment of textures
            15 | 31 => 1,    // copies beside kernels, kernels beside kernels
            16 => model.multiprocessors,
            17 | 18 | 20 | 35 => 0, // time limit, integrated, compute mode, TCC
            19 | 91 => 0,           // pinned memory is no device memory here: stricter than the driver
            30 => 512,
            32 => 0,
            33 => device as i32 + 1, // PCI bus
            34 | 50 => 0,
            36 => 1_215_000, // memory clock, kHz
            37 => 5120,      // width of the memory bus, bits
            38 => model.cache,
            39 => model.threads_per_multiprocessor,
            40 => 3, // copy engines
            41 => 1, // unified addressing
            51 => 32,
            75 => capability.0,
            76 => capability.1,
            78..=80 => 1, // stream priorities, global and local loads through L1
            81 => model.shared_per_multiprocessor,
            83 | 84 | 86 | 88 | 89 | 92 | 93 | 94 | 96 | 100 | 101 => 0, // managed and pageable memory, memory operations
            85 => device as i32,
            87 => 2,
            90 => 1,
            95 | 98 => 0, // cooperative launches
            97 => model.shared_per_block,
            99 => 1, // registering host memory
            102..=105 | 107 | 110 | 112..=114 | 116..=119 => 0,
            106 => model.blocks_per_multiprocessor,
            108 | 109 => 0,
            111 => SHARED_RESERVED,
            115 => i32::from(self.settings.pools),
            // Textures and surfaces are not pretended; their limits are nought.
            21..=29 | 42..=49 | 52..=74 | 77 => 0,
            _ => return None,
        })
    }

    fn device(&self, device: i32) -> Result<usize, code::Code> {
        self.ready()?;
        usize::try_from(device).ok().filter(|&device| device < self.devices.len()).ok_or(code::INVALID_DEVICE)
    }

    fn uuid(&self, uuid: *mut [u8; 16], device: i32) -> Result<(), code::Code> {
        let device = self.device(device)?;
        let mut bytes = *b"stand-in device\0";
        bytes[15] = device as u8;
        // SAFETY: the host gives a place for sixteen bytes or null.
        unsafe { put(uuid, bytes) }
    }
}

export! {
    fn cuInit(driver, flags: u32) {
        if flags != 0 {
            return Err(code::INVALID_VALUE);
        }
        driver.initialize()
    }

    fn cuDriverGetVersion(driver, version: *mut i32) {
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(version, driver.settings.driver) }
    }

    fn cuDeviceGetCount(driver, count: *mut i32) {
        driver.ready()?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(count, driver.devices.len() as i32) }
    }

    fn cuDeviceGet(driver, device: *mut i32, ordinal: i32) {
        driver.device(ordinal)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(device, ordinal) }
    }

    fn cuDeviceGetName(driver, name: *mut c_char, length: i32, device: i32) {
        driver.device(device)?;
        let length = usize::try_from(length).ok().filter(|&length| length > 0).ok_or(code::INVALID_VALUE)?;
        if name.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the host gives `length` bytes.
        unsafe { crate::report::fill_text(name, length, "Stand-in device") };
        Ok(())
    }

    fn cuDeviceGetUuid(driver, uuid: *mut [u8; 16], device: i32) {
        driver.uuid(uuid, device)
    }

    fn cuDeviceGetUuid_v2(driver, uuid: *mut [u8; 16], device: i32) {
        driver.uuid(uuid, device)
    }

    fn cuDeviceGetAttribute(driver, value: *mut i32, attribute: i32, device: i32) {
        let device = driver.device(device)?;
        let found = driver.attribute(attribute, device).ok_or(code::INVALID_VALUE)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(value, found) }
    }

    fn cuDeviceTotalMem_v2(driver, bytes: *mut usize, device: i32) {
        let device = driver.device(device)?;
        // SAFETY: the host gives a place for a number or null.
        unsafe { put(bytes, driver.devices[device].memory as usize) }
    }

    fn cuDeviceGetDefaultMemPool(driver, pool: *mut Handle, device: i32) {
        let device = driver.device(device)?;
        if !driver.settings.pools {
            return Err(code::NOT_SUPPORTED);
        }
        // SAFETY: the host gives a place for a handle or null.
        unsafe { put(pool, driver.devices[device].primary + 1) }
    }

    fn cuMemPoolSetAttribute(driver, pool: Handle, attribute: i32, value: *const u64) {
        driver.pool(pool)?;
        if !(1..=4).contains(&attribute) || value.is_null() { Err(code::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuMemPoolTrimTo(driver, pool: Handle, kept: usize) {
        let _ = kept;
        driver.pool(pool)
    }
}

impl Driver {
    /// A pool is only a name: memory that is freed goes back to the device at once.
    fn pool(&self, pool: Handle) -> Result<(), code::Code> {
        self.ready()?;
        let known = self.settings.pools && self.devices.iter().any(|device| device.primary + 1 == pool);
        if known { Ok(()) } else { Err(code::INVALID_VALUE) }
    }
}
