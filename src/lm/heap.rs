//! How the C library allocates libtorch's memory on the CPU. Independent of tensors.

/// Keeps freed memory in the process for the next tensor of its size.
///
/// By default glibc requests a large block from the system and returns it when it is freed, so that every page of every
/// temporary is faulted in and cleared again: a fifth of a forward pass (`docs/design/performance.md`); the tables
/// computed from a GPU's results are as large. [`give_back`] returns what is kept. Fast bins are disabled as well:
/// glibc would consolidate all of them whenever a large block is freed, which is after every operation.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Minimum number of bytes by which the heap grows.
        const STEP: i32 = 64 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: these are allocator settings, which may be changed at any time.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, STEP);
            libc::mallopt(libc::M_MXFAST, 0);
        });
    }
}

/// Returns unused memory to the system: when a model is dropped, or before available memory is queried.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only affects free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}
