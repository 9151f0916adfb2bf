//! What the tests share.
#![allow(dead_code)]

use std::sync::Arc;

use ptx_interpreter::{Fault, FaultKind, Launch, Loaded, Memory, Module, Statistics};

/// A module in a memory of its own.
pub struct Device {
    pub memory: Memory,
    pub loaded: Loaded,
}

impl Device {
    pub fn new(source: &str) -> Device {
        let mut memory = Memory::new(1 << 30);
        memory.set_instruction_limit(50_000_000);
        let module = Module::parse(source).unwrap_or_else(|error| panic!("{error}"));
        let loaded = Loaded::new(Arc::new(module), &mut memory).unwrap();
        Device { memory, loaded }
    }

    /// Device memory that holds these values.
    pub fn put<T: Plain>(&mut self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes()).collect();
        let address = self.memory.allocate(bytes.len() as u64).unwrap();
        self.memory.write(address, &bytes).unwrap();
        address
    }

    /// Device memory nobody has written.
    pub fn room(&mut self, bytes: usize) -> u64 {
        self.memory.allocate(bytes as u64).unwrap()
    }

    pub fn get<T: Plain>(&self, address: u64, count: usize) -> Vec<T> {
        let size = size_of::<T>();
        let mut bytes = vec![0; count * size];
        self.memory.read(address, &mut bytes).unwrap();
        bytes.chunks(size).map(T::from_bytes).collect()
    }

    pub fn run(&mut self, kernel: &str, grid: u32, block: u32, parameters: &[Argument]) -> Result<Statistics, Fault> {
        self.run_with(kernel, [grid, 1, 1], [block, 1, 1], 0, parameters)
    }

    pub fn run_with(
        &mut self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared_bytes: u32,
        parameters: &[Argument],
    ) -> Result<Statistics, Fault> {
        let found = self.loaded.module().kernel(kernel).unwrap();
        let mut packed = vec![0; found.parameter_bytes() as usize];
        assert_eq!(found.parameters().len(), parameters.len());
        for (place, value) in found.parameters().iter().zip(parameters) {
            let bytes = match value {
                Argument::Wide(x) => x.to_le_bytes().to_vec(),
                Argument::Word(x) => x.to_le_bytes().to_vec(),
                Argument::Real(x) => x.to_le_bytes().to_vec(),
            };
            packed[place.offset as usize..][..place.size as usize].copy_from_slice(&bytes);
        }
        let launch = Launch { grid, block, dynamic_shared_bytes };
        self.loaded.launch(kernel, &launch, &packed, &mut self.memory)
    }
}

pub enum Argument {
    Wide(u64),
    Word(u32),
    Real(f64),
}

pub trait Plain {
    fn bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        impl Plain for $type {
            fn bytes(&self) -> Vec<u8> { self.to_le_bytes().to_vec() }
            fn from_bytes(bytes: &[u8]) -> Self { Self::from_le_bytes(bytes.try_into().unwrap()) }
        }
    )*};
}
plain! { u8 u16 u32 u64 i32 i64 f32 f64 }

/// Numbers that look random, the same every time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * 2f64.powi(-53)
    }
}

/// The kind of fault a launch must end in.
pub fn kind(result: Result<Statistics, Fault>) -> FaultKind {
    match result {
        Ok(statistics) => panic!("no fault was found: {statistics:?}"),
        Err(fault) => {
            // Every fault reads as a sentence and says where it is.
            assert!(fault.to_string().contains(&fault.kernel));
            fault.kind
        }
    }
}

/// A module around the body of one kernel `k`, whose parameters are `p0`, `p1` and so on, 64 bits each.
pub fn module(parameters: usize, body: &str) -> String {
    let list: Vec<String> = (0..parameters).map(|k| format!(".param .u64 p{k}")).collect();
    format!(".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k({})\n{{\n{body}\n}}\n", list.join(", "))
}
