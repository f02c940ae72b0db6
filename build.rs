//! Finds libtorch, refuses any version but the one `tch` binds, and writes its folder into the
//! program's run path, so that nothing has to be set in the environment.

use std::path::{Path, PathBuf};

/// The libtorch that tch 0.24 binds; `scripts/setup-libtorch.sh` fetches the same.
const TORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/stand_in.c");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = PathBuf::from(std::env::var_os("LIBTORCH").unwrap_or_default());
    let lib = root.join("lib");
    if !lib.is_dir() {
        fail(&format!("no libtorch at `{}`: run `make setup`", root.display()));
    }
    match version(&root) {
        Some(v) if v == TORCH_VERSION => {}
        Some(v) => fail(&format!(
            "LIBTORCH={} is torch {v}; emoflow needs torch {TORCH_VERSION}: unset LIBTORCH and run \
             `make setup`, or point it at that version",
            root.display()
        )),
        None => fail(&format!(
            "cannot tell the version of LIBTORCH={}: no `version.py` or `build-version` in it; emoflow needs torch \
             {TORCH_VERSION}",
            root.display()
        )),
    }
    println!("cargo:rerun-if-changed={}", root.join("version.py").display());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let stand_ins = stand_ins();
        println!("cargo:rustc-link-arg-bins=-Wl,-z,lazy");
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{}", stand_ins.display());
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        // In a wheel the program is `bin/emoflow` of an environment that has torch beside it.
        for minor in 10..=14 {
            let packages = format!("@executable_path/../lib/python3.{minor}/site-packages");
            println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{packages}/torch/lib");
        }
    }
    println!("cargo:rustc-env=EMOFLOW_LIBTORCH={}", lib.display());
    println!("cargo:rustc-env=EMOFLOW_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=EMOFLOW_LIBTORCH_VERSION={TORCH_VERSION}");
}

/// Libraries with libtorch's names and nothing in them, which the program starts with, since loading the real ones
/// takes longer than a whole `check` (docs/design/startup.md).
fn stand_ins() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("stand-ins");
    if let Err(error) = std::fs::create_dir_all(&folder) {
        fail(&format!("make {}: {error}", folder.display()));
    }
    for name in ["libtorch_cpu.so", "libc10.so"] {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let made = std::process::Command::new(&compiler)
            // Without a PLT the addresses of functions are there before an `ifunc` is asked.
            .args(["-O1", "-shared", "-fPIC", "-fno-plt", &format!("-Wl,-soname,{name}"), "-o"])
            .arg(folder.join(name))
            .arg("build/stand_in.c")
            .status();
        if !made.is_ok_and(|status| status.success()) {
            fail(&format!("`{}` could not make {}", compiler.display(), folder.join(name).display()));
        }
    }
    folder
}

/// The version of the torch wheel (`version.py`) or of the plain libtorch archive (`build-version`)
/// in `root`, without its local part such as `+cpu`.
fn version(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join("version.py"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("__version__"))?.to_string();
            Some(line.split(['\'', '"']).nth(1)?.to_string())
        })
        .or_else(|| std::fs::read_to_string(root.join("build-version")).ok())?;
    Some(text.trim().split('+').next()?.to_string())
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(1)
}
