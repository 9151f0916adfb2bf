//! Data sets larger than the memory limit: files that change while they are in use. What they answer otherwise is in
//! suite/files.rs, how much memory they take in memory.rs.

use mnemo::capi::context::{mnemo_context, mnemo_context_create, mnemo_context_options_init, mnemo_context_release};
use mnemo::capi::dataset::{mnemo_dataset, mnemo_dataset_gather, mnemo_dataset_open, mnemo_dataset_release};
use mnemo::capi::exec::{mnemo_exec, mnemo_exec_init};
use mnemo::capi::memorization::{
    MNEMO_METRIC_COSINE, MNEMO_METRIC_L2, mnemo_memorization, mnemo_memorization_options_init,
    mnemo_memorization_report_init, mnemo_nearest,
};
use mnemo::capi::process::{mnemo_process_release, mnemo_process_ve_power};
use mnemo::capi::sampler::{mnemo_sample, mnemo_sampler_options_init};
use mnemo::capi::score::{
    mnemo_score, mnemo_score_empirical, mnemo_score_eval, mnemo_score_jvp, mnemo_score_outputs_init,
    mnemo_score_release,
};
use mnemo::capi::status::{MNEMO_E_IO, MNEMO_OK, mnemo_error};
use mnemo::capi::tensor::{MNEMO_CPU, MNEMO_F64, MNEMO_I64, mnemo_tensor};
use std::ffi::{CStr, CString, c_void};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::time::{Duration, SystemTime};

const ROWS: usize = 3000;
const DIM: usize = 50;
const HEADER: usize = 128;

