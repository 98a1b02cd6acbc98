//! What a failed attempt or a close frame means for the next attempt.
//!
//! Pure: judges what was seen, never waits.

use std::io;
use std::time::{Duration, SystemTime};

use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::Response;
use tungstenite::http::StatusCode;

use super::backoff::Advice;
use super::message::words;

/// Close codes of throng that say that this client is not wanted: a user id is
/// missing, it was refused, an administrator ended the connection.
const UNWANTED: std::ops::RangeInclusive<u16> = 4001..=4003;

/// What may come of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// What was wrong may pass.
    Passing,
    /// The server asks for a token, or for a better one (401).
    Unauthorized,
    /// The server did not prove who it is, or does not speak TLS as it should. If
    /// it did before, somebody will mend it; else the URL, or whom the client trusts, is wrong.
    Untrusted,
    /// It cannot help.
    Lasting,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people.
    pub(super) why: String,
    pub(super) outlook: Outlook,
    /// What the server said about coming back.
    pub(super) advice: Advice,
}

impl Failure {
    /// One that may pass.
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Failure { why: why.into(), outlook: Outlook::Passing, advice: Advice::None }
    }

    /// One that will not.
    pub(super) fn permanent(why: impl Into<String>) -> Self {
        Failure { why: why.into(), outlook: Outlook::Lasting, advice: Advice::None }
    }
}

/// Judges the failure of a handshake. `now` is what a date is compared with.
pub(super) fn judge(error: &Error, now: SystemTime) -> Failure {
    match error {
        Error::Http(response) => judge_answer(response, now),
        Error::Io(error) => judge_io(error),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            Failure::passing("the connection was closed during the handshake")
        }
        other => Failure::permanent(format!("not a WebSocket server: {other}")),
    }
}

/// Judges what a socket or TLS reported.
pub(super) fn judge_io(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => {
            Failure { why: format!("TLS: {tls}"), outlook: Outlook::Untrusted, advice: Advice::None }
        }
        None => Failure::passing(error.to_string()),
    }
}

fn judge_answer(response: &Response, now: SystemTime) -> Failure {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("no reason known");
    let told = match status {
        StatusCode::UNAUTHORIZED => challenge(response).unwrap_or_default(),
        _ => String::new(),
    };
    let why = format!("answered {} {reason}{told}", status.as_u16());
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let advice = retry_after.and_then(|value| not_before(value, now)).map_or(Advice::None, Advice::NotBefore);
    let outlook = match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Outlook::Passing
        }
        StatusCode::UNAUTHORIZED => Outlook::Unauthorized,
        _ if status.is_server_error() => Outlook::Passing,
        _ => Outlook::Lasting,
    };
    Failure { why, outlook, advice }
}

/// What is wrong with the token (RFC 6750, section 3), behind a colon.
fn challenge(response: &Response) -> Option<String> {
    let challenge = response.headers().get("www-authenticate")?.to_str().ok()?;
    let (_, described) = challenge.split_once("error_description=\"")?;
    let (description, _) = described.split_once('"')?;
    Some(format!(": {}", words(description)))
}

/// `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn not_before(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// How a connection that was open ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Code of the server's close frame; 1005 for one without; `None` when
    /// there was none.
    pub code: Option<u16>,
    /// Its reason, or what was found out without one.
    pub reason: String,
}

impl Closed {
    pub(super) fn by_frame(code: u16, reason: &str) -> Self {
        Closed { code: Some(code), reason: words(reason) }
    }

    pub(super) fn without_frame(why: impl Into<String>) -> Self {
        Closed { code: None, reason: why.into() }
    }

    /// Whether the server does not want this client back.
    pub(super) fn is_unwanted(&self) -> bool {
        self.code.is_some_and(|code| UNWANTED.contains(&code))
    }

    /// When to come back. `told` is what is left of the time in a notice.
    pub(super) fn advice(&self, told: Option<Duration>) -> Advice {
        match (told, self.code) {
            (Some(left), _) => Advice::After(left),
            // Going away (RFC 6455, section 7.4.1) and service restart: who
            // sends many away spreads the closes, so the time is now.
            (None, Some(1001 | 1012)) => Advice::After(self.stated().unwrap_or_default()),
            _ => Advice::None,
        }
    }

