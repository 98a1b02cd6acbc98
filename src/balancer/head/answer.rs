//! The head of a backend's answer: whether it switches to WebSocket, and if not
//! how long what follows is.

use super::Asked;
use super::passing::{is_one_of, write_line};
use crate::http::only_crlf;
use crate::limits;
use httparse::{Header, Status};

/// What the bytes a backend has sent so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not a whole head yet; ask again with more bytes.
    Partial,
    /// 1xx but 101: to be passed on; the answer itself follows it.
    Interim {
        /// Where what follows begins.
        head_len: usize,
    },
    /// The upgrade is granted: what follows are frames.
    Switching {
        /// Where the frames begin.
        head_len: usize,
    },
    /// Any other answer.
    Other {
        /// The status, 200 or more.
        status: u16,
        /// Where the body begins.
        head_len: usize,
        /// How the body ends.
        body: Body,
        /// Whether there is a `Retry-After`, and its seconds; a date reads as 0.
        retry_after: Option<u32>,
    },
    /// No answer that could be passed on, and why.
    Bad(&'static str),
}

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes, none included.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Reads the head at the beginning of what a backend answered to a request that
/// asked for `asked`.
///
/// A head longer than [`limits::HTTP_HEAD_BYTES`] or [`limits::HTTP_HEADERS`]
/// is bad. The accept key is not looked at: it is for the client to check.
pub fn read_answer(bytes: &[u8], asked: Asked) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS];
    match parse(bytes, &mut headers) {
        Ok(Some(head)) => head.judge(asked),
        Ok(None) => Answer::Partial,
        Err(why) => Answer::Bad(why),
    }
}

/// Appends the head of an answer, the first `head_len` bytes of what
/// [`read_answer`] found to be [`Answer::Other`], as the client gets it: the
/// connection ends after this answer, whatever the backend meant to do.
pub fn write_answer(out: &mut Vec<u8>, raw: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS];
    let Ok(Some(head)) = parse(raw, &mut headers) else { return out.extend_from_slice(raw) };
    let status_line = raw.trim_ascii_start().split_inclusive(|byte| *byte == b'\n').next();
    out.extend_from_slice(status_line.unwrap_or_default());
    for header in head.headers {
        if !is_one_of(header.name, &["connection", "keep-alive", "proxy-connection"]) {
            write_line(out, header.name, &[header.value]);
        }
    }
    write_line(out, "Connection", &[b"close"]);
    out.extend_from_slice(b"\r\n");
}

struct Head<'h, 'b> {
    status: u16,
    head_len: usize,
    headers: &'h [Header<'b>],
}

fn parse<'h, 'b>(
    bytes: &'b [u8],
    headers: &'h mut [Header<'b>],
) -> Result<Option<Head<'h, 'b>>, &'static str> {
    let window = &bytes[..bytes.len().min(limits::HTTP_HEAD_BYTES)];
    let mut response = httparse::Response::new(headers);
    match response.parse(window) {
        Ok(Status::Partial) if window.len() < limits::HTTP_HEAD_BYTES => Ok(None),
        Ok(Status::Partial) => Err("answer head too large"),
        Err(httparse::Error::TooManyHeaders) => Err("too many headers in the answer"),
        Err(_) => Err("no HTTP/1 answer"),
        Ok(Status::Complete(head_len)) if !only_crlf(&window[..head_len]) => {
            Err("lines of the answer must end in CRLF")
        }
        Ok(Status::Complete(head_len)) => {
            let status = response.code.unwrap_or_default();
            Ok(Some(Head { status, head_len, headers: response.headers }))
        }
    }
}

impl<'b> Head<'_, 'b> {
    fn judge(&self, asked: Asked) -> Answer {
        let head_len = self.head_len;
        match self.status {
            101 if asked != Asked::Upgrade => Answer::Bad("the answer switches protocols unasked"),
            101 if !self.switches_to_websocket() => Answer::Bad("the answer switches to another protocol"),
            101 => Answer::Switching { head_len },
            100..200 => Answer::Interim { head_len },
            200.. => match self.body(asked) {
                Ok(body) => {
                    Answer::Other { status: self.status, head_len, body, retry_after: self.retry_after() }
                }
                Err(why) => Answer::Bad(why),
            },
            _ => Answer::Bad("no HTTP/1 answer"),
        }
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    fn switches_to_websocket(&self) -> bool {
        self.values("upgrade")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    }

    fn body(&self, asked: Asked) -> Result<Body, &'static str> {
        let mut lengths = self.values("content-length");
        let length = lengths.next();
        if lengths.any(|other| Some(other) != length) {
            return Err("the answer has conflicting lengths");
        }
        let coding = self.values("transfer-encoding").last();
        if asked == Asked::HeadOnly || matches!(self.status, 204 | 304) {
            return Ok(Body::Length(0));
        }
        match (coding, length) {
            (Some(_), Some(_)) => Err("the answer has both Transfer-Encoding and Content-Length"),
            (Some(coding), None) if ends_chunked(coding) => Ok(Body::Chunked),
            (Some(_), None) | (None, None) => Ok(Body::UntilClose),
            (None, Some(digits)) => {
                parse_length(digits).map(Body::Length).ok_or("the answer has a malformed Content-Length")
            }
        }
    }

    fn retry_after(&self) -> Option<u32> {
        let value = self.values("retry-after").next()?;
        Some(parse_length(value).and_then(|seconds| seconds.try_into().ok()).unwrap_or_default())
    }
}

fn ends_chunked(coding: &[u8]) -> bool {
    let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Digits and nothing else: `u64::from_str` would take a sign.
fn parse_length(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}
