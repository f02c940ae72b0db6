//! Handling of SIGINT, SIGTERM, SIGUSR1 and SIGHUP (terminal closed): the first signal asks the run to stop after the
//! current batch, the second one ends the program. For a worker started by another process, a byte on stdin counts as
//! the first signal and the end of stdin as the second. Independent of runs.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a run that was asked to stop: `EX_TEMPFAIL` of sysexits.h ("try again"), which job queues know.
pub const EXIT_CODE: u8 = 75;

const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP];

/// Set by the first signal and never cleared, so that a signal before the first check is not lost.
static ASKED: AtomicBool = AtomicBool::new(false);

/// No message is printed here: the process that started this one prints it.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Further signals are ignored: the program ends after the current batch, however many arrive.
static PATIENT: AtomicBool = AtomicBool::new(false);
/// SIGTERM was received.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// The error returned by work that stopped on request.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether the program was asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Whether SIGTERM was among the signals: the program was asked to terminate, not only warned of its time limit.
pub fn terminated() -> bool {
    TERMINATED.load(Ordering::SeqCst)
}

/// Ignores all signals after the first: a job queue sends several, in any order, and finally kills the process.
pub fn be_patient() {
    PATIENT.store(true, Ordering::SeqCst);
}

/// Installs the signal handlers for the rest of the program's life. A SIGHUP that was ignored at start (`nohup`) stays
/// ignored.
///
/// # Errors
/// A handler cannot be installed.
pub fn listen() -> io::Result<()> {
    for signal in SIGNALS {
        // SAFETY: an all-zero `sigaction` is valid, with no flags but the one set here. The handler is
        // async-signal-safe: it sets atomics, writes and exits. Interrupted system calls are restarted.
        let refused = unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut before);
            if signal == libc::SIGHUP && before.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut()) != 0
        };
        if refused {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Asks the program to stop when a byte arrives on stdin, and ends it at the end of stdin, that is when the process at
/// the other end of the pipe is gone.
pub fn hang_on_stdin() {
    if SILENT.swap(true, Ordering::SeqCst) {
        return; // a reader thread is already running
    }
    std::thread::spawn(|| {
        let mut stdin = io::stdin().lock();
        while matches!(stdin.read(&mut [0]), Ok(1)) {
            ASKED.store(true, Ordering::SeqCst);
        }
        // SAFETY: as for a second signal in `on_signal`.
        unsafe { libc::_exit(EXIT_CODE.into()) }
    });
}

extern "C" fn on_signal(signal: libc::c_int) {
    if signal == libc::SIGTERM {
        TERMINATED.store(true, Ordering::SeqCst);
    }
    let again = ASKED.swap(true, Ordering::SeqCst);
    if again && PATIENT.load(Ordering::SeqCst) {
        return;
    }
    if again {
        // SAFETY: exits without running destructors, as intended: nothing on disk depends on them.
        unsafe { libc::_exit(EXIT_CODE.into()) }
    }
    if SILENT.load(Ordering::SeqCst) {
        return;
    }
    const SAID: &[u8] = b"\nstopping when this batch is done; a second signal stops at once\n";
    // SAFETY: `write` is async-signal-safe. Whether stderr is read does not matter.
    unsafe { libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len()) };
}
