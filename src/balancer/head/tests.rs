use super::*;
use proptest::prelude::*;

const BROWSER: &str = "GET /ws?client_id=alice&user_id=a%20b&name=Al HTTP/1.1\r\nHost: node.example:8080\r\n\
    Connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    SEC-WEBSOCKET-VERSION: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

fn networks() -> [IpNet; 1] {
    ["10.0.0.0/8".parse().unwrap()]
}

fn with_request<T>(input: &[u8], peer: &str, look: impl FnOnce(&Request<'_>, &Via<'_>) -> T) -> T {
    let trusted = networks();
    let via = Via { peer: peer.parse().unwrap(), trusted: &trusted, tls: false };
    match read_request(input, &via) {
        Ok(Parsed::Complete(request)) => look(&request, &via),
        other => panic!("{other:?} from {:?}", String::from_utf8_lossy(input)),
    }
}

/// What the backend gets.
fn passed_on(input: &[u8], peer: &str) -> String {
    with_request(input, peer, |request, via| {
        let mut out = Vec::new();
        write_request(&mut out, request, via);
        String::from_utf8_lossy(&out).into_owned()
    })
}

#[test]
fn an_upgrade_is_passed_on_as_it_came() {
    let expected = BROWSER.replace("Connection: keep-alive, Upgrade\r\n", "").replace(
        "\r\n\r\n",
        "\r\nConnection: Upgrade\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: node.example:8080\r\nX-Real-IP: 192.0.2.7\r\n\r\n",
    );
    assert_eq!(passed_on(BROWSER.as_bytes(), "192.0.2.7"), expected);
    assert_eq!(passed_on(BROWSER.as_bytes(), "::ffff:192.0.2.7"), expected);
    assert_eq!(passed_on(format!("\r\n{BROWSER}frames").as_bytes(), "192.0.2.7"), expected);
}

#[test]
fn a_request_says_who_asks_and_for_what() {
    with_request(format!("{BROWSER}rest").as_bytes(), "10.0.0.1", |request, _| {
        assert!(request.is_upgrade());
        assert_eq!(request.head_len, BROWSER.len());
        assert_eq!(request.client.as_deref(), Some("alice"));
        assert_eq!(request.user_id.as_deref(), Some("a b"));
        assert_eq!(request.name.as_deref(), Some("Al"));
        assert_eq!(request.address.to_string(), "10.0.0.1");
    });
    let check = |line: &str, asked: Asked| {
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nContent-Length: 0\r\n\r\n");
        with_request(input.as_bytes(), "::1", |request, _| assert_eq!(request.asked, asked, "{line}"));
    };
    check("GET /", Asked::Upgrade);
    check("HEAD /", Asked::HeadOnly);
    check("POST /", Asked::Plain);
}

#[test]
fn a_client_is_known_by_the_first_of_its_names() {
    let longest = "x".repeat(limits::USER_ID_BYTES);
    let check = |query: &str, expected: Option<&str>| {
        let input = format!("GET /?{query} HTTP/1.0\r\n\r\n");
        with_request(input.as_bytes(), "::1", |request, _| {
            assert_eq!(request.client.as_deref(), expected, "{query}");
        });
    };
    check("name=c&user_id=b&client_id=a", Some("a"));
    check("name=c&user_id=b", Some("b"));
    check("name=c", Some("c"));
    check("client_id=&name=c", Some("c"));
    check("client_id=%ff&name=c", Some("c"));
    check(&format!("client_id={longest}"), Some(&longest));
    check(&format!("client_id={longest}x&user_id=b"), Some("b"));
    check("other=1", None);
}

