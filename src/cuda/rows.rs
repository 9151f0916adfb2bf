//! The rows of a data set in device memory, in their own element type (`Rows` of kernels/common.cuh).

use super::bounds::Bounds;
use super::elementwise::dtype_number;
use super::memory::Block;
use super::session::{Session, launch};
use crate::dataset::Rows;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the device keeps of a data set, for as long as that lives.
pub struct DeviceRows {
    data: Block,
    /// Where they help.
    pub bounds: Option<Bounds>,
    /// Rows that carry a label, by where the data set keeps their numbers.
    subsets: Mutex<HashMap<(usize, usize), Arc<Block>>>,
    /// 1/|y_n|, for cosines.
    factors: Mutex<Option<Arc<Block>>>,
}

/// `Rows` of kernels/common.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawRows {
    data: u64,
    subset: u64,
    factor: u64,
    scale: f64,
    shift: f64,
    pub count: i64,
    pub dim: i32,
    dtype: i32,
}

impl RawRows {
    /// The rows of a matrix of ours.
    pub fn of_matrix(data: u64, rows: usize, dim: usize) -> Self {
        let dtype = dtype_number(Dtype::F64);
        Self { data, subset: 0, factor: 0, scale: 1.0, shift: 0.0, count: rows as i64, dim: dim as i32, dtype }
    }
}

/// Rows as a kernel takes them, and what keeps their parts alive.
pub struct Taken {
    pub raw: RawRows,
    subset: Option<Arc<Block>>,
    factor: Option<Arc<Block>>,
}

impl Taken {
    /// The numbers of the rows that take part, NULL for all.
    pub fn subset(&self) -> u64 {
        self.subset.as_ref().map_or(0, |b| b.address())
    }

    /// 1/|y_n|, NULL if not asked for.
    pub fn factor(&self) -> u64 {
        self.factor.as_ref().map_or(0, |b| b.address())
    }
}

/// Copies numbers to memory that any stream may read from now on.
pub fn share<T: Copy>(session: &Session<'_>, from: &[T], what: &str) -> Result<Block> {
    session.refuse_capture(what)?;
    let to = session.engine.pool.take_shared(size_of_val(from) as u64, what)?;
    // SAFETY: numbers without padding, as many as there is room for; they are waited for.
    unsafe { session.copy_in(to.address(), from.as_ptr().cast(), size_of_val(from)) }?;
    session.wait()?;
    Ok(to)
}

/// The rows on the device, copied there at first use.
pub fn of<'a>(session: &Session<'_>, rows: &'a Rows) -> Result<&'a DeviceRows> {
    if let Some(there) = rows.prepared().get() {
        return Ok(there);
    }
    if rows.bytes() == 0 {
        return Err(Error::unsupported(
            "rows beyond memory_limit stay in their file, from where a CUDA context cannot use them",
        ));
    }
    let data = share(session, rows.raw_rows(0..rows.len()), "rows of the data set")?;
    let mut there = DeviceRows { data, bounds: None, subsets: Mutex::default(), factors: Mutex::default() };
    there.bounds = Bounds::of(session, rows, there.take(session, rows, None)?.raw)?;
    Ok(rows.prepared().keep(there).expect("nothing else is kept with rows of a CUDA context"))
}

impl DeviceRows {
    /// All rows, or those of a subset.
    pub fn take(&self, session: &Session<'_>, rows: &Rows, subset: Option<&[u32]>) -> Result<Taken> {
        let decoding = rows.decoding();
        let subset = subset.map(|numbers| {
            let mut subsets = self.subsets.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (numbers.as_ptr().addr(), numbers.len());
            if let Some(there) = subsets.get(&key) {
                return Ok((there.clone(), numbers.len()));
            }
            let there = Arc::new(share(session, numbers, "rows of a label")?);
            subsets.insert(key, there.clone());
            Ok((there, numbers.len()))
        });
        let subset = subset.transpose()?;
        let raw = RawRows {
            data: self.data.address(),
            subset: subset.as_ref().map_or(0, |(b, _)| b.address()),
            factor: 0,
            scale: decoding.scale,
            shift: decoding.shift,
            count: subset.as_ref().map_or(rows.len(), |(_, len)| *len) as i64,
            dim: i32::try_from(rows.dim()).map_err(|_| Error::shape(format!("rows: dimension {}", rows.dim())))?,
            dtype: dtype_number(rows.dtype()),
        };
        Ok(Taken { raw, subset: subset.map(|(b, _)| b), factor: None })
    }

    /// All rows, scaled to length 1.
    pub fn take_directions(&self, session: &Session<'_>, rows: &Rows) -> Result<Taken> {
        let plain = self.take(session, rows, None)?;
        let mut factors = self.factors.lock().unwrap_or_else(PoisonError::into_inner);
        let factor = match &*factors {
            Some(there) => there.clone(),
            None => {
                session.refuse_capture("lengths of rows")?;
                let what = "lengths of rows";
                let factor = session.engine.pool.take_shared(rows.len() as u64 * size_of::<f64>() as u64, what)?;
                launch!(
                    session,
                    "row_factors",
                    super::session::blocks(rows.len().saturating_mul(32)),
                    plain.raw,
                    factor.address()
                )?;
                session.wait()?;
                factors.insert(Arc::new(factor)).clone()
            }
        };
        Ok(Taken { raw: RawRows { factor: factor.address(), ..plain.raw }, subset: None, factor: Some(factor) })
    }
}
