//! What the host's functions are given, and rows of bad numbers in a device's memory.

use crate::driver::{Driver, Room};
use crate::host::*;
use crate::numbers::bits;
use crate::process::alone;
use crate::scene::*;
use mnemo::capi::exec::MNEMO_EXEC_CHECK;
use mnemo::capi::sampler::*;
use mnemo::capi::score::{mnemo_score_ops, mnemo_score_ops_init};
use mnemo::capi::status::{MNEMO_E_CALLBACK, MNEMO_E_INVALID};
use mnemo::capi::tensor::*;
use std::ffi::c_void;
use std::ptr::from_mut;

/// What a callback saw.
#[derive(Default)]
struct Seen {
    tensors: Vec<mnemo_tensor>,
    streams: Vec<usize>,
    numbers: Vec<Vec<f64>>,
    answer: i32,
}

/// The numbers of a tensor, wherever it is; the callbacks' tensors are contiguous and float64.
fn read(t: &mnemo_tensor) -> Vec<f64> {
    assert!(t.dtype == MNEMO_F64 && (t.row_stride == 0 || t.row_stride == t.cols));
    let len = (t.rows * t.cols) as usize;
    match t.device_type {
        // SAFETY: a tensor that the library lends.
        MNEMO_CPU => unsafe { std::slice::from_raw_parts(t.data.cast::<f64>(), len) }.to_vec(),
        _ => Driver::find().unwrap().download(t.data.addr() as u64, len),
    }
}

/// Writes the score of a standard normal distribution, -x.
unsafe extern "C" fn negative(
    user: *mut c_void,
    x: *const mnemo_tensor,
    t: *const mnemo_tensor,
    out: *mut mnemo_tensor,
    stream: *mut c_void,
) -> i32 {
    // SAFETY: the library's tensors, and the test's `Seen`.
    let (seen, x, t, out) = unsafe { (&mut *user.cast::<Seen>(), *x, *t, *out) };
    let numbers = read(&x);
    let negative: Vec<f64> = numbers.iter().map(|v| -v).collect();
    match out.device_type {
        MNEMO_CPU => panic!("the host's memory on a CUDA context"),
        _ => Driver::find().unwrap().upload(out.data.addr() as u64, &negative),
    }
    seen.numbers.extend([numbers, read(&t)]);
    seen.tensors.extend([x, t, out]);
    seen.streams.push(stream.addr());
    seen.answer
}

unsafe extern "C" fn observe(user: *mut c_void, _step: u64, _t: f64, x: *const mnemo_tensor) -> i32 {
    // SAFETY: as above.
    let (seen, x) = unsafe { (&mut *user.cast::<Seen>(), *x) };
    seen.numbers.push(read(&x));
    seen.tensors.push(x);
    seen.answer
}

fn assert_places(seen: &Seen, device_type: u32) {
    assert!(!seen.tensors.is_empty(), "it was never called");
    assert!(seen.tensors.iter().all(|t| (t.device_type, t.device_id, t.reserved) == (device_type, 0, 0)));
}

#[test]
fn a_custom_score() {
    alone(&[], |driver| {
        let (batch, dim) = (3, 5);
        let context = context(&CUDA).unwrap();
        let mut own_seen = Seen::default();
        let user = &raw mut own_seen;
        // SAFETY: the library is not in a call meanwhile, and nobody else has it.
        let begin = |answer: i32| unsafe { *user = Seen { answer, ..Seen::default() } };
        let ops = mnemo_score_ops { eval: Some(negative), ..initial(mnemo_score_ops_init) };
        let score = custom(&context, &edm(), dim, &ops, user.cast()).unwrap();
        let x = crate::numbers::Rng(8).numbers(batch * dim);
        let expected: Vec<f64> = x.iter().map(|v| -v).collect();
        let (own, room) = (driver.stream(), Room::of(driver, &x));
        let out = [(); 2].map(|()| Room::of(driver, &vec![0.0; x.len()]));
        for stream in [0, own] {
            for on_device in [true, false] {
                begin(0);
                let host = [(); 2].map(|()| vec![0.0; x.len()]);
                let (from, to) = if on_device {
                    (device_tensor(&room, batch, dim), out.each_ref().map(|out| device_tensor(out, batch, dim)))
                } else {
                    (tensor(&x, dim), host.each_ref().map(|host| tensor(host, dim)))
                };
                write_both(&score, &from, &[0.5], to, &exec(stream, 0, 0)).unwrap();
                // SAFETY: as above.
                let seen = unsafe { &*user };
                assert_places(seen, MNEMO_CUDA);
                assert_eq!(seen.streams, [stream], "the stream of the call");
                assert_eq!(seen.numbers, [x.clone(), vec![0.5; batch]]);
                let [s, denoised] = if on_device { out.each_ref().map(Room::read) } else { host.clone() };
                assert_eq!(s, expected);
                // x + sigma^2 s, of numbers for which that has one rounding.
                assert!(denoised.iter().zip(&x).all(|(found, x)| (found - 0.75 * x).abs() < 1e-15));
            }
        }
        begin(42);
        let to = out.each_ref().map(|out| device_tensor(out, batch, dim));
        let failure = write_both(&score, &device_tensor(&room, batch, dim), &[0.5], to, &exec(0, 0, 0)).unwrap_err();
        assert_eq!((failure.status, failure.native), (MNEMO_E_CALLBACK, 42));
        drop((score, context, room, out));
        driver.drop_stream(own);
        driver.end();
    });
}

