use super::*;

const BROWSER: &str = "GET /ws?user_id=ann HTTP/1.1\r\nHost: node.example:8080\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nX-Twice:  a \r\nx-twice: b\r\n\r\n";

fn head(input: &[u8]) -> Head<'_> {
    match parse(input) {
        Ok(Parsed::Complete { head, head_len }) => {
            assert!(head_len <= input.len());
            head
        }
        other => panic!("{other:?} from {:?}", String::from_utf8_lossy(input)),
    }
}

fn with_query(query: &str) -> Vec<u8> {
    format!("GET /ws?{query} HTTP/1.0\r\n\r\n").into_bytes()
}

#[test]
fn a_browsers_upgrade_is_read() {
    let input = format!("{BROWSER}rest");
    let Ok(Parsed::Complete { head, head_len }) = parse(input.as_bytes()) else { panic!("not complete") };
    assert_eq!(&input[head_len..], "rest");
    assert_eq!((head.method, head.path, head.query), ("GET", "/ws", Some("user_id=ann")));
    assert_eq!((head.version_minor, head.content_length), (1, 0));
    assert!(head.keep_alive && !head.expects_continue);
    assert!(head.has_token("connection", "upgrade") && head.has_token("Connection", "keep-alive"));
    assert!(!head.has_token("connection", "keep"));
    assert_eq!(head.header("x-twice"), Some("a"));
    assert_eq!(head.headers("X-TWICE").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(head.header("absent"), None);
    let lines: Vec<_> = head.lines().filter(|(name, _)| name.eq_ignore_ascii_case("x-twice")).collect();
    assert_eq!(lines, [("X-Twice", &b"a"[..]), ("x-twice", b"b")]);
    assert_eq!(head.lines().count(), 6);
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    for end in 0..BROWSER.len() {
        assert!(matches!(parse(&BROWSER.as_bytes()[..end]), Ok(Parsed::Partial)), "at {end}");
    }
}

#[test]
fn targets_become_path_and_query() {
    let check = |target: &str, expected: Option<(&str, Option<&str>)>| {
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let found = match parse(input.as_bytes()) {
            Ok(Parsed::Complete { head, .. }) => Some((head.path, head.query)),
            Ok(Parsed::Partial) => panic!("partial"),
            Err(error) => {
                assert_eq!(error.status, 400, "{target}");
                None
            }
        };
        assert_eq!(found, expected, "{target}");
    };
    check("/", Some(("/", None)));
    check("/a%2Fb?c=d?e", Some(("/a%2Fb", Some("c=d?e"))));
    check("/a?", Some(("/a", Some(""))));
    check("http://host:80/a?b", Some(("/a", Some("b"))));
    check("WS://host", Some(("/", None)));
    check("/redirect?to=http://host/x", Some(("/redirect", Some("to=http://host/x"))));
    check("host:80", None);
    check("ftp://host/a", None);
    check("*", None);
    check("/a#b", None);
    check("/ü", None);
}

#[test]
fn what_cannot_be_served_is_refused_with_its_status() {
    let check = |input: &str, status: u16| match parse(input.as_bytes()) {
        Err(error) => assert_eq!(error.status, status, "{input:?}: {error}"),
        other => panic!("{other:?} from {input:?}"),
    };
    check("\u{16}\u{3}\u{1}hello", 400);
    check("GET\r\n\r\n", 400);
    check("GET / FTP/1.0\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\n\r\n", 400); // no Host
    check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    check("GET / HTTP/1.1\nHost: a\n\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", 400);
    check("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400);
    check("GET / HTTP/2.0\r\n\r\n", 505);
    check("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    for length in ["+5", "-1", "5, 5", "", "0x5", "5 5"] {
        check(&format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"), 400);
    }
    check("POST / HTTP/1.0\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 411);
    check(&format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", limits::HTTP_BODY_BYTES + 1), 413);
    check("POST / HTTP/1.0\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413);
    check(&format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(limits::HTTP_HEADERS + 1)), 431);
    check(&format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(limits::HTTP_HEAD_BYTES)), 431);
}

#[test]
fn a_head_may_be_as_long_as_the_bound_and_no_longer() {
    let of_length = |bytes: usize| {
        let rest = "GET / HTTP/1.0\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "a".repeat(bytes - rest))
    };
    let longest = of_length(limits::HTTP_HEAD_BYTES);
    assert!(matches!(parse(longest.as_bytes()), Ok(Parsed::Complete { .. })));
    assert!(matches!(parse(&longest.as_bytes()[..longest.len() - 1]), Ok(Parsed::Partial)));
    assert!(parse(of_length(limits::HTTP_HEAD_BYTES + 1).as_bytes()).is_err_and(|error| error.status == 431));
}

#[test]
fn body_length_and_connection_follow_the_headers() {
    let check = |lines: &str, expected: (usize, bool, bool)| {
        let input = format!("POST / {lines}\r\n\r\n");
        let head = head(input.as_bytes());
        assert_eq!((head.content_length, head.keep_alive, head.expects_continue), expected, "{lines}");
    };
    check("HTTP/1.0", (0, false, false));
    check("HTTP/1.0\r\nConnection: Keep-Alive", (0, true, false));
    check("HTTP/1.0\r\nExpect: 100-continue", (0, false, false));
    check("HTTP/1.1\r\nHost:", (0, true, false));
    check("HTTP/1.1\r\nHost: a\r\nConnection: foo, Close", (0, false, false));
    check("HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nExpect: 100-Continue", (7, true, true));
    check("HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nContent-Length: 7", (7, true, false));
    check("HTTP/1.0\r\nContent-Length: 1048576", (limits::HTTP_BODY_BYTES, false, false));
}

#[test]
fn query_values_are_decoded() {
    let check = |query: &str, expected: Option<&str>| {
        let input = with_query(query);
        assert_eq!(head(&input).query_value("user_id").as_deref(), expected, "{query}");
    };
    check("user_id=ann", Some("ann"));
    check("a=b&user_id=ann+b%20c%2B&user_id=second", Some("ann b c+"));
    check("user%5Fid=ann", Some("ann"));
    check("user_id=%C3%BC", Some("ü"));
    check("user_id=%ff", None);
    check("user_id=100%", Some("100%"));
    check("user_id=%zz", Some("%zz"));
    check("user_id", Some(""));
    check("user_id=a=b", Some("a=b"));
    check("user_ids=ann", None);
    check("", None);
}

#[test]
fn a_query_value_that_is_not_utf8_is_told_from_none() {
    let check = |query: &str, expected: Option<Option<&str>>| {
        let input = with_query(query);
        let text = head(&input).query_text("user_id");
        assert_eq!(text.as_ref().map(Option::as_deref), expected, "{query}");
    };
    check("user_id=ann&user_id=%ff", Some(Some("ann")));
    check("user_id=%ff&user_id=ann", Some(None));
    check("user_id=%F0%9F%98", Some(None));
    check("user_id=a+%ff", Some(None));
    check("user_id=", Some(Some("")));
    check("a=%ff", None);
}

#[test]
fn a_plain_query_value_is_borrowed() {
    let input = with_query("user_id=ann");
    assert!(matches!(head(&input).query_value("user_id"), Some(Cow::Borrowed("ann"))));
}

#[test]
fn a_value_that_is_not_utf8_is_present_and_equals_nothing() {
    let head = head(b"GET / HTTP/1.0\r\nOrigin: \xff\r\n\r\n");
    assert_eq!(head.header("origin"), Some(UNREADABLE));
}
