//! Marks that find races.

/// Who touched what last.
#[derive(Default)]
pub(crate) struct Marks;
