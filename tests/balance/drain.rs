//! A node leaves by SIGTERM: its clients have all that was announced to them
//! before they are sent to the others.

use std::thread;

use serde_json::Value;

use crate::balancer::Balancer;
use crate::client::{Client, End, instance_of};
use crate::node::{Node, eventually};
use crate::socket::{self, BINARY, CLOSE, FIN, Socket, upgrade};
use crate::stub::{self, SWITCHING, Stub};

const CLIENTS: usize = 60;
/// Nodes that send business to every client, and when they leave, time for a balancer to notice.
const BUSY: [&str; 9] = [
    "--reactors",
    "1",
    "--simulate",
    "--simulate-interval",
    "100ms",
    "--lame-duck",
    "1500ms",
    "--drain-window",
    "1s",
];
const QUICK: [&str; 4] = ["--health-interval", "300ms", "--health-timeout", "250ms"];

/// A client of a node that leaves: takes all that is sent until the close frame
/// and checks that it is all that was announced, in order.
fn see_it_leave(client: &mut Client) {
    let (mut last, mut announced) = (0, None::<Value>);
    loop {
        let message = client.socket.message();
        if message.first == FIN | CLOSE {
            let (code, reason) = socket::close_of(&message);
            assert_eq!((code, reason.as_str()), (1012, "Server is draining"), "after {last}, {announced:?}");
            client.socket.answer_close(code);
            break;
        }
        let message: Value = serde_json::from_slice(&message.payload).unwrap();
        match message["type"].as_str() {
            Some("business") => {
                last += 1;
                assert_eq!(message["seq"], last, "{message}");
            }
            Some("shutdown") => announced = Some(message),
            _ => panic!("{message}"),
        }
    }
    let notice = announced.expect("a notice before the close frame");
    assert!(notice["final_messages"].as_u64().unwrap() >= 1, "{notice}");
    assert_eq!(notice["last_seq"], last, "all that was announced has come");
}

#[test]
fn nobody_loses_a_message_that_a_leaving_node_announced() {
    let mut nodes: [Node; 3] = std::array::from_fn(|_| Node::start(&BUSY));
    let balancer = Balancer::start(&nodes, &QUICK);
    let leaving = instance_of(&nodes[0]);
    let clients = balancer.clients(CLIENTS);
    let (told, mut kept): (Vec<_>, Vec<_>) = clients.into_iter().partition(|one| one.instance == leaving);
    assert_eq!(told.len(), CLIENTS / 3);
    nodes[0].process.signal(libc::SIGTERM);
    let told: Vec<_> = told
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                see_it_leave(&mut client);
                let mut client = client.join_again();
                // It carries on with its work there.
                let business = client.socket.json();
                assert_eq!((&business["type"], &business["seq"]), (&"business".into(), &1.into()));
                client.instance
            })
        })
        .collect();
    eventually("the balancer has noticed", || balancer.state_of(&nodes[0]) == "draining");
    // It serves those it has, and gets nobody new.
    for newcomer in balancer.clients(CLIENTS / 3) {
        assert_ne!(newcomer.instance, leaving);
    }
    for client in told {
        assert_ne!(client.join().unwrap(), leaving);
    }
    assert_eq!(nodes[0].process.wait().code(), Some(0));
    let summary = nodes[0].process.log_line("drained in");
    assert!(summary.contains(" 0 cut off"), "{summary}");
    // The others' clients have noticed nothing.
    for client in &mut kept {
        assert_eq!(client.socket.json()["type"], "business");
    }
}

#[test]
fn a_leaving_balancer_tells_its_clients() {
    let nodes: [Node; 2] = std::array::from_fn(|_| Node::start(&["--reactors", "1"]));
    let mut balancer = Balancer::start(&nodes, &["--lame-duck", "0s", "--drain-window", "300ms"]);
    let clients = balancer.clients(CLIENTS);
    balancer.process.signal(libc::SIGTERM);
    for mut client in clients {
        let end = client.end();
        assert!(matches!(&end, End::Told(1012, reason) if !reason.is_empty()), "{end:?}");
    }
    assert_eq!(balancer.process.wait().code(), Some(0));
    for node in &nodes {
        node.wait_for_connections(0);
    }
}

#[test]
fn a_leaving_balancer_cuts_no_frame_in_two() {
    let stub = Stub::start();
    let args = ["--health-interval", "1h", "--lame-duck", "0s", "--drain-window", "0s"];
    let mut balancer = Balancer::over(&[stub.address], &args);
    let open = || {
        let mut web = balancer.web();
        web.send(upgrade("/ws", ""));
        let mut call = stub.call();
        call.web.send(SWITCHING);
        (Socket::accept(web).unwrap(), call)
    };
    let ((mut between, mut its_call), (mut within, mut call)) = (open(), open());
    let frame = stub::frame(FIN | BINARY, &[b'x'; 5000]);
    let (head, tail) = frame.split_at(3000);
    call.web.send(head);
    while within.web().buffer.len() < head.len() {
        assert!(within.web().read_more());
    }
    balancer.process.signal(libc::SIGTERM);
    let told = (1012, "Balancer is draining".to_owned());
    assert_eq!(between.close_frame(), told);
    // The answer to it is the backend's too.
    between.answer_close(1012);
    assert_eq!(its_call.frame().first, FIN | CLOSE);
    let refused = Socket::try_connect(balancer.http, "/ws", "").err().expect("nobody new is let in");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");
    call.web.send(tail);
    assert_eq!(within.frame().payload, [b'x'; 5000]);
    assert_eq!(within.closed_with(), told);
    assert_eq!(balancer.process.wait().code(), Some(0));
}