/// The headers of a plain request, then of what is passed on, without request line and Host.
#[track_caller]
fn check_headers(peer: &str, headers: &str, expected: &str) {
    let input = format!("POST /api/send?a=b HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    let expected = format!("POST /api/send?a=b HTTP/1.1\r\nHost: h\r\n{expected}\r\n");
    assert_eq!(passed_on(input.as_bytes(), peer), expected);
}

#[test]
fn strangers_are_not_believed() {
    check_headers(
        "192.0.2.7",
        "X-Forwarded-For: 127.0.0.1\r\nFORWARDED: for=127.0.0.1\r\nx-real-ip: 127.0.0.1\r\nX_Real_IP: 127.0.0.1\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nx_forwarded_for: 1\r\nVia: a\r\n",
        "Via: a\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nX-Real-IP: 192.0.2.7\r\n",
    );
}

#[test]
fn a_trusted_proxys_word_is_kept_and_added_to() {
    check_headers(
        "10.0.0.1",
        "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-For: \r\nx-forwarded-for:10.0.0.9 \r\nForwarded: for=a\r\n\
         X-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\nX-Forwarded-Port: 443\r\n",
        "X-Forwarded-Port: 443\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.9, 10.0.0.1\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\nX-Real-IP: 192.0.2.7\r\n",
    );
    check_headers(
        "10.0.0.1",
        "X-Forwarded-For: ,\r\nX-Real-IP: 192.0.2.7\r\n",
        "Connection: close\r\nX-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nX-Real-IP: 192.0.2.7\r\n",
    );
    check_headers(
        "10.0.0.1",
        "X-Forwarded-Proto:\r\n",
        "Connection: close\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
         X-Real-IP: 10.0.0.1\r\n",
    );
}

#[test]
fn an_encrypted_connection_is_said_to_be_one() {
    let via = Via { peer: "::1".parse().unwrap(), trusted: &[], tls: true };
    let Ok(Parsed::Complete(request)) = read_request(b"GET / HTTP/1.0\r\n\r\n", &via) else { panic!() };
    let mut out = Vec::new();
    write_request(&mut out, &request, &via);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "GET / HTTP/1.0\r\nConnection: close\r\nX-Forwarded-For: ::1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: ::1\r\n\r\n"
    );
}

#[test]
fn what_is_about_one_connection_stays_there() {
    let tail = "Connection: close\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nX-Real-IP: 1.1.1.1\r\n";
    check_headers(
        "1.1.1.1",
        "Connection: keep-alive, Upgrade, Host, Content-Length, X-Real-IP\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: a\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nContent-Length: 3\r\nX-Mine: \u{ff}\r\n",
        &format!("Content-Length: 3\r\nX-Mine: \u{ff}\r\n{tail}"),
    );
    let upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n";
    let expected = format!("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n{tail}\r\n");
    assert_eq!(passed_on(upgrade.as_bytes(), "1.1.1.1"), expected, "it is for the backend to refuse");
}

#[test]
fn the_target_goes_on_in_origin_form() {
    let check = |target: &str, host: &str, expected: &str| {
        let input = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let line = passed_on(input.as_bytes(), "::1").lines().next().map(str::to_owned);
        assert_eq!(line.as_deref(), Some(&*format!("GET {expected} HTTP/1.1")));
    };
    check("/a%2F//b?c?d", "h", "/a%2F//b?c?d");
    check("/a?", "h", "/a?");
    check("/a?b=c://d/e", "h", "/a?b=c://d/e");
    check("//x/y", "h", "//x/y");
    check("http://H:80/a?b", "h:80", "/a?b");
    check("http://h", "h", "/");
}

#[track_caller]
fn check_refused(input: &[u8], status: u16) {
    let via = Via { peer: "::1".parse().unwrap(), trusted: &[], tls: false };
    match read_request(input, &via) {
        Err(error) => assert_eq!(error.status, status, "{error} for {:?}", String::from_utf8_lossy(input)),
        other => panic!("{other:?} from {:?}", String::from_utf8_lossy(input)),
    }
}

