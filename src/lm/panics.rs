//! Libraries that panic at what strangers give them, where an error is wanted. Knows nothing of what they do.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; what it panics with is the error.
///
/// # Errors
/// The words of the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    result.map_err(|panic| said(&*panic).unwrap_or("it panics").to_string())
}

/// Whether a panic of this thread becomes an error, so that the program prints nothing of it.
pub fn is_caught() -> bool {
    CAUGHT.get()
}

/// The words of a panic; `None` where it is no text.
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
