//! Gives the shared library its SONAME: the ABI's major version, as `src/capi/status.rs` states it.

fn main() {
    const SOURCE: &str = "src/capi/status.rs";
    println!("cargo:rerun-if-changed={SOURCE}");
    let source = std::fs::read_to_string(SOURCE).expect("src/capi/status.rs");
    let major: u32 = source
        .lines()
        .find_map(|l| l.strip_prefix("pub const MNEMO_ABI_MAJOR: u32 = ")?.strip_suffix(';')?.parse().ok())
        .expect("MNEMO_ABI_MAJOR in src/capi/status.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmnemo.so.{major}");
        // Unloading would leak what the thread pool and the panic hook keep for the whole process, once more for every load.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
