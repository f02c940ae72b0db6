//! Asks the system to read mapped weights from their files before they are used. Independent of models.

use tch::Tensor;

/// Memory ranges of tensors in host memory.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<(usize, usize)>);

impl Pages {
    /// Adds the range of a contiguous CPU tensor.
    pub fn add(&mut self, tensor: &Tensor) {
        self.0.push((tensor.data_ptr() as usize, tensor.numel() * tensor.kind().elt_size_in_bytes()));
    }

    /// Requests reading on a separate thread, which ends once everything has been requested. Pages already in memory
    /// are not read again.
    pub fn read_ahead(&self) {
        let pages = self.0.clone();
        std::thread::spawn(move || pages.into_iter().for_each(|(at, bytes)| ask(at, bytes)));
    }
}

/// Requests `bytes` bytes starting at address `at`.
fn ask(at: usize, bytes: usize) {
    /// Linux reads at most the disk's read-ahead size per call, by default this many bytes.
    const PIECE: usize = 128 << 10;
    // SAFETY: only queries a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
    let first = at - at % page;
    for piece in (first..at + bytes).step_by(PIECE) {
        let length = PIECE.min(at + bytes - piece);
        // SAFETY: this changes no memory; an error for ranges that are no longer mapped is harmless.
        unsafe { libc::madvise(piece as *mut libc::c_void, length, libc::MADV_WILLNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Counts the pages of a mapped file that are in memory; Linux only.
    #[cfg(target_os = "linux")]
    #[test]
    fn pages_that_are_asked_for_are_read() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        const BYTES: usize = 8 << 20;
        // In the source folder: a temporary folder may exist in memory only.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; BYTES]).unwrap();
        file.sync_all().unwrap();
        // SAFETY: drops clean pages of our own file.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        // SAFETY: nothing modifies the file.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        let there = || {
            let mut pages = vec![0u8; BYTES / 4096];
            // SAFETY: one byte for each page of the mapping.
            assert_eq!(unsafe { libc::mincore(map.as_ptr() as *mut _, BYTES, pages.as_mut_ptr().cast()) }, 0);
            pages.iter().filter(|page| **page & 1 == 1).count()
        };
        let before = there();
        ask(map.as_ptr() as usize + 1000, BYTES - 1000);
        let begun = std::time::Instant::now();
        while there() < BYTES / 4096 && begun.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(there(), BYTES / 4096, "{before} were there before");
    }

    #[test]
    fn a_tensors_place_is_known() {
        let tensor = Tensor::zeros([3, 5], (Kind::BFloat16, Device::Cpu));
        let mut pages = Pages::default();
        pages.add(&tensor);
        assert_eq!(pages.0, [(tensor.data_ptr() as usize, 30)]);
        pages.read_ahead();
    }
}
