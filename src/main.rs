//! The program: calls [`emoflow::run`] and leaves with its exit code; starts again with libtorch where that is needed.

use std::ffi::OsString;
use std::io::Write as _;

use emoflow::lm::bounded::is_bounded;
use emoflow::lm::panics::is_caught;
use emoflow::lm::shortage::Shortage;

/// What libtorch's CUDA half asks when it first chooses a kernel of attention (`check_prefer_cudnn_attention` of its
/// sdp_utils.cpp). Without it cuDNN's goes first on an H100, H200 or B200, which plans anew for every shape.
const CUDNN_ATTENTION_LAST: &str = "TORCH_CUDNN_SDPA_DEPRIORITIZED";

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    // SAFETY: nothing runs beside this yet.
    unsafe { std::env::set_var(CUDNN_ATTENTION_LAST, "1") }
    #[cfg(target_os = "linux")]
    let here = libtorch::prepare();
    #[cfg(not(target_os = "linux"))]
    let here = true;
    // A run that starts again with libtorch has done nothing yet: a signal may end it as it likes.
    if here
        && emoflow::finishes(&args)
        && let Err(error) = emoflow::interrupt::listen()
    {
        eprintln!("warning: a signal will end this run in the middle of a batch: {error}");
    }
    // Where memory runs out, a pass is tried in parts, or the node fails and says so: one line, not libtorch's fifty. What
    // panics in bounded work, or where that is caught, is an error of its caller's.
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
    // SAFETY: everything is written. Without this libtorch's static destructors run, which takes longer than a small
    // command does.
    unsafe { libc::_exit(code.into()) }
}

/// The program starts without libtorch: with stand-ins, or (as it is shipped) with nothing in its place (docs/design/startup.md).
#[cfg(target_os = "linux")]
mod libtorch {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;

    use emoflow::lm::libtorch::{Found, check, find, folder, set_loader, set_why};

    const PATH: &str = "LD_LIBRARY_PATH";
    const PRELOAD: &str = "LD_PRELOAD";
    /// What is loaded where the program does not ask for it itself. It brings the rest.
    const LIBRARY: &str = "libtorch_cpu.so";
    /// By these the second start knows what the first one put before the paths above, and why.
    const FOLDER: &str = "EMOFLOW_STARTED_WITH";
    const WHY: &str = "EMOFLOW_STARTED_BECAUSE";
    /// What libraries read when they are loaded. What is set already is heard, and a policy of waiting in place of the last one.
    const SETTINGS: [(&str, &str); 3] = [
        // How many products' plans libtorch's oneDNN keeps, each with its room to work in, and oneDNN their code: by default
        // 1024 shapes each, and every batch has shapes of its own. A pass needs some ten.
        ("LRU_CACHE_CAPACITY", "32"),
        ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"),
        // How often a thread of OpenMP looks for work before it sleeps: by default 300,000 times, which take an Intel processor
        // 14 ms. Where another program has one of the cores, threads would wait for one another through whole slices of time
        // (docs/design/performance.md).
        ("GOMP_SPINCOUNT", "10000"),
    ];

    /// Undoes what [`start_again`] did to the environment. Where libtorch is not loaded, has the program start again before its
    /// first call into libtorch. Returns whether libtorch is here already.
    pub fn prepare() -> bool {
        let again = std::env::var_os(FOLDER);
        if let Some(folder) = &again {
            take_away(PATH, folder);
            take_away(PRELOAD, OsStr::new(LIBRARY));
            let why = std::env::var(WHY).unwrap_or_default();
            // SAFETY: nothing runs beside this yet.
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

    /// It started again for nothing.
    fn not_found() {
        let lib = find().unwrap_or_else(|error| fail(&format!("{error:#}"))).lib;
        fail(&format!(
            "libtorch cannot be loaded from {}: the dynamic linker does not find it there",
            lib.display()
        ))
    }

    /// What is in the place of libtorch.
    #[derive(PartialEq)]
    enum Loaded {
        Nothing,
        StandIns,
        Libtorch,
    }

    impl Loaded {
        fn here() -> Loaded {
            // SAFETY: asks the dynamic linker for an address, and looks at nothing but whether there is one.
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

    /// Takes what was put before a variable's value away: what this program starts gets what it was given itself.
    fn take_away(variable: &str, first: &OsStr) {
        let Some(value) = std::env::var_os(variable) else { return };
        let Some(rest) = value.as_bytes().strip_prefix(first.as_bytes()) else { return };
        // SAFETY: nothing runs beside this yet.
        match rest.strip_prefix(b":") {
            Some(before) => unsafe { std::env::set_var(variable, OsStr::from_bytes(before)) },
            None if rest.is_empty() => unsafe { std::env::remove_var(variable) },
            None => {}
        }
    }

    /// A variable's value with another part before it.
    fn put_before(variable: &str, first: &OsStr) -> OsString {
        let mut value = first.to_os_string();
        // An empty part would mean the current folder.
        if let Some(before) = std::env::var_os(variable).filter(|before| !before.is_empty()) {
            value.push(":");
            value.push(before);
        }
        value
    }

    /// Replaces this process by one of the same program with the real libtorch.
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
