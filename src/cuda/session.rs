//! The call at hand: its stream, and the device's context made current for its time. A call stays on its thread, and what
//! it computes on the device is found there.

use super::Cuda;
use super::device::Entered;
use super::driver::Handle;
use super::kernels::{Kernel, Shape};
use super::memory::Block;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::ffi::c_void;

/// A call that the thread is in: of which engine, on which stream, and whether it waits for results.
#[derive(Clone, Copy)]
struct Call {
    engine: *const Cuda,
    stream: Handle,
    check: bool,
}

thread_local! {
    /// Calls inside calls, as when a callback calls the library, are on top of each other.
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Takes its call off the thread's pile.
struct OnPile;

impl Drop for OnPile {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(Vec::pop);
    }
}

/// Runs `work` as a call of `engine` on `stream`.
pub fn run<T>(engine: &Cuda, stream: Handle, check: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _entered = engine.device.enter()?;
    CALLS.with_borrow_mut(|calls| calls.push(Call { engine, stream, check }));
    let _on_pile = OnPile;
    work()
}

/// The call at hand, as the operations of an engine use it.
pub struct Session<'a> {
    pub engine: &'a Cuda,
    pub stream: Handle,
    /// Whether the caller waits for results, and wants to be told of NaN and infinity.
    pub check: bool,
    /// Outside of any call: the context is current for one operation.
    _entered: Option<Entered<'a>>,
}

impl<'a> Session<'a> {
    /// The call that this thread is in, or one of its own on the default stream.
    pub fn of(engine: &'a Cuda) -> Result<Self> {
        let call = CALLS.with_borrow(|calls| calls.last().filter(|c| std::ptr::eq(c.engine, engine)).copied());
        Ok(match call {
            Some(Call { stream, check, .. }) => Self { engine, stream, check, _entered: None },
            None => Self { engine, stream: 0, check: true, _entered: Some(engine.device.enter()?) },
        })
    }

    /// Memory for `count` elements of `T`, of any content.
    pub fn room<T>(&self, count: usize, what: &str) -> Result<Block> {
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64);
        let bytes = bytes.ok_or_else(|| Error::no_memory(count as u128 * size_of::<T>() as u128, what))?;
        self.engine.pool.take(self.stream, bytes, what)
    }

    /// Copies numbers of the host's to the device. They may be dropped at once.
    pub fn upload<T: Copy>(&self, from: &[T], what: &str) -> Result<Block> {
        self.refuse_capture(what)?;
        let to = self.room::<T>(from.len(), what)?;
        // SAFETY: numbers without padding, as many as `to` has room for; pageable memory is read before the driver returns.
        unsafe { self.copy_in(to.address(), from.as_ptr().cast(), size_of_val(from)) }?;
        Ok(to)
    }

    /// # Safety
    /// `from` is readable for `bytes` bytes, until the stream has passed if it is page-locked; `to` has as many.
    pub unsafe fn copy_in(&self, to: u64, from: *const c_void, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        self.engine.device.note(unsafe { self.engine.device.driver.upload(to, from, bytes, self.stream) })
    }

    /// Copies numbers to the host and waits for them.
    pub fn download<T: Copy>(&self, from: &Block, to: &mut [T]) -> Result<()> {
        if to.is_empty() {
            return Ok(());
        }
        self.refuse_capture("a result for the host")?;
        let bytes = size_of_val(to);
        // SAFETY: `from` was made for as many numbers, any bytes are valid ones, and `wait` comes before anyone looks.
        self.engine.device.note(unsafe {
            self.engine.device.driver.download(to.as_mut_ptr().cast(), from.address(), bytes, self.stream)
        })?;
        self.wait()
    }

    /// Waits until the stream has passed.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the stream is the caller's own, alive during the call.
        self.engine.device.note(unsafe { self.engine.device.driver.synchronize(self.stream) })
    }

    fn is_capturing(&self) -> Result<bool> {
        let mut capturing = 0;
        // SAFETY: the place is writable.
        self.engine.device.note(unsafe { self.engine.device.driver.is_capturing(self.stream, &raw mut capturing) })?;
        Ok(capturing != 0)
    }

    /// An error while the stream is being captured into a graph, which would replay a copy of memory that is gone.
    pub fn refuse_capture(&self, what: &str) -> Result<()> {
        if !self.is_capturing()? {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "exec.stream is being captured into a graph, which cannot hold {what}: it passes through the host"
        )))
    }

    /// Starts a kernel, with so many bytes of dynamic shared memory.
    ///
    /// # Safety
    /// As [`super::kernels::Kernels::launch`].
    pub unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        shared: usize,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        if self.engine.kernels.loads(kernel) && self.is_capturing()? {
            return Err(Error::unsupported(
                "exec.stream is being captured, and kernels of this call are not loaded; make the same call once before capturing",
            ));
        }
        let mut sizes = [0; 3];
        for (size, wanted) in sizes.iter_mut().zip(grid) {
            *size =
                u32::try_from(wanted).map_err(|_| Error::shape(format!("a batch of {wanted} blocks is too large")))?;
        }
        let shape = Shape { grid: sizes, block: THREADS, shared: shared as u32 };
        // SAFETY: the caller's promise.
        unsafe { self.engine.kernels.launch(kernel, shape, self.stream, arguments) }
    }
}

/// Threads of every block (`THREADS` of kernels/common.cuh).
pub const THREADS: u32 = 256;

/// Blocks for `count` elements, one a thread: enough for any device, and the kernels stride.
pub fn blocks(count: usize) -> [usize; 3] {
    const MOST: usize = 1 << 12;
    [count.div_ceil(THREADS as usize).min(MOST), 1, 1]
}

/// Starts a kernel of the session with these arguments, which must be of the kernel's types, each a variable or a value;
/// after `shared` come bytes of dynamic shared memory.
macro_rules! launch {
    ($session:expr, $kernel:literal, $grid:expr, shared $shared:expr, $($argument:expr),* $(,)?) => {{
        const KERNEL: $crate::cuda::kernels::Kernel = $crate::cuda::kernels::Kernel::named($kernel);
        // SAFETY: types and order are those of the kernel's declaration in kernels/; the blocks named live until the
        // stream has passed, because their memory is used again on the same stream only.
        unsafe { $session.launch(KERNEL, $grid, $shared, &mut [$((&raw const *&$argument).cast_mut().cast()),*]) }
    }};
    ($session:expr, $kernel:literal, $grid:expr, $($argument:expr),* $(,)?) => {
        $crate::cuda::session::launch!($session, $kernel, $grid, shared 0, $($argument),*)
    };
}
pub(super) use launch;
