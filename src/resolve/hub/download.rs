//! Downloads one file from the hub into the cache's `blobs/`: locked, resumable, verified, and renamed only when
//! complete. Independent of repositories.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::MetadataExt;

use super::client::{Client, Patience, Trouble};
use super::listing::{Content, Hasher};
use crate::interrupt::{self, Interrupted};
use crate::progress::Progress;
use crate::store;

/// Bytes per read.
const CHUNK: usize = 1 << 18;

/// A file to fetch.
pub struct Download<'a> {
    pub url: String,
    /// Display name.
    pub name: String,
    pub size: u64,
    pub content: Content,
    /// The final path. A partial download has `.incomplete` after its name.
    pub blob: PathBuf,
    /// The lock file that Hugging Face's tools use for the same blob too.
    pub lock: PathBuf,
    pub progress: &'a dyn Progress,
}

impl Download<'_> {
    /// Downloads what is missing. `at` is called with the number of bytes present.
    ///
    /// # Errors
    /// A [`Trouble`] of the hub; content with another digest than the hub listed; a full disk.
    pub fn run(&self, client: &Client, at: &mut dyn FnMut(u64)) -> Result<()> {
        let lock = self.lock()?;
        if is_whole(&self.blob, self.size) {
            return Ok(()); // another program has finished it
        }
        let mut partial = Partial::open(self, lock.is_some())?;
        let mut began = partial.len;
        let mut patience = Patience::new(self.progress);
        loop {
            at(partial.len);
            if let Err(error) = self.receive(client, &mut partial, &mut patience, at) {
                patience.wait(error.downcast::<Trouble>()?)?;
                continue;
            }
            let found = partial.found();
            if found == self.content {
                return partial.place(&self.blob);
            }
            if began == 0 {
                fs::remove_file(&partial.path)?;
                bail!(
                    "{} is damaged: expected digest {}, got {}; the download was removed: try again",
                    self.name,
                    self.content.blob(),
                    found.blob()
                );
            }
            // The partial file came from an earlier run or another program, and may contain anything.
            self.progress
                .note(&format!("{}: its partial download is damaged; downloading it again", self.name));
            partial.restart()?;
            began = 0;
        }
    }

    /// Resumes at the end of `partial`.
    fn receive(
        &self,
        client: &Client,
        partial: &mut Partial<'_>,
        patience: &mut Patience<'_>,
        at: &mut dyn FnMut(u64),
    ) -> Result<()> {
        if partial.len == self.size {
            return Ok(());
        }
        let mut answer = client.get(&self.url, partial.len)?;
        if answer.start == 0 && partial.len > 0 {
            partial.restart()?; // a server without range requests
        } else if answer.start != partial.len {
            return Err(Trouble::passing("received another part than the requested one").into());
        }
        let wrong = |size: u64, partial: &Partial<'_>| -> Result<()> {
            fs::remove_file(&partial.path)?;
            bail!("{} has the wrong size: expected {} bytes, got {size}", self.name, self.size)
        };
        if let Some(total) = answer.total.filter(|&total| total != self.size) {
            return wrong(total, partial);
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            let why = |ended: &str| format!("{ended} after {} of {} bytes", partial.len, self.size);
            match answer.body.read(&mut chunk) {
                Ok(0) if partial.len == self.size => return Ok(()),
                Ok(0) => return Err(Trouble::passing(why("the connection ended")).into()),
                Ok(n) if partial.len + n as u64 > self.size => return wrong(partial.len + n as u64, partial),
                Ok(n) => partial.append(&chunk[..n])?,
                Err(error) => return Err(Trouble::passing(why(&error.to_string())).into()),
            }
            patience.renew();
            at(partial.len);
            ensure!(!interrupt::asked(), Interrupted);
        }
    }

    /// Waits until no other process downloads the blob; `None` on a file system without locks.
    fn lock(&self) -> Result<Option<fs::File>> {
        let folder = |path: &Path| fs::create_dir_all(path.parent().unwrap_or(Path::new(".")));
        folder(&self.blob)?;
        folder(&self.lock)?;
        loop {
            // The mode that Hugging Face's tools use, for caches shared by a group.
            let file = fs::OpenOptions::new().create(true).append(true).mode(0o664).open(&self.lock)?;
            if let Err(error) = file.try_lock() {
                if io::Error::from(error).kind() != io::ErrorKind::WouldBlock {
                    return Ok(None);
                }
                self.progress.note(&format!("{}: another program is downloading it; waiting", self.name));
                file.lock()?;
            }
            // The previous holder of the lock may have removed the file.
            let there =
                fs::metadata(&self.lock).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()));
            if there {
                return Ok(Some(file));
            }
        }
    }
}

