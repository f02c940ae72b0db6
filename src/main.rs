//! The program: calls [`emoflow::run`] and leaves with its exit code; loads libtorch for the commands that need it.

use std::ffi::OsString;
use std::io::Write as _;

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    #[cfg(target_os = "linux")]
    libtorch::load(&args);
    if emoflow::finishes(&args)
        && let Err(error) = emoflow::interrupt::listen()
    {
        eprintln!("warning: a signal will end this run in the middle of a batch: {error}");
    }
    let mut out = std::io::stdout();
    let code = emoflow::run(args, &mut out);
    let flushed = out.flush();
    let code = if flushed.is_err() && code == 0 { 1 } else { code };
    // SAFETY: everything is written. Without this libtorch's static destructors run, which takes longer than a small
    // command does.
    unsafe { libc::_exit(code.into()) }
}

/// The program starts with stand-ins for libtorch (docs/design/startup.md).
#[cfg(target_os = "linux")]
mod libtorch {
    use std::ffi::OsString;
    use std::os::unix::process::CommandExt as _;

    const FOLDER: &str = env!("EMOFLOW_LIBTORCH");
    const PATH: &str = "LD_LIBRARY_PATH";

    /// Where `args` need libtorch and only its stand-ins are loaded, starts the program again with the real one.
    pub fn load(args: &[OsString]) {
        let path = std::env::var_os(PATH).unwrap_or_default();
        let path = path.to_string_lossy();
        let again = path.strip_prefix(FOLDER);
        // SAFETY: nothing runs beside this yet. What this program starts gets the path that it was given itself.
        match again.map(|rest| rest.strip_prefix(':').unwrap_or(rest)) {
            Some("") => unsafe { std::env::remove_var(PATH) },
            Some(before) => unsafe { std::env::set_var(PATH, before) },
            None => {}
        }
        // SAFETY: asks the dynamic linker for an address, and looks at nothing but whether there is one.
        let stand_ins =
            unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"emoflow_libtorch_stand_in".as_ptr()).is_null() };
        if !stand_ins || !emoflow::needs_libtorch(args) {
            return;
        }
        let error = match (again, std::env::current_exe()) {
            (Some(_), _) => "the dynamic linker does not find it there".to_string(),
            (None, Err(error)) => error.to_string(),
            (None, Ok(program)) => {
                // An empty part would mean the current folder.
                let path = if path.is_empty() { FOLDER.to_string() } else { format!("{FOLDER}:{path}") };
                std::process::Command::new(program).args(&args[1..]).env(PATH, path).exec().to_string()
            }
        };
        eprintln!("error: libtorch cannot be loaded from {FOLDER}: {error}");
        std::process::exit(1);
    }
}
