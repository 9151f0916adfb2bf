//! The CPU engine: rayon threads over SIMD kernels that are chosen once, at run time.

mod amx;
mod bounds;
mod directions;
mod elementwise;
mod empirical;
mod nearest;
mod pool;
mod quantized;
mod survivors;
mod tile;
mod vector;

use crate::engine::{Engine, Factor, Moments, Noise, Query, Search};
use crate::error::{Error, Result, try_vec};
use crate::exec::Exec;
use crate::tensor::{Dtype, Matrix, View, ViewMut, check_finite};
use pool::Pool;
#[cfg(target_arch = "x86_64")]
use vector::{Avx2, Avx512};
use vector::{Isa, Portable};

/// The instruction sets the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Plain Rust, on every machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, DQ, VL (without it half the registers are out of the compiler's reach) and VNNI (8-bit
    /// products).
    Avx512,
    /// The same with AVX-512 BW and AMX: tile registers for products of 8-bit matrices.
    Amx,
}

/// Something that is written once and compiled for every instruction set.
trait Kernel {
    type Output;
    /// # Safety
    /// Runs only on a processor with the instruction set `S`.
    unsafe fn run<S: Isa>(self) -> Self::Output;
}

impl InstructionSet {
    /// All, least first; each has what those before it have.
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// Whether this processor can run it, and this process may: see [`amx`].
    fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Self::Amx => Self::Avx512.is_available() && amx::available(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// What this processor can run, least first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|set| set.is_available()).collect()
    }

    /// The best that this processor can run.
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// The name in `mnemo_context_describe`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2+fma",
            Self::Avx512 => "avx512",
            Self::Amx => "avx512+amx",
        }
    }

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: compiled for and, by the caller's promise, running on AVX2 and FMA.
            unsafe { kernel.run::<Avx2>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl,avx512vnni")]
        unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: compiled for and, by the caller's promise, running on AVX-512 F, DQ, VL and VNNI.
            unsafe { kernel.run::<Avx512>() }
        }
        // SAFETY: a Cpu holds only a set that `available` found on this processor.
        unsafe {
            match self {
                Self::Portable => kernel.run::<Portable>(),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 | Self::Amx => avx512(kernel),
                #[cfg(not(target_arch = "x86_64"))]
                _ => unreachable!("a Cpu holds only what `available` found"),
            }
        }
    }
}

/// The CPU engine.
pub struct Cpu {
    pool: Pool,
    isa: InstructionSet,
    memory_limit: Option<u64>,
}

impl Cpu {
    /// An engine with `threads` threads (0: one per processor) and the best instruction set of this processor.
    /// `memory_limit` bounds the bytes of a data set. No thread is started before there is work.
    pub fn new(threads: usize, memory_limit: Option<u64>) -> Result<Self> {
        Self::with_instruction_set(threads, memory_limit, InstructionSet::best())
    }

    /// The same with an instruction set of the caller's choice, for comparisons.
    pub fn with_instruction_set(threads: usize, memory_limit: Option<u64>, isa: InstructionSet) -> Result<Self> {
        const MOST_THREADS: usize = 4096;
        if threads > MOST_THREADS {
            return Err(Error::invalid(format!("num_threads is {threads}; at most {MOST_THREADS}")));
        }
        if !isa.is_available() {
            return Err(Error::Device(format!("this processor does not have {}", isa.name())));
        }
        Ok(Self { pool: Pool::new(threads), isa, memory_limit })
    }
}

impl Engine for Cpu {
    fn describe(&self) -> String {
        format!(
            r#"{{"backend":"cpu","instruction_set":"{}","threads":{},"device":"{}"}}"#,
            self.isa.name(),
            self.pool.threads(),
            std::env::consts::ARCH
        )
    }

    fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn side_by_side(&self, tasks: usize, task: &(dyn Fn(usize) + Sync), watch: &mut dyn FnMut()) -> Result<()> {
        self.pool.run_watched(tasks, task, watch)
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix> {
        Ok(Matrix::from_host(try_vec(rows * cols, 0.0, "working matrix")?, rows, cols))
    }

    fn load(&self, name: &str, from: View<'_>) -> Result<Matrix> {
        if !matches!(from.dtype(), Dtype::F32 | Dtype::F64) {
            return Err(Error::dtype(format!(
                "{name}: element type {}; accepted are F32 and F64",
                from.dtype().name()
            )));
        }
        check_finite(name, &from)?;
        let mut m = self.zeros(from.rows(), from.cols())?;
        for (i, row) in m.host_mut().chunks_exact_mut(from.cols().max(1)).enumerate() {
            from.row_f64(i, row);
        }
        Ok(m)
    }

    fn store(&self, from: &Matrix, to: &mut ViewMut<'_>) -> Result<()> {
        for (i, row) in from.host().chunks_exact(from.cols().max(1)).enumerate() {
            to.set_row(i, row);
        }
        Ok(())
    }

    fn first_beyond(&self, x: &Matrix, limit: f64) -> Result<Option<usize>> {
        // NaN is not below anything; a part at a time, because only a loop without an exit vectorises.
        const PART: usize = 64;
        let inside = |v: &f64| v.abs() <= limit;
        let part = x.host().chunks(PART).position(|part| !part.iter().fold(true, |all, v| all & inside(v)));
        let at = part.map_or(x.host().len(), |part| part * PART);
        Ok(x.host()[at..].iter().position(|v| !inside(v)).map(|i| (at + i) / x.cols()))
    }

    fn combine(
        &self,
        out: &mut Matrix,
        keep: Option<Factor<'_>>,
        terms: &[(Factor<'_>, &Matrix)],
        noise: Option<Noise>,
    ) -> Result<()> {
        elementwise::combine(&self.pool, self.isa, out, keep, terms, noise);
        Ok(())
    }

    fn dot_rows(&self, x: &Matrix, y: &Matrix) -> Result<Vec<f64>> {
        elementwise::dot_rows(x, y)
    }

    fn error_norms(&self, out: &mut [f64], error: &Matrix, x: &Matrix, y: &Matrix, rtol: f64, atol: f64) -> Result<()> {
        elementwise::error_norms(out, error, x, y, rtol, atol);
        Ok(())
    }

    fn gather(&self, from: &Matrix, rows: &[usize]) -> Result<Matrix> {
        let d = from.cols();
        let mut out = self.zeros(rows.len(), d)?;
        for (to, &i) in out.host_mut().chunks_exact_mut(d.max(1)).zip(rows) {
            to.copy_from_slice(&from.host()[i * d..(i + 1) * d]);
        }
        Ok(out)
    }

    fn copy_rows(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()> {
        let d = from.cols();
        for row in rows.iter().map(|i| i * d..(i + 1) * d) {
            to.host_mut()[row.clone()].copy_from_slice(&from.host()[row]);
        }
        Ok(())
    }

    fn keep_rows(&self, m: &mut Matrix, rows: &[usize]) -> Result<()> {
        let d = m.cols();
        for (to, &from) in rows.iter().enumerate() {
            m.host_mut().copy_within(from * d..(from + 1) * d, to * d);
        }
        m.truncate(rows.len());
        Ok(())
    }

    fn scatter(&self, from: &Matrix, rows: &[usize], to: &mut Matrix) -> Result<()> {
        let d = from.cols();
        for (row, &i) in from.host().chunks_exact(d.max(1)).zip(rows) {
            to.host_mut()[i * d..(i + 1) * d].copy_from_slice(row);
        }
        Ok(())
    }

    fn empirical(&self, query: &Query<'_>, out: Moments<'_>, exec: &Exec<'_>) -> Result<()> {
        query.rows.check()?;
        empirical::run(&self.pool, self.isa, self.memory_limit, query, out, exec)?;
        query.rows.check()
    }

    fn nearest(&self, search: &Search<'_>, distance: &mut [f64], index: &mut [i64], exec: &Exec<'_>) -> Result<()> {
        search.rows.check()?;
        nearest::run(&self.pool, self.isa, self.memory_limit, search, (distance, index), exec)?;
        search.rows.check()
    }
}
