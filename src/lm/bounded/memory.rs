//! The program's allocator: the system's, which counts what a bounded piece of work takes. Knows no work.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{AtomicU8, Ordering};

/// [`Fate`] of a piece of work that goes on.
const GOES_ON: u8 = 0;
/// It has taken more memory than it may, and waits.
const OVER: u8 = 1;
/// Nobody waits for it any more: it is to take no further memory.
const GIVEN_UP: u8 = 2;

/// What becomes of a piece of work; shared by the thread that does it and the one that waits for it.
#[derive(Default)]
pub struct Fate(AtomicU8);

impl Fate {
    /// Whether the work has asked for more memory than it may have. It then goes no further.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == OVER
    }

    /// Has the work stop where it asks for memory next.
    pub fn give_up(&self) {
        self.0.store(GIVEN_UP, Ordering::Release);
    }
}

thread_local! {
    /// Bytes that this thread may still take, while its work is bounded.
    static LEFT: Cell<isize> = const { Cell::new(0) };
    /// The fate of its work; null where that is not bounded.
    static FATE: Cell<*const Fate> = const { Cell::new(null()) };
}

/// Whether this thread does bounded work.
pub fn is_bounded() -> bool {
    FATE.try_with(|fate| !fate.get().is_null()).unwrap_or(false)
}

/// Does `work` on this thread, which then stops for good when the work holds more than `bytes` more than it began with.
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

/// The system's allocator, which counts on threads whose work is bounded.
pub struct Counting;

/// Takes `bytes` off what this thread may still have. Where that is used up, the thread waits for good: it cannot go on
/// without memory, and an allocator must not unwind. What it holds stays, within its bound.
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
        return; // what writes a panic down holds a lock that every other panic waits for
    }
    let left = LEFT.get().saturating_sub_unsigned(bytes);
    LEFT.set(left);
    // SAFETY: `counted` borrows it until it has set the pointer back to null.
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

// SAFETY: every call is the system allocator's with the same arguments; counting neither unwinds nor allocates.
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
