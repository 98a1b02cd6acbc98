//! What is agreed on, who is refused, and what does not even speak TLS.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};

use super::Secure;
use crate::authority::{Authority, VERSIONS, text};
use crate::node::{Launch, Node, eventually};
use crate::socket::{Socket, upgrade};
use crate::web::Web;

/// Sockets beyond `--max-connections` that a node takes.
const SPARED: usize = 1024;

#[test]
fn both_versions_are_spoken_on_both_ports() {
    let secure = Secure::start(&["--ws-port", "auto"]);
    for (version, number) in VERSIONS.iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3]) {
        for (address, target) in [(secure.node.http, "/ws"), (secure.node.ws.unwrap(), "/anything")] {
            let config = Arc::new(secure.authority.trusting(&[version]));
            let web = secure.web_at(address, &config);
            let tls = web.tls.as_deref().unwrap();
            assert_eq!(tls.protocol_version(), Some(number));
            assert_eq!(tls.peer_certificates().unwrap(), secure.shown.chain());
            let mut socket = Socket::over(web, target);
            assert_eq!(socket.json()["type"], "welcome");
            socket.assert_alive();
        }
    }
    assert_eq!((secure.handshakes("full"), secure.handshakes("failed")), (5, 0), "one asked for this");
}

#[test]
fn http_1_1_is_agreed_on_or_nothing() {
    let secure = Secure::start(&[]);
    let check = |offered: &[&str], agreed: Option<&str>| {
        let mut config = secure.authority.trusting(&VERSIONS);
        config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let mut web = secure.web_at(secure.node.http, &Arc::new(config));
        assert_eq!(web.tls.as_deref().unwrap().alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
        assert_eq!(web.request("GET", "/livez", "", "").status, 200);
    };
    check(&[], None);
    check(&["http/1.1"], Some("http/1.1"));
    check(&["h2", "http/1.1"], Some("http/1.1"));
    let mut config = secure.authority.trusting(&VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = Web::connect(secure.node.http).secure(&Arc::new(config)).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    secure.wait_for_closed("tls_failed", 1);
    assert_eq!(secure.handshakes("failed"), 1);
}

#[test]
fn what_is_no_tls_is_told_so_and_ends() {
    let secure = Secure::start(&["--ws-port", "auto", "--reactors", "2"]);
    let mut record_too_long = vec![22, 3, 1, 0xff, 0xff];
    record_too_long.resize(70_000, 0);
    let mut hello_without_end = vec![22, 3, 1, 0x40, 0];
    hello_without_end.extend([1, 0xff, 0xff, 0xff]);
    hello_without_end.resize(5 + 0x4000, 0);
    let all: [(&str, Vec<u8>); 6] = [
        ("words", b"hello, is anybody there?".to_vec()),
        ("zeros", vec![0; 1000]),
        ("a record that is too long", record_too_long),
        ("data before a handshake", [&[23, 3, 3, 0, 5][..], b"hello"].concat()),
        ("a client of SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80, 7, 0, 0xc0]),
        ("a hello without an end", hello_without_end.repeat(4)),
    ];
    for (count, (what, bytes)) in all.iter().enumerate() {
        for address in [secure.node.http, secure.node.ws.unwrap()] {
            let mut web = Web::connect(address);
            // It need not wait for the last byte to refuse.
            let _ = web.try_send(bytes);
            while web.read_more() {}
            assert!(!web.buffer.starts_with(b"HTTP"), "{what}");
            // Else what it said was lost with what it had not read.
            assert!(web.buffer.is_empty() || web.buffer[0] == 21, "{what}: {:?}", web.buffer);
        }
        secure.wait_for_closed("tls_failed", 2 * (count as u64 + 1));
    }
    assert_eq!(secure.handshakes("failed"), 2 * all.len() as u64);
    secure.user("unharmed").assert_alive();
}

#[test]
fn who_speaks_plain_http_reads_what_is_wrong() {
    let secure = Secure::start(&["--ws-port", "auto"]);
    let requests = ["GET / HTTP/1.1\r\nHost: node\r\n\r\n".to_owned(), upgrade("/ws", ""), "G".to_owned()];
    for request in &requests {
        for address in [secure.node.http, secure.node.ws.unwrap()] {
            let mut web = Web::connect(address);
            web.send(request);
            let answer = web.response();
            assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{request}");
            assert!(answer.json()["error"].as_str().unwrap().contains("https://"), "{answer:?}");
            web.assert_ends();
        }
    }
    secure.wait_for_closed("tls_failed", 6);
    assert_eq!(secure.handshakes("failed"), 6);
}

#[test]
fn an_alert_says_what_is_wrong() {
    let secure = Secure::start(&[]);
    let mut web = Web::connect(secure.node.http);
    // A record of a type that there is not.
    web.send([99, 3, 1, 0, 1, 0]);
    while web.read_more() {}
    // Type, version and length; then how bad and what (RFC 8446, section 6).
    assert!(matches!(web.buffer[..], [21, 3, _, 0, 2, 2, _]), "{:?}", web.buffer);
}

/// What a client sends first.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_handshake_that_breaks_off_anywhere_harms_nobody() {
    let secure = Secure::start(&["--reactors", "1"]);
    let mut bystander = secure.user("bystander");
    let hello = client_hello(&secure.config);
    for end in 0..=hello.len() {
        let mut web = Web::connect(secure.node.http);
        web.send(&hello[..end]);
        drop(web);
    }
    for at in (0..hello.len()).step_by(3) {
        let mut changed = hello.clone();
        changed[at] ^= 0xff;
        let mut web = Web::connect(secure.node.http);
        web.send(&changed);
        web.stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Whatever it makes of it, it comes to an end with it.
        while web.read_more() {}
    }
    bystander.assert_alive();
    eventually("none of them is left", || secure.sockets() <= 2);
}

#[test]
fn who_stalls_has_as_long_as_for_any_handshake() {
    let secure = Secure::start(&["--handshake-timeout", "3s"]);
    let hello = client_hello(&secure.config);
    let start = Instant::now();
    let silent = Web::connect(secure.node.http);
    let mut begun = Web::connect(secure.node.http);
    begun.send(&hello[..hello.len() / 2]);
    let mut unanswered = Web::connect(secure.node.http);
    unanswered.send(&hello);
    let secured = secure.web();
    let mut asking = secure.web();
    asking.send("GET /ws HTTP/1.1\r\nHost: no");
    for (mut web, what) in [
        (silent, "says nothing"),
        (begun, "stops in its hello"),
        (unanswered, "does not answer"),
        (secured, "asks for nothing"),
        (asking, "stops in its request"),
    ] {
        loop {
            match web.try_read_more() {
                Ok(true) => {}
                Ok(false) => break,
                // An end that is not said in TLS is one all the same.
                Err(error)
                    if [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    let lasted = start.elapsed();
    assert!((Duration::from_millis(2950)..Duration::from_secs(20)).contains(&lasted), "{lasted:?}");
    secure.wait_for_closed("handshake_timeout", 5);
}

#[test]
fn who_comes_back_resumes_with_a_ticket() {
    let secure = Secure::start(&["--reactors", "2"]);
    for version in VERSIONS {
        let config = Arc::new(secure.authority.trusting(&[version]));
        for (number, kind) in
            [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].iter().enumerate()
        {
            let mut web = secure.web_at(secure.node.http, &config);
            assert_eq!(web.tls.as_deref().unwrap().handshake_kind(), Some(*kind), "{version:?}, {number}");
            // In TLS 1.3 the ticket for the next one comes with what is read first.
            assert_eq!(web.request("GET", "/livez", "", "").status, 200);
        }
    }
    assert_eq!(secure.handshakes("resumed"), 4);
}

/// Whether a client gets as far as an answer.
fn is_served(node: &Node, config: ClientConfig) -> bool {
    let Ok(mut web) = Web::connect(node.http).secure(&Arc::new(config)) else { return false };
    // With TLS 1.3 a client learns what is thought of its certificate when it has sent its first data.
    let _ = web.try_send(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n");
    match web.try_read_more() {
        Ok(true) => web.response().status == 200,
        Ok(false) => panic!("it ended without a reason"),
        Err(_) => false,
    }
}

#[test]
fn clients_show_certificates_where_that_is_asked_for() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let shown = authority.server("server");
    let (known, stranger) = (clients.client("known"), strangers.client("stranger"));
    // A server's certificate says that it is not for clients.
    let server = clients.server("other-server");
    let (ca, flags) = (clients.ca(), shown.flags());
    for (auth, nobody) in [("", false), ("required", false), ("optional", true)] {
        let asked = ["--tls-client-auth", auth];
        let asked = if auth.is_empty() { &[][..] } else { &asked };
        let node = Launch::serve(&[&flags[..], &["--tls-client-ca", text(&ca)], asked].concat()).start();
        for version in VERSIONS {
            let check = |config, expected: bool, who: &str| {
                assert_eq!(is_served(&node, config), expected, "{who}, {auth:?}, {version:?}");
            };
            check(authority.trusting(&[version]), nobody, "nobody");
            check(authority.trusting_as(&[version], &known), true, "known");
            check(authority.trusting_as(&[version], &stranger), false, "a stranger");
            check(authority.trusting_as(&[version], &server), false, "a server");
        }
        let config = Arc::new(authority.trusting_as(&VERSIONS, &known));
        let metrics = || {
            let web = Web::connect(node.http).secure(&config).unwrap().request("GET", "/metrics", "", "");
            String::from_utf8(web.body).unwrap()
        };
        let failed = if nobody { 4 } else { 6 };
        let sample = format!("throng_tls_handshakes_total{{outcome=\"failed\"}} {failed}\n");
        eventually(&sample, || metrics().contains(&sample));
    }
}

#[test]
fn a_certificate_that_has_expired_is_not_resumed() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (shown, ca) = (authority.server("server"), clients.ca());
    let node = Launch::serve(&[&shown.flags()[..], &["--tls-client-ca", text(&ca)]].concat()).start();
    for version in VERSIONS {
        // Long enough to connect with it, however slow the machine is.
        let config = (1u64..)
            .map(|seconds| clients.client_for("short", Duration::from_secs(seconds.pow(2))))
            .map(|who| authority.trusting_as(&[version], &who))
            .find(|config| is_served(&node, config.clone()))
            .unwrap();
        let mut without_tickets = config.clone();
        without_tickets.resumption = Resumption::disabled();
        eventually("it has expired", || !is_served(&node, without_tickets.clone()));
        assert!(!is_served(&node, config), "{version:?}");
    }
}

#[test]
fn a_client_does_not_trust_another_authority() {
    let secure = Secure::start(&[]);
    let stranger = Arc::new(Authority::new().trusting(&VERSIONS));
    let error = Web::connect(secure.node.http).secure(&stranger).err().unwrap();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // It says so to the node, in an alert.
    eventually("it is counted", || secure.handshakes("failed") == 1);
}

#[test]
fn one_port_alone_may_speak_tls() {
    let authority = Authority::new();
    let shown = authority.server("server");
    let config = Arc::new(authority.trusting(&VERSIONS));
    let start = |listener: &str| {
        let args = [&shown.flags()[..], &["--ws-port", "auto", "--tls-listener", listener]].concat();
        Launch::serve(&args).start()
    };
    let node = start("ws");
    let mut plain = node.user("plain");
    let secured = Web::connect(node.ws.unwrap()).secure(&config).unwrap();
    let mut secured = Socket::over(secured, "/?user_id=secured");
    assert_eq!(secured.json()["type"], "welcome");
    plain.send_message("secured", "to TLS");
    assert_eq!(secured.json()["content"], "to TLS");
    secured.send_message("plain", "from TLS");
    assert_eq!(plain.json()["content"], "from TLS");
    node.post("/api/broadcast", r#"{"message":"to all"}"#);
    assert_eq!((plain.json(), secured.json()), ("to all".into(), "to all".into()));

    let node = start("http");
    assert_eq!(Socket::connect(node.ws.unwrap(), "/", "").json()["type"], "welcome");
    let mut web = Web::connect(node.http).secure(&config).unwrap();
    assert_eq!(web.request("GET", "/readyz", "", "").status, 200);
}

#[test]
fn tls_is_in_the_ready_line_and_in_the_log() {
    let authority = Authority::new();
    let shown = authority.server("server");
    let check = |args: &[&str], listeners: Option<&str>, says: &[&str]| {
        let mut process = Launch::serve(&[&shown.flags()[..], args].concat()).spawn();
        let ready = process.stdout_line().unwrap();
        assert_eq!(ready.split(' ').find_map(|word| word.strip_prefix("tls=")), listeners, "{ready}");
        let line = process.log_line("listening on");
        assert!(says.iter().all(|text| line.contains(text)), "{line}");
        process.signal(libc::SIGTERM);
        process.wait();
    };
    check(&["--ws-port", "auto"], Some("http,ws"), &["https://", "wss://"]);
    check(&["--ws-port", "off"], Some("http"), &["https://"]);
    check(&["--ws-port", "auto", "--tls-listener", "ws"], Some("ws"), &["http://", "wss://"]);
    let mut process = Launch::serve(&[]).spawn();
    let ready = process.stdout_line().unwrap();
    assert!(!ready.contains("tls="), "{ready}");
    process.signal(libc::SIGTERM);
    process.wait();
}

#[test]
fn a_full_node_does_not_answer_what_cannot_be_understood() {
    let secure = Secure::start(&["--max-connections", "1"]);
    let mut only = secure.user("only");
    let refused = Socket::try_over(secure.web(), "/ws").err().expect("it takes no more");
    assert_eq!(refused.status, 503);
    // Those that are not even taken, when more wait than are spared for, are ended in silence.
    let mut waiting: Vec<TcpStream> =
        (0..SPARED + 50).map(|_| TcpStream::connect(secure.node.http).unwrap()).collect();
    waiting.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    eventually("some have ended", || {
        let mut said = [0; 64];
        let mut ended = 0;
        for stream in &mut waiting {
            match stream.read(&mut said) {
                Ok(count) => {
                    assert_eq!(count, 0, "{said:?}");
                    ended += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        ended > 0
    });
    drop(waiting);
    only.assert_alive();
}

#[test]
fn a_crowd_that_comes_at_once_is_taken_in_parts() {
    /// Handshakes begun in one turn.
    const PART: usize = 32;
    const CROWD: usize = 10 * PART;
    let doors = ["--ws-port", "auto", "--tls-listener", "ws", "--reactors", "1"];
    // However long this takes, nobody is late.
    let secure = Secure::start(&[&doors[..], &["--handshake-timeout", "1m"]].concat());
    let mut crowd: Vec<Web> = (0..CROWD).map(|_| Web::connect(secure.node.ws.unwrap())).collect();
    let accepted = || secure.node.metric(r#"throng_sockets{reactor="0"}"#) as usize >= CROWD;
    eventually("all are accepted", accepted);
    let turns = || secure.node.metric("throng_reactor_turns_total") as usize;
    let before = turns();
    // All of them have something to say when it looks again.
    secure.node.process.signal(libc::SIGSTOP);
    crowd.iter_mut().for_each(|web| web.send(client_hello(&secure.config)));
    secure.node.process.signal(libc::SIGCONT);
    crowd.iter_mut().for_each(|web| assert!(web.read_more()));
    assert!(turns() - before >= CROWD / PART, "{before} to {}", turns());
}

#[test]
fn an_address_that_begins_too_many_handshakes_is_turned_away() {
    let args = ["--ws-port", "auto", "--tls-listener", "ws", "--reactors", "2"];
    // 4 for each WebSocket, and one a second.
    let (limit, taken) = (["--connections-per-address", "2/60"], 4 * 2 + 60);
    let check = |args: &[&str], taken: usize, upgraded: usize| {
        let secure = Secure::start(args);
        let door = secure.node.ws.unwrap();
        let begin = || Web::connect_from([127, 0, 0, 9], door).secure(&secure.config);
        let answers: Vec<bool> =
            (0..taken).map(|_| Socket::try_over(begin().unwrap(), "/").is_ok()).collect();
        assert_eq!(answers.iter().filter(|answer| **answer).count(), upgraded, "{args:?}");
        (secure, door)
    };
    let (secure, door) = check(&[&args[..], &limit[..]].concat(), taken, 2);
    for _ in 0..3 {
        // Nothing is computed for it: the connection ends before a byte of an answer.
        let mut web = Web::connect_from([127, 0, 0, 9], door);
        let hello = client_hello(&secure.config);
        let _ = web.try_send(&hello);
        while web.read_more() {}
        assert_eq!(web.buffer, b"");
    }
    let outcome = |outcome: &str| format!(r#"throng_tls_handshakes_total{{outcome="{outcome}"}}"#);
    let count = |name: &str| secure.node.metric(&outcome(name));
    assert_eq!(
        (count("full") + count("resumed"), count("address_rate"), count("failed")),
        (taken as u64, 3, 0)
    );
    assert_eq!(secure.node.metric(r#"throng_handshakes_total{outcome="address_rate"}"#), taken as u64 - 2);
    // Others are not concerned, nor is what speaks no TLS.
    let other = Web::connect_from([127, 0, 0, 10], door).secure(&secure.config).unwrap();
    assert_eq!(Socket::over(other, "/").json()["type"], "welcome");
    for _ in 0..20 {
        let mut plain = Web::connect_from([127, 0, 0, 9], secure.node.http);
        assert_eq!(plain.request("GET", "/livez", "", "").status, 200);
    }
    // A proxy's handshakes are those of its clients, who count by themselves.
    check(&[&args[..], &limit[..], &["--trusted-proxy", "127.0.0.9"]].concat(), taken + 5, 2);
    check(&args, taken + 5, taken + 5);
}
