//! The library as its hosts use it. Every test is written once and run twice: through the Rust API and through the C ABI.
//!
//! [`api::Api`] is what a test needs of the library, [`rust`] and [`c`] are the two ways to it, and [`both!`] makes two
//! tests of one function. [`reference`] is the mathematics again, in twice float64's precision and without any speed.

/// Makes `rust_api::name` and `c_abi::name` of every generic test function `name`.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod rust_api {
            $(#[test] fn $name() { super::$name::<crate::rust::Machine>(); })*
        }
        mod c_abi {
            $(#[test] fn $name() { super::$name::<crate::c::Machine>(); })*
        }
    };
}

mod api;
mod bytes;
mod c;
mod certificate;
mod custom;
mod data;
mod determinism;
mod files;
mod home;
mod nearest;
mod oracles;
mod reference;
mod rust;
mod samplers;
mod step;
mod stepping;
mod sweep;
