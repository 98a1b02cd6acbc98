//! The opening handshake as a client writes it and reads the answer (RFC 6455, section 4.1), and what a close frame says.
//! Never does I/O.

/// The largest answer that is taken in.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A key and the answer it must get (section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What asks `host`, as it stands in the URL, for a WebSocket on `path`. `headers` are further lines, each with its CRLF.
pub(crate) fn request(host: &str, path: &str, headers: &str) -> Result<Vec<u8>, String> {
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return Err(format!("{path:?} is not a path: it starts with / and has no spaces"));
    }
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes())
}

/// Where the head of a good answer ends; `None` while it has not arrived whole.
pub(crate) fn handshake_end(input: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = head_end(input) else {
        return if input.len() > HEAD_BYTES_MAX { Err("the answer has no end".into()) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&input[..end]);
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(format!("answered {status:?}"));
    }
    if !head.contains(ACCEPT) {
        return Err("answered with a wrong Sec-WebSocket-Accept".into());
    }
    Ok(Some(end))
}

/// Where the head of an HTTP answer ends, the empty line included.
pub(crate) fn head_end(input: &[u8]) -> Option<usize> {
    Some(input.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

/// What the payload of a server's close frame says.
pub(crate) fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("closed by the server: {code} {}", String::from_utf8_lossy(reason)).trim_end().to_owned()
        }
        _ => "closed by the server without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_101_with_the_right_key_is_a_handshake() {
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\nrest");
        assert_eq!(handshake_end(good.as_bytes()), Ok(Some(good.len() - 4)));
        for cut in 0..good.len() - 4 {
            assert_eq!(handshake_end(&good.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        assert!(handshake_end(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap_err().contains("503"));
        assert!(handshake_end(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n").is_err());
        assert!(handshake_end(&[b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_path_is_a_path() {
        assert!(request("host:1", "/ws?user_id=a", "A: b\r\n").is_ok_and(|text| {
            text.starts_with(b"GET /ws?user_id=a HTTP/1.1\r\n") && text.ends_with(b"13\r\nA: b\r\n\r\n")
        }));
        for bad in ["", "ws", "/a b", "/a\r\nHost: x", "/\u{e9}"] {
            assert!(request("host:1", bad, "").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn close_codes_are_told() {
        assert_eq!(close_reason(&[0x0f, 0xa3, b'g', b'o']), "closed by the server: 4003 go");
        assert_eq!(close_reason(&[]), "closed by the server without a code");
    }
}