    /// A time stated in the reason: `reconnect_after_ms=1500`.
    fn stated(&self) -> Option<Duration> {
        let (_, number) = self.reason.split_once("reconnect_after_ms=")?;
        let digits = number.find(|char: char| !char.is_ascii_digit()).unwrap_or(number.len());
        number[..digits].parse().ok().map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Failure {
        let mut response = Response::new(None);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(value) = retry_after {
            response.headers_mut().insert("retry-after", value.parse().unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        judge(&Error::Http(Box::new(response)), now)
    }

    #[test]
    fn answers_are_judged() {
        let check = |status, outlook| {
            let failure = answered(status, None);
            assert_eq!((failure.outlook, failure.advice), (outlook, Advice::None), "{status}");
            assert!(failure.why.contains(&status.to_string()), "{failure:?}");
        };
        for status in [408, 425, 429, 500, 502, 503, 504] {
            check(status, Outlook::Passing);
        }
        for status in [200, 301, 400, 403, 404, 405, 426] {
            check(status, Outlook::Lasting);
        }
        check(401, Outlook::Unauthorized);
    }

    #[test]
    fn what_is_wrong_with_a_token_is_told() {
        let check = |status: u16, challenge: &'static str, expected: &str| {
            let mut response = Response::new(None);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            let failure = judge(&Error::Http(Box::new(response)), SystemTime::UNIX_EPOCH);
            assert_eq!(failure.why, expected);
        };
        let expired = r#"Bearer error="invalid_token", error_description="the token has expired""#;
        check(401, expired, "answered 401 Unauthorized: the token has expired");
        check(401, "Bearer", "answered 401 Unauthorized");
        check(401, r#"Bearer error_description="x"#, "answered 401 Unauthorized");
        check(403, expired, "answered 403 Forbidden");
    }

    #[test]
    fn retry_after_is_read() {
        let check = |value, seconds: Option<u64>| {
            let expected =
                seconds.map_or(Advice::None, |seconds| Advice::NotBefore(Duration::from_secs(seconds)));
            assert_eq!(answered(503, Some(value)).advice, expected, "{value}");
            assert_eq!(answered(429, Some(value)).advice, expected, "{value}");
        };
        check("7", Some(7));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }

    #[test]
    fn other_errors_are_judged() {
        let check = |error: Error, outlook| {
            assert_eq!(judge(&error, SystemTime::UNIX_EPOCH).outlook, outlook, "{error}");
        };
        check(Error::Io(io::ErrorKind::ConnectionReset.into()), Outlook::Passing);
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        check(Error::Io(tls), Outlook::Untrusted);
        check(Error::Protocol(ProtocolError::SecWebSocketAcceptKeyMismatch), Outlook::Lasting);
        check(Error::Protocol(ProtocolError::HandshakeIncomplete), Outlook::Passing);
    }

    #[test]
    fn closes_say_when_to_come_back() {
        let check = |code, reason: &str, told: Option<u64>, expected: Option<u64>| {
            let advice = Closed { code, reason: reason.to_owned() }.advice(told.map(Duration::from_millis));
            let expected = expected.map_or(Advice::None, |ms| Advice::After(Duration::from_millis(ms)));
            assert_eq!(advice, expected, "{code:?} {reason}");
        };
        check(Some(1012), "Server is draining", Some(40), Some(40));
        check(None, "reset", Some(40), Some(40));
        check(Some(1012), "backend lost", None, Some(0));
        check(Some(1012), "reconnect_after_ms=1500; bye", None, Some(1500));
        check(Some(1001), "reconnect_after_ms=99999999999999999999", None, Some(0));
        check(Some(1011), "reconnect_after_ms=5", None, None);
        check(None, "reset", None, None);
    }

    #[test]
    fn the_unwanted_are_told_so() {
        let unwanted = |code| Closed::by_frame(code, "").is_unwanted();
        assert!(unwanted(4001) && unwanted(4003) && !unwanted(4004) && !unwanted(1008));
        assert!(!unwanted(4010), "a fresh token is welcome");
    }
}
