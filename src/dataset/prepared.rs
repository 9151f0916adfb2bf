//! What engines keep with a data set.

use std::any::Any;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What an engine has prepared for a data set, kept for its later calls. It holds no lock that a fork could leave locked:
/// two calls that prepare at once both do the work, and one result is kept.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Queries asked so far, by which an engine decides whether preparing pays.
    asked: AtomicU64,
    value: AtomicPtr<Box<dyn Any + Send + Sync>>,
}

impl Prepared {
    /// Counts `queries` more; returns how many there were with them.
    pub fn ask(&self, queries: usize) -> u64 {
        self.asked.fetch_add(queries as u64, Ordering::Relaxed) + queries as u64
    }

    /// What was kept, if it is a `T`.
    pub fn get<T: Any>(&self) -> Option<&T> {
        // SAFETY: a non-null pointer came from `keep` and is freed only by Drop, which has &mut self.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }?.downcast_ref()
    }

    /// Keeps `value`, unless another call was first; returns what is kept.
    pub fn keep<T: Any + Send + Sync>(&self, value: T) -> Option<&T> {
        let fresh = Box::into_raw(Box::new(Box::new(value) as Box<dyn Any + Send + Sync>));
        if self.value.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` was never shared.
            drop(unsafe { Box::from_raw(fresh) });
        }
        self.get()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: it came from Box::into_raw in `keep`, and nobody else can hold a reference.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}
