//! The program's allocator: the system's, with accounting of what bounded work allocates. Independent of the work.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{AtomicU8, Ordering};

/// [`Fate`] of work that may continue.
const GOES_ON: u8 = 0;
/// It has exceeded its memory limit, and waits.
const OVER: u8 = 1;
/// It was abandoned: it must not allocate any more.
const GIVEN_UP: u8 = 2;

/// State of a piece of work, shared by the thread that runs it and the one that waits for it.
#[derive(Default)]
pub struct Fate(AtomicU8);

impl Fate {
    /// Whether the work has exceeded its memory limit. It then does not continue.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == OVER
    }

    /// Makes the work stop at its next allocation.
    pub fn give_up(&self) {
        self.0.store(GIVEN_UP, Ordering::Release);
    }
}

thread_local! {
    /// Bytes that this thread may still allocate, while its work is bounded.
    static LEFT: Cell<isize> = const { Cell::new(0) };
    /// State of its work; null if that is not bounded.
    static FATE: Cell<*const Fate> = const { Cell::new(null()) };
}

/// Whether this thread runs bounded work.
pub fn is_bounded() -> bool {
    FATE.try_with(|fate| !fate.get().is_null()).unwrap_or(false)
}

/// Runs `work` on this thread, which blocks forever once the work holds more than `bytes` beyond what it started with.
pub fn counted<T>(fate: &Fate, bytes: usize, work: impl FnOnce() -> T) -> T {
    struct Uncounted;
    impl Drop for Uncounted {
        fn drop(&mut self) {
            FATE.set(null());
        }
    }
    let _uncounted = Uncounted;
    LEFT.set(isize::try_from(bytes).unwrap_or(isize::MAX));
    FATE.set(fate);
    work()
}

/// The system's allocator, with accounting on threads whose work is bounded.
pub struct Counting;

/// Deducts `bytes` from this thread's allowance. Once that is exhausted, the thread blocks forever: it cannot continue
/// without memory, and an allocator must not unwind. The memory it holds remains allocated, within its limit.
#[inline]
fn take(bytes: usize) {
    let fate = FATE.try_with(Cell::get).unwrap_or(null());
    if !fate.is_null() {
        take_counted(fate, bytes);
    }
}

#[cold]
fn take_counted(fate: *const Fate, bytes: usize) {
    if std::thread::panicking() {
        return; // printing a panic holds a lock that every other panic waits for
    }
    let left = LEFT.get().saturating_sub_unsigned(bytes);
    LEFT.set(left);
    // SAFETY: `counted` borrows it until it has reset the pointer to null.
    let fate = unsafe { &(*fate).0 };
    if left < 0 {
        let _ = fate.compare_exchange(GOES_ON, OVER, Ordering::AcqRel, Ordering::Acquire);
    }
    while fate.load(Ordering::Acquire) != GOES_ON {
        std::thread::park();
    }
}

#[inline]
fn give(bytes: usize) {
    if is_bounded() {
        LEFT.set(LEFT.get().saturating_add_unsigned(bytes));
    }
}

// SAFETY: every call is the system allocator's with the same arguments; the accounting neither unwinds nor allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match size.checked_sub(layout.size()) {
            Some(more) => take(more),
            None => give(layout.size() - size),
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
