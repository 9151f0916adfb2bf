//! One error type for the whole library; `capi` turns it into a status code and a message.

/// What went wrong, in the words the caller reads. Every message names the argument, what was given and what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument has a value that is not accepted.
    #[error("{0}")]
    Invalid(String),
    /// The sizes of two arguments do not agree, or a size or stride is not accepted.
    #[error("{0}")]
    Shape(String),
    /// The element type of an argument is not accepted.
    #[error("{0}")]
    Dtype(String),
    /// The device asked for is not there, or a tensor lives on another device than its context.
    #[error("{0}")]
    Device(String),
    /// Memory could not be had, or a limit the caller set would be passed.
    #[error("{0}")]
    NoMemory(String),
    /// A file could not be read, or does not hold what its header says.
    #[error("{message}")]
    Io {
        /// What was being read, and what was wrong.
        message: String,
        /// The operating system's error number, or 0.
        native: i32,
    },
    /// The caller asked, through a cancel handle or a progress callback, to stop.
    #[error("{0}")]
    Cancelled(String),
    /// A callback of the host reported failure, or returned values that cannot be used.
    #[error("{message}")]
    Callback {
        /// Which callback, and what it returned.
        message: String,
        /// The callback's own return value (0 when its values were at fault).
        native: i32,
    },
    /// The request is understood but this object cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The CUDA driver reported an error.
    #[error("{message}")]
    Cuda {
        /// Which function, and what the driver calls the error.
        message: String,
        /// The driver's number.
        native: i32,
    },
    /// Kernels could not be compiled or loaded.
    #[error("{message}")]
    Compile {
        /// Which, and what the compiler or the driver says.
        message: String,
        /// The number of NVRTC or of the driver.
        native: i32,
    },
    /// The context cannot be used any more.
    #[error("{0}")]
    Poisoned(String),
}

/// The library's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Invalid`] with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Shape`] with this message.
    pub fn shape(message: impl Into<String>) -> Self {
        Self::Shape(message.into())
    }

    /// An [`Error::Dtype`] with this message.
    pub fn dtype(message: impl Into<String>) -> Self {
        Self::Dtype(message.into())
    }

    /// An [`Error::Unsupported`] with this message.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    /// An [`Error::NoMemory`] for `bytes` bytes wanted for `what`.
    pub fn no_memory(bytes: u128, what: &str) -> Self {
        Self::NoMemory(format!("{what}: {bytes} bytes could not be allocated"))
    }

    /// An [`Error::Io`] about the contents of a file (no operating-system error).
    pub fn file(message: impl Into<String>) -> Self {
        Self::Io { message: message.into(), native: 0 }
    }

    /// An [`Error::Io`] from the operating system, about `what`.
    pub fn io(what: impl std::fmt::Display, source: &std::io::Error) -> Self {
        Self::Io { message: format!("{what}: {source}"), native: source.raw_os_error().unwrap_or(0) }
    }
}

/// The items of an iterator that yields `len` of them, or the first error, or [`Error::NoMemory`].
pub fn try_collect<T>(len: usize, items: impl Iterator<Item = Result<T>>, what: &str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| Error::no_memory(len as u128 * std::mem::size_of::<T>() as u128, what))?;
    for item in items {
        v.push(item?);
    }
    Ok(v)
}

/// `f(0) … f(len - 1)`, one value per sample of a batch, or [`Error::NoMemory`].
pub fn per_row<T>(len: usize, mut f: impl FnMut(usize) -> T) -> Result<Vec<T>> {
    try_collect(len, (0..len).map(|i| Ok(f(i))), "one value per sample")
}

/// A vector of `len` copies of `value`, or [`Error::NoMemory`]: sizes that come from callers never abort the process.
pub fn try_vec<T: Clone>(len: usize, value: T, what: &str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| Error::no_memory(len as u128 * std::mem::size_of::<T>() as u128, what))?;
    v.resize(len, value);
    Ok(v)
}
