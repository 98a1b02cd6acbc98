//! How much memory a piece of work needs at its peak.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Keeps count of what each thread holds.
struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.get().wrapping_add(layout.size());
        LIVE_BYTES.set(live);
        // What was allocated elsewhere and freed here leaves it below zero.
        if (live as isize) > PEAK_BYTES.get() as isize {
            PEAK_BYTES.set(live);
        }
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does `work`; what it returns, and the most memory it held at once.
pub(crate) fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = work();
    (result, PEAK_BYTES.get().wrapping_sub(before))
}

#[test]
fn the_peak_is_what_is_held_at_once() {
    let (sum, peak) = peak_bytes(|| (0..10).map(|_| vec![1_u8; 10_000].len()).sum::<usize>());
    assert_eq!(sum, 100_000);
    assert!((10_000..20_000).contains(&peak), "{peak}");
}
