//! Answers: status, headers and a body that is known in full.

use serde::Serialize;

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Headers beside the content's type and length and the connection's fate.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    status: u16,
}

impl Response {
    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Response { status, content_type, headers: Vec::new(), body }
    }

    /// A JSON answer. A value that cannot be written as JSON becomes a 500.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status, "application/json", body),
            Err(_) => Self::error(500, "the answer cannot be written as JSON"),
        }
    }

    /// A refusal: `{"error":message,"status":status}`.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::to_vec(&ErrorBody { error: message, status }).unwrap_or_default();
        Self::new(status, "application/json", body)
    }

    /// A body of any other type.
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, content_type, body.into())
    }

    /// Adds a header. Control characters in `value` are left out when it is
    /// written, so that no value can end its line.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Appends the response to `out`. `keep_alive` says whether the connection
    /// takes another request; `head_only` leaves the body out, as HEAD asks.
    pub fn write_to(&self, out: &mut Vec<u8>, keep_alive: bool, head_only: bool) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, usize::from(self.status));
        out.push(b' ');
        out.extend_from_slice(phrase(self.status).as_bytes());
        push_header(out, "content-type", self.content_type);
        out.extend_from_slice(b"\r\ncontent-length: ");
        push_number(out, self.body.len());
        push_header(out, "connection", if keep_alive { "keep-alive" } else { "close" });
        push_header(out, "cache-control", "no-store");
        push_header(out, "x-content-type-options", "nosniff");
        for (name, value) in &self.headers {
            push_header(out, name, value);
        }
        out.extend_from_slice(b"\r\n\r\n");
        if !head_only {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Ends the line before and appends one header.
fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|byte| !byte.is_ascii_control()));
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    use std::io::Write;
    let _ = write!(out, "{number}"); // writing to a Vec cannot fail
}

/// The reason phrase of RFC 9110, section 15; it means nothing to programs.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &Response, keep_alive: bool, head_only: bool, expected: &str) {
        let mut out = Vec::new();
        response.write_to(&mut out, keep_alive, head_only);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_response_says_how_long_it_is_and_what_becomes_of_the_connection() {
        let response = Response::error(503, "at \"capacity\"").with("retry-after", "5");
        let body = r#"{"error":"at \"capacity\"","status":503}"#;
        let length = body.len();
        let head = |connection: &str| {
            format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: {connection}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
                 retry-after: 5\r\n\r\n"
            )
        };
        check(&response, false, false, &(head("close") + body));
        check(&response, true, true, &head("keep-alive"));
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = Vec::new();
        Response::text(200, "text/plain", "x").with("a", "b\r\nc: d").write_to(&mut out, true, false);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("\r\na: bc: d\r\n\r\nx"), "{text}");
    }

    #[test]
    fn what_is_not_json_is_our_error() {
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(Response::json(200, &unwritable).status, 500);
        assert_eq!(Response::json(200, &[1, 2]).body, b"[1,2]");
    }
}
