//! Deferred loading of libtorch, before the first call into it. Independent of the loading mechanism, which the program
//! supplies.
//!
//! The program starts without libtorch, because loading it takes longer than a run with nothing to do
//! (docs/design/startup.md). Code that is about to call it for the first time announces this here: the selection of a
//! device other than the CPU, and a run that has something to run.

mod places;

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use places::{Found, WANTED, fetched, find};

static LOADER: OnceLock<fn()> = OnceLock::new();
/// Why the loaded libtorch was selected.
static WHY: OnceLock<String> = OnceLock::new();

/// Registers `loader` for [`load`]. Used only by a program whose libtorch is not loaded yet.
pub fn set_loader(loader: fn()) {
    let _ = LOADER.set(loader);
}

/// Whether libtorch is loaded, so that the program does not restart.
pub fn is_loaded() -> bool {
    LOADER.get().is_none()
}

/// Loads libtorch if it is not loaded. This restarts the program, so it may not return: call it before anything is
/// printed or written.
pub fn load() {
    load_if(|| true);
}

/// Loads libtorch if it is not loaded and `needed` returns true; `needed` is not called otherwise.
pub fn load_if(needed: impl FnOnce() -> bool) {
    if let Some(loader) = LOADER.get()
        && needed()
    {
        loader();
    }
}

/// Records why the loaded libtorch was selected. Only the restarted program knows the reason.
pub fn set_why(why: String) {
    let _ = WHY.set(why);
}

/// The loaded libtorch or, if none is loaded yet, the one that will be loaded.
///
/// # Errors
/// No libtorch was found: see [`find`].
pub fn taken() -> Result<Found> {
    if !is_loaded() {
        return find();
    }
    let lib = loaded_from().unwrap_or_else(|| env!("EMOFLOW_LIBTORCH").into());
    let why = WHY.get().cloned().unwrap_or_else(|| "the dynamic linker found it".into());
    Ok(Found { lib, why })
}

/// The folder of [`taken`] or, if there is none, of the libtorch that the program was built with.
pub fn folder() -> PathBuf {
    taken().map_or_else(|_| env!("EMOFLOW_LIBTORCH").into(), |found| found.lib)
}

/// Rejects a libtorch of another version that was found elsewhere than at build time, for example through
/// `LD_LIBRARY_PATH`: a missing symbol would end the program in the middle of its work, and different code would give
/// other numbers under the same cache keys.
///
/// # Errors
/// The two versions, and the location of the other one.
pub fn check(folder: &Path) -> Result<()> {
    let wanted = WANTED;
    if folder == Path::new(env!("EMOFLOW_LIBTORCH")) {
        return Ok(());
    }
    let found = version(folder.parent().unwrap_or(folder));
    let found = found.as_deref().unwrap_or("of an unknown version");
    ensure!(found == wanted, "the libtorch in {} is {found}; this program needs {wanted}", folder.display());
    Ok(())
}

/// The version of the libtorch in [`folder`], including its local part such as `+cu128`.
pub fn full_version() -> String {
    let folder = folder();
    stated(folder.parent().unwrap_or(&folder)).unwrap_or_else(|| env!("EMOFLOW_LIBTORCH_VERSION").to_string())
}

/// The libtorch in use, with its version, location and the reason, as text; or that there is none.
pub fn shown() -> String {
    match taken() {
        Ok(found) => format!("{}, {} ({})", full_version(), found.lib.display(), found.why),
        Err(error) => format!("none: {error:#}"),
    }
}

/// The version in `root` without its local part, as read by `build.rs`.
fn version(root: &Path) -> Option<String> {
    Some(stated(root)?.split('+').next()?.to_string())
}

/// The version given by the torch wheel (`version.py`) or the plain archive (`build-version`) in `root`.
fn stated(root: &Path) -> Option<String> {
    let wheel = || {
        let text = fs_err::read_to_string(root.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split(['\'', '"']).nth(1)?.to_string())
    };
    let text = wheel().or_else(|| fs_err::read_to_string(root.join("build-version")).ok())?;
    Some(text.trim().to_string())
}

/// Extracts libtorch's message from a panic text. A failed `unwrap` of a libtorch error shows it as a quoted Rust
/// string, with line ends as `\n` and some fifty lines of stack trace. Any other text is returned unchanged.
pub fn said(panic: &str) -> String {
    let Some((_, said)) = panic.split_once("Torch(\"") else { return panic.to_string() };
    let said = said.split("\\nException raised from").next().unwrap_or(said);
    said.trim_end_matches("\")").replace("\\n", "\n").replace("\\\"", "\"")
}

/// The folder from which the linker loaded libtorch, according to the system's list of memory mappings.
#[cfg(target_os = "linux")]
fn loaded_from() -> Option<PathBuf> {
    let maps = fs_err::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    Path::new(&library[library.find('/')?..]).parent().map(Path::to_path_buf)
}

#[cfg(not(target_os = "linux"))]
fn loaded_from() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_only_what_it_says_is_kept() {
        let sizes = || tch::Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu)).view([5]);
        let panic = std::panic::catch_unwind(|| drop(sizes())).unwrap_err();
        assert_eq!(
            said(panic.downcast_ref::<String>().unwrap()),
            "shape '[5]' is invalid for input of size 6"
        );
        assert_eq!(said("a bug"), "a bug");
    }

    #[test]
    fn a_libtorch_from_elsewhere_is_of_the_same_version() {
        // The tests are linked with the libtorch that they were built with; symlinks are resolved.
        let built = fs_err::canonicalize(env!("EMOFLOW_LIBTORCH")).unwrap();
        assert_eq!(fs_err::canonicalize(folder()).unwrap(), built);
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib");
        assert!(check(&lib).unwrap_err().to_string().contains("is of an unknown version"));
        let wanted = env!("EMOFLOW_LIBTORCH_VERSION");
        for (file, text, ok) in [
            ("build-version", format!("{wanted}+cpu\n"), true),
            ("version.py", "__version__ = '1.13.1+cu117'\ndebug = False\n".to_string(), false),
            ("version.py", format!("from typing import Optional\n__version__ = '{wanted}+cu128'\n"), true),
        ] {
            fs_err::write(root.path().join(file), text).unwrap();
            assert_eq!(check(&lib).is_ok(), ok, "{file}");
        }
    }
}
