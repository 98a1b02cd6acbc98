//! What the frame engine asks of the allocator: nothing for a message that is
//! one frame and arrives whole, and nothing that stays behind after any other.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use throng::ws::assembler::{Event, Rules, Unfinished, step};
use throng::ws::deflate::Inflater;
use throng::ws::mask::unmask;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(allocations: usize, bytes: isize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE_BYTES.set(LIVE_BYTES.get() + bytes);
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RULES: Rules = Rules { message_bytes_max: 1 << 20, deflate: false };
const MASK: [u8; 4] = [9, 8, 7, 6];

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut bytes = vec![first, 0x80 | payload.len() as u8];
    bytes.extend_from_slice(&MASK);
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[6..], MASK, 0);
    bytes
}

/// Feeds `bytes` in pieces of `size`: the events, and the number of
/// allocations.
fn feed(bytes: &mut [u8], size: usize) -> (usize, usize) {
    let (mut unfinished, mut inflater) = (None::<Box<Unfinished>>, Inflater::new());
    let (before, live, mut events) = (ALLOCATIONS.get(), LIVE_BYTES.get(), 0);
    for mut rest in bytes.chunks_mut(size) {
        loop {
            let step = step(&mut unfinished, rest, RULES, &mut inflater).unwrap();
            let Some(event) = step.event else { break };
            assert!(!matches!(event, Event::Close(_)));
            events += 1;
            let consumed = step.consumed;
            rest = &mut rest[consumed..];
        }
    }
    assert!(unfinished.is_none());
    assert_eq!(LIVE_BYTES.get(), live, "memory stayed behind");
    (events, ALLOCATIONS.get() - before)
}

#[test]
fn whole_frames_are_handed_out_without_an_allocation() {
    let mut burst =
        [frame(0x81, &[b'x'; 64]), frame(0x82, b"\xff"), frame(0x89, b"ping")].concat().repeat(16);
    let len = burst.len();
    assert_eq!(feed(&mut burst, len), (48, 0));
}

#[test]
fn what_was_unfinished_leaves_nothing_behind() {
    let fragments = [frame(0x01, b"Hel"), frame(0x89, b"ping"), frame(0x80, b"lo")].concat();
    let (events, allocations) = feed(&mut fragments.repeat(2), 5);
    assert_eq!(events, 4);
    assert!(allocations > 0, "the counter counts");
}
