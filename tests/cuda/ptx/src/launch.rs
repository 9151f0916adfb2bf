//! What a launch asks for and what it answers.

/// Sizes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Shared memory beyond what the kernel declares.
    pub dynamic_shared_bytes: u32,
}

/// Which checks run. Addresses, alignment, barriers and shuffles are always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Find two threads that touch one place without order, one of them writing.
    pub races: bool,
    /// Find reads of memory that nobody wrote.
    pub uninitialized: bool,
}

impl Default for Checks {
    fn default() -> Checks {
        Checks { races: true, uninitialized: true }
    }
}

/// In which order the blocks of a launch run. Blocks run one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Forward,
    Reverse,
    /// An order drawn from this seed.
    Shuffled(u64),
}

impl Order {
    /// The block that runs as the `at`-th of `count`: a permutation without a table.
    pub(crate) fn pick(self, at: u64, count: u64) -> u64 {
        match self {
            Order::Forward => at,
            Order::Reverse => count - 1 - at,
            Order::Shuffled(seed) => {
                // A Feistel network over the next power of four, walked until it lands inside.
                let half = (64 - count.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
                let mask = (1u64 << half) - 1;
                let mut value = at;
                loop {
                    let (mut left, mut right) = (value >> half, value & mask);
                    for round in 0..4u64 {
                        let mixed = (right ^ seed.rotate_left(16 * round as u32) ^ round << 60)
                            .wrapping_add(0x9e37_79b9_7f4a_7c15)
                            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
                        (left, right) = (right, left ^ (mixed >> 32 ^ mixed >> 17) & mask);
                    }
                    value = left << half | right;
                    if value < count {
                        return value;
                    }
                }
            }
        }
    }
}

/// What a launch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Instructions, counted once a warp.
    pub instructions: u64,
    pub blocks: u64,
    pub warps: u64,
    /// Barriers of a block that completed.
    pub barriers: u64,
    /// Bytes of global memory that instructions read and wrote, all lanes together.
    pub bytes_read: u64,
    pub bytes_written: u64,
}
