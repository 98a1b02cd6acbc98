//! A backend that does what a test tells it to, and shows what it was sent.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::node::{DEADLINE, eventually};
use crate::socket::{CLOSE, FIN, Frame};
use crate::web::Web;

/// What a PROXY protocol header, version 2, begins with.
const PROXY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Connections that may wait to be accepted.
const WAITING: i32 = 16;

/// A connect on the loopback that takes longer finds no room.
const FULL: Duration = Duration::from_millis(100);

/// An answer that grants the upgrade asked for with the key of RFC 6455, section 1.3.
pub(crate) const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers checks by itself; every other connection is the test's.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    calls: Receiver<Call>,
    health: Arc<AtomicU16>,
    is_closed: Arc<AtomicBool>,
    listening: Option<JoinHandle<TcpListener>>,
    /// After it has stopped accepting: where connections wait, and those that do.
    unattended: Option<(TcpListener, Vec<TcpStream>)>,
}

/// A request of the balancer's, and its connection.
pub(crate) struct Call {
    /// The PROXY protocol header before the request; empty if there was none.
    pub(crate) proxy: Vec<u8>,
    /// Request line and header lines.
    pub(crate) head: Vec<String>,
    pub(crate) web: Web,
}

impl Stub {
    pub(crate) fn start() -> Self {
        Self::on(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
    }

    /// One whose kernel takes in little, and has the balancer's hold little.
    pub(crate) fn start_narrow() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(8192).unwrap();
        // How much a sender's kernel holds grows with the segments it may send.
        socket.set_tcp_mss(600).unwrap();
        Self::on(socket)
    }

    fn on(socket: Socket) -> Self {
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(WAITING).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(AtomicU16::new(200));
        let is_closed = Arc::new(AtomicBool::new(false));
        let (sender, calls) = channel();
        let listening = thread::spawn({
            let (health, is_closed) = (health.clone(), is_closed.clone());
            move || {
                for stream in listener.incoming() {
                    if is_closed.load(Ordering::Acquire) {
                        break;
                    }
                    let (sender, health) = (sender.clone(), health.clone());
                    let web = Web::over(stream.unwrap());
                    thread::spawn(move || {
                        let Some(call) = Call::read(web) else { return };
                        match call.target() {
                            "/readyz" => call.answer_check(health.load(Ordering::Acquire)),
                            // A test that has ended needs no calls.
                            _ => drop(sender.send(call)),
                        }
                    });
                }
                listener
            }
        });
        Stub { address, calls, health, is_closed, listening: Some(listening), unattended: None }
    }

    /// A backend that does the same for everybody.
    pub(crate) fn always(act: impl Fn(Call) + Send + Sync + 'static) -> SocketAddr {
        let stub = Self::start();
        let address = stub.address;
        let act = Arc::new(act);
        thread::spawn(move || {
            // Whoever holds the stub keeps its port open.
            while let Ok(call) = stub.calls.recv() {
                let act = act.clone();
                thread::spawn(move || act(call));
            }
        });
        address
    }

    /// What checks are answered from now on.
    pub(crate) fn set_health(&self, status: u16) {
        self.health.store(status, Ordering::Release);
    }

    /// The next request that is no check.
    pub(crate) fn call(&self) -> Call {
        self.calls.recv_timeout(DEADLINE).expect("nobody called")
    }

    /// Nothing but checks has come.
    pub(crate) fn assert_unused(&self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("it was sent {:?}", call.head);
        }
    }

    /// From now on connects are refused.
    pub(crate) fn close(&mut self) {
        drop(self.stop_accepting());
    }

    /// From now on connects are not answered.
    pub(crate) fn hang(&mut self) {
        let (listener, mut waiting) = (self.stop_accepting(), Vec::new());
        while let Ok(stream) = TcpStream::connect_timeout(&self.address, FULL) {
            waiting.push(stream);
        }
        self.unattended = Some((listener, waiting));
    }

    fn stop_accepting(&mut self) -> TcpListener {
        self.is_closed.store(true, Ordering::Release);
        // Wakes it.
        drop(Web::connect(self.address));
        self.listening.take().unwrap().join().unwrap()
    }
}

impl Call {
    /// `None` for a connection that ended before there was a request.
    fn read(mut web: Web) -> Option<Call> {
        let proxy = read_proxy_header(&mut web)?;
        let end = loop {
            if let Some(at) = web.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !web.read_more() {
                return None;
            }
        };
        let head: Vec<u8> = web.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let head = head.trim_end().split("\r\n").map(str::to_owned).collect();
        Some(Call { proxy, head, web })
    }

    pub(crate) fn target(&self) -> &str {
        self.head[0].split(' ').nth(1).unwrap()
    }

    /// The values of all headers of that name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head[1..].iter().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    fn answer_check(mut self, status: u16) {
        let answer = format!("HTTP/1.1 {status} .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        // The balancer may have been ended.
        let _ = self.web.stream.write_all(answer.as_bytes());
    }

    /// The body that the head announces.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        let length = self.headers("content-length").first().map_or(0, |length| length.parse().unwrap());
        self.bytes(length)
    }

    /// The next so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.web.buffer.len() < count {
            assert!(self.web.read_more(), "{} of {count} bytes have come", self.web.buffer.len());
        }
        self.web.buffer.drain(..count).collect()
    }

    /// Answers 200 with a body.
    pub(crate) fn answer(&mut self, body: &[u8]) {
        self.web.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.web.send(body);
    }

    /// Waits until the balancer's kernel has all that was sent.
    pub(crate) fn wait_until_taken(&self) {
        eventually("all that was sent is taken", || {
            let mut unacknowledged: libc::c_int = 0;
            // SAFETY: SIOCOUTQ, which is the same as TIOCOUTQ, writes one int
            // (tcp(7)); the descriptor is open as long as the stream.
            let asked =
                unsafe { libc::ioctl(self.web.stream.as_raw_fd(), libc::TIOCOUTQ, &mut unacknowledged) };
            assert_eq!(asked, 0);
            unacknowledged == 0
        });
    }

    /// The next frame of the client, its mask taken off.
    pub(crate) fn frame(&mut self) -> Frame {
        let head = self.bytes(2);
        assert_ne!(head[1] & 0x80, 0, "a client's frame is masked");
        let length = match head[1] & 0x7f {
            126 => u16::from_be_bytes(self.bytes(2).try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.bytes(8).try_into().unwrap()) as usize,
            length => length.into(),
        };
        let mask = self.bytes(4);
        let masked = self.bytes(length);
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Frame { first: head[0], payload }
    }
}

/// The PROXY protocol header at the beginning, if there is one; `None` at the end of the stream.
fn read_proxy_header(web: &mut Web) -> Option<Vec<u8>> {
    loop {
        let buffer = &web.buffer;
        let common = buffer.len().min(PROXY_SIGNATURE.len());
        if common > 0 && buffer[..common] != PROXY_SIGNATURE[..common] {
            return Some(Vec::new());
        }
        if let Some(length) = buffer.get(14..16) {
            let length = 16 + usize::from(u16::from_be_bytes(length.try_into().unwrap()));
            if buffer.len() >= length {
                return Some(web.buffer.drain(..length).collect());
            }
        }
        if !web.read_more() {
            return None;
        }
    }
}

/// A server's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(length as u8),
        length @ ..0x1_0000 => {
            bytes.push(126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A server's close frame.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
