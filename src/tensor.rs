//! What callers pass in and get back: borrowed views of row-major matrices, and their element types.

use crate::error::{Error, Result, try_vec};
use half::{bf16, f16};

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
}

impl Dtype {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::U8 => "U8",
            Self::I32 => "I32",
            Self::I64 => "I64",
        }
    }
}

/// The rows of a training set as stored: contiguous, row-major, in their own element type.
#[derive(Clone, Debug)]
pub enum Values {
    /// binary32.
    F32(Vec<f32>),
    /// binary64.
    F64(Vec<f64>),
    /// binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
    /// 8-bit.
    U8(Vec<u8>),
}

impl Values {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
            Self::U8(_) => Dtype::U8,
        }
    }
}

/// Where a tensor's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The host's memory.
    Cpu,
    /// The memory of a CUDA device.
    Cuda,
}

/// A Rust type that is the element of some [`Dtype`].
pub trait Element: Copy + Send + Sync + 'static {
    /// The element type's tag.
    const DTYPE: Dtype;
}

macro_rules! element {
    ($($t:ty => $d:ident),*) => {$(impl Element for $t { const DTYPE: Dtype = Dtype::$d; })*};
}
element!(f32 => F32, f64 => F64, f16 => F16, bf16 => Bf16, u8 => U8, i32 => I32, i64 => I64);

/// A borrowed, read-only, row-major matrix; a vector has `cols = 1`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: *const u8,
    rows: usize,
    cols: usize,
    /// Elements from one row to the next; at least `cols`.
    stride: usize,
    dtype: Dtype,
    place: Place,
    life: std::marker::PhantomData<&'a ()>,
}

// SAFETY: a View stands for a shared borrow of plain numbers, which may be read from any thread.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// A view of contiguous rows; `data.len()` must be `rows * cols`.
    pub fn new<T: Element>(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "View::new: the slice does not hold rows * cols elements");
        Self {
            data: data.as_ptr().cast(),
            rows,
            cols,
            stride: cols,
            dtype: T::DTYPE,
            place: Place::Cpu,
            life: std::marker::PhantomData,
        }
    }

    /// A view of foreign memory.
    ///
    /// # Safety
    /// `data` is aligned for `dtype` and readable for `rows` rows of `cols` elements, `stride` elements apart, for `'a`.
    pub unsafe fn from_raw(
        data: *const u8,
        (rows, cols, stride): (usize, usize, usize),
        dtype: Dtype,
        place: Place,
    ) -> Self {
        Self { data, rows, cols, stride, dtype, place, life: std::marker::PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Where the memory is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The first element.
    pub fn data(&self) -> *const u8 {
        self.data
    }

    /// Row `i` of a host view whose element type is `T`; panics on another type, place or index.
    pub fn row<T: Element>(&self, i: usize) -> &'a [T] {
        assert!(self.dtype == T::DTYPE && self.place == Place::Cpu && i < self.rows, "View::row");
        if self.cols == 0 {
            return &[];
        }
        // SAFETY: type, place and index were checked; the constructor vouches for the memory.
        unsafe { std::slice::from_raw_parts(self.data.cast::<T>().add(i * self.stride), self.cols) }
    }

    /// Row `i` as float64 (F32 and F64 only).
    pub fn row_f64(&self, i: usize, out: &mut [f64]) {
        match self.dtype {
            Dtype::F32 => out.iter_mut().zip(self.row::<f32>(i)).for_each(|(o, &v)| *o = f64::from(v)),
            Dtype::F64 => out.copy_from_slice(self.row::<f64>(i)),
            other => panic!("View::row_f64: {}", other.name()),
        }
    }

    /// A vector (`cols = 1`) as float64 (F32 and F64 only).
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        let mut v = try_vec(self.rows, 0.0, "vector")?;
        for (i, o) in v.iter_mut().enumerate() {
            self.row_f64(i, std::slice::from_mut(o));
        }
        Ok(v)
    }
}

/// A borrowed, writable, row-major matrix; a vector has `cols = 1`.
#[derive(Debug)]
pub struct ViewMut<'a>(View<'a>);

impl<'a> ViewMut<'a> {
    /// A view of contiguous rows; `data.len()` must be `rows * cols`.
    pub fn new<T: Element>(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self(View::new(data, rows, cols))
    }

    /// A view of foreign memory.
    ///
    /// # Safety
    /// As [`View::from_raw`], and writable, and the rows do not overlap.
    pub unsafe fn from_raw(data: *mut u8, shape: (usize, usize, usize), dtype: Dtype, place: Place) -> Self {
        // SAFETY: the caller's promise is the stronger one.
        Self(unsafe { View::from_raw(data, shape, dtype, place) })
    }

