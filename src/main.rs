//! The program: calls [`emoflow::run`] and leaves with its exit code; starts again with libtorch where that is needed.

use std::ffi::OsString;
use std::io::Write as _;

use emoflow::lm::bounded::is_bounded;
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
    // panics in bounded work is an error of its caller's.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if Shortage::of(panic.payload()).is_none() && !is_bounded() {
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

/// The program starts with stand-ins for libtorch (docs/design/startup.md).
#[cfg(target_os = "linux")]
mod libtorch {
    use std::ffi::OsStr;
    use std::os::unix::process::CommandExt as _;

    use emoflow::lm::libtorch::{check, folder, set_loader};

    const FOLDER: &str = env!("EMOFLOW_LIBTORCH");
    const PATH: &str = "LD_LIBRARY_PATH";
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

    /// Undoes what [`start_again`] did to the environment. Where libtorch's stand-ins are loaded, has the program start
    /// again before its first call into libtorch. Returns whether libtorch is here already.
    pub fn prepare() -> bool {
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
        if stand_ins {
            let not_found = || fail("the dynamic linker does not find it there");
            set_loader(if again.is_some() { not_found } else { start_again });
        } else if let Err(error) = check(&folder()) {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        !stand_ins
    }

    /// Replaces this process by one of the same program with the real libtorch.
    fn start_again() {
        let path = std::env::var_os(PATH).unwrap_or_default();
        // An empty part would mean the current folder.
        let mut path = if path.is_empty() { path } else { [OsStr::new(":"), &path].into_iter().collect() };
        path = [OsStr::new(FOLDER), &path].into_iter().collect();
        let error = match std::env::current_exe() {
            Err(error) => error,
            Ok(program) => {
                let mut again = std::process::Command::new(program);
                again.args(std::env::args_os().skip(1)).env(PATH, path);
                let set = |name: &str| std::env::var_os(name).is_some();
                let waits = set("OMP_WAIT_POLICY");
                again.envs(
                    SETTINGS
                        .into_iter()
                        .filter(|(name, _)| !(set(name) || waits && *name == "GOMP_SPINCOUNT")),
                );
                again.exec()
            }
        };
        fail(&error.to_string());
    }

    fn fail(why: &str) {
        eprintln!(
            "error: libtorch cannot be loaded from {FOLDER}: {why}; {PATH} may name another one's `lib`"
        );
        std::process::exit(1);
    }
}
