use std::io::IoSlice;

use super::*;
use crate::clock::Tick;

/// A socket that takes `room` more bytes.
#[derive(Default)]
struct Socket {
    taken: Vec<u8>,
    room: usize,
    calls: usize,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(&slices.concat_slices())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

trait Concat {
    fn concat_slices(&self) -> Vec<u8>;
}

impl Concat for [IoSlice<'_>] {
    fn concat_slices(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.to_vec()).collect()
    }
}

fn row(room: usize, audience: Audience) -> Connection<Socket> {
    let mut row = Connection::accepted(Socket { room, ..Socket::default() }, Tick(0), false);
    row.audience = audience;
    row
}

fn all_sent(row: &mut Connection<Socket>) -> Vec<u8> {
    row.stream.room = usize::MAX;
    if let Some(mut outbound) = row.outbound.take() {
        outbound.write_to(&mut row.stream).unwrap();
    }
    row.stream.taken.clone()
}

fn say(outgoing: &mut Outgoing, row: &mut Connection<Socket>, text: &str) {
    outgoing.push(row, 0, |arena| arena.extend_from_slice(text.as_bytes()));
}

#[test]
fn a_burst_of_replies_is_one_write() {
    let mut outgoing = Outgoing::default();
    let mut row = row(usize::MAX, Audience::None);
    for _ in 0..16 {
        say(&mut outgoing, &mut row, "pong");
    }
    let settled = outgoing.settle(&mut row, 0, 1000);
    assert_eq!((settled.written, settled.owing, row.stream.calls), (64, false, 1));
    assert!(row.outbound.is_none());
}

#[test]
fn private_frames_and_broadcasts_keep_their_order_however_the_socket_takes_them() {
    for room in 0..40 {
        let mut outgoing = Outgoing::default();
        let mut row = row(room, Audience::Plain);
        let mut other = self::row(usize::MAX, Audience::None);
        outgoing.broadcast(b"<b1>", |_| ());
        say(&mut outgoing, &mut row, "(p1)");
        say(&mut outgoing, &mut other, "not for row");
        say(&mut outgoing, &mut row, "(p2)");
        outgoing.broadcast(b"<b2>", |_| ());
        outgoing.broadcast(b"<b3>", |_| ());
        let settled = outgoing.settle(&mut row, 0, 1000);
        assert_eq!((settled.dropped, settled.owing), (0, room < 20), "room {room}");
        say(&mut outgoing, &mut row, "(p3)");
        outgoing.broadcast(b"<b4>", |_| ());
        outgoing.settle(&mut row, 0, 1000);
        assert_eq!(all_sent(&mut row), b"<b1>(p1)(p2)<b2><b3>(p3)<b4>", "room {room}");
    }
}

#[test]
fn an_audience_is_sent_the_layout_by_one_write_and_no_entry() {
    let mut outgoing = Outgoing::default();
    let mut plain = row(usize::MAX, Audience::Plain);
    let mut deflated = row(usize::MAX, Audience::Deflated);
    for _ in 0..8 {
        outgoing.broadcast(b"frame", |bytes| bytes.extend_from_slice(b"z"));
    }
    for row in [&mut plain, &mut deflated] {
        assert!(!outgoing.settle(row, 0, 1000).owing);
        assert_eq!(row.stream.calls, 1);
    }
    assert_eq!((plain.stream.taken.len(), deflated.stream.taken.as_slice()), (40, &b"zzzzzzzz"[..]));
    assert_eq!((outgoing.debtors(), outgoing.pieces.len()), (0, 0));
}

#[test]
fn broadcasts_before_joining_and_after_leaving_are_not_for_it() {
    let mut outgoing = Outgoing::default();
    let mut row = row(usize::MAX, Audience::None);
    outgoing.broadcast(b"before", |_| ());
    outgoing.join_audience(&mut row, 0, Audience::Plain);
    say(&mut outgoing, &mut row, "welcome ");
    outgoing.broadcast(b"during", |_| ());
    outgoing.leave_audience(&mut row, 0);
    outgoing.broadcast(b"after", |_| ());
    outgoing.settle(&mut row, 0, 1000);
    assert_eq!(all_sent(&mut row), b"welcome during");
}

#[test]
fn a_slow_consumer_is_owed_whole_frames_up_to_the_bound() {
    for room in 0..30 {
        let mut outgoing = Outgoing::default();
        let mut row = row(room, Audience::Plain);
        let mut dropped = 0;
        for frame in 0..10_u8 {
            outgoing.broadcast(&[frame; 5], |_| ());
            if frame % 3 == 0 {
                dropped += outgoing.settle(&mut row, 0, 12).dropped;
                assert!(row.outbound_bytes() <= 12, "room {room}");
                outgoing.clear();
                row.debt = Connection::<Socket>::CLEAN;
            }
        }
        let sent = all_sent(&mut row);
        assert_eq!(sent.len() % 5, 0, "room {room}: whole frames only");
        assert!(sent.chunks(5).all(|frame| frame.iter().all(|byte| *byte == frame[0])), "room {room}");
        assert_eq!(sent.len() / 5 + dropped as usize, 10, "room {room}");
    }
}

#[test]
fn what_was_settled_early_is_not_sent_again() {
    for room in [usize::MAX, 3] {
        let mut outgoing = Outgoing::default();
        let mut row = row(room, Audience::Plain);
        outgoing.broadcast(b"<b1>", |_| ());
        outgoing.note(&mut row, 0);
        outgoing.settle(&mut row, 0, 1000);
        outgoing.broadcast(b"<b2>", |_| ());
        outgoing.settle(&mut row, 0, 1000);
        assert_eq!(all_sent(&mut row), b"<b1><b2>", "room {room}");
    }
}

#[test]
fn leaving_the_audience_after_a_leftover_repeats_nothing() {
    let mut outgoing = Outgoing::default();
    let mut row = row(3, Audience::Plain);
    outgoing.broadcast(b"<b1>", |_| ());
    outgoing.settle(&mut row, 0, 1000);
    outgoing.leave_audience(&mut row, 0);
    say(&mut outgoing, &mut row, "(close)");
    outgoing.settle(&mut row, 0, 1000);
    assert_eq!(all_sent(&mut row), b"<b1>(close)");
}

#[test]
fn large_leftovers_are_shared_not_copied() {
    let mut outgoing = Outgoing::default();
    let mut rows: Vec<_> = (0..3).map(|_| row(10, Audience::Plain)).collect();
    outgoing.broadcast(&vec![7; 100_000], |_| ());
    for row in &mut rows {
        assert!(outgoing.settle(row, 0, 1 << 20).owing);
    }
    let frozen = outgoing.plain.frozen.clone().unwrap();
    outgoing.clear();
    assert!(!frozen.is_unique(), "the queues refer to it");
    for row in &mut rows {
        assert_eq!(all_sent(row).len(), 100_000);
    }
    assert!(frozen.is_unique(), "and let go of it");
}

#[test]
fn a_broken_socket_is_reported() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut outgoing = Outgoing::default();
    let mut row = Connection::accepted(Broken, Tick(0), false);
    outgoing.push(&mut row, 0, |arena| arena.push(1));
    assert!(outgoing.settle(&mut row, 0, 10).error.is_some());
}
