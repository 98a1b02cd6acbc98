//! What a client shows a server of who it is: a bearer token (RFC 6750).
//!
//! Never shown itself: not in errors, not by `Debug`.

use std::path::{Path, PathBuf};

use tungstenite::http::HeaderValue;

use super::options::NUMBER;
use crate::config::Secret;
use crate::small_file;

/// The longest token that is sent, in bytes. A server may take less.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Where a client has its token from.
#[derive(Clone, Debug)]
pub enum Token {
    /// The same for all connections and for ever.
    Fixed(Secret),
    /// A file, read anew for each attempt to connect, so that who renews it
    /// need not tell the client. `%n` stands for a connection's number, white
    /// space around the token is ignored.
    File(PathBuf),
}

impl Token {
    /// The value of `Authorization` for the connection with this number. Reads the file.
    pub(super) fn authorization(&self, number: u32) -> Result<HeaderValue, String> {
        match self {
            Token::Fixed(token) => header(token.expose()).ok_or_else(|| "the token is not one".to_owned()),
            Token::File(path) => {
                let name = path.to_string_lossy().replace(NUMBER, &number.to_string());
                let text = small_file::read(Path::new(&name), 2 * TOKEN_BYTES_MAX as u64)
                    .map_err(|error| format!("the token file {name} cannot be read: {error}"))?;
                let text = std::str::from_utf8(&text).unwrap_or_default();
                header(text.trim()).ok_or_else(|| format!("the token file {name} holds no token"))
            }
        }
    }

    /// Whether another may be there at the next attempt.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self, Token::File(_))
    }
}

/// `None` for what cannot stand in the header (RFC 6750, section 2.1).
fn header(token: &str) -> Option<HeaderValue> {
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    if !is_token || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &Token, number: u32, expected: Result<&str, &str>) {
        match (token.authorization(number), expected) {
            (Ok(value), Ok(expected)) => {
                assert_eq!(value.to_str().ok(), Some(expected));
                assert!(!format!("{value:?} {token:?}").contains("a.b.c"));
            }
            (Err(why), Err(mentions)) => assert!(why.contains(mentions) && !why.contains("a.b"), "{why}"),
            (found, _) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_shown() {
        let fixed = |token: &str| Token::Fixed(Secret::new(token));
        check(&fixed("a.b.c"), 1, Ok("Bearer a.b.c"));
        check(&fixed(&"x".repeat(TOKEN_BYTES_MAX + 1)), 1, Err("not one"));
        for wrong in ["", "a.b c", "a.b\r\nX: y", "a.b\u{e9}"] {
            check(&fixed(wrong), 1, Err("not one"));
        }
    }

    #[test]
    fn a_file_is_read_each_time() {
        let folder = std::env::temp_dir();
        let id = std::process::id();
        let token = Token::File(folder.join(format!("throng-token-{id}-%n")));
        let path = folder.join(format!("throng-token-{id}-7"));
        check(&token, 7, Err("-7 cannot be read"));
        std::fs::write(&path, " a.b.c\n").unwrap();
        check(&token, 7, Ok("Bearer a.b.c"));
        std::fs::write(&path, "d.e.f").unwrap();
        check(&token, 7, Ok("Bearer d.e.f"));
        std::fs::write(&path, "a.b\nc.d").unwrap();
        check(&token, 7, Err("-7 holds no token"));
        std::fs::remove_file(&path).unwrap();
        check(&Token::File("/dev/zero".into()), 7, Err("it is no regular file"));
        assert!(token.is_renewable() && !Token::Fixed(Secret::new("x")).is_renewable());
    }
}
