//! Data sets, nearest rows and memorization.

use crate::rows;
use crate::support::*;
use mnemo::capi::{context::*, dataset::*, exec::*, memorization::*, status::*, tensor::*};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::ptr::{null, null_mut};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
/// errno's "no such file or directory", the same on every Unix.
const ENOENT: i32 = 2;

struct Copy {
    context: *const mnemo_context,
    rows: Tensor,
    labels: Tensor,
    options: Sized<mnemo_dataset_options>,
    out: Out<mnemo_dataset>,
}

impl Call for Copy {
    fn good(w: &World) -> Self {
        Self {
            context: w.context,
            rows: Tensor::matrix(3, &DATA),
            labels: Tensor::vector(&[0i64, 0, 7, 7]),
            options: Sized::new(mnemo_dataset_options_init),
            out: Out::new(mnemo_dataset_release),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe {
            let (rows, labels) = (self.rows.ptr(), self.labels.ptr());
            mnemo_dataset_copy(self.context, rows, labels, self.options.ptr(), self.out.ptr(), err)
        }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

pub fn copy(w: &World) {
    tensor_rows::<Copy>(w, "rows", true, |c| &mut c.rows);
    tensor_rows::<Copy>(w, "labels", false, |c| &mut c.labels);
    sized_rows::<Copy, _>(w, "options", OK, |c| &mut c.options);
    for bad in [NAN, INF, -INF, 1e101] {
        w.row::<Copy>(&format!("rows hold {bad} at 2, 1"), INVALID, "rows", |c| c.rows.set(7, bad));
        w.row::<Copy>("it names the row", INVALID, "2", |c| c.rows.set(7, bad));
        w.row::<Copy>("it names the column", INVALID, "1", |c| c.rows.set(7, bad));
    }
    for bad in [0.0, -0.0, NAN, INF, -INF] {
        w.row::<Copy>(&format!("scale = {bad}"), INVALID, "scale", |c| c.options.scale = bad);
    }
    for bad in [NAN, INF, -INF] {
        w.row::<Copy>(&format!("shift = {bad}"), INVALID, "shift", |c| c.options.shift = bad);
    }
    rows! { w, Copy, c;
        OK, "" => {};
        OK, "" => c.labels.null = true;
        OK, "" => c.options.null = true;
        OK, "" => c.labels = Tensor::vector(&[1u8, 2, 3, 255]);
        OK, "" => c.labels = Tensor::vector(&[i32::MIN, 0, 1, i32::MAX]);
        INVALID, "context" => c.context = null();
        INVALID, "out" => c.out.null = true;
        DTYPE, "rows" => c.rows = Tensor::matrix(3, &[1i32; 12]);
        DTYPE, "rows" => c.rows = Tensor::matrix(3, &[1i64; 12]);
        INVALID, "rows" => c.rows.rows = 0;
        INVALID, "rows" => c.rows.cols = 0;
        INVALID, "rows" => (c.rows.rows, c.rows.data) = (0, null_mut());
        INVALID, "rows" => { c.rows.set(0, 1e100); c.options.scale = 10.0 };
        DTYPE, "labels" => c.labels = Tensor::vector(&[0.0f64; 4]);
        DTYPE, "labels" => c.labels = Tensor::vector(&[0.0f32; 4]);
        SHAPE, "labels" => c.labels.rows = 3;
        SHAPE, "labels" => c.labels.rows = 0;
        SHAPE, "labels" => (c.labels.rows, c.labels.cols) = (1, 4);
        SHAPE, "labels" => c.labels.cols = 0;
        INVALID, "labels_path" => c.options.labels_path = c"labels.npy".as_ptr();
        INVALID, "reserved" => c.options.reserved = 1;
    }
    let mut limited = Sized::new(mnemo_context_options_init);
    limited.memory_limit = 12 * 8 - 1;
    let limited = made(mnemo_context_release, |p| unsafe { mnemo_context_create(limited.ptr(), p, null_mut()) });
    w.row::<Copy>("memory_limit is passed", NOMEM, "memory_limit", |c| c.context = limited);
    unsafe { mnemo_context_release(limited) };
}

struct Open {
    context: *const mnemo_context,
    path: CString,
    no_path: bool,
    labels: Option<CString>,
    options: Sized<mnemo_dataset_options>,
    out: Out<mnemo_dataset>,
}

impl Call for Open {
    fn good(w: &World) -> Self {
        Self {
            context: w.context,
            path: file(w, "good.npy", &npy("<f4", "(2, 3)", 24)),
            no_path: false,
            labels: None,
            options: Sized::new(mnemo_dataset_options_init),
            out: Out::new(mnemo_dataset_release),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let path = if self.no_path { null() } else { self.path.as_ptr() };
        if let Some(labels) = &self.labels {
            self.options.labels_path = labels.as_ptr();
        }
        unsafe { mnemo_dataset_open(self.context, path, self.options.ptr(), self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![region(&self.out.handle)]
    }
}

/// An npy file of that many zero bytes.
fn npy(descr: &str, shape: &str, bytes: usize) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL")
}

fn file(w: &World, name: &str, contents: &[u8]) -> CString {
    let path = w.folder.path().join(name);
    std::fs::write(&path, contents).expect("write");
    c_string(path.as_os_str().as_bytes())
}

pub fn open(w: &World) {
    let folder = c_string(w.folder.path().as_os_str().as_bytes());
    let missing = c_string(&[folder.as_bytes(), b"/missing.npy"].concat());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &npy("<f4", "(2, 3)", 24)).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let nan = [npy("<f4", "(2, 3)", 20), f32::NAN.to_le_bytes().to_vec()].concat();

    sized_rows::<Open, _>(w, "options", OK, |c| &mut c.options);
    for bad in [0.0, NAN, INF] {
        w.row::<Open>(&format!("scale = {bad}"), INVALID, "scale", |c| c.options.scale = bad);
    }
    rows! { w, Open, c;
        OK, "" => {};
        OK, "" => c.options.null = true;
        OK, "" => c.labels = Some(file(w, "labels.npy", &npy("<i8", "(2,)", 16)));
        INVALID, "context" => c.context = null();
        INVALID, "out" => c.out.null = true;
        INVALID, "path" => c.no_path = true;
        INVALID, "path" => c.path = c_string(b"\xFF\xFE.npy");
        INVALID, "labels_path" => c.labels = Some(c_string(b"\xFF\xFE.npy"));
        INVALID, "shift" => c.options.shift = NAN;
        INVALID, "reserved" => c.options.reserved = 1;
        (IO, ENOENT), "missing" => c.path = missing.clone();
        (IO, ENOENT), "missing" => c.labels = Some(missing.clone());
        (IO, ENOENT), "" => c.path = CString::default();
        IO, "regular" => c.path = folder.clone();
        IO, "regular" => c.labels = Some(folder.clone());
        IO, "empty" => c.path = file(w, "empty", b"");
        IO, "text" => c.path = file(w, "text", b"rows of numbers");
        IO, "header" => c.path = file(w, "header", &npy("<f4", "(2, 3)", 24)[..30]);
        IO, "truncated" => c.path = file(w, "truncated", &npy("<f4", "(2, 3)", 23));
        IO, "longer" => c.path = file(w, "longer", &npy("<f4", "(2, 3)", 25));
        IO, "huge" => c.path = file(w, "huge", &npy("<f4", "(4294967296, 4294967296)", 24));
        IO, "damaged" => c.path = file(w, "damaged", &gzip[..gzip.len() - 9]);
        DTYPE, "integers" => c.path = file(w, "integers", &npy("<i4", "(2, 3)", 24));
        SHAPE, "scalar" => c.path = file(w, "scalar", &npy("<f4", "()", 4));
        INVALID, "none" => c.path = file(w, "none", &npy("<f4", "(0, 3)", 0));
        INVALID, "rows" => c.path = file(w, "nan", &nan);
        SHAPE, "labels" => c.labels = Some(file(w, "few.npy", &npy("<i8", "(1,)", 8)));
        DTYPE, "floats" => c.labels = Some(file(w, "floats", &npy("<f8", "(2,)", 16)));
        SHAPE, "square" => c.labels = Some(file(w, "square", &npy("<i8", "(1, 2)", 16)));
    }
    w.row::<Open>("a message longer than its place", (IO, 36), "a", |c| {
        c.path = c_string(&[b"a/".as_slice(), "ä".repeat(3000).as_bytes()].concat());
    });
}

struct Info(*const mnemo_dataset, Sized<mnemo_dataset_info>);

impl Call for Info {
    fn good(w: &World) -> Self {
        Self(w.data, Sized::new(mnemo_dataset_info_init))
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_dataset_info(self.0, self.1.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.1.bytes()]
    }
}

/// The rows of a struct that is written: as much of it as the caller has.
fn written_rows<C: Call, S>(w: &World, name: &str, get: fn(&mut C) -> &mut Sized<S>) {
    for bad in [0, 3, 4, 5, size_of::<S>() + 4, u32::MAX as usize] {
        w.row::<C>(&format!("{name}: struct_size {bad}"), INVALID, name, |c| get(c).set_size(bad));
    }
    w.row::<C>(&format!("{name} NULL"), INVALID, name, |c| get(c).null = true);
    w.row::<C>(&format!("{name} misaligned"), INVALID, name, |c| get(c).misaligned = true);
    for (size, known) in [(8, 8), (16, 16), (size_of::<S>() + 64, size_of::<S>())] {
        let mut call = C::good(w);
        get(&mut call).set_size(size);
        get(&mut call).set_bytes(4..size_of::<S>() + 64, UNTOUCHED);
        let status = call.run(null_mut());
        let memory = unsafe { (*get(&mut call).bytes()).to_vec() };
        w.expect(status == OK && memory[..4] == (size as u32).to_ne_bytes(), &format!("{name}: size {size} is kept"));
        w.expect(memory[4..8] != [UNTOUCHED; 4], &format!("{name}: size {size} is filled"));
        let behind = &memory[known..size_of::<S>() + 64];
        w.expect(behind.iter().all(|&b| b == UNTOUCHED), &format!("{name}: nothing behind {known} of size {size}"));
    }
}

pub fn info(w: &World) {
    written_rows::<Info, _>(w, "info", |c| &mut c.1);
    rows! { w, Info, c;
        OK, "" => {};
        INVALID, "dataset" => c.0 = null();
    }
    let mut call = Info::good(w);
    call.run(null_mut());
    let i = &*call.1;
    w.expect((i.rows, i.dim, i.dtype, i.labels) == (4, 3, MNEMO_F64, 2), "the values");
}

pub fn info_init(w: &World) {
    init_rows(w, mnemo_dataset_info_init, |i| {
        (i.rows, i.dim, i.dtype, i.labels) == (0, 0, 0, 0) && (i.min, i.max) == (0.0, 0.0)
    });
}

pub fn options_init(w: &World) {
    init_rows(w, mnemo_dataset_options_init, |o| {
        (o.reserved, o.scale, o.shift) == (0, 1.0, 0.0) && o.labels_path.is_null()
    });
}

struct Gather {
    dataset: *const mnemo_dataset,
    index: Tensor,
    out: Tensor,
}

impl Call for Gather {
    fn good(w: &World) -> Self {
        Self { dataset: w.data, index: Tensor::vector(&[3i64, 0]), out: Tensor::output::<f64>(2, 3) }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        unsafe { mnemo_dataset_gather(self.dataset, self.index.ptr(), self.out.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.out.bytes()]
    }
}

pub fn gather(w: &World) {
    tensor_rows::<Gather>(w, "index", true, |c| &mut c.index);
    tensor_rows::<Gather>(w, "out", true, |c| &mut c.out);
    rows! { w, Gather, c;
        OK, "" => {};
        OK, "" => c.out = Tensor::output::<f32>(2, 3);
        OK, "" => (c.index.rows, c.out.rows) = (0, 0);
        INVALID, "dataset" => c.dataset = null();
        INVALID, "index" => c.index.set(1, -1i64);
        INVALID, "index" => c.index.set(1, 4i64);
        INVALID, "index" => c.index.set(1, i64::MIN);
        SHAPE, "index" => (c.index.rows, c.index.cols) = (1, 2);
        DTYPE, "index" => c.index = Tensor::vector(&[0i32, 1]);
        SHAPE, "out" => c.out.rows = 1;
        SHAPE, "out" => c.out.cols = 2;
        DTYPE, "out" => c.out = Tensor::output::<u8>(2, 3);
        DTYPE, "out" => c.out = Tensor::output::<i64>(2, 3);
    }
}

struct Nearest {
    dataset: *const mnemo_dataset,
    queries: Tensor,
    metric: u32,
    k: i64,
    distance: Tensor,
    index: Tensor,
    exec: Sized<mnemo_exec>,
}

impl Call for Nearest {
    fn good(w: &World) -> Self {
        Self {
            dataset: w.data,
            queries: Tensor::matrix(3, &[1.1, 0.0, 0.0, 0.0, 5.0, 0.0]),
            metric: MNEMO_METRIC_L2,
            k: 2,
            distance: Tensor::output::<f64>(2, 2),
            index: Tensor::output::<i64>(2, 2),
            exec: Sized::new(mnemo_exec_init),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let (q, d, i) = (self.queries.ptr(), self.distance.ptr(), self.index.ptr());
        unsafe { mnemo_nearest(self.dataset, q, self.metric, self.k, d, i, self.exec.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.distance.bytes(), self.index.bytes()]
    }
}

impl Nearest {
    fn without_outputs(&mut self, k: i64) {
        (self.k, self.distance.null, self.index.null) = (k, true, true);
    }
}

pub fn nearest(w: &World) {
    tensor_rows::<Nearest>(w, "queries", true, |c| &mut c.queries);
    tensor_rows::<Nearest>(w, "distance", false, |c| &mut c.distance);
    tensor_rows::<Nearest>(w, "index", false, |c| &mut c.index);
    exec_rows::<Nearest>(w, true, |c| &mut c.exec);
    for bad in [NAN, INF, -INF] {
        w.row::<Nearest>(&format!("queries hold {bad}"), INVALID, "queries", |c| c.queries.set(5, bad));
        w.row::<Nearest>("it names the column", INVALID, "2", |c| c.queries.set(5, bad));
    }
    for bad in [0, -1, 5, i64::MAX, i64::MIN] {
        w.row::<Nearest>(&format!("k = {bad}"), INVALID, "k", |c| c.without_outputs(bad));
    }
    rows! { w, Nearest, c;
        OK, "" => {};
        OK, "" => c.without_outputs(4);
        OK, "" => c.distance = Tensor::output::<f32>(2, 2);
        OK, "" => (c.queries.rows, c.distance.rows, c.index.rows) = (0, 0, 0);
        INVALID, "dataset" => c.dataset = null();
        OK, "" => (c.metric, c.queries) = (MNEMO_METRIC_COSINE, Tensor::matrix(3, &[1.0, 0.0, 0.0, 0.0, 5.0, 0.0]));
        INVALID, "queries" =>
            (c.metric, c.queries) = (MNEMO_METRIC_COSINE, Tensor::matrix(3, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
        INVALID, "metric" => c.metric = 2;
        INVALID, "metric" => c.metric = u32::MAX;
        SHAPE, "queries" => c.queries.cols = 2;
        SHAPE, "queries" => (c.queries.rows, c.queries.cols) = (1, 6);
        DTYPE, "queries" => c.queries = Tensor::matrix(3, &[0u8; 6]);
        SHAPE, "distance" => c.distance.rows = 1;
        SHAPE, "distance" => c.distance.cols = 1;
        SHAPE, "index" => c.index.rows = 1;
        DTYPE, "distance" => c.distance = Tensor::output::<i64>(2, 2);
        DTYPE, "index" => c.index = Tensor::output::<i32>(2, 2);
        DTYPE, "index" => c.index = Tensor::output::<f64>(2, 2);
    }
}

struct Memorization {
    dataset: *const mnemo_dataset,
    generated: Tensor,
    options: Sized<mnemo_memorization_options>,
    report: Sized<mnemo_memorization_report>,
    exec: Sized<mnemo_exec>,
}

impl Call for Memorization {
    fn good(w: &World) -> Self {
        let mut options = Sized::new(mnemo_memorization_options_init);
        options.threshold = 0.2;
        Self {
            dataset: w.data,
            generated: Tensor::matrix(3, &[1.1, 0.0, 0.0, 0.0, 5.0, 0.0]),
            options,
            report: Sized::new(mnemo_memorization_report_init),
            exec: Sized::new(mnemo_exec_init),
        }
    }
    fn run(&mut self, err: *mut mnemo_error) -> i32 {
        let (g, o, r) = (self.generated.ptr(), self.options.ptr(), self.report.ptr());
        unsafe { mnemo_memorization(self.dataset, g, o, r, self.exec.ptr(), err) }
    }
    fn outputs(&self) -> Vec<Region> {
        vec![self.report.bytes()]
    }
}

pub fn memorization(w: &World) {
    tensor_rows::<Memorization>(w, "generated", true, |c| &mut c.generated);
    exec_rows::<Memorization>(w, true, |c| &mut c.exec);
    written_rows::<Memorization, _>(w, "report", |c| &mut c.report);
    for bad in [NAN, INF, -INF] {
        w.row::<Memorization>(&format!("generated hold {bad}"), INVALID, "generated", |c| c.generated.set(4, bad));
    }
    for bad in [0.0, -0.0, -1.0, NAN, INF] {
        w.row::<Memorization>(&format!("threshold = {bad}"), INVALID, "threshold", |c| c.options.threshold = bad);
    }
    for bad in [0, 3, 5, 20] {
        w.row::<Memorization>(&format!("options: struct_size {bad}"), INVALID, "options", |c| c.options.set_size(bad));
    }
    rows! { w, Memorization, c;
        OK, "" => {};
        INVALID, "dataset" => c.dataset = null();
        INVALID, "threshold" => c.options.null = true;
        INVALID, "threshold" => c.options.set_size(8);
        INVALID, "options" => c.options.misaligned = true;
        OK, "" => c.options.set_size(80);
        UNSUPPORTED, "options" => { c.options.set_size(80); c.options.set_bytes(79..80, 1) };
        INVALID, "reserved" => c.options.reserved = 1;
        INVALID, "generated" => c.generated.rows = 0;
        SHAPE, "generated" => c.generated.cols = 2;
        DTYPE, "generated" => c.generated = Tensor::matrix(3, &[0i32; 6]);
    }
}

pub fn memorization_options_init(w: &World) {
    init_rows(w, mnemo_memorization_options_init, |o| (o.reserved, o.threshold) == (0, 0.0));
}

pub fn memorization_report_init(w: &World) {
    init_rows(w, mnemo_memorization_report_init, |r| (r.samples, r.copied, r.max_distance) == (0, 0, 0.0));
}
