// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a file of rows and a file of labels. An input is a byte of choices, the length of the first file (two bytes,
//! little endian) and the two files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mnemo::capi::{context::*, dataset::*, status::*, tensor::*};
use mnemo_fuzz::calls::*;
use mnemo_fuzz::input::Input;
use mnemo_fuzz::tensors::{Fill, Tensor};
use std::ffi::CString;
use std::fs::File;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Bytes that a data set of the second context may take.
const LIMIT: u64 = 64;

/// A file in memory and its path.
struct Place {
    file: File,
    path: CString,
}

impl Place {
    fn new() -> Self {
        // SAFETY: a new descriptor, owned from here on.
        let file = unsafe {
            let fd = libc::memfd_create(c"mnemo-fuzz".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0, "memfd_create");
            File::from_raw_fd(fd)
        };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no NUL");
        Self { file, path }
    }

    fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() < 1 << 17);
        self.file.set_len(bytes.len() as u64).and_then(|()| self.file.write_all_at(bytes, 0)).expect("memory");
    }
}

struct Fixture {
    data: Place,
    labels: Place,
    /// Without a limit, and with one.
    contexts: [usize; 2],
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| Fixture {
        data: Place::new(),
        labels: Place::new(),
        contexts: [0, LIMIT].map(|memory_limit| {
            // SAFETY: good calls.
            unsafe {
                let mut options: mnemo_context_options = zeroed();
                mnemo_context_options_init(&raw mut options, size_of_val(&options));
                (options.num_threads, options.memory_limit) = (1, memory_limit);
                make(CONTEXT, |out, err| mnemo_context_create(&raw const options, out, err)).expect("a context").addr()
            }
        }),
    })
}

/// Two gzip members of one stored block each, which the fuzzer could not make itself because of their checksums.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        let (len, mut crc) = (part.len() as u16, !0u32);
        for &byte in part {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        out.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1]);
        out.extend(len.to_le_bytes().into_iter().chain((!len).to_le_bytes()).chain(part.iter().copied()));
        out.extend((!crc).to_le_bytes().into_iter().chain(u32::from(len).to_le_bytes()));
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let input = &mut Input::new(data);
    let choices = input.u8();
    let length = u16::from_le_bytes(input.bytes());
    let (rows, labels) = (input.slice(usize::from(length)), input.rest());
    let store = |place: &Place, bytes: &[u8], compress: bool| {
        if compress { place.write(&gzip(bytes)) } else { place.write(bytes) }
    };
    let fixture = fixture();
    store(&fixture.data, rows, choices & 1 != 0);
    store(&fixture.labels, labels, choices & 2 != 0);
    let (with_labels, limited) = (choices & 4 != 0, choices & 8 != 0);
    let context: *mut mnemo_context = std::ptr::with_exposed_provenance_mut(fixture.contexts[usize::from(limited)]);
    // SAFETY: strings and structs are good, and handles live.
    unsafe {
        let mut options: mnemo_dataset_options = zeroed();
        mnemo_dataset_options_init(&raw mut options, size_of_val(&options));
        if with_labels {
            options.labels_path = fixture.labels.path.as_ptr();
        }
        let made = try_make(OPEN, |out, err| {
            mnemo_dataset_open(context, fixture.data.path.as_ptr(), &raw const options, out, err)
        });
        let dataset = match made {
            Ok(dataset) => dataset,
            Err((status, message)) => {
                assert!(status != MNEMO_E_NOMEM || limited && message.contains("limit"), "{message}");
                assert!(status != MNEMO_E_IO || message.contains("/proc/self/fd/"), "{message}");
                return;
            }
        };
        // Rows of a plain file may stay there.
        check(dataset, limited && choices & 1 != 0, with_labels);
        mnemo_dataset_release(dataset);
    }
});

/// What was read can be described and gathered.
unsafe fn check(dataset: *mut mnemo_dataset, limited: bool, with_labels: bool) {
    unsafe {
        let mut info: mnemo_dataset_info = zeroed();
        mnemo_dataset_info_init(&raw mut info, size_of_val(&info));
        assert_eq!(call(STRUCT, |err| mnemo_dataset_info(dataset, &raw mut info, err)), MNEMO_OK);
        let size = match info.dtype {
            MNEMO_F64 => 8,
            MNEMO_F32 => 4,
            MNEMO_F16 => 2,
            MNEMO_U8 => 1,
            other => unreachable!("a file of element type {other}"),
        };
        assert!(info.rows > 0 && info.dim > 0 && info.min <= info.max && info.min >= -1e100 && info.max <= 1e100);
        assert!(!limited || (info.rows * info.dim * size) as u64 <= LIMIT, "the memory limit was passed");
        assert_eq!(info.labels > 0, with_labels);
        assert!(info.labels <= info.rows);
        let index = Tensor::integers(&[info.rows - 1, 0]);
        // The values of a file may be any, those of a canary too: every element is written where what was there before does not
        // show.
        let [out, other] = [Fill::Canary, Fill::Values]
            .map(|fill| Tensor::good(&mut Input::new(&[]), 2, info.dim.min(256), MNEMO_F64, fill));
        for out in [&out, &other] {
            let status = call(GATHER, |err| mnemo_dataset_gather(dataset, index.ptr(), out.ptr(), err));
            assert_eq!(status, if info.dim <= 256 { MNEMO_OK } else { MNEMO_E_SHAPE });
            if status == MNEMO_OK {
                out.check_gaps();
                for (i, j) in (0..2).flat_map(|i| (0..info.dim as usize).map(move |j| (i, j))) {
                    assert!((info.min..=info.max).contains(&out.get(i, j)));
                }
            } else {
                out.check_unchanged();
            }
        }
        if info.dim <= 256 {
            for (i, j) in (0..2).flat_map(|i| (0..info.dim as usize).map(move |j| (i, j))) {
                assert_eq!(out.get(i, j).to_bits(), other.get(i, j).to_bits(), "element {i}, {j} was not written");
            }
        }
        let beyond = Tensor::integers(&[info.rows, -1]);
        let status = call(GATHER, |err| mnemo_dataset_gather(dataset, beyond.ptr(), out.ptr(), err));
        assert!(matches!(status, MNEMO_E_INVALID | MNEMO_E_SHAPE));
    }
}
