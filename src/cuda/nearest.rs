//! The k nearest rows by distances of differences in float64: of all rows (kernels/measure.cu, kernels/nearest.cu), or of those
//! that bounds do not rule out.

use super::elementwise::matrix;
use super::empirical::{QUERIES, SEGMENT, Segments, measure};
use super::rows;
use super::session::{Session, blocks, launch};
use super::{address, block};
use crate::engine::{Metric, Search, no_direction};
use crate::error::{Result, try_vec};
use crate::exec::Exec;
use crate::tensor::Matrix;

/// With bounds, few rows are near to a query, and so to be measured, where k is at most this.
const FEW: usize = SEGMENT / 16;
/// Bytes that lists of a block of queries may take, unless one query's takes more.
const LISTS: usize = 64 << 20;

pub fn run(
    session: &Session<'_>,
    search: &Search<'_>,
    (distance, index): (&mut [f64], &mut [i64]),
    exec: &Exec<'_>,
) -> Result<()> {
    let Search { x, k, metric, .. } = *search;
    let (batch, dim, cosine) = (x.rows(), x.cols(), metric == Metric::Cosine);
    let there = rows::of(session, search.rows)?;
    let rows =
        if cosine { there.take_directions(session, search.rows)? } else { there.take(session, search.rows, None)? };
    let directions = if cosine { Some(directions(session, x)?) } else { None };
    let x = address(directions.as_ref().unwrap_or(x));
    let count = rows.raw.count;
    let bounds = there.bounds.as_ref().filter(|_| !cosine && k <= FEW);
    let of_row = if bounds.is_some() { size_of::<f32>() } else { size_of::<f64>() };
    // Two sides of (distance, index), and what the caller gets.
    let bytes_per_query = k * 2 * (size_of::<f64>() + size_of::<u32>()) + k * (size_of::<f64>() + size_of::<i64>());
    let most = (LISTS / bytes_per_query).clamp(1, QUERIES);
    for first in (0..batch).step_by(most) {
        let queries = most.min(batch - first);
        let segments = Segments::new(count as usize, queries, SEGMENT * of_row);
        let what = "nearest rows";
        // Distances, or bounds of them.
        let distances = session.room::<u8>(queries * segments.at_a_time * SEGMENT * of_row, what)?;
        let list_distance = session.room::<f64>(2 * queries * k, what)?;
        let list_index = session.room::<u32>(2 * queries * k, what)?;
        let side = session.room::<i32>(queries, what)?;
        let x = x + (first * dim * size_of::<f64>()) as u64;
        let coded = bounds.map(|bounds| bounds.of_queries(session, x, queries, dim)).transpose()?;
        for part in segments.parts() {
            exec.report(first as u64, batch as u64)?;
            if let Some(coded) = &coded {
                coded.bound(session, part, rows.subset(), &distances)?;
                launch!(
                    session,
                    "select_near",
                    [queries, 1, 1],
                    rows.raw,
                    part,
                    x,
                    distances.address(),
                    k as i64,
                    list_distance.address(),
                    list_index.address(),
                    side.address()
                )?;
                continue;
            }
            measure(session, &rows, part, x, 0, &distances)?;
            let measured = distances.address();
            if cosine {
                launch!(session, "bound_cosines", part.each(), part, rows.factor(), measured)?;
            }
            launch!(
                session,
                "select",
                [queries, 1, 1],
                part,
                measured,
                k as i64,
                list_distance.address(),
                list_index.address(),
                side.address()
            )?;
        }
        let own_distance = session.room::<f64>(queries * k, what)?;
        let own_index = session.room::<i64>(queries * k, what)?;
        launch!(
            session,
            "finish_nearest",
            blocks(queries * k),
            queries as i32,
            k as i64,
            list_distance.address(),
            list_index.address(),
            side.address(),
            i32::from(cosine),
            own_distance.address(),
            own_index.address()
        )?;
        let here = first * k..(first + queries) * k;
        session.download(&own_distance, &mut distance[here.clone()])?;
        session.download(&own_index, &mut index[here])?;
    }
    exec.report(batch as u64, batch as u64)
}

/// The queries scaled to length 1, on the host: there are few, and theirs must not overflow.
fn directions(session: &Session<'_>, x: &Matrix) -> Result<Matrix> {
    let (rows, cols) = (x.rows(), x.cols());
    let mut numbers = try_vec(rows * cols, 0f64, "queries")?;
    session.download(block(x), &mut numbers)?;
    for (i, row) in numbers.chunks_exact_mut(cols.max(1)).enumerate() {
        let largest = row.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        if largest == 0.0 {
            return Err(no_direction(i));
        }
        row.iter_mut().for_each(|v| *v /= largest);
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v /= length);
    }
    let to = matrix(session, rows, cols)?;
    // SAFETY: as many numbers, which are waited for.
    unsafe { session.copy_in(address(&to), numbers.as_ptr().cast(), size_of_val(&numbers[..])) }?;
    session.wait()?;
    Ok(to)
}
