//! The node as a library.

use std::net::Ipv4Addr;
use std::time::Duration;

use crossbeam_channel::Receiver;
use throng::delivery::{KickStatus, Outcome, Status};
use throng::drain::Phase;
use throng::reactor::message::Presence;
use throng::server::{Ending, KickOptions, ServerEvent};
use throng::{Config, Server};

use crate::node::{DEADLINE, eventually};
use crate::socket::Socket;

fn config() -> Config {
    Config {
        bind: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        ws_port: None,
        reactors: 3,
        lame_duck: Duration::ZERO,
        drain_window: Duration::from_millis(200),
        ..Config::default()
    }
}

fn join(server: &Server, user: &str) -> Socket {
    let mut socket = Socket::connect(server.http_addr(), &format!("/ws?user_id={user}"), "");
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

fn next(presence: &Receiver<Presence>) -> Presence {
    presence.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn presence_is_told_at_the_first_and_the_last_connection() {
    let server = Server::start(config()).unwrap();
    let presence = server.presence().unwrap();
    assert!(server.presence().is_none(), "there is one stream");
    let bobs: Vec<Socket> = (0..10).map(|_| join(&server, "bob")).collect();
    assert_eq!(next(&presence), Presence::Online("bob".into()));
    let _alice = join(&server, "alice");
    assert_eq!(next(&presence), Presence::Online("alice".into()), "bob came once");
    eventually("all of bob's connections are known", || {
        server.user_connections("bob").unwrap().connections.len() == bobs.len()
    });
    drop(bobs);
    assert_eq!(next(&presence), Presence::Offline("bob".into()));
    server.kick_user("alice", &KickOptions::default());
    assert_eq!(next(&presence), Presence::Offline("alice".into()));
    let _anonymous = Socket::connect(server.http_addr(), "/ws", "");
    let _carol = join(&server, "carol");
    assert_eq!(next(&presence), Presence::Online("carol".into()), "nobody is told of the anonymous");
}

#[test]
fn a_program_sends_and_learns_what_became_of_it() {
    let server = Server::start(config()).unwrap();
    assert_eq!(server.send_to_user("bob", "1").status, Status::Offline);
    assert!(!server.user_connections("bob").unwrap().online);
    assert_eq!(server.kick_user("bob", &KickOptions::default()).status, KickStatus::Offline);
    let mut bobs: Vec<Socket> = (0..8).map(|_| join(&server, "bob")).collect();
    let mut alice = join(&server, "alice");
    let sent = server.send_to_user("bob", r#"{"n":1}"#);
    assert_eq!((sent.status, sent.connections.len()), (Status::Delivered, 8));
    assert!(
        sent.connections.iter().all(|one| one.status == Outcome::Delivered && one.node == server.node_id())
    );
    server.post_to_user("bob", r#"{"n":2}"#).unwrap();
    let all = server.broadcast(r#"{"n":3}"#);
    assert_eq!((all.connections, all.nodes[0].unconfirmed), (9, 0));
    for bob in &mut bobs {
        // A broadcast takes no detour by the user's home, so it may come first.
        let mut numbers = [0; 3].map(|_| bob.json()["n"].as_u64().unwrap());
        assert_eq!(numbers[0], 1);
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
    }
    assert_eq!(alice.json()["n"], 3);
    assert_eq!(server.connections(), 9);
    let options = KickOptions { reason: "enough".into(), notify: true, message: None };
    let kicked = server.kick_user("bob", &options);
    assert_eq!((kicked.status, kicked.connections.len()), (KickStatus::Kicked, 8));
    for bob in &mut bobs {
        assert_eq!(bob.json(), serde_json::json!({"type": "kicked", "reason": "enough"}));
        assert_eq!(bob.closed_with(), (4003, "enough".to_owned()));
    }
    assert!(!server.user_connections("bob").unwrap().online);
    alice.assert_alive();
}

#[test]
fn a_drain_is_reported_in_its_phases() {
    let server = Server::start(config()).unwrap();
    let mut alice = join(&server, "alice");
    assert_eq!(server.phase(), Phase::Serving);
    server.drain();
    assert_eq!(alice.json()["type"], "shutdown");
    assert_eq!(alice.closed_with().0, 1012);
    let events: Vec<ServerEvent> = server.events().iter().take(4).collect();
    let expected = [Phase::LameDuck, Phase::Closing, Phase::Drained].map(ServerEvent::Phase);
    assert_eq!(events[..3], expected);
    assert_eq!(events[3], ServerEvent::Ended(Ending::Drained { forced: 0 }));
    assert_eq!(server.wait(), Ending::Drained { forced: 0 });
}

#[test]
fn dropping_the_handle_frees_the_port() {
    let server = Server::start(config()).unwrap();
    let address = server.http_addr();
    let mut alice = join(&server, "alice");
    let taken = Server::start(Config { port: address.port(), ..config() });
    assert!(taken.is_err_and(|error| error.to_string().contains("in use")));
    drop(server);
    assert_eq!(alice.try_frame(), None);
    let again = Server::start(Config { port: address.port(), ..config() }).unwrap();
    assert_eq!(again.http_addr(), address);
}
