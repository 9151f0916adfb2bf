//! The CUDA engine: fused kernels on the caller's device and stream, with no CUDA at build time and none needed to load.
//!
//! Working matrices are float64 in device memory. Operations are queued on the call's stream and not waited for, unless a
//! result goes to the host: numbers of which there is one per row, and whatever the caller keeps in host memory.

mod bounds;
mod cache;
mod certificate;
mod compiler;
mod device;
mod driver;
mod elementwise;
mod empirical;
mod kernels;
mod memory;
mod near;
mod nearest;
mod rows;
mod session;

use crate::engine::{Engine, Factor, Moments, Noise, Query, Search};
use crate::error::Result;
use crate::exec::Exec;
use crate::tensor::{Dtype, Matrix, Place, View, ViewMut};
use cache::Cache;
use device::Device;
use kernels::Kernels;
use memory::{Block, Pool};
use session::Session;
use std::sync::Arc;

/// The CUDA engine of one device.
pub struct Cuda {
    // Dropped in this order: kernels and memory need the device.
    kernels: Kernels,
    pool: Arc<Pool>,
    device: Arc<Device>,
    memory_limit: Option<u64>,
}

impl Cuda {
    /// An engine on device number `ordinal`; [`Error::Device`](crate::error::Error::Device) says what is missing. Compiled
    /// kernels are kept in `cache_folder`, or in the user's cache folder. `memory_limit` bounds the bytes of a data set.
    pub fn new(ordinal: i32, cache_folder: Option<&str>, memory_limit: Option<u64>) -> Result<Self> {
        let device = Arc::new(Device::open(ordinal)?);
        let kernels = Kernels::new(device.clone(), Cache::new(cache_folder));
        Ok(Self { kernels, pool: Pool::new(device.clone()), device, memory_limit })
    }
}

/// The device memory of a matrix of ours.
fn block(m: &Matrix) -> &Block {
    m.device().expect("a matrix that this engine made")
}

/// The address of a matrix's first element.
fn address(m: &Matrix) -> u64 {
    block(m).address()
}

/// `text` as a JSON string.
fn json(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

impl Engine for Cuda {
    fn describe(&self) -> String {
        let Device { name, ordinal, capability: (major, minor), driver, .. } = &*self.device;
        let version = driver.cuda_version();
        format!(
            r#"{{"backend":"cuda","instruction_set":"sm_{major}{minor}","threads":1,"device":{},"device_id":{ordinal},"driver":"{}.{}",{}}}"#,
            json(name),
            version / 1000,
            version % 1000 / 10,
            self.kernels.describe(),
        )
    }

    fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    fn device(&self) -> Option<i32> {
        Some(self.device.ordinal)
    }

    fn within(&self, exec: &Exec<'_>, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        session::run(self, exec.stream, exec.check, work)
    }

    fn warm_up(&self) -> Result<()> {
        let _session = Session::of(self)?;
        self.kernels.load_all()
    }

    fn prepare(&self, rows: &crate::dataset::Rows) -> Result<()> {
        rows::of(&Session::of(self)?, rows).map(drop)
    }

    fn fetch(&self, from: View<'_>, to: &mut [u8]) -> Result<()> {
        elementwise::fetch(&Session::of(self)?, from, to)
    }

    fn put(&self, from: &[u8], to: &mut ViewMut<'_>) -> Result<()> {
        elementwise::put(&Session::of(self)?, from, to)
    }

    fn lend<'a>(&self, m: &'a mut Matrix, dtype: Dtype) -> ViewMut<'a> {
        let (rows, cols, data) = (m.rows(), m.cols(), address(m) as usize as *mut u8);
        // SAFETY: the matrix has room for float64 numbers, and so for these; it is borrowed for as long.
        unsafe { ViewMut::from_raw(data, (rows, cols, cols), dtype, Place::Cuda) }
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix> {
        elementwise::zeros(&Session::of(self)?, rows, cols)
    }

    fn column(&self, numbers: &[f64]) -> Result<Matrix> {
        Ok(Matrix::from_device(empirical::column(&Session::of(self)?, numbers)?, numbers.len(), 1))
    }

    fn load(&self, name: &str, from: View<'_>) -> Result<Matrix> {
        elementwise::load(&Session::of(self)?, name, from)
    }

    fn store(&self, from: &Matrix, to: &mut ViewMut<'_>) -> Result<()> {
        elementwise::store(&Session::of(self)?, from, to)
    }

    fn first_beyond(&self, x: &Matrix, limit: f64) -> Result<Option<usize>> {
        elementwise::first_beyond(&Session::of(self)?, x, limit)
    }

    fn combine(
        &self,
        out: &mut Matrix,
        keep: Option<Factor<'_>>,
        terms: &[(Factor<'_>, &Matrix)],
        noise: Option<Noise>,
    ) -> Result<()> {
        elementwise::combine(&Session::of(self)?, out, keep, terms, noise)
    }

    fn dot_rows(&self, x: &Matrix, y: &Matrix) -> Result<Vec<f64>> {
        elementwise::dot_rows(&Session::of(self)?, x, y)
    }

    fn error_norms(&self, out: &mut [f64], error: &Matrix, x: &Matrix, y: &Matrix, rtol: f64, atol: f64) -> Result<()> {
        elementwise::error_norms(&Session::of(self)?, out, [error, x, y], rtol, atol)
    }

    fn gather(&self, from: &Matrix, rows: &[usize]) -> Result<Matrix> {
        let session = Session::of(self)?;
        let to = elementwise::zeros(&session, rows.len(), from.cols())?;
        elementwise::copy_rows(&session, from, Some(rows), &to, None, rows.len())?;
        Ok(to)
    }

    fn copy_rows(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()> {
        elementwise::copy_rows(&Session::of(self)?, from, Some(rows), to, Some(rows), rows.len())
    }

    fn keep_rows(&self, m: &mut Matrix, rows: &[usize]) -> Result<()> {
        // Side by side, because rows on the move must not meet; then back, to the memory that `m` keeps.
        let kept = self.gather(m, rows)?;
        elementwise::copy_rows(&Session::of(self)?, &kept, None, m, None, rows.len())?;
        m.truncate(rows.len());
        Ok(())
    }

    fn scatter(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()> {
        elementwise::copy_rows(&Session::of(self)?, from, None, to, Some(rows), rows.len())
    }

    fn empirical(&self, query: &Query<'_>, out: Moments<'_>, exec: &Exec<'_>) -> Result<()> {
        empirical::run(&Session::of(self)?, query, out, exec)
    }

    fn nearest(&self, search: &Search<'_>, distance: &mut [f64], index: &mut [i64], exec: &Exec<'_>) -> Result<()> {
        nearest::run(&Session::of(self)?, search, (distance, index), exec)
    }
}
