//! Access to libtorch's thread pool, so that our own kernels share it. Independent of what is computed.

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The function that starts a team of OpenMP threads; the compiler calls it for `#pragma omp parallel` (libgomp's
/// manual, "Implementing PARALLEL construct").
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// libtorch's OpenMP. Threads of a separate pool would compete for cores that libtorch's threads occupy while they
/// wait for work.
fn openmp() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    // SAFETY: asks the dynamic linker for a function, which has that type under this name.
    *FOUND.get_or_init(|| unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(found))
    })
}

/// Number of threads that [`run`] uses.
pub fn threads() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// Work with fewer operations runs on one thread: OpenMP's threads take some microseconds to start.
const SHARED: usize = 2_000_000;

/// Work divided into parts, which the threads of a pool take one by one.
struct Job<'a> {
    next: AtomicUsize,
    parts: usize,
    work: &'a (dyn Fn(usize) + Sync),
    /// The payload of the first part that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Loop of one thread: takes parts until none remain. A panic must not unwind through OpenMP.
    fn take(&self) {
        let parts = AssertUnwindSafe(|| {
            loop {
                match self.next.fetch_add(1, Ordering::Relaxed) {
                    part if part < self.parts => (self.work)(part),
                    _ => return,
                }
            }
        });
        if let Err(panic) = catch_unwind(parts) {
            self.next.store(self.parts, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }
}

/// Calls `work` for each of `parts`, which take `operations` in total: in any order, on as many threads as libtorch
/// has if the work is large enough. If libtorch uses an OpenMP other than GNU's, on threads of our own.
///
/// # Panics
/// If `work` panics, after all threads have stopped.
pub fn run(operations: usize, parts: usize, work: &(dyn Fn(usize) + Sync)) {
    extern "C" fn take(job: *mut c_void) {
        // SAFETY: it points to the job below, which outlives the threads' work.
        unsafe { &*job.cast_const().cast::<Job>() }.take();
    }
    let threads = if operations < SHARED { 1 } else { threads().min(parts) };
    if threads <= 1 {
        return (0..parts).for_each(work);
    }
    let job = Job { next: AtomicUsize::new(0), parts, work, panic: Mutex::new(None) };
    match openmp() {
        // SAFETY: the call returns only when all threads are done.
        Some(parallel) => unsafe {
            parallel(take, (&raw const job).cast_mut().cast(), threads as c_uint, 0);
        },
        None => std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| job.take());
            }
            job.take();
        }),
    }
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

/// A pointer to memory that several threads write to, each to its own elements.
#[derive(Clone, Copy)]
pub struct Place(pub *mut f32);

// SAFETY: the code that creates one guarantees this. It is shared with the threads, never sent.
unsafe impl Sync for Place {}

/// A pointer to memory that several threads read.
#[derive(Clone, Copy)]
pub struct Source<T>(pub *const T);

// SAFETY: the code that creates one guarantees that nobody writes meanwhile. It is shared with the threads, never
// sent.
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

    /// A panic that unwound through OpenMP would end the program.
    #[test]
    fn a_panic_in_a_part_is_one_of_the_caller() {
        for operations in [0, SHARED] {
            let work = |part: usize| assert!(part != 3, "part {part}");
            let panic = catch_unwind(|| run(operations, 8, &work)).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("part 3"));
        }
        run(SHARED, 8, &|_| {});
    }
}
