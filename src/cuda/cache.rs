//! Compiled kernels on disk. A file holds what it was made of, whole, and a sum over itself; one that does not fit is
//! compiled again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder of compiled kernels.
pub struct Cache(Option<PathBuf>);

/// What machine code was made of.
pub struct Key<'a> {
    /// Name of the source.
    pub name: &'a str,
    /// Everything the result depends on: sources, options, the compiler's version, the device's sm.
    pub parts: &'a [&'a str],
}

const MAGIC: &[u8; 8] = b"mnemo-k1";

/// Fowler, Noll and Vo's hash (1a, 64 bits): tells files apart and finds damage; it keeps no secrets.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

impl Key<'_> {
    /// Two hashes of the parts and their lengths: 128 bits.
    fn hashes(&self) -> [u64; 2] {
        [BASIS, !BASIS].map(|start| {
            self.parts.iter().fold(start, |hash, part| fnv(fnv(hash, &part.len().to_le_bytes()), part.as_bytes()))
        })
    }
}

impl Cache {
    /// In `folder`, or in the user's cache folder; nowhere if there is none.
    pub fn new(folder: Option<&str>) -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let users = || {
            let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
            cache.or_else(|| variable("LOCALAPPDATA")).map(|cache| cache.join("mnemo"))
        };
        Self(folder.map(PathBuf::from).or_else(users))
    }

    /// The folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    fn file(&self, key: &Key<'_>) -> Option<PathBuf> {
        let [a, b] = key.hashes();
        Some(self.0.as_ref()?.join(format!("{}-{a:016x}{b:016x}.cubin", key.name)))
    }

    /// What was kept under `key`; `None` if nothing was, or it is damaged.
    pub fn get(&self, key: &Key<'_>) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.file(key)?).ok()?;
        let [a, b] = key.hashes();
        let head: Vec<u8> = [&MAGIC[..], &a.to_le_bytes(), &b.to_le_bytes()].concat();
        let body = bytes.strip_prefix(&head[..])?;
        let (code, sum) = body.split_last_chunk::<8>()?;
        if fnv(a, code) != u64::from_le_bytes(*sum) {
            return None;
        }
        bytes.truncate(bytes.len() - sum.len());
        bytes.drain(..head.len());
        Some(bytes)
    }

    /// Keeps `code` under `key`, whole or not at all. A folder that cannot be written costs the next start some time.
    pub fn keep(&self, key: &Key<'_>, code: &[u8]) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (Some(file), Some(folder)) = (self.file(key), &self.0) else { return };
        let [a, b] = key.hashes();
        let parts = [&MAGIC[..], &a.to_le_bytes(), &b.to_le_bytes(), code, &fnv(a, code).to_le_bytes()];
        // Another process or thread may be writing the same: each writes its own and the last name given stays.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let partial = file.with_extension(format!("{}-{count}.partial", std::process::id()));
        let write = || {
            fs::create_dir_all(folder)?;
            fs::write(&partial, parts.concat())?;
            fs::rename(&partial, &file)
        };
        if write().is_err() {
            let _ = fs::remove_file(&partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("new").to_str());
        let key = Key { name: "sums", parts: &["source", "options", "12.9", "80"] };
        assert_eq!(cache.get(&key), None);
        for code in [&b"machine code"[..], b""] {
            cache.keep(&key, code);
            assert_eq!(cache.get(&key).as_deref(), Some(code));
        }
        // Other parts, and the same letters cut elsewhere, are other keys.
        for parts in [["source", "options", "12.9", "90"], ["sourceo", "ptions", "12.9", "80"]] {
            assert_eq!(cache.get(&Key { name: "sums", parts: &parts }), None);
        }
        cache.keep(&key, b"machine code");
        let file = cache.file(&key).unwrap();
        let whole = fs::read(&file).unwrap();
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            assert_eq!(cache.get(&key), None, "cut at {len}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, &bytes).unwrap();
            assert_eq!(cache.get(&key), None, "byte {at}");
        }
        // No partial files stay behind.
        assert_eq!(fs::read_dir(cache.folder().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = Cache::new(file.path().join("below").to_str());
        let key = Key { name: "sums", parts: &[] };
        cache.keep(&key, b"code");
        assert_eq!(cache.get(&key), None);
    }
}