    /// The same memory, for reading.
    pub fn view(&self) -> View<'_> {
        self.0
    }

    /// Row `i` of a host view whose element type is `T`; panics on another type, place or index.
    pub fn row_mut<T: Element>(&mut self, i: usize) -> &mut [T] {
        let v = &self.0;
        assert!(v.dtype == T::DTYPE && v.place == Place::Cpu && i < v.rows, "ViewMut::row_mut");
        if v.cols == 0 {
            return &mut [];
        }
        // SAFETY: type, place and index were checked; the constructor vouches for writable, disjoint rows.
        unsafe { std::slice::from_raw_parts_mut(v.data.cast::<T>().cast_mut().add(i * v.stride), v.cols) }
    }

    /// Writes row `i` from float64, rounding once (F32 and F64 only).
    pub fn set_row(&mut self, i: usize, from: &[f64]) {
        match self.0.dtype {
            #[allow(clippy::cast_possible_truncation)]
            Dtype::F32 => self.row_mut::<f32>(i).iter_mut().zip(from).for_each(|(o, &v)| *o = v as f32),
            Dtype::F64 => self.row_mut::<f64>(i).copy_from_slice(from),
            other => panic!("ViewMut::set_row: {}", other.name()),
        }
    }

    /// Writes a vector (`cols = 1`) from float64.
    pub fn set_column(&mut self, from: &[f64]) {
        for (i, v) in from.iter().enumerate() {
            self.set_row(i, std::slice::from_ref(v));
        }
    }

    /// Writes a vector (`cols = 1`) of numbers that are not negative from float64, none of them rounded down.
    pub fn set_column_upward(&mut self, from: &[f64]) {
        self.set_column(from);
        if self.0.dtype == Dtype::F32 {
            for (i, v) in from.iter().enumerate() {
                let to = &mut self.row_mut::<f32>(i)[0];
                *to = if f64::from(*to) < *v { to.next_up() } else { *to };
            }
        }
    }
}

/// By how much at most `value` changes when it is written as `dtype` (F32 and F64 only).
pub fn rounding(dtype: Dtype, value: f64) -> f64 {
    match dtype {
        // Half an ulp, or half the smallest number.
        Dtype::F32 if value.is_finite() => 0.5 * (f64::from(f32::EPSILON) * value.abs() + 1.5e-45),
        _ => 0.0,
    }
}

/// A working matrix in float64, in the memory of the engine that made it. Core code passes matrices from one engine
/// operation to the next and never looks inside.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    memory: Memory,
}

/// Where the numbers of a matrix are.
#[derive(Debug)]
enum Memory {
    Host(Vec<f64>),
    /// An engine's own, which knows how to give it back.
    Device(Box<dyn std::any::Any + Send + Sync>),
}

impl Matrix {
    /// Wraps host memory; `host.len()` must be `rows * cols`. For engines.
    pub fn from_host(host: Vec<f64>, rows: usize, cols: usize) -> Self {
        assert_eq!(host.len(), rows * cols, "Matrix::from_host");
        Self { rows, cols, memory: Memory::Host(host) }
    }

    /// Wraps a device's memory of `rows * cols` elements. For engines.
    pub fn from_device<T: std::any::Any + Send + Sync>(memory: T, rows: usize, cols: usize) -> Self {
        Self { rows, cols, memory: Memory::Device(Box::new(memory)) }
    }

    /// Leaves the first `rows` rows, in the same memory.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = rows.min(self.rows);
        if let Memory::Host(host) = &mut self.memory {
            host.truncate(self.rows * self.cols);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The elements, row-major. For the engine that made the matrix; panics where it is not in the host's memory.
    pub fn host(&self) -> &[f64] {
        match &self.memory {
            Memory::Host(host) => host,
            Memory::Device(_) => panic!("Matrix::host: a device's matrix"),
        }
    }

    /// The same, to be written.
    pub fn host_mut(&mut self) -> &mut [f64] {
        match &mut self.memory {
            Memory::Host(host) => host,
            Memory::Device(_) => panic!("Matrix::host_mut: a device's matrix"),
        }
    }

    /// The device's memory, if it is a `T`. For the engine that made the matrix.
    pub fn device<T: std::any::Any>(&self) -> Option<&T> {
        match &self.memory {
            Memory::Host(_) => None,
            Memory::Device(memory) => memory.downcast_ref(),
        }
    }
}

/// Whether a number is not finite, or larger than [`LARGEST`].
#[inline]
pub fn is_beyond(v: f64) -> bool {
    // NaN is in no range.
    !(-LARGEST..=LARGEST).contains(&v)
}

/// The complaint about such a number `v`.
pub fn beyond(name: &str, row: usize, column: usize, v: f64) -> Error {
    Error::invalid(format!(
        "{name}: row {row}, column {column} is {v}; every element must be finite and at most {LARGEST:e} in magnitude"
    ))
}

/// Checks that a host view holds only finite numbers of a magnitude whose square is finite too.
pub fn check_finite(name: &str, view: &View<'_>) -> Result<()> {
    fn scan<T: Element>(name: &str, view: &View<'_>, to_f64: impl Fn(T) -> f64) -> Result<()> {
        for i in 0..view.rows() {
            let row = view.row::<T>(i);
            if let Some(j) = row.iter().position(|&v| is_beyond(to_f64(v))) {
                return Err(beyond(name, i, j, to_f64(row[j])));
            }
        }
        Ok(())
    }
    match view.dtype() {
        Dtype::F32 => scan::<f32>(name, view, f64::from),
        Dtype::F64 => scan::<f64>(name, view, |v| v),
        Dtype::F16 => scan::<f16>(name, view, f64::from),
        Dtype::Bf16 => scan::<bf16>(name, view, f64::from),
        Dtype::U8 | Dtype::I32 | Dtype::I64 => Ok(()),
    }
}

/// The largest magnitude accepted in data and states: squared distances in any dimension that fits in memory stay finite.
pub const LARGEST: f64 = 1e100;