#[test]
fn smuggling_is_refused() {
    let check = |headers: &str, status: u16| {
        check_refused(format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes(), status);
    };
    check("Content-Length: 5\r\nContent-Length: 6\r\n", 400);
    check("Content-Length: 5\r\ncontent-length: 5\r\n", 400);
    check("Content-Length: 5, 5\r\n", 400);
    check("Content-Length: +5\r\n", 400);
    check("Content-Length : 5\r\n", 400);
    check("Transfer-Encoding: chunked\r\n", 411);
    check("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", 400);
    check("Transfer-Encoding : chunked\r\n", 400);
    check("A: b\nTransfer-Encoding: chunked\r\n", 400);
    check("A: b\r\n c\r\n", 400);
    check("A: b\r\n\tTransfer-Encoding: chunked\r\n", 400);
    check(" A: b\r\n", 400);
    check("A: b\rc\r\n", 400);
    check("A: b\0c\r\n", 400);
    check("A\0: b\r\n", 400);
    check(": b\r\n", 400);
    check("Host: other\r\n", 400);
    check_refused(b"POST / HTTP/1.1\nHost: h\n\n", 400);
    check_refused(b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    check_refused(b"GET http://user@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    check_refused(b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    check_refused(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505);
    check_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    check_refused(b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    check_refused(&BROWSER.replace("upgrade:", "Content-Length: 1\r\nupgrade:").into_bytes(), 400);
    check_refused(&[b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; limits::HTTP_HEAD_BYTES]].concat(), 431);
}

#[test]
fn every_prefix_of_a_request_is_partial() {
    let via = Via { peer: "::1".parse().unwrap(), trusted: &[], tls: false };
    for end in 0..BROWSER.len() {
        assert!(matches!(read_request(&BROWSER.as_bytes()[..end], &via), Ok(Parsed::Partial)), "at {end}");
    }
}

/// Read whole, with bytes after it, and from no prefix.
#[track_caller]
fn check_answer(asked: Asked, head: &str, expected: Answer) {
    for end in 0..head.len() {
        assert_eq!(read_answer(&head.as_bytes()[..end], asked), Answer::Partial, "cut at {end}");
    }
    assert_eq!(read_answer(head.as_bytes(), asked), expected, "{head}");
    assert_eq!(read_answer(format!("{head}\r\n\u{81}rest").as_bytes(), asked), expected, "{head}");
}

#[test]
fn a_granted_upgrade_is_seen() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUPGRADE: a, WebSocket\r\nConnection: Upgrade\r\n\r\n";
    check_answer(Asked::Upgrade, head, Answer::Switching { head_len: head.len() });
    check_answer(Asked::Plain, head, Answer::Bad("the answer switches protocols unasked"));
    let other = head.replace("WebSocket", "h2c");
    check_answer(Asked::Upgrade, &other, Answer::Bad("the answer switches to another protocol"));
}

#[test]
fn any_other_answer_says_how_its_body_ends() {
    let check = |asked: Asked, status: u16, headers: &str, body: Body, retry_after: Option<u32>| {
        let head = format!("HTTP/1.1 {status} Text\r\n{headers}\r\n");
        let head_len = head.len();
        check_answer(asked, &head, Answer::Other { status, head_len, body, retry_after });
    };
    let (upgrade, plain) = (Asked::Upgrade, Asked::Plain);
    check(upgrade, 503, "Retry-After: 5\r\ncontent-length: 17\r\n", Body::Length(17), Some(5));
    check(upgrade, 503, "retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", Body::UntilClose, Some(0));
    check(plain, 200, "Transfer-Encoding: gzip, Chunked\r\n", Body::Chunked, None);
    check(plain, 200, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Body::Chunked, None);
    check(plain, 200, "Transfer-Encoding: chunked, gzip\r\n", Body::UntilClose, None);
    check(plain, 200, "Content-Length: 3\r\nContent-Length: 3\r\n", Body::Length(3), None);
    check(plain, 204, "", Body::Length(0), None);
    check(plain, 304, "Content-Length: 9\r\n", Body::Length(0), None);
    check(Asked::HeadOnly, 200, "Content-Length: 9\r\n", Body::Length(0), None);
    check(plain, 999, "", Body::UntilClose, None);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    check_answer(plain, interim, Answer::Interim { head_len: interim.len() });
}

#[test]
fn what_is_no_answer_is_bad() {
    let check = |input: &[u8]| {
        let answer = read_answer(input, Asked::Plain);
        assert!(matches!(answer, Answer::Bad(_)), "{answer:?} from {:?}", String::from_utf8_lossy(input));
    };
    check(b"SSH-2.0-OpenSSH\r\n");
    check(b"HTTP/2 200\r\n\r\n");
    check(b"HTTP/1.1 099 \r\n\r\n");
    check(b"HTTP/1.1 20 OK\r\n\r\n");
    check(b"HTTP/1.1 200 OK\nA: b\n\n");
    check(b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n");
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    check(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n");
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n");
    check(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    check(&[b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; limits::HTTP_HEAD_BYTES]].concat());
    check(&[b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".repeat(limits::HTTP_HEADERS + 1)].concat());
}

#[test]
fn the_client_is_told_that_the_connection_ends() {
    let head =
        "HTTP/1.1 404 Not  Found\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nX-A:  b \r\n\r\n";
    let mut out = Vec::new();
    write_answer(&mut out, head.as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 404 Not  Found\r\nX-A: b\r\nConnection: close\r\n\r\n"
    );
}

/// Heads put together from what is likely to be misread.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST http://h/a?b HTTP/1.1\r\n",
        "HTTP/1.1 101 A\r\n",
        "Host: h\r\n",
        "Upgrade: websocket\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "X-Forwarded-For: ,\r\n",
        "X-Real-IP: 8.8.8.8\r\n",
        "X-Real-IP: ",
        " folded\r\n",
        "\r\n",
        "\n",
        "\r",
        "\0",
        ":",
        "a",
    ]);
    let parts = prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat());
    let begin = prop::sample::select(vec!["", "GET / HTTP/1.1\r\nHost: h\r\n", "HTTP/1.1 101 A\r\n"]);
    (begin, parts, any::<bool>()).prop_map(|(begin, parts, is_whole)| {
        format!("{begin}{parts}{}", if is_whole { "\r\n\r\n" } else { "" }).into_bytes()
    })
}

proptest! {
    #[test]
    fn what_is_passed_on_reads_as_one_request_of_the_same_length(input in hostile(), trusted: bool) {
        let networks = networks();
        let peer = if trusted { "10.0.0.1" } else { "192.0.2.7" };
        let via = Via { peer: peer.parse().unwrap(), trusted: &networks, tls: false };
        if let Ok(Parsed::Complete(request)) = read_request(&input, &via) {
            let mut out = Vec::new();
            write_request(&mut out, &request, &via);
            let Ok(http::Parsed::Complete { head, head_len }) = http::parse(&out) else { panic!("{out:?}") };
            prop_assert_eq!(head_len, out.len());
            prop_assert_eq!(head.content_length, request.head.content_length);
            prop_assert_eq!((head.method, head.path, head.query),
                (request.head.method, request.head.path, request.head.query));
            prop_assert_eq!(head.headers("x-real-ip").count(), 1);
            prop_assert!(head.header("transfer-encoding").is_none());
            let found = forwarded::client_address("10.9.9.9".parse().unwrap(), &head, &networks);
            prop_assert_eq!(found, request.address, "for a node that trusts the balancer");
        }
    }

    #[test]
    fn nonsense_never_panics(input in prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..200)]) {
        let via = Via { peer: "::1".parse().unwrap(), trusted: &[], tls: false };
        let _ = read_request(&input, &via);
        for asked in [Asked::Upgrade, Asked::Plain, Asked::HeadOnly] {
            match read_answer(&input, asked) {
                Answer::Other { head_len, .. } | Answer::Switching { head_len } | Answer::Interim { head_len } => {
                    prop_assert!(head_len <= input.len());
                    let mut out = Vec::new();
                    write_answer(&mut out, &input[..head_len]);
                    let again = read_answer(&out, asked);
                    prop_assert!(again != Answer::Partial, "{:?}", again);
                }
                Answer::Partial | Answer::Bad(_) => {}
            }
        }
    }
}
