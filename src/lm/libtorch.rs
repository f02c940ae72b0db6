//! The moment before the first call into libtorch. Knows nothing of how it is loaded: the program says that.
//!
//! The program starts without libtorch, as loading it takes longer than a run with nothing to do
//! (docs/design/startup.md). Whoever is about to call it for the first time says so here: the choice of a device other
//! than the CPU, and a run that has something to run.

use std::sync::OnceLock;

static LOADER: OnceLock<fn()> = OnceLock::new();

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
