//! Handling of memory shortage on a device. Depends on libtorch's error messages, not on what was computed.

use super::{heap, libtorch};
use crate::lm::panics;
use anyhow::Result;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Memory ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The line of libtorch's message that reports it.
    pub said: String,
}

impl Shortage {
    /// Detects a memory shortage in a panic's text: libtorch's messages on CUDA, on the CPU and on Apple GPUs.
    pub fn told(text: &str) -> Option<Shortage> {
        let words = ["out of memory", "not enough memory", "can't allocate memory"];
        let tells = |line: &&str| words.iter().any(|words| line.to_lowercase().contains(words));
        Some(Shortage { said: libtorch::said(text).lines().find(tells)?.trim().to_string() })
    }

    /// Like [`Shortage::told`] for a caught panic.
    pub fn of(panic: &(dyn Any + Send)) -> Option<Shortage> {
        Shortage::told(panics::said(panic)?)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "the device is out of memory ({}): set a smaller `activations.batch_tokens` or `dtype = \"bf16\"`, or free \
             the device from other programs; finished batches are kept",
            self.said
        )
    }
}

impl std::error::Error for Shortage {}

/// Runs `work` on all `rows` at once or, if memory runs out, on each half, recursively down to one row. Returns the
/// results of the parts in the order of the rows; `told` receives each shortage that was recovered from, with the
/// number of rows that were too many.
///
/// # Errors
/// A [`Shortage`] with a single row; any other error of `work`. Other panics are resumed.
pub fn in_halves<R, T>(
    rows: &[R],
    work: &mut dyn FnMut(&[R]) -> Result<T>,
    told: &mut dyn FnMut(usize, &Shortage),
) -> Result<Vec<T>> {
    let shortage = match catch_unwind(AssertUnwindSafe(|| work(rows))) {
        Ok(done) => return Ok(vec![done?]),
        Err(panic) => match Shortage::of(&*panic) {
            Some(shortage) => shortage,
            None => resume_unwind(panic),
        },
    };
    // The memory of the pass has been freed by now. On a GPU, libtorch's allocator releases its cached memory before it
    // fails.
    heap::give_back();
    if rows.len() <= 1 {
        return Err(shortage.into());
    }
    told(rows.len(), &shortage);
    let (first, second) = rows.split_at(rows.len().div_ceil(2));
    let mut parts = in_halves(first, work, told)?;
    parts.extend(in_halves(second, work, told)?);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    /// Messages of libtorch 2.11 when memory runs out.
    const WORDS: [&str; 3] = [
        "c10::OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.\nException raised from malloc",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
         allocate 1125899906842624 bytes. Error code 12 (Cannot allocate memory)",
        "MPS backend out of memory (MPS allocated: 18.00 GB)",
    ];

    #[test]
    fn every_devices_words_are_known() {
        for text in WORDS {
            let told = Shortage::told(text).unwrap().to_string();
            assert!(told.contains("out of memory") && told.contains("batch_tokens"), "{told}");
            assert!(!told.contains("Exception raised"), "{told}");
        }
        assert_eq!(Shortage::told("index out of bounds"), None);
        assert_eq!(Shortage::of(&7), None);
        // The actual message of the CPU: an allocation of an exabyte.
        let huge = || tch::Tensor::zeros([1 << 57], (tch::Kind::Float, tch::Device::Cpu));
        let panic = catch_unwind(AssertUnwindSafe(|| drop(huge()))).unwrap_err();
        let said = Shortage::of(&*panic).unwrap().said;
        assert!(said.starts_with('[') && said.contains("allocate") && !said.contains("frame"), "{said}");
    }

    /// Runs work that fails with more than `most` rows; returns the rows and counts the tries.
    fn tried(rows: usize, most: usize) -> (Vec<Vec<usize>>, usize, Vec<usize>) {
        let (mut tries, mut told) = (0, Vec::new());
        let mut work = |rows: &[usize]| {
            tries += 1;
            assert!(rows.len() <= most, "{}", WORDS[tries % 3]);
            Ok(rows.to_vec())
        };
        let rows: Vec<usize> = (0..rows).collect();
        let parts = in_halves(&rows, &mut work, &mut |rows, _| told.push(rows)).unwrap();
        (parts, tries, told)
    }

    #[test]
    fn a_batch_that_is_too_large_is_done_in_parts_that_are_not() {
        assert_eq!(tried(5, 5), (vec![vec![0, 1, 2, 3, 4]], 1, vec![]));
        assert_eq!(tried(5, 3), (vec![vec![0, 1, 2], vec![3, 4]], 3, vec![5]));
        assert_eq!(tried(5, 1).0, [[0], [1], [2], [3], [4]]);
        for most in 1..40 {
            let (parts, ..) = tried(37, most);
            assert!(parts.iter().all(|part| part.len() <= most) && parts.concat().into_iter().eq(0..37));
        }
    }

    #[test]
    fn one_row_that_does_not_fit_is_an_error_and_so_is_any_other() {
        let mut short = |_: &[u8]| -> Result<()> { panic!("{}", WORDS[0]) };
        let error = in_halves(&[1, 2, 3], &mut short, &mut |_, _| ()).unwrap_err();
        assert!(error.is::<Shortage>(), "{error}");
        let mut told = 0;
        let mut wrong = |rows: &[u8]| -> Result<()> { bail!("{} rows are wrong", rows.len()) };
        let error = in_halves(&[1, 2, 3], &mut wrong, &mut |_, _| told += 1).unwrap_err();
        assert_eq!((error.to_string().as_str(), told), ("3 rows are wrong", 0));
        let mut bug = |_: &[u8]| -> Result<()> { panic!("a bug") };
        let panic =
            catch_unwind(AssertUnwindSafe(|| in_halves(&[1, 2], &mut bug, &mut |_, _| ()))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug"));
    }
}
