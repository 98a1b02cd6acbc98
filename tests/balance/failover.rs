//! A node dies or hangs: its clients are told, and served by the others.

use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::balancer::Balancer;
use crate::client::{Client, End, instance_of};
use crate::node::{Node, eventually};
use crate::socket::{BINARY, FIN, PING, Socket, TEXT, upgrade};
use crate::stub::{self, Call, SWITCHING, Stub};

/// With the usual settings a dead backend is out within this time, however it died.
const HEALTH_WINDOW: Duration = Duration::from_secs(10);
/// Settings with which no test has to wait so long.
const QUICK: [&str; 6] = ["--health-interval", "300ms", "--health-timeout", "250ms", "--slow-start", "1s"];
const CLIENTS: usize = 90;

fn three_nodes() -> [Node; 3] {
    std::array::from_fn(|_| Node::start(&["--reactors", "1"]))
}

/// Clients of `victim` and of the others; each of three nodes has its share.
fn parted(clients: Vec<Client>, victim: &str) -> (Vec<Client>, Vec<Client>) {
    let (lost, kept): (Vec<_>, Vec<_>) = clients.into_iter().partition(|client| client.instance == victim);
    assert_eq!((lost.len(), kept.len()), (CLIENTS / 3, CLIENTS * 2 / 3));
    (lost, kept)
}

/// The clients of a node that went at `since`: each is told to come back, and at
/// its first try is served by another instance. How long the last one was away.
fn come_back(lost: Vec<Client>, since: Instant, victim: &str) -> Duration {
    let coming = lost.into_iter().map(|mut client| {
        thread::spawn(move || {
            let end = client.end();
            let mut client = client.join_again();
            let away = since.elapsed();
            client.socket.assert_alive();
            (end, client.instance, away)
        })
    });
    let coming: Vec<_> = coming.collect();
    let back: Vec<_> = coming.into_iter().map(|client| client.join().unwrap()).collect();
    for (end, instance, _) in &back {
        assert!(matches!(end, End::Told(1012, reason) if !reason.is_empty()), "{end:?}");
        assert_ne!(instance, victim);
    }
    back.iter().map(|(_, _, away)| *away).max().unwrap()
}

#[test]
fn clients_of_a_killed_node_are_served_by_the_others() {
    let nodes = three_nodes();
    let balancer = Balancer::start(&nodes, &[]);
    let victim = instance_of(&nodes[0]);
    let (lost, mut kept) = parted(balancer.clients(CLIENTS), &victim);
    nodes[0].process.signal(libc::SIGKILL);
    let away = come_back(lost, Instant::now(), &victim);
    println!("the last of {} clients was back {away:?} after the kill", CLIENTS / 3);
    assert!(away < HEALTH_WINDOW, "{away:?}");
    kept.iter_mut().for_each(|client| client.socket.assert_alive());
    eventually("it is known to be dead", || balancer.state_of(&nodes[0]) != "up");
    // Whoever comes now never sees it.
    balancer.clients(CLIENTS / 3).iter().for_each(|client| assert_ne!(client.instance, victim));
}

#[test]
fn clients_of_a_node_that_hangs_are_served_by_the_others() {
    let nodes = three_nodes();
    let balancer = Balancer::start(&nodes, &QUICK);
    let victim = instance_of(&nodes[0]);
    let (lost, mut kept) = parted(balancer.clients(CLIENTS), &victim);
    // The kernel goes on accepting for it: only checks can tell.
    nodes[0].process.signal(libc::SIGSTOP);
    let since = Instant::now();
    eventually("it is known to be down", || balancer.state_of(&nodes[0]) == "down");
    let away = come_back(lost, since, &victim);
    println!("the last of {} clients was back {away:?} after the node hung", CLIENTS / 3);
    assert!(away < Duration::from_secs(5), "{away:?}");
    kept.iter_mut().for_each(|client| client.socket.assert_alive());
}