/// Whether there is a file of `size` bytes at `path`.
pub fn is_whole(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

/// Bytes of `blob` downloaded by an earlier run.
pub fn begun(blob: &Path) -> u64 {
    fs::metadata(incomplete(blob, None)).map_or(0, |metadata| metadata.len())
}

fn incomplete(blob: &Path, owner: Option<u32>) -> PathBuf {
    let owner = owner.map_or_else(String::new, |id| format!(".{id}"));
    PathBuf::from(format!("{}{owner}.incomplete", blob.display()))
}

/// The partial download of a file.
struct Partial<'a> {
    of: &'a Download<'a>,
    path: PathBuf,
    file: fs::File,
    len: u64,
    hasher: Hasher,
}

impl<'a> Partial<'a> {
    /// Opens and digests the partial file. If it is not `shared`, it belongs to this process alone.
    fn open(of: &'a Download<'a>, shared: bool) -> Result<Partial<'a>> {
        let path = incomplete(&of.blob, (!shared).then(std::process::id));
        let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut hasher = of.content.hasher(of.size);
        let mut chunk = vec![0; CHUNK];
        let mut len = 0;
        while len <= of.size {
            match file.read(&mut chunk)? {
                0 => break,
                n => {
                    hasher.update(&chunk[..n]);
                    len += n as u64;
                }
            }
        }
        let mut partial = Partial { of, path, file, len, hasher };
        if len > of.size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| not_written(error, &self.of.name, self.of.size - self.len))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.len = 0;
        self.hasher = self.of.content.hasher(self.of.size);
        Ok(())
    }

    fn found(&mut self) -> Content {
        let next = self.of.content.hasher(self.of.size);
        std::mem::replace(&mut self.hasher, next).finish()
    }

    fn place(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| not_written(error, &self.of.name, 0))?;
        Ok(fs::rename(&self.path, blob)?)
    }
}

/// The error of a disk on which `left` bytes of `name` still had to be written.
fn not_written(error: io::Error, name: &str, left: u64) -> anyhow::Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => anyhow::Error::from(error).context(format!(
            "no disk space for {name}: {left} more bytes are needed; the part received is kept, and the same command \
             continues from there"
        )),
        _ => error.into(),
    }
}

/// Fails if `folder` has no room for `bytes`. Does nothing if the file system does not report its free space.
///
/// # Errors
/// There is less room; the message suggests other folders.
pub fn ensure_room(folder: &Path, bytes: u64) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.is_dir()).context("a folder on a disk")?;
    let Some(free) = store::free(there).filter(|&free| free < bytes) else { return Ok(()) };
    bail!(
        "no disk space in `{}`: {bytes} bytes are needed, {free} are free; free some, or set HF_HOME to a folder on \
         another disk",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_full() {
        for number in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            let said = format!("{:#}", not_written(io::Error::from_raw_os_error(number), "x", 7));
            assert!(said.contains("no disk space for x: 7 more bytes"), "{said}");
            assert!(said.ends_with(&format!("(os error {number})")), "{said}");
        }
        let said = format!("{:#}", not_written(io::Error::from_raw_os_error(libc::EIO), "x", 7));
        assert!(!said.contains("no disk space"), "{said}");
    }

    #[test]
    fn room_is_looked_for_on_the_disk_of_a_folder_that_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        ensure_room(&folder, 1).unwrap();
        let said = ensure_room(&folder, 1 << 62).unwrap_err().to_string();
        assert!(said.contains("4611686018427387904 bytes are needed"), "{said}");
    }
}
