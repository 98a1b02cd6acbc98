//! A WebSocket client that shows every frame and sends any bytes.

use std::net::SocketAddr;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;

use crate::web::{Response, Web};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
/// In the first byte of a frame: its message ends here.
pub(crate) const FIN: u8 = 0x80;
/// In the first byte of a frame: its message is compressed.
pub(crate) const RSV1: u8 = 0x40;

/// The headers of an upgrade, each ended; the key is the one of RFC 6455, section 1.3.
pub(crate) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const MASK: [u8; 4] = [0x5a, 0x01, 0xfe, 0x33];

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection that was answered 101.
pub(crate) struct Socket {
    web: Web,
    pub(crate) answer: Response,
}

/// A client's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | length as u8),
        length @ ..0x1_0000 => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A client's text message.
pub(crate) fn text(message: &str) -> Vec<u8> {
    frame(FIN | TEXT, message.as_bytes())
}

/// A request for an upgrade with further header lines, each ended.
pub(crate) fn upgrade(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: node\r\n{UPGRADE}{headers}\r\n")
}

impl Socket {
    /// Upgrades a connection on `target`, asking with further header lines.
    pub(crate) fn connect(address: SocketAddr, target: &str, headers: &str) -> Self {
        Self::try_connect(address, target, headers).unwrap_or_else(|answer| panic!("{target}: {answer:?}"))
    }

    /// As [`Socket::connect`]; the answer if it is a refusal.
    pub(crate) fn try_connect(address: SocketAddr, target: &str, headers: &str) -> Result<Self, Response> {
        let mut web = Web::connect(address);
        web.send(upgrade(target, headers));
        Self::accept(web)
    }

    /// A client that takes little in at a time.
    pub(crate) fn connect_narrow(address: SocketAddr, target: &str, bytes: usize) -> Self {
        Self::over(Web::connect_narrow(address, bytes), target)
    }

    /// As [`Socket::connect`], on a connection that is there.
    pub(crate) fn over(web: Web, target: &str) -> Self {
        Self::try_over(web, target).unwrap_or_else(|answer| panic!("{target}: {answer:?}"))
    }

    /// As [`Socket::over`]; the answer if it is a refusal.
    pub(crate) fn try_over(mut web: Web, target: &str) -> Result<Self, Response> {
        web.send(upgrade(target, ""));
        Self::accept(web)
    }

    /// Reads the answer to an upgrade that was asked for.
    pub(crate) fn accept(mut web: Web) -> Result<Self, Response> {
        let answer = web.head();
        if answer.status != 101 {
            return Err(answer);
        }
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(Socket { web, answer })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.web.send(bytes);
    }

    pub(crate) fn send_text(&mut self, message: &str) {
        self.send(text(message));
    }

    pub(crate) fn send_message(&mut self, target_user: &str, content: impl Into<Value>) {
        let content: Value = content.into();
        let message =
            serde_json::json!({"type": "send_message", "target_user": target_user, "content": content});
        self.send_text(&message.to_string());
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn try_frame(&mut self) -> Option<Frame> {
        let (start, length) = loop {
            if let Some(header) = header(&self.web.buffer) {
                break header;
            }
            if !self.web.read_more() {
                assert!(self.web.buffer.is_empty(), "a frame is cut short: {:?}", self.web.buffer);
                return None;
            }
        };
        while self.web.buffer.len() < start + length {
            assert!(self.web.read_more(), "a frame is cut short");
        }
        let first = self.web.buffer[0];
        let payload = self.web.buffer[start..start + length].to_vec();
        self.web.buffer.drain(..start + length);
        Some(Frame { first, payload })
    }

    /// The next frame, whatever it is.
    pub(crate) fn frame(&mut self) -> Frame {
        self.try_frame().expect("the connection has ended")
    }

    /// The next message: pings are answered on the way.
    pub(crate) fn message(&mut self) -> Frame {
        loop {
            match self.frame() {
                Frame { first, payload } if first == FIN | PING => self.send(frame(FIN | PONG, &payload)),
                message => return message,
            }
        }
    }

    /// The next message, which is an uncompressed JSON text.
    pub(crate) fn json(&mut self) -> Value {
        let message = self.message();
        let shown = String::from_utf8_lossy(&message.payload);
        assert_eq!(message.first, FIN | TEXT, "{shown}");
        serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }

    /// The next message, which is a close frame; its code and reason.
    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        let message = self.message();
        assert_eq!(message.first, FIN | CLOSE, "{:?}", String::from_utf8_lossy(&message.payload));
        close_of(&message)
    }

    /// As [`Socket::close_frame`], answered; the connection ends.
    pub(crate) fn closed_with(&mut self) -> (u16, String) {
        let close = self.close_frame();
        self.answer_close(close.0);
        close
    }

    /// Answers a close frame and waits for the end.
    pub(crate) fn answer_close(&mut self, code: u16) {
        // The node may have ended the connection already, after an error of ours.
        let _ = self.web.try_send(&frame(FIN | CLOSE, &code.to_be_bytes()));
        assert_eq!(self.try_frame(), None);
    }

    /// Whether the node answers a ping with everything sent before it.
    pub(crate) fn assert_alive(&mut self) {
        self.send_text(r#"{"type":"ping","alive":true}"#);
        let pong = self.json();
        assert_eq!(
            (&pong["type"], &pong["original_data"]["alive"]),
            (&"pong".into(), &true.into()),
            "{pong}"
        );
    }

    pub(crate) fn web(&mut self) -> &mut Web {
        &mut self.web
    }
}

/// Code and reason of a close frame.
pub(crate) fn close_of(frame: &Frame) -> (u16, String) {
    let (code, reason) = frame.payload.split_at(2);
    (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
}

/// Length of the header of a server's frame, and of its payload.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let short = *bytes.get(1)?;
    assert_eq!(short & 0x80, 0, "a server's frame is not masked");
    Some(match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        length => (2, usize::from(length)),
    })
}

/// A compressed payload (RFC 7692, section 7.2.1).
pub(crate) fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    let mut engine = Compress::new(Compression::fast(), false);
    engine.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// The payload that was compressed.
pub(crate) fn inflate(compressed: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes_max);
    let whole = [compressed, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    out
}
