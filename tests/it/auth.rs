//! Tokens: who a client is, for how long, and what it may do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Launch, Node, eventually};
use crate::process::{File, refused};
use crate::signing::{ED25519_PUBLIC, P256_PUBLIC, RSA_PUBLIC, SECRET, Signer, jwks, now};
use crate::socket::Socket;
use crate::web::Response;

/// A node that asks for tokens signed with what is in `keys`.
fn node(keys: &File, args: &[&str]) -> Node {
    let usual = ["--auth", "jwt", "--jwt-key-file", keys.path(), "--reactors", "2"];
    Node::start(&[&usual[..], args].concat())
}

fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + 600})
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A welcomed connection with this token.
fn connect(node: &Node, target: &str, token: &str) -> Socket {
    let mut socket = Socket::connect(node.http, target, &bearer(token));
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

/// The refusal of an upgrade.
fn refusal(node: &Node, target: &str, headers: &str) -> Response {
    let mut web = node.web();
    web.send(crate::socket::upgrade(target, headers));
    web.response()
}

fn check_refused(node: &Node, target: &str, headers: &str, status: u16, error: &str) {
    let response = refusal(node, target, headers);
    assert_eq!(response.status, status, "{target} {headers}: {response:?}");
    let body = response.json();
    assert_eq!((&body["error"], &body["status"]), (&error.into(), &status.into()));
    let challenge = response.header("www-authenticate").unwrap();
    let expected = match error.starts_with("a token is required") {
        true => challenge == "Bearer",
        false => challenge.ends_with(&format!("error_description=\"{error}\"")),
    };
    assert!(expected, "{challenge}");
}

const REQUIRED: &str = "a token is required, as Authorization: Bearer, behind the subprotocol throng.jwt, \
                        or as token in the query";

#[test]
fn a_token_may_stand_in_three_places() {
    let keys = File::new("places", SECRET);
    let node = node(&keys, &["--subprotocol", "chat", "--ws-port", "auto"]);
    let token = Signer::secret(SECRET).token(&claims("alice"));

    let mut by_header = connect(&node, "/ws", &token);
    assert_eq!(by_header.answer.header("sec-websocket-protocol"), None);
    by_header.assert_alive();

    let chosen = |offer: &str| {
        let headers = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        let mut socket = Socket::connect(node.http, "/ws", &headers);
        assert_eq!(socket.json()["type"], "welcome");
        socket.answer.header("sec-websocket-protocol").map(str::to_owned)
    };
    assert_eq!(chosen(&format!("throng.jwt, {token}")).as_deref(), Some("throng.jwt"));
    assert_eq!(chosen(&format!("throng.jwt, {token}, chat")).as_deref(), Some("chat"));

    let mut by_query = node.socket(&format!("/ws?user_id=alice&token={token}"));
    assert_eq!(by_query.json()["type"], "welcome");
    let mut echo = Socket::connect(node.http, "/echo", &bearer(&token));
    echo.send_text("hi");
    assert_eq!(echo.message().payload, b"hi");
    let mut any_path = Socket::connect(node.ws.unwrap(), "/whatever", &bearer(&token));
    assert_eq!(any_path.json()["type"], "welcome");

    node.wait_for_connections(4);
    assert_eq!(node.json("/api/users/alice")["connections"].as_array().unwrap().len(), 3);
}

#[test]
fn every_kind_of_key_serves() {
    for (name, public, signer) in [
        ("rsa", RSA_PUBLIC, Signer::rsa()),
        ("p256", P256_PUBLIC, Signer::p256()),
        ("ed25519", ED25519_PUBLIC, Signer::ed25519()),
    ] {
        let keys = File::new(name, public);
        let node = node(&keys, &[]);
        connect(&node, "/ws", &signer.token(&claims("alice"))).assert_alive();
        let forged = Signer::secret(public).token(&claims("alice"));
        let algorithm = "the token is signed with an algorithm that is not accepted";
        check_refused(&node, "/ws", &bearer(&forged), 401, algorithm);
    }
}

#[test]
fn who_has_no_good_token_is_answered_401() {
    let keys = File::new("refusals", SECRET);
    let flags = ["--jwt-issuer", "us", "--jwt-audience", "throng", "--ws-port", "auto"];
    let node = node(&keys, &flags);
    let signer = Signer::secret(SECRET);
    let good = json!({"sub": "alice", "exp": now() + 600, "iss": "us", "aud": ["x", "throng"]});
    let check = |name: &str, value: Value, error: &str| {
        let mut claims = good.clone();
        claims[name] = value;
        check_refused(&node, "/ws", &bearer(&signer.token(&claims)), 401, error);
    };
    check("exp", json!(now() - 60), "the token has expired");
    check("exp", json!("soon"), "a claim of the token is malformed: exp");
    check("nbf", json!(now() + 90), "the token is not valid yet");
    check("iss", json!("them"), "the token is of another issuer");
    check("aud", json!("other"), "the token is for another audience");
    check("sub", json!(""), "the token has no sub that can be a user id");
    check("sub", json!("anon-1-2"), "the token has no sub that can be a user id");
    check("sub", json!("x".repeat(257)), "the token has no sub that can be a user id");
    check("throng", json!({"sned": []}), "a claim of the token is malformed: throng");

    let token = signer.token(&good);
    let other = Signer::secret("another-secret-of-at-least-32-bytes").token(&good);
    let unsigned =
        format!("{}.", signer.token_with(&json!({"alg": "none"}), &good).rsplit_once('.').unwrap().0);
    let check = |headers: &str, error: &str| check_refused(&node, "/ws", headers, 401, error);
    check(&bearer(&other), "the signature of the token is wrong");
    check(&bearer(&unsigned), "the token is signed with an algorithm that is not accepted");
    check(&bearer("nonsense"), "the token is not a signed JWT in compact form");
    check(&bearer(&"x".repeat(8193)), "the token is too long");
    check("Authorization: Basic eDp5\r\n", REQUIRED);
    let any_path = Socket::try_connect(node.ws.unwrap(), "/anything", "");
    assert!(any_path.is_err_and(|answer| answer.status == 401));
    for target in ["/ws", "/echo", "/ws?user_id=alice"] {
        check_refused(&node, target, "", 401, REQUIRED);
    }
    assert_eq!(node.metric(r#"throng_handshakes_total{outcome="unauthorized"}"#), 18);

    let two = format!("/ws?token={other}");
    check_refused(&node, &two, &bearer(&token), 400, "the request has more than one token");
    let another = "user_id is not the sub of the token";
    check_refused(&node, "/ws?user_id=bob", &bearer(&token), 403, another);
    check_refused(&node, "/echo?user_id=bob", &bearer(&token), 403, another);
    connect(&node, "/ws?user_id=alice", &token).assert_alive();
    connect(&node, "/ws?user_id=", &token).assert_alive();
    assert_eq!(node.metric(r#"throng_handshakes_total{outcome="unauthorized"}"#), 20);
    assert_eq!(node.metric(r#"throng_handshakes_total{outcome="malformed"}"#), 1);
    assert_eq!(node.json("/health")["connections"], 0, "no place is kept by who was refused");
    for path in ["/health", "/livez", "/readyz", "/nodes", "/api/users"] {
        assert_eq!(node.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_refusal_gives_its_place_back_and_the_connection_may_ask_again() {
    let keys = File::new("again", SECRET);
    let node = node(&keys, &["--max-connections", "1"]);
    let mut web = node.web();
    for _ in 0..3 {
        web.send(crate::socket::upgrade("/ws", ""));
        assert_eq!(web.response().status, 401);
    }
    let token = Signer::secret(SECRET).token(&claims("alice"));
    web.send(crate::socket::upgrade("/ws", &bearer(&token)));
    let mut socket = Socket::accept(web).unwrap();
    assert_eq!(socket.json()["type"], "welcome");
    assert_eq!(refusal(&node, "/ws", "").status, 503, "what is cheap is looked at first");
}

#[test]
fn the_sub_is_the_user() {
    let keys = File::new("sub", SECRET);
    let node = node(&keys, &[]);
    let signer = Signer::secret(SECRET);
    let mut alice = connect(&node, "/ws", &signer.token(&claims("alice")));
    let mut bob = connect(&node, "/ws?user_id=bob", &signer.token(&claims("bob")));
    alice.send_message("bob", "hello");
    assert_eq!(bob.json(), json!({"type": "message", "from": "alice", "content": "hello"}));
    bob.send_text(r#"{"type":"broadcast","content":1}"#);
    for socket in [&mut alice, &mut bob] {
        assert_eq!(socket.json(), json!({"type": "broadcast", "from": "bob", "content": 1}));
    }
    let kicked = node.post("/api/kick", r#"{"user_id":"alice","reason":"enough"}"#);
    assert_eq!(kicked.status, 200);
    assert_eq!(alice.closed_with(), (4003, "enough".to_owned()));
}

#[test]
fn a_connection_ends_when_its_token_expires() {
    let keys = File::new("expiry", SECRET);
    let node = node(&keys, &["--jwt-leeway", "0s"]);
    let signer = Signer::secret(SECRET);
    let expires_at = now() + 5;
    let token = |expires_at: u64| signer.token(&json!({"sub": "alice", "exp": expires_at}));
    let mut short: Vec<_> = (0..4).map(|_| connect(&node, "/ws", &token(expires_at))).collect();
    short.push(Socket::connect(node.http, "/echo", &bearer(&token(expires_at))));
    let mut long = connect(&node, "/ws", &token(now() + 600));
    for socket in &mut short {
        assert_eq!(socket.close_frame(), (4010, "Token expired".to_owned()));
    }
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let late = wall.checked_sub(Duration::from_secs(expires_at)).expect("not before its time");
    assert!(late < Duration::from_secs(10), "{late:?}");
    short.iter_mut().for_each(|socket| socket.answer_close(4010));
    long.assert_alive();
    assert_eq!(node.metric(r#"throng_connections_closed_total{reason="token_expired"}"#), 5);
    node.wait_for_connections(1);
}

#[test]
fn leeway_is_granted_and_exp_can_be_waived() {
    let keys = File::new("leeway", SECRET);
    let node = node(&keys, &["--jwt-leeway", "5s", "--jwt-require-exp=false"]);
    let signer = Signer::secret(SECRET);
    let opened = Instant::now();
    let mut late = connect(&node, "/ws", &signer.token(&json!({"sub": "alice", "exp": now()})));
    let mut endless = connect(&node, "/ws", &signer.token(&json!({"sub": "bob"})));
    assert_eq!(late.closed_with().0, 4010);
    // It was opened in the second that exp names.
    assert!(opened.elapsed() > Duration::from_millis(3950), "{:?}", opened.elapsed());
    endless.assert_alive();
}

#[test]
fn flags_say_what_clients_may_do_and_a_reload_changes_it() {
    let file = File::new("permissions.toml", "client_broadcast = 'deny'\nclient_send = 'deny'\n");
    let node = Node::start(&["--config", file.path(), "--reactors", "1"]);
    let (mut alice, mut bob) = (node.user("alice"), node.user("bob"));
    let broadcast = r#"{"type":"broadcast","content":1}"#;
    alice.send_text(broadcast);
    assert_eq!(alice.json(), json!({"type": "error", "message": "Not permitted: broadcast"}));
    alice.send_message("bob", "hi");
    let denied = json!({"type": "error", "message": "Not permitted: send_message", "target_user": "bob"});
    assert_eq!(alice.json(), denied);
    bob.assert_alive();
    let counts = node.metrics(&[
        r#"throng_messages_denied_total{action="broadcast"}"#,
        r#"throng_messages_denied_total{action="send_message"}"#,
    ]);
    assert_eq!(counts, [1, 1]);
    let sent = node.post("/api/send", r#"{"user_id":"bob","message":7}"#);
    assert_eq!(sent.json()["status"], "delivered", "programs are not clients");
    assert_eq!(bob.json(), 7);

    file.write("client_send = 'deny'\n");
    node.process.signal(libc::SIGHUP);
    node.process.log_line("changed client_broadcast");
    // The order was given before the log said so, and the node answers in order.
    eventually("the reactor has it", || {
        alice.send_text(broadcast);
        alice.json()["type"] == "broadcast"
    });
    assert_eq!(bob.json()["type"], "broadcast");
    alice.send_message("bob", "hi");
    assert_eq!(alice.json(), denied);
}

#[test]
fn a_token_says_what_its_bearer_may_do() {
    let keys = File::new("grants", SECRET);
    let node = node(&keys, &[]);
    let signer = Signer::secret(SECRET);
    let with = |user: &str, grants: Value| {
        let claims = json!({"sub": user, "exp": now() + 600, "throng": grants});
        connect(&node, "/ws", &signer.token(&claims))
    };
    let mut team = with("team-blue", json!({}));
    let mut listener = with("listener", json!({"broadcast": false, "send": false}));
    let mut member = with("member", json!({"send": ["boss", "team-*"]}));
    let check = |socket: &mut Socket, target: &str, permitted: bool| {
        socket.send_message(target, "x");
        if permitted {
            socket.assert_alive();
        } else {
            let denied =
                json!({"type": "error", "message": "Not permitted: send_message", "target_user": target});
            assert_eq!(socket.json(), denied);
        }
    };
    check(&mut listener, "team-blue", false);
    check(&mut member, "listener", false);
    check(&mut member, "bosses", false);
    check(&mut member, "team-blue", true);
    assert_eq!(team.json()["from"], "member");
    member.send_message("boss", "x");
    assert_eq!(member.json()["message"], "User is not connected", "it may be tried");
    listener.send_text(r#"{"type":"broadcast","content":1}"#);
    assert_eq!(listener.json()["message"], "Not permitted: broadcast");
    member.send_text(r#"{"type":"broadcast","content":2}"#);
    for socket in [&mut team, &mut listener, &mut member] {
        assert_eq!(socket.json()["content"], 2, "who may not send may listen");
    }
    // Another connection in the same place has its own token's grants.
    drop(member);
    eventually("it is gone", || node.json("/api/users/member")["online"] == false);
    let mut next = with("next", json!({"broadcast": true}));
    check(&mut next, "listener", true);
    assert_eq!(listener.json()["from"], "next");
}

#[test]
fn keys_are_changed_without_a_restart() {
    let (old, new) = (Signer::fresh(), Signer::fresh());
    let set = File::new("rotation.json", &jwks(&[old.jwk("old")]));
    let node = Node::start(&["--auth", "jwt", "--jwt-jwks-file", set.path()]);
    let mut stays = connect(&node, "/ws", &old.token_of("old", &claims("alice")));
    let unknown = "the key the token is signed with is not known";
    let by_new = bearer(&new.token_of("new", &claims("bob")));
    check_refused(&node, "/ws", &by_new, 401, unknown);

    set.write(&jwks(&[old.jwk("old"), new.jwk("new")]));
    node.process.log_line("2 keys");
    connect(&node, "/ws", &new.token_of("new", &claims("bob"))).assert_alive();
    connect(&node, "/ws", &old.token_of("old", &claims("bob"))).assert_alive();

    set.write(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"sesame"}]}"#);
    let said = node.process.log_line("the keys of tokens stay as they were");
    assert!(said.contains(set.path()) && said.contains("key 1 (\"new\")"), "{said}");
    assert!(said.contains(" ERROR ") && !said.contains("sesame"), "{said}");
    connect(&node, "/ws", &old.token_of("old", &claims("bob"))).assert_alive();

    // As a file of Kubernetes: another one in its place.
    let next = File::new("rotation.next", &jwks(&[new.jwk("new")]));
    std::fs::rename(next.path(), set.path()).unwrap();
    node.process.log_line("1 key (EdDSA \"new\")");
    check_refused(&node, "/ws", &bearer(&old.token_of("old", &claims("bob"))), 401, unknown);
    stays.assert_alive();

    node.process.signal(libc::SIGHUP);
    node.process.log_line("1 key (EdDSA \"new\")");
    let counts = node.metrics(&[
        r#"throng_token_keys_reads_total{outcome="taken_over"}"#,
        r#"throng_token_keys_reads_total{outcome="refused"}"#,
    ]);
    assert_eq!(counts, [3, 1]);
    std::fs::remove_file(set.path()).unwrap();
    node.process.log_line("cannot be read");
    connect(&node, "/ws", &new.token_of("new", &claims("bob"))).assert_alive();
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start() {
    let check = |args: &[&str], mentions: &[&str]| {
        let (code, stderr) = refused(&Launch::serve(args));
        assert_eq!(code, Some(2), "{stderr:#?}");
        let last = stderr.last().unwrap();
        assert!(last.starts_with("throng: "), "{last}");
        assert!(mentions.iter().all(|words| last.contains(words)), "{mentions:?}: {last}");
        assert!(stderr.iter().all(|line| !line.contains("sesame")), "{stderr:#?}");
    };
    check(&["--auth", "jwt"], &["--auth", "jwt_key_file"]);
    check(&["--auth", "basic"], &["none, jwt"]);
    check(&["--jwt-key-file", "/k.pem"], &["--jwt-key-file", "auth is none"]);
    check(&["--auth", "jwt", "--jwt-key-file", "/k", "--jwt-jwks-file", "/j"], &["set one of them"]);
    check(&["--auth", "jwt", "--jwt-key-file", "/nowhere/k.pem"], &["jwt_key_file: /nowhere/k.pem cannot"]);
    check(&["--auth", "jwt", "--jwt-key-file", "/dev/null"], &["no regular file"]);
    let short = File::new("short", "sesame");
    check(&["--auth", "jwt", "--jwt-key-file", short.path()], &["32 bytes"]);
    let set = File::new("set-as-key", r#"{"keys":["sesame"]}"#);
    check(&["--auth", "jwt", "--jwt-key-file", set.path()], &["jwt_jwks_file"]);
    check(&["--auth", "jwt", "--jwt-jwks-file", set.path()], &["not a JWK Set"]);
    let public = File::new("for-another", RSA_PUBLIC);
    let args = ["--auth", "jwt", "--jwt-key-file", public.path(), "--jwt-algorithm", "HS256"];
    check(&args, &["jwt_algorithms", "RS256"]);
}

#[test]
fn the_log_says_how_clients_show_who_they_are() {
    let open = Node::start(&["--reactors", "1"]);
    let line = open.process.log_line("auth is none");
    assert!(line.contains(" INFO "), "{line}");
    let mut socket = open.socket("/ws?user_id=alice&token=whatever");
    assert_eq!(socket.json()["type"], "welcome", "nobody looks at it");
    let keys = File::new("said", ED25519_PUBLIC);
    let node = node(&keys, &[]);
    let line = node.process.log_line("tokens of clients are checked with 1 key (EdDSA)");
    assert!(line.contains(keys.path()), "{line}");
    node.process.log_line("jwt_audience is not set");
}

#[test]
fn a_client_comes_back_with_a_fresh_token() {
    let keys = File::new("client-keys", SECRET);
    let node = node(&keys, &["--jwt-leeway", "0s"]);
    let signer = Signer::secret(SECRET);
    let token = |seconds: u64| signer.token(&json!({"sub": "alice", "exp": now() + seconds}));
    let file = File::new("client-token", &token(5));
    let url = format!("ws://{}/ws", node.http);
    let quick = ["--backoff-first", "50ms", "--backoff-max", "100ms"];
    let args = ["client", "--url", &url, "--token-file", file.path(), "--json", "--simulate"];
    let mut client = Launch::bare(&[&args[..], &quick].concat()).spawn();
    let mut seen = Vec::new();
    let mut wait_for = |event: &str| loop {
        let line = client.stdout_line().expect("the client goes on");
        assert!(signer_is_silent(&line), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        let is_it = value["event"] == event;
        seen.push(value.clone());
        if is_it {
            return value;
        }
    };
    wait_for("connected");
    assert_eq!(wait_for("disconnected")["code"], 4010);
    let why = wait_for("failed")["why"].as_str().unwrap().to_owned();
    assert!(why.ends_with("answered 401 Unauthorized: the token has expired"), "{why}");
    file.write(&token(600));
    wait_for("connected");
    client.signal(libc::SIGTERM);
    assert_eq!(client.wait().code(), Some(0));

    // One that never was good is a refusal for good.
    file.write(&token(0));
    let mut client = Launch::bare(&args).spawn();
    assert_eq!(client.wait().code(), Some(3));
    let mut by_variable = Launch::bare(&["client", "--url", &url, "--messages", "1"])
        .variable("THRONG_TOKEN", &token(600))
        .spawn();
    assert_eq!(by_variable.wait().code(), Some(0));
}

/// Whether nothing in a line looks like a token.
fn signer_is_silent(line: &str) -> bool {
    !line.contains("eyJ") && !line.contains("Bearer")
}

#[test]
fn nothing_secret_is_shown() {
    let keys = File::new("silence", SECRET);
    let soon = ["--lame-duck", "0s", "--drain-window", "0s", "--drain-timeout", "1s"];
    let mut node = node(&keys, &[&["--log-level", "trace"][..], &soon].concat());
    let signer = Signer::secret(SECRET);
    let tokens = [
        signer.token(&claims("alice")),
        signer.token(&json!({"sub": "alice", "exp": 1})),
        Signer::secret("another-secret-of-at-least-32-bytes").token(&claims("alice")),
        "sesame.sesame.sesame".to_owned(),
    ];
    let mut shown = Vec::new();
    for token in &tokens {
        let by_subprotocol = format!("Sec-WebSocket-Protocol: throng.jwt, {token}\r\n");
        for (target, headers) in [
            (format!("/ws?token={token}"), String::new()),
            ("/ws".to_owned(), bearer(token)),
            ("/ws".to_owned(), by_subprotocol.clone()),
            (format!("/ws?token={token}&user_id=eve"), by_subprotocol),
        ] {
            match Socket::try_connect(node.http, &target, &headers) {
                Ok(mut socket) => {
                    let welcome = socket.json();
                    shown.push(format!("{:?} {welcome}", socket.answer));
                    socket.send(crate::socket::frame(0x88, &1000_u16.to_be_bytes()));
                    while socket.try_frame().is_some() {}
                }
                Err(_) => {
                    let response = refusal(&node, &target, &headers);
                    shown.push(format!("{response:?} {}", response.json()));
                }
            }
        }
    }
    for path in ["/metrics", "/health", "/api/users", "/api/overview", "/api/users/alice"] {
        shown.push(String::from_utf8(node.get(path).body).unwrap());
    }
    node.process.signal(libc::SIGHUP);
    eventually("the reload", || node.metric(r#"throng_token_keys_reads_total{outcome="taken_over"}"#) == 1);
    node.process.signal(libc::SIGTERM);
    shown.extend(node.process.rest_of_stderr());
    node.process.wait();
    assert!(shown.iter().any(|line| line.contains("is refused: the token has expired")), "{shown:#?}");
    let secrets: Vec<&str> =
        tokens.iter().flat_map(|token| token.split('.')).chain([SECRET, "another-secret"]).collect();
    for line in &shown {
        assert!(secrets.iter().all(|secret| !line.contains(secret)), "{line}");
    }
}