/// `ROWS` rows of float64 in `folder`.
fn write(folder: &Path) -> PathBuf {
    let path = folder.join("rows.npy");
    let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({ROWS}, {DIM}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:<117}\n").as_bytes());
    assert_eq!(bytes.len(), HEADER);
    for i in 0..ROWS * DIM {
        bytes.extend((((i * 7919) % 1009) as f64 / 100.0).to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    path
}

fn initial<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = std::mem::MaybeUninit::uninit();
    // SAFETY: the function fills the struct; so throughout this file: good calls with live arguments.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

fn blank() -> mnemo_error {
    mnemo_error { code: 0, native: 0, len: 0, reserved: 0, message: [0; 496] }
}

fn tensor(data: *mut c_void, rows: usize, cols: usize, dtype: u32) -> mnemo_tensor {
    let (rows, cols) = (rows as i64, cols as i64);
    mnemo_tensor { data, rows, cols, row_stride: cols, dtype, device_type: MNEMO_CPU, device_id: 0, reserved: 0 }
}

fn real(values: &mut [f64], cols: usize) -> mnemo_tensor {
    tensor(values.as_mut_ptr().cast(), values.len() / cols, cols, MNEMO_F64)
}

struct Host {
    context: *mut mnemo_context,
    data: *mut mnemo_dataset,
    score: *mut mnemo_score,
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Host {
    /// A data set of ten times the limit, and a score of it.
    fn new(threads: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path());
        let (mut context, mut data, mut process, mut score) = (null_mut(), null_mut(), null_mut(), null_mut());
        let mut options = initial(mnemo_context_options_init);
        (options.num_threads, options.memory_limit) = (threads, (ROWS * DIM * 8 / 10) as u64);
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: as above.
        unsafe {
            assert_eq!(mnemo_context_create(&raw const options, &raw mut context, null_mut()), MNEMO_OK);
            assert_eq!(mnemo_dataset_open(context, name.as_ptr(), null(), &raw mut data, null_mut()), MNEMO_OK);
            assert_eq!(mnemo_process_ve_power(2.0, 1.0, 80.0, &raw mut process, null_mut()), MNEMO_OK);
            assert_eq!(mnemo_score_empirical(data, process, null(), &raw mut score, null_mut()), MNEMO_OK);
            mnemo_process_release(process);
        }
        Self { context, data, score, folder, path }
    }

    fn file(&self) -> std::fs::File {
        OpenOptions::new().write(true).open(&self.path).unwrap()
    }

    /// Makes every call that reads rows; all must have this status, and name the file if it is not success.
    fn all(&self, expected: i32, exec: *const mnemo_exec) {
        let mut x: Vec<f64> = (0..5 * DIM).map(|i| (i % 11) as f64).collect();
        let mut t = [0.3];
        let mut index = [0_i64, 2999, 7, 7];
        let index_tensor = tensor(index.as_mut_ptr().cast(), 4, 1, MNEMO_I64);
        let times = real(&mut t, 1);
        let k = 3;
        let calls = ["eval", "jvp", "sample", "nearest", "cosine", "memorization", "gather"];
        for (i, name) in calls.into_iter().enumerate() {
            let before = x.clone();
            let mut out = [f64::NAN; 5 * DIM];
            let mut outs = [[f64::NAN; 5]; 2];
            let mut found = [-1_i64; 15];
            let mut report = initial(mnemo_memorization_report_init);
            let mut err = blank();
            let mut x_tensor = real(&mut x, DIM);
            let (mut out_tensor, err_ptr) = (real(&mut out, DIM), &raw mut err);
            let [mut density, mut divergence] = outs.each_mut().map(|o| real(o, 1));
            // SAFETY: as above.
            let status = unsafe {
                match i {
                    0 => {
                        let mut outputs = initial(mnemo_score_outputs_init);
                        outputs.score = &raw mut out_tensor;
                        outputs.log_density = &raw mut density;
                        outputs.divergence = &raw mut divergence;
                        mnemo_score_eval(self.score, &x_tensor, &times, &outputs, exec, err_ptr)
                    }
                    1 => mnemo_score_jvp(self.score, &x_tensor, &times, &x_tensor, &mut out_tensor, exec, err_ptr),
                    2 => {
                        let mut options = initial(mnemo_sampler_options_init);
                        options.steps = 4;
                        mnemo_sample(self.score, &options, &mut x_tensor, exec, err_ptr)
                    }
                    3 | 4 => {
                        let metric = if i == 3 { MNEMO_METRIC_L2 } else { MNEMO_METRIC_COSINE };
                        let mut to = tensor(found.as_mut_ptr().cast(), 5, 3, MNEMO_I64);
                        let mut distance = tensor(out.as_mut_ptr().cast(), 5, 3, MNEMO_F64);
                        mnemo_nearest(self.data, &x_tensor, metric, k, &mut distance, &mut to, exec, err_ptr)
                    }
                    5 => {
                        let mut options = initial(mnemo_memorization_options_init);
                        options.threshold = 1.0;
                        mnemo_memorization(self.data, &x_tensor, &options, &mut report, exec, err_ptr)
                    }
                    _ => {
                        let mut rows = real(&mut out[..4 * DIM], DIM);
                        mnemo_dataset_gather(self.data, &index_tensor, &mut rows, err_ptr)
                    }
                }
            };
            // SAFETY: the library ends its messages with NUL.
            let message = unsafe { CStr::from_ptr(err.message.as_ptr()) }.to_str().unwrap();
            assert_eq!(status, expected, "{name}: {message}");
            let written = out.iter().chain(outs.iter().flatten()).any(|v| !v.is_nan())
                || found != [-1; 15]
                || report.samples != 0
                || x != before;
            assert_eq!(written, status == MNEMO_OK, "{name}: on failure outputs are untouched");
            assert!(status == MNEMO_OK || message.starts_with(self.path.to_str().unwrap()), "{name}: {message}");
            x = before;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            mnemo_score_release(self.score);
            mnemo_dataset_release(self.data);
            mnemo_context_release(self.context);
        }
    }
}

#[test]
fn a_file_that_changes_is_an_error_of_every_call() {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let changes: [fn(&Host, SystemTime); 5] = [
        |host, _| host.file().set_len((HEADER + ROWS * DIM * 4) as u64).unwrap(),
        |host, _| host.file().set_len(0).unwrap(),
        |host, _| OpenOptions::new().append(true).open(&host.path).unwrap().write_all(&[0]).unwrap(),
        |host, far| host.file().set_modified(far).unwrap(),
        // Cut short and made as long as before: only its time tells.
        |host, far| {
            host.file().set_len(HEADER as u64).unwrap();
            host.file().set_len((HEADER + ROWS * DIM * 8) as u64).unwrap();
            host.file().set_modified(far).unwrap();
        },
    ];
    for threads in [1, 3] {
        for change in changes {
            let host = Host::new(threads);
            host.all(MNEMO_OK, null());
            change(&host, far);
            host.all(MNEMO_E_IO, null());
        }
    }
}

/// A name is not a file: what was opened stays, whatever becomes of its name.
#[test]
fn a_file_whose_name_is_taken_away_still_serves() {
    let host = Host::new(2);
    std::fs::remove_file(&host.path).unwrap();
    host.all(MNEMO_OK, null());
    write(host.folder.path());
    host.file().set_len(1).unwrap();
    host.all(MNEMO_OK, null());
}

/// The file is cut short in the middle of a call, by its progress callback.
#[test]
fn a_file_that_is_cut_short_during_a_call() {
    unsafe extern "C" fn cut(user: *mut c_void, _: u64, _: u64) -> i32 {
        // SAFETY: the exec below hands over the host.
        unsafe { user.cast::<Host>().as_ref() }.unwrap().file().set_len((HEADER + 8 * DIM) as u64).unwrap();
        0
    }
    let mut host = Host::new(2);
    let mut exec = initial(mnemo_exec_init);
    exec.progress = Some(cut);
    exec.progress_user = (&raw mut host).cast();
    let mut x = vec![1.0; 2 * DIM];
    let (mut distance, mut err) = ([f64::NAN; 2], blank());
    let (queries, mut to) = (real(&mut x, DIM), real(&mut distance, 1));
    // SAFETY: as above.
    let status = unsafe {
        mnemo_nearest(host.data, &queries, MNEMO_METRIC_L2, 1, &mut to, null_mut(), &raw const exec, &raw mut err)
    };
    assert_eq!(status, MNEMO_E_IO);
    assert!(distance.iter().all(|v| v.is_nan()), "outputs are untouched");
    host.all(MNEMO_E_IO, null());
}
