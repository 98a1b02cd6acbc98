//! What connections show of who they are: a bearer token (RFC 6750). Never shown itself, not in errors either.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the token is if no file has it.
pub(crate) const VARIABLE: &str = "THRONG_TOKEN";
/// The longest token that is sent.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// What stands for a connection's number in the name of the file.
const NUMBER: &str = "%n";

/// Where the token is from.
pub(crate) enum Token {
    Fixed(String),
    /// Read for each connection; `%n` in its name stands for the connection's number, from 1.
    File(PathBuf),
}

impl Token {
    /// The file that was named, else the variable if it has something in it. Looked at once, so that a mistake shows
    /// before anything is opened.
    pub(crate) fn of(file: Option<&Path>, variable: Option<String>) -> Result<Option<Token>, String> {
        let variable = variable.filter(|token| !token.is_empty());
        let (name, token) = match (file, variable) {
            (Some(path), _) => ("--token-file", Token::File(path.to_owned())),
            (None, Some(token)) => (VARIABLE, Token::Fixed(token.trim().to_owned())),
            (None, None) => return Ok(None),
        };
        token.header(1).map_err(|why| format!("{name}: {why}"))?;
        Ok(Some(token))
    }

    /// The header line for the connection with this number, from 1. Reads the file.
    pub(crate) fn header(&self, number: u32) -> Result<String, String> {
        match self {
            Token::Fixed(token) => line(token).ok_or_else(|| "the token is not one".to_owned()),
            Token::File(path) => {
                let name = path.to_string_lossy().replace(NUMBER, &number.to_string());
                let text = read(Path::new(&name))
                    .map_err(|error| format!("the token file {name} cannot be read: {error}"))?;
                line(text.trim()).ok_or_else(|| format!("the token file {name} holds no token"))
            }
        }
    }
}

/// As much of a file as a token can be; a pipe is not waited for.
fn read(path: &Path) -> std::io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(2 * TOKEN_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// `None` for what cannot stand in the header (RFC 6750, section 2.1).
fn line(token: &str) -> Option<String> {
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    let is_sent = is_token && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_sent.then(|| format!("Authorization: Bearer {token}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_a_file_or_of_the_variable() {
        let check = |file: Option<&str>, variable: Option<&str>, expected: Result<Option<&str>, &str>| {
            let token = Token::of(file.map(Path::new), variable.map(str::to_owned));
            match (token.map(|token| token.map(|token| token.header(1).unwrap())), expected) {
                (Ok(found), Ok(expected)) => {
                    let expected = expected.map(|token| format!("Authorization: Bearer {token}\r\n"));
                    assert_eq!(found, expected);
                }
                (Err(why), Err(mentions)) => {
                    assert!(why.contains(mentions) && !why.contains("a.b"), "{why}");
                }
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        check(None, None, Ok(None));
        check(None, Some(""), Ok(None));
        check(None, Some(" a.b.c\n"), Ok(Some("a.b.c")));
        check(None, Some("a.b two"), Err("THRONG_TOKEN: the token is not one"));
        check(None, Some("a.b\r\nX: y"), Err("not one"));
        check(
            Some("/nowhere/token-%n"),
            Some("a.b.c"),
            Err("--token-file: the token file /nowhere/token-1 cannot"),
        );
        check(Some("/dev/zero"), None, Err("no regular file"));
        check(Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), None, Err("holds no token"));
    }
}
