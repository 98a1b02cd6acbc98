//! Bytes from one TCP connection to another: by way of a buffer, and by way of
//! a pipe (splice(2)), which never shows them to the process.
//!
//! A message is written at one end, moved on by the thread that is measured,
//! and read at the other, so both ways pay for the same four system calls less
//! what moving costs.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throng::balancer::frames::Frames;
use throng::ws::frame::Frame;

/// A connection's two ends.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (far, _) = listener.accept().expect("the same connection");
    for end in [&near, &far] {
        end.set_nodelay(true).expect("an option");
    }
    (near, far)
}

/// A pipe as large as the buffer.
struct Pipe {
    read: RawFd,
    write: RawFd,
}

impl Pipe {
    fn new(bytes: usize) -> Pipe {
        let mut ends = [0; 2];
        // SAFETY: the array has room for the two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the call takes no pointers.
        unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, bytes as i32) };
        Pipe { read: ends[0], write: ends[1] }
    }

    /// Moves up to `bytes` from one socket to another.
    fn carry(&self, from: RawFd, to: RawFd, bytes: usize) -> usize {
        let taken = splice(from, self.write, bytes);
        let mut left = taken;
        while left > 0 {
            left -= splice(self.read, to, left);
        }
        taken
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for end in [self.read, self.write] {
            // SAFETY: both are owned by this and used no more.
            unsafe { libc::close(end) };
        }
    }
}

fn splice(from: RawFd, to: RawFd, bytes: usize) -> usize {
    let none = std::ptr::null_mut();
    // SAFETY: without offsets the call takes no pointers.
    let moved = unsafe { libc::splice(from, none, to, none, bytes, libc::SPLICE_F_MOVE) };
    assert!(moved > 0, "{}", io::Error::last_os_error());
    moved as usize
}

fn pump(criterion: &mut Criterion) {
    const BUFFER: usize = 64 * 1024;
    let mut group = criterion.benchmark_group("pump");
    for size in [64, 1024, 16 * 1024, 60 * 1024] {
        let frame = Frame::binary(&vec![7; size]);
        let message = frame.wire();
        let ((mut source, mut inlet), (mut outlet, mut sink)) = (connection(), connection());
        let mut back = vec![0; message.len()];
        group.throughput(Throughput::Bytes(message.len() as u64));
        let (mut buffer, mut frames) = (vec![0; BUFFER], Frames::new());
        group.bench_function(BenchmarkId::new("buffer", size), |bencher| {
            bencher.iter(|| {
                source.write_all(message).expect("room");
                let mut left = message.len();
                while left > 0 {
                    let count = inlet.read(&mut buffer).expect("a message");
                    frames.feed(&buffer[..count]);
                    outlet.write_all(&buffer[..count]).expect("room");
                    left -= count;
                }
                sink.read_exact(&mut back).expect("the message");
                black_box(frames.at_boundary());
            });
        });
        let pipe = Pipe::new(BUFFER);
        group.bench_function(BenchmarkId::new("splice", size), |bencher| {
            bencher.iter(|| {
                source.write_all(message).expect("room");
                let mut left = message.len();
                while left > 0 {
                    left -= pipe.carry(inlet.as_raw_fd(), outlet.as_raw_fd(), BUFFER);
                }
                sink.read_exact(&mut back).expect("the message");
                black_box(back[0]);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pump);
criterion_main!(benches);
