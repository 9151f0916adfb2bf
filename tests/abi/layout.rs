//! Size of every struct, offset and size of every field: as the C compiler sees the header, and as Rust sees the source.

use mnemo::capi::{context, dataset, exec, memorization, sampler, score, status, tensor};
use std::fmt::Write;
use std::process::Command;

/// The structs of the header and their fields, in order.
fn structs(header: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut open = false;
    let mut statement = String::new();
    let mut comment = false;
    for line in header.lines().map(str::trim) {
        if comment || line.starts_with("/*") {
            comment = !line.ends_with("*/");
            continue;
        }
        if let Some(name) = line.strip_suffix('{').and_then(|l| l.split("struct ").nth(1)) {
            found.push((name.trim().to_owned(), Vec::new()));
            open = true;
        } else if open && line.starts_with('}') {
            open = false;
        } else if open && !line.is_empty() {
            statement += line;
            if statement.ends_with(';') {
                found.last_mut().expect("an open struct").1.push(field(&statement));
                statement.clear();
            }
        }
    }
    found
}

/// The declared name: `(*name)(…)`, `type name[n];` or `type *name;`.
fn field(declaration: &str) -> String {
    let name = match declaration.split_once("(*") {
        Some((_, rest)) => rest.split(')').next(),
        None => declaration.trim_end_matches(';').split('[').next().and_then(|d| d.rsplit([' ', '*']).next()),
    };
    name.expect("a name").to_owned()
}

pub fn measured_by_c(header: &str) -> String {
    let mut program = "#include <mnemo.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (name, fields) in structs(header) {
        writeln!(program, r#"printf("{name} %zu\n", sizeof(struct {name}));"#).unwrap();
        for f in fields {
            let of = format!("struct {name}");
            writeln!(program, r#"printf("  {f} %zu %zu\n", offsetof({of}, {f}), sizeof((({of} *)0)->{f}));"#).unwrap();
        }
    }
    program += "return 0; }\n";
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (source, exe) = (dir.path().join("layout.c"), dir.path().join("layout"));
    std::fs::write(&source, program).expect("write");
    std::fs::write(dir.path().join("mnemo.h"), header).expect("write");
    let cc = Command::new("cc").arg("-I").arg(dir.path()).arg(&source).arg("-o").arg(&exe).output();
    let cc = cc.expect("cc");
    assert!(cc.status.success(), "cc: {}", String::from_utf8_lossy(&cc.stderr));
    String::from_utf8(Command::new(exe).output().expect("run").stdout).expect("text")
}

macro_rules! layout {
    ($text:ident, $($t:path { $($f:ident: $ft:ty),* $(,)? })*) => {$(
        writeln!($text, "{} {}", stringify!($t).rsplit("::").next().unwrap().trim(), size_of::<$t>()).unwrap();
        $(
            // The type is named as well as measured: a field that changes type must be changed here too.
            let _: fn(&$t) -> &$ft = |v| &v.$f;
            writeln!($text, "  {} {} {}", stringify!($f), std::mem::offset_of!($t, $f), size_of::<$ft>()).unwrap();
        )*
    )*};
}

type Pointer = *mut std::ffi::c_void;
type Text = *const std::ffi::c_char;
type Tensor = *mut tensor::mnemo_tensor;
type In = *const tensor::mnemo_tensor;
type Progress = Option<unsafe extern "C" fn(Pointer, u64, u64) -> i32>;
type Observer = Option<unsafe extern "C" fn(Pointer, u64, f64, In) -> i32>;
type Eval = Option<unsafe extern "C" fn(Pointer, In, In, Tensor, Pointer) -> i32>;
type Jvp = Option<unsafe extern "C" fn(Pointer, In, In, In, Tensor, Pointer) -> i32>;
type Drop = Option<unsafe extern "C" fn(Pointer)>;

pub fn measured_by_rust() -> String {
    let mut text = String::new();
    layout! { text,
        status::mnemo_error { code: i32, native: i32, len: u32, reserved: u32, message: [std::ffi::c_char; 496] }
        tensor::mnemo_tensor {
            data: Pointer, rows: i64, cols: i64, row_stride: i64, dtype: u32, device_type: u32, device_id: i32, reserved: u32,
        }
        exec::mnemo_exec {
            struct_size: u32, flags: u32, stream: Pointer, seed: u64, cancel: *mut exec::mnemo_cancel, progress: Progress,
            progress_user: Pointer,
        }
        context::mnemo_context_options {
            struct_size: u32, device_type: u32, device_id: i32, num_threads: u32, memory_limit: u64, kernel_cache_dir: Text,
            instruction_set: u32, reserved: u32,
        }
        dataset::mnemo_dataset_options { struct_size: u32, reserved: u32, scale: f64, shift: f64, labels_path: Text }
        dataset::mnemo_dataset_info { struct_size: u32, dtype: u32, rows: i64, dim: i64, labels: i64, min: f64, max: f64 }
        score::mnemo_empirical_options {
            struct_size: u32, regularizer: u32, strength: f64, tolerance: f64, label: i64, conditional: u32, reserved: u32,
            log_strength: f64,
        }
        score::mnemo_score_ops { struct_size: u32, prediction: u32, eval: Eval, jvp: Jvp, drop: Drop }
        score::mnemo_score_outputs {
            struct_size: u32, reserved: u32, score: Tensor, denoised: Tensor, log_density: Tensor, divergence: Tensor,
            entropy: Tensor, nearest_index: Tensor, nearest_distance: Tensor, denoised_error_bound: Tensor,
            log_density_error_bound: Tensor,
        }
        sampler::mnemo_sampler_options {
            struct_size: u32, solver: u32, grid: u32, from_prior: u32, denoise_last: u32, reserved: u32, steps: i64,
            first_sample: i64, t_start: f64, t_end: f64, alpha2: f64, eta: f64, rtol: f64, atol: f64, rho: f64, s_churn: f64,
            s_min: f64, s_max: f64, s_noise: f64, times: *const f64, times_count: i64, observer: Observer,
            observer_user: Pointer,
        }
        memorization::mnemo_memorization_options { struct_size: u32, reserved: u32, threshold: f64 }
        memorization::mnemo_memorization_report {
            struct_size: u32, reserved: u32, samples: i64, copied: i64, fraction_copied: f64, min_distance: f64,
            median_distance: f64, max_distance: f64,
        }
    }
    text
}
