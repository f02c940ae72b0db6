//! The program: calls [`emoflow::run`] and turns its outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    emoflow::run(std::env::args_os(), &mut std::io::stdout().lock())
}
