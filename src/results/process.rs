//! Which process did something, so that another can ask later whether it still runs. Knows nothing of runs.

use serde::{Deserialize, Serialize};

/// A process, told apart from a later one that got the same number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub host: String,
    /// Changes when the machine starts again; empty where that is not known.
    pub boot: String,
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot; 0 where that is not known.
    pub began: u64,
}

impl Process {
    /// This one.
    pub fn this() -> Process {
        let pid = std::process::id();
        let line = |path: &str| fs_err::read_to_string(path).unwrap_or_default().trim().to_string();
        Process {
            host: host(),
            boot: line("/proc/sys/kernel/random/boot_id"),
            pid,
            began: began(pid).unwrap_or_default(),
        }
    }

    /// Whether it runs; `None` if it is another machine's, which cannot be asked from here.
    pub fn is_alive(&self) -> Option<bool> {
        let here = Process::this();
        if self.host != here.host {
            return None;
        }
        if self.boot != here.boot {
            return Some(false);
        }
        Some(if cfg!(target_os = "linux") {
            began(self.pid) == Some(self.began)
        } else {
            let pid = libc::pid_t::try_from(self.pid).unwrap_or(libc::pid_t::MAX);
            // SAFETY: signal 0 is not sent; it only asks whether there is such a process.
            unsafe { libc::kill(pid, 0) == 0 }
        })
    }
}

fn host() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the length is that of the buffer less one, so that what is read ends with a zero.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// When the process started; `None` if there is none, or it has ended and only waits to be asked for its exit code.
fn began(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // Field 22 of proc(5); the state was the third.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let this = Process::this();
        assert_eq!(this.is_alive(), Some(true));
        assert_eq!(Process { boot: "earlier".into(), ..this.clone() }.is_alive(), Some(false));
        assert_eq!(Process { host: "elsewhere".into(), ..this.clone() }.is_alive(), None);
        if cfg!(target_os = "linux") {
            assert_eq!(Process { began: this.began + 1, ..this.clone() }.is_alive(), Some(false));
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(Process { pid, ..this }.is_alive(), Some(false));
    }
}
