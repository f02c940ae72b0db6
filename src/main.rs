//! The program: calls [`emoflow::run`] and leaves with its exit code.

use std::io::Write as _;

fn main() {
    let mut out = std::io::stdout();
    let code = emoflow::run(std::env::args_os(), &mut out);
    let flushed = out.flush();
    let code = if flushed.is_err() && code == 0 { 1 } else { code };
    // SAFETY: everything is written. Without this libtorch's static destructors run, which takes longer than a small
    // command does.
    unsafe { libc::_exit(code.into()) }
}
