//! Output that tolerates a closed pipe: when the reader is gone, the work goes on.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::secrets::masked;

/// Like `eprintln!`, but without its panic when stderr is a closed pipe.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}

/// Writes a line to stderr with secrets masked. Uses `eprintln!`, since the test harness captures only its output.
pub fn line(words: Arguments) {
    let words = words.to_string();
    let _ = catch_unwind(AssertUnwindSafe(|| eprintln!("{}", masked(&words))));
}

/// A writer that discards its data once the reader is gone, as with `emoflow plan | head`.
pub struct Unread<W>(pub W);

impl<W: Write> Unread<W> {
    fn heard<T>(result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(instead),
            result => result,
        }
    }
}

impl<W: Write> Write for Unread<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::heard(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::heard(self.0.flush(), ())
    }
}
