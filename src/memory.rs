//! Memory that is free, but that the allocator keeps.
//!
//! Owns: [`give_back`]. What is freed in small pieces stays with glibc's arenas
//! until it is asked for it; after a crowd has left that may be most of a node.

/// Returns free memory to the kernel. Takes each of the allocator's locks for a
/// moment, so it is for rare events only. Does nothing with allocators other than glibc's.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time and from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
