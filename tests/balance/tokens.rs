//! Clients' tokens go through the balancer and nowhere else.

use serde_json::{Value, json};

use crate::balancer::{Balancer, launch};
use crate::node::Launch;
use crate::signing::{SECRET, Signer, now};
use crate::socket::{Socket, upgrade};

#[test]
fn a_token_reaches_the_node_and_is_not_shown() {
    let keys = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("balanced-keys");
    std::fs::write(&keys, SECRET).unwrap();
    let node = Launch::serve(&["--auth", "jwt", "--jwt-key-file", keys.to_str().unwrap()]).start();
    let args = ["--log-level", "trace", "--lame-duck", "0s", "--drain-window", "0s", "--drain-timeout", "1s"];
    let mut balancer = Balancer::launched(&launch(&[node.http.to_string()], &args));
    balancer.wait_until_all_are("up");

    let token = Signer::secret(SECRET).token(&json!({"sub": "alice", "exp": now() + 600}));
    let offer = format!("Sec-WebSocket-Protocol: throng.jwt, {token}\r\n");
    let open = |target: &str, headers: &str| {
        let mut socket = Socket::connect(balancer.http, target, headers);
        assert_eq!(socket.json()["type"], "welcome");
        socket
    };
    let by_header = open("/ws?user_id=alice", &format!("Authorization: Bearer {token}\r\n"));
    let by_query = open(&format!("/ws?token={token}&user_id=alice"), "");
    let by_subprotocol = open("/ws", &offer);
    assert_eq!(by_subprotocol.answer.header("sec-websocket-protocol"), Some("throng.jwt"));
    assert_eq!(node.json("/api/users/alice")["connections"].as_array().map(Vec::len), Some(3));

    // A refusal is the client's answer, not the backend's failure.
    let mut web = balancer.web();
    web.send(upgrade("/ws?token=sesame.sesame.sesame", ""));
    let refused = web.response();
    assert_eq!(refused.status, 401);
    assert!(
        refused.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer error"))
    );
    assert_eq!(balancer.state_of(&node), "up");
    drop(web);

    balancer.wait_for_connections(3);
    let mut shown: Vec<String> =
        ["/api/clients", "/api/backends", "/metrics", "/health", "/api/query?client_id=alice"]
            .iter()
            .map(|path| String::from_utf8(balancer.get(path).body).unwrap())
            .collect();
    let clients: Value = serde_json::from_str(&shown[0]).unwrap();
    assert!(clients.to_string().contains("alice"), "{clients}");
    drop((by_header, by_query, by_subprotocol));
    balancer.wait_for_connections(0);
    balancer.process.signal(libc::SIGTERM);
    shown.extend(balancer.process.rest_of_stderr());
    balancer.process.wait();
    assert!(shown.len() > 8, "it has a log");
    for line in &shown {
        let is_silent = token.split('.').chain(["sesame"]).all(|part| !line.contains(part));
        assert!(is_silent, "{line}");
    }
    let _ = std::fs::remove_file(keys);
}
