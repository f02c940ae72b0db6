//! Turns panics of libraries on untrusted input into errors. Independent of the libraries.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and turns a panic into an error.
///
/// # Errors
/// The message of the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    result.map_err(|panic| said(&*panic).unwrap_or("it panics").to_string())
}

/// Whether a panic of this thread becomes an error, so that the program does not print it.
pub fn is_caught() -> bool {
    CAUGHT.get()
}

/// The message of a panic; `None` if its payload is not text.
pub fn said(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        assert_eq!(caught(|| 7), Ok(7));
        let inside = caught(|| {
            assert!(is_caught());
            let zero = std::hint::black_box(0);
            1 / zero
        });
        assert_eq!(inside, Err("attempt to divide by zero".to_string()));
        assert!(!is_caught());
    }
}
