//! The moment before the first call into libtorch. Knows nothing of how it is loaded: the program says that.
//!
//! The program starts without libtorch, as loading it takes longer than a run with nothing to do
//! (docs/design/startup.md). Whoever is about to call it for the first time says so here: the choice of a device other
//! than the CPU, and a run that has something to run.

mod places;

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use places::{Found, WANTED, fetched, find};

static LOADER: OnceLock<fn()> = OnceLock::new();
/// Why the libtorch that is loaded was taken.
static WHY: OnceLock<String> = OnceLock::new();

/// Has [`load`] call `loader`. Only a program whose libtorch is not loaded yet asks for this.
pub fn set_loader(loader: fn()) {
    let _ = LOADER.set(loader);
}

/// Whether it is loaded, so that the program does not start again.
pub fn is_loaded() -> bool {
    LOADER.get().is_none()
}

/// Loads libtorch if it is not loaded. That starts the program again, so this may not return: to be called before
/// anything is printed or written.
pub fn load() {
    load_if(|| true);
}

/// Loads libtorch if it is not loaded and `needed` says that it will be called; `needed` is not asked otherwise.
pub fn load_if(needed: impl FnOnce() -> bool) {
    if let Some(loader) = LOADER.get()
        && needed()
    {
        loader();
    }
}

/// Remembers why the libtorch that is loaded was taken. Only the program knows that, which was started again.
pub fn set_why(why: String) {
    let _ = WHY.set(why);
}

/// The libtorch that is loaded; where none is yet, the one that will be.
///
/// # Errors
/// There is none: as of [`find`].
pub fn taken() -> Result<Found> {
    if !is_loaded() {
        return find();
    }
    let lib = loaded_from().unwrap_or_else(|| env!("EMOFLOW_LIBTORCH").into());
    let why = WHY.get().cloned().unwrap_or_else(|| "the dynamic linker found it".into());
    Ok(Found { lib, why })
}

/// The folder of [`taken`]; where there is none, the one that the program was built with.
pub fn folder() -> PathBuf {
    taken().map_or_else(|_| env!("EMOFLOW_LIBTORCH").into(), |found| found.lib)
}

/// Refuses a libtorch that was found elsewhere than where the program was built, say by `LD_LIBRARY_PATH`, and that is
/// of another version: what is missing from it would end the program in the middle of its work, and what is different
/// would give other numbers under the same keys.
///
/// # Errors
/// The two versions, and where the other one is.
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

/// The version of the libtorch of [`folder`], with its local part such as `+cu128`.
pub fn full_version() -> String {
    let folder = folder();
    stated(folder.parent().unwrap_or(&folder)).unwrap_or_else(|| env!("EMOFLOW_LIBTORCH_VERSION").to_string())
}

/// Which libtorch is used, where it is and why, in words; or that there is none.
pub fn shown() -> String {
    match taken() {
        Ok(found) => format!("{}, {} ({})", full_version(), found.lib.display(), found.why),
        Err(error) => format!("none: {error:#}"),
    }
}

/// The version in `root` without its local part, as `build.rs` reads it.
fn version(root: &Path) -> Option<String> {
    Some(stated(root)?.split('+').next()?.to_string())
}

/// The version that the torch wheel (`version.py`) or the plain archive (`build-version`) in `root` states.
fn stated(root: &Path) -> Option<String> {
    let wheel = || {
        let text = fs_err::read_to_string(root.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split(['\'', '"']).nth(1)?.to_string())
    };
    let text = wheel().or_else(|| fs_err::read_to_string(root.join("build-version")).ok())?;
    Some(text.trim().to_string())
}

/// What libtorch said, where a panic's text is that of a failed `unwrap` of its error: written as Rust code, in quotes, with
/// its line ends as `\n` and some fifty lines of its stack. Any other text as it is.
pub fn said(panic: &str) -> String {
    let Some((_, said)) = panic.split_once("Torch(\"") else { return panic.to_string() };
    let said = said.split("\\nException raised from").next().unwrap_or(said);
    said.trim_end_matches("\")").replace("\\n", "\n").replace("\\\"", "\"")
}

/// Where the linker found libtorch: the system's list of what is mapped says.
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
        // The tests are linked with the one that they were built with, and a symlink is as good as what it points to.
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
