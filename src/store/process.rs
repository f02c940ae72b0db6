//! Identifies a process and its machine, for the owner of a lease, and detects whether the process is dead. Independent
//! of leases.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// A process, distinguished from every earlier or later process with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The machine's name, for display.
    pub host: String,
    /// Identifies the machine across reboots: systemd's machine id, or the host name.
    machine: String,
    /// Identifies the current boot; empty if the system does not report it.
    boot: String,
    /// The PID namespace of `pid`: containers have their own.
    namespace: String,
    pub pid: u32,
    /// Start time in ticks since boot; 0 if the system does not report it.
    start: u64,
}

impl Process {
    /// This process.
    pub fn this() -> Process {
        static THIS: LazyLock<Process> = LazyLock::new(Process::ask);
        THIS.clone()
    }

    fn ask() -> Process {
        let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default().trim().to_string();
        let host = host();
        let machine = Some(read("/etc/machine-id")).filter(|id| !id.is_empty()).unwrap_or(host.clone());
        let namespace = fs_err::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Process {
            host,
            machine,
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: namespace.to_string_lossy().into_owned(),
            pid,
            start: started(pid).unwrap_or(0),
        }
    }

    /// Whether the process is known to have ended. Always false for a process on another machine or in another
    /// container.
    pub fn is_dead(&self) -> bool {
        let this = Process::this();
        if (&self.host, &self.machine) != (&this.host, &this.machine) {
            return false;
        }
        if self.boot != this.boot {
            return true;
        }
        if self.namespace != this.namespace {
            return false;
        }
        match started(self.pid) {
            Some(start) => start != self.start,
            // SAFETY: signal 0 only tests whether the process exists.
            None if unsafe { libc::kill(self.pid as libc::pid_t, 0) } == 0 => cfg!(target_os = "linux"), // a zombie
            // A process of another user may be hidden.
            None => std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH),
        }
    }
}

fn host() -> String {
    let mut name = [0u8; 256];
    // SAFETY: the buffer is longer than the length passed, and its last byte stays 0.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// Start time of a process that is not a zombie, in ticks since boot; Linux only.
fn started(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may itself contain parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // proc(5): the state is field 3, the start time field 22.
    let start = fields.nth(22 - 3 - 1)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_dead_are_known_on_their_own_machine_alone() {
        let this = Process::this();
        assert!(!this.is_dead() && this.start > 0 && !this.boot.is_empty(), "{this:?}");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let other = Process { pid: child.id(), start: started(child.id()).unwrap(), ..this.clone() };
        assert!(!other.is_dead());
        child.kill().unwrap();
        // It stays a zombie until it is waited for.
        while started(child.id()).is_some() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(other.is_dead());
        child.wait().unwrap();
        assert!(other.is_dead());
        assert!(Process { start: this.start + 1, ..this.clone() }.is_dead(), "another with its number");
        assert!(Process { boot: "before".into(), ..this.clone() }.is_dead());
        assert!(!Process { host: "elsewhere".into(), ..other.clone() }.is_dead());
        assert!(!Process { machine: "elsewhere".into(), ..other.clone() }.is_dead());
        assert!(!Process { namespace: "pid:[1]".into(), ..other }.is_dead());
    }
}