#[test]
fn an_observer() {
    alone(&[], |driver| {
        let scene = Scene::new(&CUDA, 20, 3).unwrap();
        let (x, own) = (scene.points(2), driver.stream());
        let room = Room::of(driver, &x);
        let mut states = Vec::new();
        for stream in [0, own] {
            for on_device in [true, false] {
                let mut seen = Seen::default();
                let mut options = sampler(MNEMO_SOLVER_EULER);
                options.observer = Some(observe);
                options.observer_user = from_mut(&mut seen).cast();
                let end = if on_device {
                    room.write(&x);
                    sample_at(&scene.score, &options, device_tensor(&room, 2, 3), &exec(stream, 0, 0)).unwrap();
                    room.read()
                } else {
                    sample(&scene.score, &options, &x, 3, &exec(stream, 0, 0)).unwrap()
                };
                assert_places(&seen, if on_device { MNEMO_CUDA } else { MNEMO_CPU });
                // The state before the first step, and after each.
                assert_eq!(seen.numbers.len(), 1 + options.steps as usize);
                assert_eq!((&seen.numbers[0], seen.numbers.last().unwrap()), (&x, &end));
                states.push(seen.numbers);
            }
        }
        assert!(states.iter().all(|each| *each == states[0]));
        drop((scene, room));
        driver.drop_stream(own);
        driver.end();
    });
}

/// A number of each row's first component, or none.
fn rows_with(x: &[f64], dim: usize, bad: f64, row: usize) -> Vec<f64> {
    let mut x = x.to_vec();
    x[row * dim + dim / 2] = bad;
    x
}

#[test]
fn bad_numbers_on_the_device() {
    alone(&[], |driver| {
        let (batch, row) = (4, 2);
        for (count, dim) in [(1, 3), (20, 3), (1, 17), (20, 17), (20, 130)] {
            let scene = Scene::new(&CUDA, count, dim).unwrap();
            let x = scene.points(batch);
            let evaluate = |x: &[f64], flags: u32| {
                let (room, out) = (Room::of(driver, x), [(); 2].map(|()| Room::of(driver, &vec![0.0; x.len()])));
                let to = out.each_ref().map(|out| device_tensor(out, batch, dim));
                write_both(&scene.score, &device_tensor(&room, batch, dim), &[0.5], to, &exec(0, flags, 0))?;
                Ok(out.each_ref().map(Room::read))
            };
            let draw = |x: &[f64], flags: u32| {
                let room = Room::of(driver, x);
                let options = sampler(MNEMO_SOLVER_HEUN);
                sample_at(&scene.score, &options, device_tensor(&room, batch, dim), &exec(0, flags, 0))?;
                Ok([room.read(), Vec::new()])
            };
            type Work<'a> = &'a dyn Fn(&[f64], u32) -> Outcome<[Vec<f64>; 2]>;
            for (name, work) in [("x", &evaluate as Work<'_>), ("x_inout", &draw)] {
                let good = work(&x, 0).unwrap();
                assert_eq!(work(&x, MNEMO_EXEC_CHECK).unwrap().map(|v| bits(&v)), good.each_ref().map(|v| bits(v)));
                for bad in [f64::NAN, f64::INFINITY, -f64::INFINITY, 1e200] {
                    let x = rows_with(&x, dim, bad, row);
                    for (found, good) in work(&x, 0).unwrap().iter().zip(&good) {
                        for (i, (found, good)) in found.chunks(dim).zip(good.chunks(dim)).enumerate() {
                            let as_expected =
                                if i == row { found.iter().all(|v| v.is_nan()) } else { bits(found) == bits(good) };
                            assert!(as_expected, "{name}: row {i} with {bad} in row {row}: {found:?}");
                        }
                    }
                    let failure = work(&x, MNEMO_EXEC_CHECK).unwrap_err();
                    assert_eq!(failure.status, MNEMO_E_INVALID, "{}", failure.message);
                    let says = failure.message.contains(name) && failure.message.contains(&format!("row {row}"));
                    assert!(says, "{name}: {}", failure.message);
                }
            }
            // Numbers of each row, too; nearest rows are told of without being asked for.
            let room = Room::of(driver, &rows_with(&x, dim, f64::NAN, row));
            let at = device_tensor(&room, batch, dim);
            let good = eval(&scene.score, &x, dim, &[0.5], &exec(0, 0, 0)).unwrap();
            let found = eval_at(&scene.score, &at, &[0.5], &exec(0, 0, 0)).unwrap();
            for (found, good) in found.columns().into_iter().zip(good.columns()) {
                let each = found.len() / batch;
                for (i, (found, good)) in found.chunks(each).zip(good.chunks(each)).enumerate() {
                    let as_expected =
                        if i == row { found.iter().all(|v| v.is_nan()) } else { bits(found) == bits(good) };
                    assert!(as_expected, "row {i}: {found:?}");
                }
            }
            let mut index = good.index.clone();
            index[row] = -1;
            assert_eq!(found.index, index);
            let failure = nearest_at(&scene.dataset, &at, 0, 1, &exec(0, 0, 0)).unwrap_err();
            assert_eq!(failure.status, MNEMO_E_INVALID, "{}", failure.message);
            assert!(failure.message.contains(&format!("row {row}")), "{}", failure.message);
        }
        driver.end();
    });
}
