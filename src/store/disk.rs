//! Free disk space, and stale lookups on network file systems. Independent of artifacts.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;

/// Bytes available to this user on the disk of `folder`.
pub fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is NUL-terminated, and `stat` has the size of the structure that is written to it.
    let stat = unsafe {
        if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    // The field types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let free = (stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64);
    // Some network and overlay file systems report a total of zero blocks.
    (stat.f_blocks > 0).then_some(free)
}

/// Returns what `look` finds at `path`. If it finds nothing although the folder lists the name, calls `look` once more.
/// Clients of network file systems cache for a while that a name did not exist; reading the folder asks the server.
///
/// # Errors
/// The errors of `look`.
pub fn look_again<T>(path: &Path, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    match look()? {
        None if is_listed(path) => look(),
        found => Ok(found),
    }
}

fn is_listed(path: &Path) -> bool {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    entries
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| Some(entry.file_name().as_os_str()) == path.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a client that cached a negative answer.
    #[test]
    fn an_old_miss_is_looked_at_again_through_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        let mut looks = 0;
        let mut look = |found: Option<u32>| {
            looks = 0;
            look_again(&path, || {
                looks += 1;
                Ok(found.filter(|_| looks > 1))
            })
            .map(|found| (found, looks))
            .unwrap()
        };
        assert_eq!(look(Some(7)), (None, 1), "the folder does not list it");
        fs::write(&path, "").unwrap();
        assert_eq!(look(Some(7)), (Some(7), 2));
        assert_eq!(look(None), (None, 2));
    }
}
