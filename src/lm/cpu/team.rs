//! The threads that libtorch computes with, and what they share, for what is computed here. Knows nothing of what that is.

use std::ffi::{c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What starts a team of OpenMP's threads, as the compiler has it called for `#pragma omp parallel` (libgomp's manual,
/// "Implementing PARALLEL construct").
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// libtorch's OpenMP. Threads of another pool would wait for a core on which one of its threads waits for work.
fn parallel() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    // SAFETY: asks the dynamic linker for a function, which has that type under this name.
    *FOUND.get_or_init(|| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(found))
    })
}

/// How many threads [`run`] runs on.
pub fn threads() -> usize {
    if parallel().is_some() { tch::get_num_threads().max(1) as usize } else { 1 }
}

/// Whether all the threads that libtorch has run here.
pub fn whole() -> bool {
    threads() as i64 == i64::from(tch::get_num_threads().max(1))
}

/// Work of fewer operations is not shared: a team takes some microseconds to begin.
const SHARED: usize = 2_000_000;

/// Calls `work` for each of `parts`, which take so many `operations` together: on as many threads as there are, in any order, if that
/// is worth a team. It must not panic.
pub fn run(operations: usize, parts: usize, work: &(dyn Fn(usize) + Sync)) {
    struct Job<'a> {
        next: AtomicUsize,
        parts: usize,
        work: &'a (dyn Fn(usize) + Sync),
    }
    extern "C" fn take(job: *mut c_void) {
        // SAFETY: it is the one below, which outlives the team.
        let job = unsafe { &*job.cast_const().cast::<Job>() };
        loop {
            let part = job.next.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                return;
            }
            (job.work)(part);
        }
    }
    let threads = if operations < SHARED { 1 } else { threads().min(parts) };
    match parallel() {
        Some(parallel) if threads > 1 => {
            let mut job = Job { next: AtomicUsize::new(0), parts, work };
            // SAFETY: it returns when all threads are done.
            unsafe { parallel(take, (&raw mut job).cast(), threads as c_uint, 0) }
        }
        _ => (0..parts).for_each(work),
    }
}

/// A place in memory that several threads write to, each to numbers of its own.
#[derive(Clone, Copy)]
pub struct Place(pub *mut f32);

// SAFETY: whoever makes one sees to it.
unsafe impl Send for Place {}
unsafe impl Sync for Place {}

/// A place in memory that several threads read.
#[derive(Clone, Copy)]
pub struct Source<T>(pub *const T);

// SAFETY: whoever makes one sees to it that nobody writes meanwhile.
unsafe impl<T> Send for Source<T> {}
unsafe impl<T> Sync for Source<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_done_once_by_each_run() {
        for parts in [0, 1, 2, 7, 1000] {
            let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            for (times, operations) in [(1, 0), (2, SHARED)] {
                run(operations, parts, &|part| {
                    done[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == times), "{parts}");
            }
        }
    }
}
