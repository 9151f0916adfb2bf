//! Quick models: the batch in blocks of samples side by side, each taken from beginning to end on one thread.

use super::{Options, run as run_block};
use crate::engine::Grade;
use crate::error::{Error, Result, per_row, try_collect};
use crate::exec::Exec;
use crate::score::ScoreModel;
use crate::tensor::Matrix;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One block's samples, or why there are none, and how far it has come.
struct Block {
    first_row: usize,
    state: Mutex<Result<Matrix>>,
    done: AtomicU64,
}

/// Takes `x` over the nodes in blocks of `size` samples. Progress is that of the mean block.
pub fn run(
    score: &dyn ScoreModel,
    options: &Options,
    nodes: &[f64],
    mut x: Matrix,
    grade: Grade,
    exec: &Exec<'_>,
    size: usize,
) -> Result<Matrix> {
    let engine = score.engine();
    let rows = |first: usize| per_row(size.min(x.rows() - first), |i| first + i);
    let start = |b: usize| {
        let state = Mutex::new(Ok(engine.gather(&x, &rows(b * size)?)?));
        Ok(Block { first_row: b * size, state, done: AtomicU64::new(0) })
    };
    let count = x.rows().div_ceil(size);
    let blocks = try_collect(count, (0..count).map(start), "blocks of samples")?;
    // The host's callbacks stay on this thread: a block only notes how far it is, and is told to stop.
    let (total, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let Exec { seed, stream, check, cancel, .. } = *exec;
    let task = |b: usize| {
        let block = &blocks[b];
        let mut note = |done: u64, of: u64| {
            block.done.store(done, Ordering::Relaxed);
            total.store(of, Ordering::Relaxed);
            !stop.load(Ordering::Relaxed)
        };
        let exec = Exec { seed, stream, check, cancel, progress: RefCell::new(Some(&mut note)), ..Exec::default() };
        let mut state = block.state.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = std::mem::replace(&mut *state, Err(Error::Cancelled("a block of samples panicked".into())));
        *state = begun.and_then(|x| run_block(score, options, nodes, x, grade, None, &exec, block.first_row));
    };
    let mut watched = Ok(());
    engine.side_by_side(count, &task, &mut || {
        let done = blocks.iter().map(|b| b.done.load(Ordering::Relaxed)).sum::<u64>() / count as u64;
        let total = total.load(Ordering::Relaxed);
        if watched.is_ok() && total > 0 {
            watched = exec.report(done, total);
            stop.store(watched.is_err(), Ordering::Relaxed);
        }
    })?;
    watched?;
    for block in blocks {
        let end = block.state.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        engine.scatter(&end, &per_row(end.rows(), |i| block.first_row + i)?, &mut x)?;
    }
    let total = total.load(Ordering::Relaxed);
    exec.report(total, total)?;
    Ok(x)
}
