//! How the C library gives memory to libtorch on the CPU. Knows no tensor.

/// Has what is freed stay with the process for the next tensor of its size.
///
/// glibc takes a large block from the system and gives it back when it is freed, so that every page of every temporary
/// is faulted in and cleared anew: a fifth of a forward pass (`docs/design/performance.md`), and the tables that are
/// made of what a GPU computed are as large. [`give_back`] returns what is kept. Nor are small blocks held back from their
/// neighbours: glibc would look through all of them whenever a large one is freed, which is after every operation.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Bytes by which the heap grows at least.
        const STEP: i32 = 64 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: settings of the allocator, which it takes at any time.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, STEP);
            libc::mallopt(libc::M_MXFAST, 0);
        });
    }
}

/// Returns memory that nothing uses to the system: when a model goes, or before it is asked how much there is.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only looks at what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
