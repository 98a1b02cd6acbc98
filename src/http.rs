//! HTTP/1.1 request heads (RFC 9112) and the answers to them.
//!
//! Owns: deciding whether the bytes read so far hold a request head, what it
//! asks for and how long its body is. A head that two readers could understand
//! differently is refused. Never: sockets, routing, clocks.

mod response;

pub use response::Response;

use crate::limits;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;

/// What stands for a header value that is not UTF-8: the header is there, and
/// equals nothing that is looked for.
const UNREADABLE: &str = "\u{FFFD}";

/// A request head, borrowed from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The method as sent: case matters.
    pub method: &'a str,
    /// The path without its query, not decoded. Begins with `/`, or is `*`.
    pub path: &'a str,
    /// What follows the first `?`, not decoded.
    pub query: Option<&'a str>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// Bytes of the body that follows the head, at most [`limits::HTTP_BODY_BYTES`].
    pub content_length: usize,
    /// Whether the client wants the connection kept for another request
    /// (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body
    /// (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    headers: [httparse::Header<'a>; limits::HTTP_HEADERS],
    header_count: usize,
}

/// What the bytes read so far amount to.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // lives for one call on the stack; a box would be an allocation per request
pub enum Parsed<'a> {
    /// Not a whole head yet; ask again with more bytes.
    Partial,
    /// A whole head.
    Complete {
        /// The head.
        head: Head<'a>,
        /// Where its body begins in the input.
        head_len: usize,
    },
}

/// Why a request cannot be served. The connection has to end after the answer:
/// where the next request would begin is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status to answer with: 400, 411, 413, 431 or 505.
    pub status: u16,
    /// What is wrong, for the client.
    pub message: &'static str,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status)
    }
}

impl std::error::Error for HttpError {}

impl From<HttpError> for Response {
    fn from(error: HttpError) -> Self {
        Response::error(error.status, error.message)
    }
}

fn refuse(status: u16, message: &'static str) -> HttpError {
    HttpError { status, message }
}

fn bad(message: &'static str) -> HttpError {
    refuse(400, message)
}

/// Looks for a request head at the beginning of `input`.
///
/// # Errors
/// A head that is malformed or ambiguous (400), longer than
/// [`limits::HTTP_HEAD_BYTES`] or [`limits::HTTP_HEADERS`] (431), that announces
/// a body longer than [`limits::HTTP_BODY_BYTES`] (413) or one without
/// `Content-Length` (411), or that is not HTTP/1 (505).
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, HttpError> {
    let window = &input[..input.len().min(limits::HTTP_HEAD_BYTES)];
    let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(window).map_err(|error| explain(error, window))?;
    let httparse::Status::Complete(head_len) = status else {
        return match window.len() < limits::HTTP_HEAD_BYTES {
            true => Ok(Parsed::Partial),
            false => Err(refuse(431, "request head too large")),
        };
    };
    if !only_crlf(&window[..head_len]) {
        return Err(bad("lines must end in CRLF"));
    }
    let header_count = request.headers.len();
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let version_minor = request.version.unwrap_or_default();
    let (path, query) = split_target(method, target)?;
    let mut head = Head {
        method,
        path,
        query,
        version_minor,
        content_length: 0,
        keep_alive: false,
        expects_continue: false,
        headers,
        header_count,
    };
    head.check_host()?;
    head.content_length = head.body_bytes()?;
    head.keep_alive = match version_minor {
        0 => head.has_token("connection", "keep-alive"),
        _ => !head.has_token("connection", "close"),
    };
    head.expects_continue = version_minor > 0 && head.has_token("expect", "100-continue");
    Ok(Parsed::Complete { head, head_len })
}

/// Says what is wrong with a head that does not parse.
fn explain(error: httparse::Error, input: &[u8]) -> HttpError {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => refuse(431, "too many headers"),
        Error::HeaderName => bad("malformed header name"),
        Error::HeaderValue => bad("malformed header value"),
        Error::NewLine => bad("malformed line end"),
        Error::Version if asks_for_http(input) => refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        Error::Token if input.first() == Some(&0x16) => bad("plain HTTP is spoken here, not TLS"),
        Error::Version | Error::Token | Error::Status => bad("malformed request line"),
    }
}

