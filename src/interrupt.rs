//! SIGINT, SIGTERM, SIGUSR1 and SIGHUP (a terminal that is closed): the first one asks the run to stop when its batch is done,
//! the second one ends the program. For a worker that another process started, a byte on stdin is the first, its end the
//! second. Knows nothing of runs.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a run that was asked to stop: `EX_TEMPFAIL` of sysexits.h, "try again", which job queues know.
pub const EXIT_CODE: u8 = 75;

const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP];

/// Set by the first signal and never cleared: a signal that comes before anyone looks is not lost.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Who started the program says it.
static SILENT: AtomicBool = AtomicBool::new(false);

/// One signal or many: the program ends after its batch.
static PATIENT: AtomicBool = AtomicBool::new(false);
/// SIGTERM came.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// The error of work that ended because it was asked to.
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

/// Whether SIGTERM was among the signals: someone wants the program gone, rather than only its time is over.
pub fn terminated() -> bool {
    TERMINATED.load(Ordering::SeqCst)
}

/// Has further signals after the first change nothing: a job queue sends several, in any order, and kills in the end.
pub fn be_patient() {
    PATIENT.store(true, Ordering::SeqCst);
}

/// Latches the signals from now on, for as long as the program runs; one that the program was started to ignore (`nohup`)
/// stays ignored.
///
/// # Errors
/// The system refuses a handler.
pub fn listen() -> io::Result<()> {
    for signal in SIGNALS {
        // SAFETY: zeroes are a `sigaction` without flags but the one set here, and the handler does only what a
        // handler may: it sets an atomic, writes and leaves. System calls that it interrupts are started again.
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

/// Asks the program to stop when a byte comes on stdin, and ends it where stdin does: with the process that has the
/// other end of the pipe.
pub fn hang_on_stdin() {
    if SILENT.swap(true, Ordering::SeqCst) {
        return; // it does
    }
    std::thread::spawn(|| {
        let mut stdin = io::stdin().lock();
        while matches!(stdin.read(&mut [0]), Ok(1)) {
            ASKED.store(true, Ordering::SeqCst);
        }
        // SAFETY: as at a second signal.
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
        // SAFETY: ends the program without its destructors, which is what is wanted: nothing on disk needs them.
        unsafe { libc::_exit(EXIT_CODE.into()) }
    }
    if SILENT.load(Ordering::SeqCst) {
        return;
    }
    const SAID: &[u8] = b"\nstopping when this batch is done; a second signal stops at once\n";
    // SAFETY: `write` may be called in a handler. Whether anyone reads stderr does not matter.
    unsafe { libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len()) };
}
