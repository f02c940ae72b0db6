//! Atomic writes: a file appears whole or not at all. Permissions follow the umask, since caches and results are shared
//! within groups. Independent of the content of the files.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use serde::Serialize;
use tempfile::{NamedTempFile, TempDir};

/// Prefix of the names of files that are still being written.
pub const UNFINISHED: &str = ".unfinished-";

/// A new temporary file in `folder`, deleted on drop.
pub fn file_in(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let readable = Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(prefix).permissions(readable).tempfile_in(folder)
}

/// A new temporary folder in `parent`, deleted on drop.
pub fn folder_in(parent: &Path, prefix: &str) -> io::Result<TempDir> {
    let readable = Permissions::from_mode(0o777);
    tempfile::Builder::new().prefix(prefix).permissions(readable).tempdir_in(parent)
}

/// Replaces the file at `path` by `bytes` and creates missing parent folders. After a power cut the earlier file may
/// reappear.
///
/// # Errors
/// I/O errors, with the path.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, &|file| file.write_all(bytes), false)
}

/// Same as [`replace`], and durable: the new file survives a power cut.
///
/// # Errors
/// I/O errors, with the path.
pub fn replace_flushed(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, &|file| file.write_all(bytes), true)
}

/// Same as [`replace_flushed`], with `value` as indented JSON. It is streamed to the file, since the record of a large
/// run is long.
///
/// # Errors
/// I/O errors, with the path.
pub fn replace_with_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let fill = |file: &mut dyn Write| {
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, value)?;
        file.flush()
    };
    write(path, &fill, true)
}

fn write(path: &Path, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>, flush: bool) -> Result<()> {
    let write = || -> Result<()> {
        let folder = path.parent().context("a file in a folder")?;
        fs::create_dir_all(folder)?;
        let mut file = file_in(folder, UNFINISHED)?;
        fill(&mut file)?;
        if flush {
            file.as_file().sync_data()?;
        }
        file.persist(path)?;
        if flush {
            flush_folder(folder)?;
        }
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Flushes a folder's entries to disk, on file systems that support it.
pub fn flush_folder(path: &Path) -> io::Result<()> {
    match fs::File::open(path)?.sync_all() {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_whole_and_have_the_permissions_of_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let [file, dir] = ["file", "dir"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        fs::create_dir(&dir).unwrap();
        for replace in [replace, replace_flushed] {
            let path = folder.path().join("deep/er/file");
            replace(&path, b"first").unwrap();
            replace(&path, b"second").unwrap();
            assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"second".to_vec(), mode(&file)));
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
        assert_eq!(mode(file_in(folder.path(), "x").unwrap().path()), mode(&file));
        assert_eq!(mode(folder_in(folder.path(), "x").unwrap().path()), mode(&dir));
    }
}
