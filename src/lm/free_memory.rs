//! Memory available on a device, as reported by the system. Independent of its use.

use std::path::Path;
use tch::Device;

/// Available memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeMemory {
    /// Amount in bytes.
    pub bytes: u64,
    /// Source of that number, for people.
    pub from: String,
}

impl FreeMemory {
    /// Memory currently available on `device`; `None` if the system does not report it. Queried before a model is
    /// loaded.
    pub fn of(device: Device) -> Option<FreeMemory> {
        match device {
            Device::Cpu => host(),
            // The CPU and the GPU share this memory.
            Device::Mps => host(),
            Device::Cuda(index) => cuda(index),
            Device::Vulkan => None,
        }
    }
}

/// The machine's available memory or, if less, the remainder of a limit on this process's cgroup (set by a container or
/// a batch system).
#[cfg(target_os = "linux")]
fn host() -> Option<FreeMemory> {
    let meminfo = fs_err::read_to_string("/proc/meminfo").ok()?;
    let kib = number_after(&meminfo, "MemAvailable:")?;
    let machine = FreeMemory { bytes: kib * 1024, from: "MemAvailable in /proc/meminfo".into() };
    let groups = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limits(Path::new("/sys/fs/cgroup"), &groups);
    limits.into_iter().chain([machine]).min_by_key(|free| free.bytes)
}

/// All of the machine's memory: the system does not report how much of it could be reclaimed.
#[cfg(target_os = "macos")]
fn host() -> Option<FreeMemory> {
    let (mut bytes, mut len) = (0u64, size_of::<u64>());
    // SAFETY: `hw.memsize` is a 64-bit number, and `len` is the size of the buffer for it.
    let status = unsafe {
        let to = (&raw mut bytes).cast();
        libc::sysctlbyname(c"hw.memsize".as_ptr(), to, &raw mut len, std::ptr::null_mut(), 0)
    };
    (status == 0).then(|| FreeMemory { bytes, from: "hw.memsize, all of the machine's memory".into() })
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn host() -> Option<FreeMemory> {
    None
}

/// The remainder of each limit on the cgroups of `groups` (the text of `/proc/self/cgroup`) and on their ancestors
/// below `root`. Cached file pages do not count as used: the system drops them when memory runs short, and they include
/// the mapped weights of an earlier run.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn limits(root: &Path, groups: &str) -> Vec<FreeMemory> {
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, limit, used, prefix) = match controllers {
            "" => (root.to_path_buf(), "memory.max", "memory.current", ""),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            }
            _ => continue,
        };
        // Inside a container the path may be that of the host, which does not exist here: its ancestors are checked
        // too, since a limit applies to all groups below it.
        let folder = root.join(group.trim_start_matches('/'));
        for folder in folder.ancestors().take_while(|folder| folder.starts_with(&root)) {
            let read = |name: &str| fs_err::read_to_string(folder.join(name)).ok();
            let number = |name: &str| read(name)?.trim().parse::<u64>().ok(); // "max" means no limit
            let (Some(limit_bytes), Some(used_bytes)) = (number(limit), number(used)) else { continue };
            let stat = read("memory.stat").unwrap_or_default();
            let files =
                ["inactive_file", "active_file"].map(|key| number_after(&stat, &format!("{prefix}{key} ")));
            let reclaimable: u64 = files.into_iter().flatten().sum();
            all.push(FreeMemory {
                bytes: limit_bytes.saturating_sub(used_bytes.saturating_sub(reclaimable)),
                from: format!("the limit in {}", folder.join(limit).display()),
            });
        }
    }
    all
}

/// The integer after `key` at the start of a line.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Free memory of a CUDA device, queried from the runtime that comes with libtorch, because `tch` has no call for it.
/// libtorch keeps the memory of a freed model for the next one and does not report it as free, so the largest value
/// seen so far is returned.
#[cfg(target_os = "linux")]
fn cuda(index: usize) -> Option<FreeMemory> {
    use libloading::os::unix::Library;
    use std::collections::BTreeMap;
    use std::ffi::c_int;
    use std::sync::Mutex;
    static MOST: Mutex<BTreeMap<usize, u64>> = Mutex::new(BTreeMap::new());
    // libtorch_cuda and its dependencies were loaded with global symbols (`device.rs`).
    let loaded = Library::this();
    let (mut before, mut free, mut total) = (0, 0, 0);
    // SAFETY: the functions have these types in every version of the runtime; 0 means success.
    unsafe {
        let get = loaded.get::<unsafe extern "C" fn(*mut c_int) -> c_int>("cudaGetDevice").ok()?;
        let set = loaded.get::<unsafe extern "C" fn(c_int) -> c_int>("cudaSetDevice").ok()?;
        let info =
            loaded.get::<unsafe extern "C" fn(*mut usize, *mut usize) -> c_int>("cudaMemGetInfo").ok()?;
        if get(&mut before) != 0 || set(index.try_into().ok()?) != 0 {
            return None;
        }
        let answered = info(&mut free, &mut total) == 0;
        set(before);
        answered.then_some(())?;
    }
    let mut most = MOST.lock().ok()?;
    let most = most.entry(index).or_default();
    *most = (free as u64).max(*most);
    Some(FreeMemory { bytes: *most, from: format!("free memory of CUDA device {index}") })
}

#[cfg(not(target_os = "linux"))]
fn cuda(_: usize) -> Option<FreeMemory> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, inside: &str, files: &[(&str, &str)]) {
        let folder = root.join(inside);
        fs_err::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs_err::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn every_limit_around_the_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let stat = "anon 4000\ninactive_file 300\nactive_file 200\nworkingset 7\n";
        group(dir.path(), "", &[("memory.stat", stat)]);
        group(
            dir.path(),
            "job",
            &[("memory.max", "9000\n"), ("memory.current", "4500\n"), ("memory.stat", stat)],
        );
        group(
            dir.path(),
            "job/step",
            &[("memory.max", "max\n"), ("memory.current", "100\n"), ("memory.stat", stat)],
        );
        let all = limits(dir.path(), "0::/job/step\n");
        let limit = dir.path().join("job/memory.max");
        assert_eq!(all, [FreeMemory { bytes: 5000, from: format!("the limit in {}", limit.display()) }]);
    }

    #[test]
    fn old_groups_are_read_by_their_own_names() {
        let dir = tempfile::tempdir().unwrap();
        // As in a container: the path is that of the host, the files are at the root.
        group(
            dir.path(),
            "memory",
            &[
                ("memory.limit_in_bytes", "1000\n"),
                ("memory.usage_in_bytes", "1200\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 250\ntotal_active_file 50\n"),
            ],
        );
        let groups = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/memory\n";
        let all = limits(dir.path(), groups);
        assert_eq!(all.iter().map(|free| free.bytes).collect::<Vec<_>>(), [100]);
        assert!(limits(dir.path(), "").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_tells_what_it_has() {
        let meminfo = fs_err::read_to_string("/proc/meminfo").unwrap();
        let total = number_after(&meminfo, "MemTotal:").unwrap() * 1024;
        let free = FreeMemory::of(Device::Cpu).unwrap();
        assert!(free.bytes > 1 << 20 && free.bytes <= total, "{free:?} of {total}");
    }
}