/// Whether an HTTP version stands where it should in the request line, whichever.
fn asks_for_http(input: &[u8]) -> bool {
    let line = input.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let version = line.and_then(|line| line.split(|byte| *byte == b' ').nth(2));
    version.is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// A bare LF is a line end to some readers and not to others (RFC 9112,
/// section 2.2), so none is let in.
pub(crate) fn only_crlf(head: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in head {
        if byte == b'\n' && previous != b'\r' {
            return false;
        }
        previous = byte;
    }
    true
}

/// Splits a request target (RFC 9112, section 3.2) into path and query.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(&'a str, Option<&'a str>), HttpError> {
    if target.bytes().any(|byte| byte == b'#' || !byte.is_ascii()) {
        return Err(bad("malformed request target"));
    }
    let rest = match target.split_once("://") {
        Some((scheme, rest)) if is_web_scheme(scheme) => after_authority(rest),
        _ => target,
    };
    let known = rest.starts_with('/') || (rest == "*" && method == "OPTIONS");
    if !known {
        return Err(bad("malformed request target"));
    }
    Ok(match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    })
}

fn is_web_scheme(scheme: &str) -> bool {
    ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The path of an absolute target; `http://host` means `/`. One that goes from
/// authority to query without a path is left malformed.
fn after_authority(rest: &str) -> &str {
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

impl<'a> Head<'a> {
    /// The value of the first header of that name, whatever its case, without
    /// surrounding blanks. A value that is not UTF-8 reads as U+FFFD.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// The values of all headers of that name, in the order sent.
    pub fn headers<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a str> + use<'s, 'a> {
        self.headers[..self.header_count]
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| std::str::from_utf8(header.value).map_or(UNREADABLE, str::trim_ascii))
    }

    /// Every header line in the order sent: the name as written, and the value
    /// without surrounding blanks.
    pub fn lines(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'_, 'a> {
        self.headers[..self.header_count].iter().map(|header| (header.name, header.value.trim_ascii()))
    }

    /// Whether one of the headers of that name lists `token`, whatever its case.
    pub fn has_token(&self, header: &str, token: &str) -> bool {
        self.headers(header)
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// The value of the first `key` in the query, with `%XX` and `+` decoded.
    /// `None` without such a key, or when its value is not UTF-8.
    pub fn query_value(&self, key: &str) -> Option<Cow<'a, str>> {
        self.query_pairs(key).next().and_then(decode_form)
    }

    /// As [`Head::query_value`], but tells a value that is not UTF-8, `Some(None)`,
    /// from a key that is not there.
    pub fn query_text(&self, key: &str) -> Option<Option<Cow<'a, str>>> {
        self.query_pairs(key).next().map(decode_form)
    }

    /// The values of every `key` in the query, decoded as
    /// [`Head::query_value`] does; those that are not UTF-8 are left out.
    pub fn query_values<'s>(&self, key: &'s str) -> impl Iterator<Item = Cow<'a, str>> + use<'s, 'a> {
        self.query_pairs(key).filter_map(decode_form)
    }

    /// The values of every `key` in the query, not decoded.
    fn query_pairs<'s>(&self, key: &'s str) -> impl Iterator<Item = &'a str> + use<'s, 'a> {
        self.query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(move |(name, _)| decode_form(name).is_some_and(|name| name == key))
            .map(|(_, value)| value)
    }

    /// RFC 9112, section 3.2: exactly one `Host` in HTTP/1.1, at most one in 1.0.
    fn check_host(&self) -> Result<(), HttpError> {
        match self.headers("host").count() {
            1 => Ok(()),
            0 if self.version_minor == 0 => Ok(()),
            0 => Err(bad("Host is missing")),
            _ => Err(bad("more than one Host")),
        }
    }

    /// RFC 9112, section 6: the length of the body, if it can be known for sure.
    fn body_bytes(&self) -> Result<usize, HttpError> {
        let mut lengths = self.headers("content-length");
        let length = lengths.next();
        if self.header("transfer-encoding").is_some() {
            return Err(match length {
                Some(_) => bad("both Transfer-Encoding and Content-Length"),
                None => refuse(411, "Transfer-Encoding is not supported, send Content-Length"),
            });
        }
        if lengths.any(|other| Some(other) != length) {
            return Err(bad("conflicting Content-Length"));
        }
        length.map_or(Ok(0), parse_length)
    }
}

/// Digits and nothing else: `usize::from_str` would take a sign.
fn parse_length(digits: &str) -> Result<usize, HttpError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("malformed Content-Length"));
    }
    let length = digits.parse().ok().filter(|length| *length <= limits::HTTP_BODY_BYTES);
    length.ok_or(refuse(413, "request body too large"))
}

/// Decodes `%XX`. `None` when the outcome is not UTF-8. A `%` without two hex
/// digits stands for itself, as in browsers.
pub fn decode_percent(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// As [`decode_percent`], with `+` for a blank.
fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return decode_percent(text);
    }
    let spaced = text.replace('+', " ");
    decode_percent(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests;
