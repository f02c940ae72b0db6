//! Lines on stderr that nobody has to read: where the other end of a pipe is gone, the work goes on.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::secrets::masked;

/// As `eprintln!`, which panics where stderr is a pipe that was closed.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}

/// Writes a line, without what looks like a secret. `eprintln!` rather than a writer of our own, for tests catch only what it writes.
pub fn line(words: Arguments) {
    let words = words.to_string();
    let _ = catch_unwind(AssertUnwindSafe(|| eprintln!("{}", masked(&words))));
}

/// Where data goes: once its reader is gone, as of `emoflow plan | head`, nowhere.
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
