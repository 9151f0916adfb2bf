//! What the stand-in pretends to be, from environment variables at the first `cuInit` or from `standin_set`.

use crate::failure::Failures;
use crate::queue::Order;
use ptx_interpreter::Checks;
use std::collections::BTreeSet;

/// Device properties and behaviour that a test can choose.
#[derive(Clone)]
pub struct Settings {
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// CUDA version of the driver, 1000 * major + 10 * minor.
    pub driver: i32,
    pub devices: usize,
    /// Bytes of memory of each device.
    pub memory: u64,
    /// Whether the devices have memory pools (`cuMemAllocAsync`).
    pub pools: bool,
    /// When and in which order queued work runs.
    pub order: Order,
    /// How kernels run.
    pub kernels: Kernels,
    /// Variables that were set: the environment is not asked for them again.
    pub chosen: BTreeSet<String>,
}

/// How the interpreter runs kernels.
#[derive(Clone, Copy, Default)]
pub struct Kernels {
    pub checks: Checks,
    pub blocks: ptx_interpreter::Order,
}

pub const NAMES: [&str; 9] = [
    "STANDIN_CAPABILITY",
    "STANDIN_DRIVER",
    "STANDIN_DEVICES",
    "STANDIN_MEMORY",
    "STANDIN_POOLS",
    "STANDIN_ORDER",
    "STANDIN_BLOCKS",
    "STANDIN_CHECKS",
    "STANDIN_FAIL",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            capability: (8, 0),
            driver: 12080,
            devices: 2,
            memory: 2 << 30,
            pools: true,
            order: Order::Late,
            kernels: Kernels::default(),
            chosen: BTreeSet::new(),
        }
    }
}

impl Settings {
    /// Sets one value by the name of its variable; false where name or value make no sense.
    pub fn set(&mut self, failures: &mut Failures, name: &str, value: &str) -> bool {
        self.chosen.insert(name.to_owned());
        self.try_set(failures, name, value).is_some()
    }

    fn try_set(&mut self, failures: &mut Failures, name: &str, value: &str) -> Option<()> {
        match name {
            "STANDIN_CAPABILITY" => {
                let (major, minor) = value.split_once('.')?;
                self.capability = (major.parse().ok()?, minor.parse().ok()?);
            }
            "STANDIN_DRIVER" => self.driver = value.parse().ok()?,
            "STANDIN_DEVICES" => self.devices = value.parse().ok()?,
            "STANDIN_MEMORY" => self.memory = value.parse().ok()?,
            "STANDIN_POOLS" => self.pools = value.parse::<u8>().ok()? != 0,
            "STANDIN_ORDER" => self.order = Order::parse(value)?,
            "STANDIN_BLOCKS" => self.kernels.blocks = block_order(value)?,
            "STANDIN_CHECKS" => {
                let wanted = value.parse::<u8>().ok()? != 0;
                self.kernels.checks = Checks { races: wanted, uninitialized: wanted };
            }
            "STANDIN_FAIL" => failures.parse(value)?,
            _ => return None,
        }
        Some(())
    }

    /// The newest PTX version, 10 * major + minor, that a driver of this version compiles.
    pub fn newest_ptx(&self) -> i32 {
        let (major, minor) = (self.driver / 1000, self.driver % 1000 / 10);
        match (major, minor) {
            (..=10, _) => 65,
            (11, _) => 70 + minor.min(8),
            // 12.6 brought no PTX version of its own.
            (12, ..=5) => 80 + minor,
            (12, _) => 79 + minor.min(9),
            (_, _) => 10 * (major - 4) + minor,
        }
    }
}

fn block_order(value: &str) -> Option<ptx_interpreter::Order> {
    Some(match value {
        "forward" => ptx_interpreter::Order::Forward,
        "reverse" => ptx_interpreter::Order::Reverse,
        _ => ptx_interpreter::Order::Shuffled(value.strip_prefix("shuffled:")?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_versions_follow_the_driver() {
        let newest = |driver| Settings { driver, ..Settings::default() }.newest_ptx();
        assert_eq!(
            [11040, 11080, 12000, 12050, 12060, 12080, 12090, 13000, 13010].map(newest),
            [74, 78, 80, 85, 85, 87, 88, 90, 91]
        );
    }
}