#[test]
fn a_node_that_comes_back_gets_clients_again() {
    let mut nodes = three_nodes();
    let balancer = Balancer::start(&nodes, &QUICK);
    nodes[0].process.signal(libc::SIGKILL);
    eventually("it is known to be dead", || balancer.state_of(&nodes[0]) != "up");
    let port = nodes[0].http.port().to_string();
    // The port is free when the process is gone.
    nodes[0].process.wait();
    nodes[0] = Node::start(&["--reactors", "1", "--port", &port]);
    let again = instance_of(&nodes[0]);
    eventually("it serves new clients", || Client::join(balancer.http, 0).instance == again);
    eventually("it has come up slowly", || balancer.state_of(&nodes[0]) == "up");
    let share = balancer.clients(CLIENTS).iter().filter(|client| client.instance == again).count();
    assert_eq!(share, CLIENTS / 3);
}

#[test]
fn clients_of_a_lost_node_are_told_over_a_while() {
    const WINDOW: Duration = Duration::from_secs(1);
    let nodes: [Node; 2] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let balancer = Balancer::start(&nodes, &["--failover-window", "1s", "--reactors", "2"]);
    let victim = instance_of(&nodes[0]);
    let (lost, _kept): (Vec<_>, Vec<_>) =
        balancer.clients(CLIENTS).into_iter().partition(|client| client.instance == victim);
    nodes[0].process.signal(libc::SIGKILL);
    let since = Instant::now();
    let told = lost.into_iter().map(|mut client| {
        thread::spawn(move || {
            assert_eq!(client.end(), End::Told(1012, "Backend lost, come back".into()));
            since.elapsed()
        })
    });
    let told: Vec<_> = told.collect();
    let mut told: Vec<_> = told.into_iter().map(|client| client.join().unwrap()).collect();
    told.sort();
    let (first, last) = (told[0], told[told.len() - 1]);
    assert!(last - first > WINDOW / 2, "all between {first:?} and {last:?}");
    assert!(last < 3 * WINDOW, "{last:?}");
    // Not in a few lumps either.
    let largest_gap = told.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    assert!(largest_gap < WINDOW / 2, "{told:?}");
    eventually("all are counted", || balancer.ended("backend_lost") == told.len() as u64);
}

/// A WebSocket through a balancer without a failover window, the balancer, and its end at the backend.
fn stubbed() -> (Balancer, Socket, Call) {
    let stub = Stub::start();
    let balancer = Balancer::over(&[stub.address], &["--health-interval", "1h", "--failover-window", "0s"]);
    let mut web = balancer.web();
    web.send(upgrade("/ws", ""));
    let mut call = stub.call();
    call.web.send(SWITCHING);
    (balancer, Socket::accept(web).unwrap(), call)
}

#[test]
fn between_two_frames_the_client_is_told() {
    // Of one message or of two, whatever their lengths.
    for (first, length) in
        [(TEXT, 5), (FIN | BINARY, 125), (FIN | TEXT, 126), (FIN | BINARY, 70_000), (FIN | PING, 3)]
    {
        let (balancer, mut socket, mut call) = stubbed();
        call.web.send(stub::frame(first, &vec![b'x'; length]));
        assert_eq!(socket.frame().first, first);
        drop(call);
        assert_eq!(socket.closed_with(), (1012, "Backend lost, come back".into()));
        drop(socket);
        eventually("it is counted", || balancer.ended("backend_lost") == 1);
        assert_eq!(balancer.ended("backend_lost_mid_frame"), 0);
    }
}

#[test]
fn within_a_frame_the_client_is_cut_off() {
    let whole = stub::frame(FIN | BINARY, &[b'x'; 300]);
    for cut in [1, 2, 3, 4, 5, 200, whole.len() - 1] {
        let (balancer, mut socket, mut call) = stubbed();
        call.web.send([&whole, &whole[..cut]].concat());
        drop(call);
        assert_eq!(socket.frame().payload.len(), 300);
        let web = socket.web();
        while web.read_more() {}
        assert_eq!(web.buffer, whole[..cut], "nothing is made up");
        assert_eq!(balancer.ended("backend_lost_mid_frame"), 1);
    }
}

#[test]
fn a_backend_that_resets_its_connection_is_lost_too() {
    let (balancer, mut socket, mut call) = stubbed();
    call.web.send(stub::frame(FIN | TEXT, b"last"));
    assert_eq!(socket.frame().payload, b"last");
    SockRef::from(&call.web.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(call);
    assert_eq!(socket.closed_with(), (1012, "Backend lost, come back".into()));
    balancer.wait_for_connections(0);
    assert_eq!(balancer.metric("throng_balancer_failovers_total"), 1);
}
