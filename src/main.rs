//! The binary: calls [`emoflow::run`] and exits with its code; re-executes itself with libtorch when it needs it.

use std::ffi::OsString;
use std::io::Write as _;

use emoflow::lm::bounded::is_bounded;
use emoflow::lm::panics::is_caught;
use emoflow::lm::shortage::Shortage;

/// Read by libtorch's CUDA code when it first chooses an attention kernel (`check_prefer_cudnn_attention` in
/// sdp_utils.cpp). Without it cuDNN's kernel is preferred on an H100, H200 or B200, which plans anew for every shape.
const CUDNN_ATTENTION_LAST: &str = "TORCH_CUDNN_SDPA_DEPRIORITIZED";

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var(CUDNN_ATTENTION_LAST, "1") }
    #[cfg(target_os = "linux")]
    let here = libtorch::prepare();
    #[cfg(not(target_os = "linux"))]
    let here = true;
    // A process that will re-execute itself with libtorch has done no work yet, so a signal may simply end it.
    if here
        && emoflow::finishes(&args)
        && let Err(error) = emoflow::interrupt::listen()
    {
        eprintln!("warning: a signal will end this run in the middle of a batch: {error}");
    }
    // When memory runs out, the forward pass is retried in parts or the node fails with an error of its own: one line
    // in place of libtorch's fifty. A panic in bounded work, or one that is caught, is reported by the caller.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if Shortage::of(panic.payload()).is_none() && !is_bounded() && !is_caught() {
            usual(panic);
        }
    }));
    let mut out = emoflow::Unread(std::io::stdout());
    let code = emoflow::run(args, &mut out);
    let flushed = out.flush();
    let code = if flushed.is_err() && code == 0 { 1 } else { code };
    // SAFETY: all output is flushed. This skips libtorch's static destructors, which take longer than a small command.
    unsafe { libc::_exit(code.into()) }
}

/// Start without libtorch: with stand-ins, or (as shipped) with nothing in its place (docs/design/startup.md).
#[cfg(target_os = "linux")]
mod libtorch {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;

    use emoflow::lm::libtorch::{Found, check, find, folder, set_loader, set_why};

    const PATH: &str = "LD_LIBRARY_PATH";
    const PRELOAD: &str = "LD_PRELOAD";
    /// The library to preload when the program is not linked to it. It loads the others.
    const LIBRARY: &str = "libtorch_cpu.so";
    /// These tell the second start what the first one prepended to the paths above, and why.
    const FOLDER: &str = "EMOFLOW_STARTED_WITH";
    const WHY: &str = "EMOFLOW_STARTED_BECAUSE";
    /// Variables that libraries read on loading. Values that the user has set are kept; if `OMP_WAIT_POLICY` is set,
    /// the last one is omitted.
    const SETTINGS: [(&str, &str); 3] = [
        // How many matrix-product plans libtorch's oneDNN caches, each with its workspace, and how many oneDNN
        // caches as code: by default 1024 shapes each, and every batch has its own shapes. A pass needs about ten.
        ("LRU_CACHE_CAPACITY", "32"),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"),
        // How often an OpenMP thread polls for work before it sleeps: by default 300,000 times, which takes 14 ms on an
        // Intel processor. If another program occupies a core, threads would spin for whole time slices, waiting for
        // one another (docs/design/performance.md).
        ("GOMP_SPINCOUNT", "10000"),
    ];

    /// Restores the environment that [`start_again`] changed. If libtorch is not loaded, arranges for the program to
    /// re-execute itself before its first call into libtorch. Returns whether libtorch is already loaded.
    pub fn prepare() -> bool {
        let again = std::env::var_os(FOLDER);
        if let Some(folder) = &again {
            take_away(PATH, folder);
            take_away(PRELOAD, OsStr::new(LIBRARY));
            let why = std::env::var(WHY).unwrap_or_default();
            // SAFETY: no other thread runs yet.
            unsafe {
                std::env::remove_var(FOLDER);
                std::env::remove_var(WHY);
            }
            set_why(why);
        }
        let here = Loaded::here() == Loaded::Libtorch;
        if !here {
            set_loader(if again.is_some() { not_found } else { start_again });
        } else if let Err(error) = check(&folder()) {
            fail(&format!("{error:#}; {PATH} may name another one's `lib`"));
        }
        here
    }

    /// Fails: libtorch is still not loaded after the second start.
    fn not_found() {
        let lib = find().unwrap_or_else(|error| fail(&format!("{error:#}"))).lib;
        fail(&format!(
            "libtorch cannot be loaded from {}: the dynamic linker does not find it there",
            lib.display()
        ))
    }

    /// What is loaded in place of libtorch.
    #[derive(PartialEq)]
    enum Loaded {
        Nothing,
        StandIns,
        Libtorch,
    }

    impl Loaded {
        fn here() -> Loaded {
            // SAFETY: only looks up a symbol's address and checks it for null; never dereferences it.
            let has = |symbol: &std::ffi::CStr| unsafe {
                !libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()).is_null()
            };
            match () {
                () if has(c"emoflow_libtorch_stand_in") => Loaded::StandIns,
                () if has(c"_ZN3c1019UndefinedTensorImpl10_singletonE") => Loaded::Libtorch,
                () => Loaded::Nothing,
            }
        }
    }

    /// Removes the prefix `first` from a variable, so that child processes inherit the original environment.
    fn take_away(variable: &str, first: &OsStr) {
        let Some(value) = std::env::var_os(variable) else { return };
        let Some(rest) = value.as_bytes().strip_prefix(first.as_bytes()) else { return };
        // SAFETY: no other thread runs yet.
        match rest.strip_prefix(b":") {
            Some(before) => unsafe { std::env::set_var(variable, OsStr::from_bytes(before)) },
            None if rest.is_empty() => unsafe { std::env::remove_var(variable) },
            None => {}
        }
    }

    /// A variable's value with `first` prepended, separated by a colon.
    fn put_before(variable: &str, first: &OsStr) -> OsString {
        let mut value = first.to_os_string();
        // An empty part would mean the current folder.
        if let Some(before) = std::env::var_os(variable).filter(|before| !before.is_empty()) {
            value.push(":");
            value.push(before);
        }
        value
    }

    /// Replaces this process by the same program with the real libtorch (`exec`).
    fn start_again() {
        let Found { lib, why } = find().unwrap_or_else(|error| fail(&format!("{error:#}")));
        let program = std::env::current_exe()
            .unwrap_or_else(|error| fail(&format!("this program's file is not to be found: {error}")));
        let mut again = std::process::Command::new(program);
        again.args(std::env::args_os().skip(1));
        again.env(PATH, put_before(PATH, lib.as_os_str())).env(FOLDER, &lib).env(WHY, why);
        if Loaded::here() == Loaded::Nothing {
            again.env(PRELOAD, put_before(PRELOAD, OsStr::new(LIBRARY)));
        }
        let set = |name: &str| std::env::var_os(name).is_some();
        let waits = set("OMP_WAIT_POLICY");
        let heard = |name: &str| set(name) || waits && name == "GOMP_SPINCOUNT";
        again.envs(SETTINGS.into_iter().filter(|(name, _)| !heard(name)));
        let error = again.exec();
        fail(&format!("the program cannot start again with the libtorch in {}: {error}", lib.display()))
    }

    fn fail(why: &str) -> ! {
        eprintln!("error: {why}");
        std::process::exit(1);
    }
}
