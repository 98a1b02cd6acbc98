use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::*;
use crate::balancer::roster::{BackendRecord, EventKind, LiveEvent, Origin, Spec, State};

const DEADLINE: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// A backend that answers checks with `status`; 0: it takes them and says nothing.
struct Node {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    requests: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(at: SocketAddr) -> Node {
        let listener = TcpListener::bind(at).expect("the port is free");
        let address = listener.local_addr().unwrap();
        let (status, stop) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicBool::new(false)));
        let (seen, requests) = unbounded();
        let (its_status, its_stop) = (Arc::clone(&status), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if its_stop.load(Ordering::SeqCst) {
                    return;
                }
                match its_status.load(Ordering::SeqCst) {
                    0 => silent.push(stream),
                    status => drop(seen.send(answer(stream, status))),
                }
            }
        });
        Node { address, status, stop, requests, thread: Some(thread) }
    }

    fn new() -> Node {
        Node::start(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn spec(&self) -> Spec {
        self.address.to_string().parse().unwrap()
    }

    fn say(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(mut stream: TcpStream, status: u16) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    drop(write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"));
    request
}

#[derive(Debug)]
enum Heard {
    Directory(Arc<Directory>),
    Down(BackendId),
    News(Arc<LiveUpdate>),
}

struct Ears(Sender<Heard>);

impl Audience for Ears {
    fn directory(&self, directory: Arc<Directory>) {
        drop(self.0.send(Heard::Directory(directory)));
    }

    fn backend_down(&self, backend: BackendId, _: Arc<str>) {
        drop(self.0.send(Heard::Down(backend)));
    }

    fn news(&self, update: Arc<LiveUpdate>) {
        drop(self.0.send(Heard::News(update)));
    }
}

/// A director and everything it has told.
struct World {
    director: Option<Director>,
    heard: Receiver<Heard>,
    directory: Arc<Directory>,
    records: Arc<[BackendRecord]>,
    events: Vec<LiveEvent>,
    down: Vec<BackendId>,
}

pub(super) fn plan(backends: Vec<Spec>) -> Plan {
    Plan {
        peers: None,
        backends,
        backends_file: None,
        backends_dns: None,
        dns_interval: 50 * MS,
        health_interval: 50 * MS,
        health_timeout: 5000 * MS,
        health_rise: 2,
        health_fall: 3,
        health_path: "/readyz".to_owned(),
        slow_start: 2000 * MS,
        ejection_min: 50 * MS,
        ejection_max: 1000 * MS,
        connect_timeout: 5000 * MS,
        send_proxy_header: false,
    }
}

/// What names stand for in these tests, each of which has names of its own.
fn names() -> &'static Mutex<HashMap<String, Vec<IpAddr>>> {
    static NAMES: OnceLock<Mutex<HashMap<String, Vec<IpAddr>>>> = OnceLock::new();
    NAMES.get_or_init(Mutex::default)
}

fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let known = names().lock().unwrap().get(host).cloned();
    known.ok_or_else(|| io::Error::other("no such name"))
}

fn name(host: &str, addresses: &[[u8; 4]]) {
    let addresses = addresses.iter().map(|address| IpAddr::from(*address)).collect();
    names().lock().unwrap().insert(host.to_owned(), addresses);
}

impl World {
    fn new(plan: Plan) -> World {
        let (ears, heard) = unbounded();
        let director = Prepared::new()
            .expect("descriptors")
            .start_with(plan, Arc::new(Ears(ears)), lookup)
            .expect("started");
        let directory = director.directory();
        let records = Arc::default();
        World { director: Some(director), heard, directory, records, events: Vec::new(), down: Vec::new() }
    }

    fn director(&self) -> &Director {
        self.director.as_ref().unwrap()
    }

    /// Listens until it is so.
    fn wait(&mut self, what: &str, mut so: impl FnMut(&World) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !so(self) {
            match self.heard.recv_deadline(deadline) {
                Ok(Heard::Directory(directory)) => {
                    assert!(directory.version > self.directory.version);
                    self.directory = directory;
                }
                Ok(Heard::Down(id)) => self.down.push(id),
                Ok(Heard::News(update)) => {
                    self.records = Arc::clone(&update.backends);
                    self.events.extend(update.events.iter().cloned());
                }
                Err(_) => panic!("not {what}: {:#?} {:#?}", self.records, self.events),
            }
        }
    }

    fn wait_states(&mut self, expected: &[State]) {
        self.wait(&format!("{expected:?}"), |world| world.states() == expected);
    }

    fn states(&self) -> Vec<State> {
        self.records.iter().map(|record| record.state).collect()
    }

    fn wait_event(&mut self, kind: EventKind) -> LiveEvent {
        self.wait(&format!("{kind:?}"), |world| world.events.iter().any(|event| event.kind == kind));
        let index = self.events.iter().position(|event| event.kind == kind).unwrap();
        self.events.remove(index)
    }

    fn command(&self, command: AdminCommand) -> Result<BackendRecord, AdminError> {
        let (reply, done) = bounded(1);
        self.tell(Observed::Admin { command, reply });
        done.recv_timeout(DEADLINE).expect("an answer").map(|done| done.record)
    }

    fn tell(&self, observed: Observed) {
        self.director().mailbox().post(observed).map_err(drop).expect("room");
    }

    fn names(&self) -> Vec<String> {
        self.director().overview().records().into_iter().map(|record| record.name).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(director) = self.director.take() {
            director.stop();
        }
    }
}

#[test]
fn backends_are_found_to_be_up_draining_and_down() {
    let nodes = [Node::new(), Node::new(), Node::new()];
    nodes[1].say(503);
    nodes[2].say(500);
    let mut world = World::new(plan(nodes.iter().map(Node::spec).collect()));
    assert_eq!(world.directory.backends.len(), 3);
    world.wait_states(&[State::Up, State::Draining, State::Down]);
    assert_eq!(world.directory.available(), 1);
    let check = world.records[2].last_check.clone().unwrap();
    assert_eq!((check.ok, check.status, check.error), (false, Some(500), None));
    assert!(check.latency < DEADLINE);
    nodes[1].say(200);
    nodes[2].say(204);
    world.wait_states(&[State::Up; 3]);
    let request = nodes[0].requests.recv_timeout(DEADLINE).unwrap();
    let request = String::from_utf8(request).unwrap();
    let head = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nUser-Agent: throng-balance/", nodes[0].address);
    assert!(request.starts_with(&head) && request.contains("\r\nConnection: close\r\n"), "{request}");
}

#[test]
fn a_killed_backend_is_out_its_pairs_are_closed_and_it_comes_back() {
    let mut nodes = vec![Node::new(), Node::new()];
    let mut world = World::new(plan(nodes.iter().map(Node::spec).collect()));
    world.wait_states(&[State::Up; 2]);
    assert!(world.directory.backends[0].try_take());
    let id = world.directory.backends[0].id;
    let address = nodes.remove(0).address;
    world.tell(Observed::Lost { backend: id, clients: 7, age_ms: 60_000 });
    world.wait_states(&[State::Down, State::Up]);
    world.wait("closed", |world| world.down == [id]);
    assert_eq!(world.wait_event(EventKind::BackendEjected).backend, Some(id));
    world.wait("both told", |world| {
        let failovers = world.events.iter().filter(|event| event.kind == EventKind::Failover);
        failovers.map(|event| event.clients).sum::<u32>() == 8
    });
    let error = world.records[0].last_check.clone().unwrap().error;
    assert_eq!(error.as_deref(), Some("connection refused"));
    let _again = Node::start(address);
    world.wait("back", |world| world.states()[0].takes());
}

#[test]
fn who_says_nothing_is_down_in_time() {
    let nodes = [Node::new(), Node::new()];
    let mut impatient = plan(nodes.iter().map(Node::spec).collect());
    impatient.health_timeout = 300 * MS;
    let mut world = World::new(impatient);
    world.wait_states(&[State::Up; 2]);
    nodes[1].say(0);
    world.wait_states(&[State::Up, State::Down]);
    assert_eq!(world.records[1].why, "3 checks failed, the last: no answer within 300ms");
}

#[test]
fn failed_connects_eject_and_a_good_check_pardons() {
    let nodes = [Node::new(), Node::new()];
    let mut world = World::new(plan(nodes.iter().map(Node::spec).collect()));
    world.wait_states(&[State::Up; 2]);
    let id = world.directory.backends[1].id;
    world.tell(Observed::ConnectFailed { backend: id, error: "no route".to_owned() });
    world.tell(Observed::ConnectFailed { backend: BackendId(99), error: "nobody".to_owned() });
    let event = world.wait_event(EventKind::BackendEjected);
    assert!(event.text.ends_with("a connect failed: no route"), "{}", event.text);
    world.wait_states(&[State::Up; 2]);
}

#[test]
fn operators_are_answered_when_the_overview_shows_it() {
    let nodes = [Node::new(), Node::new()];
    let mut world = World::new(plan(vec![nodes[0].spec()]));
    world.wait_states(&[State::Up]);
    let added = world.command(AdminCommand::Add(nodes[1].spec())).unwrap();
    assert_eq!((added.origin, world.names().len()), (Origin::Api, 2));
    world.wait_states(&[State::Up; 2]);
    assert!(world.command(AdminCommand::Drain(added.id)).unwrap().admin_drained);
    assert_eq!(world.director().overview().records()[1].state, State::Draining);
    assert_eq!(world.command(AdminCommand::Enable(added.id)).unwrap().state, State::Up);
    assert!(world.directory.backend(added.id).unwrap().try_take());
    assert_eq!(world.director().overview().records()[1].connections, 1, "counters are as they are now");
    world.command(AdminCommand::Remove(added.id)).unwrap();
    assert_eq!(world.names(), [nodes[0].address.to_string()]);
    world.wait("closed", |world| world.down == [added.id] && world.directory.backends.len() == 1);
    assert_eq!(world.command(AdminCommand::Remove(added.id)), Err(AdminError::Unknown(added.id)));
}

/// A file that is removed in the end.
struct Listed(PathBuf);

impl Listed {
    fn new(name: &str, text: &str) -> Listed {
        let path = std::env::temp_dir().join(format!("throng-director-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Listed(path)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn the_file_of_backends_is_watched() {
    let nodes = [Node::new(), Node::new()];
    let line = |node: &Node| format!("{}\n", node.address);
    let file = Listed::new("watched", &line(&nodes[0]));
    let mut watching = plan(Vec::new());
    watching.backends_file = Some(file.0.clone());
    let mut world = World::new(watching.clone());
    assert_eq!(world.directory.backends.len(), 1, "read before the start");
    std::fs::write(&file.0, line(&nodes[0]) + &line(&nodes[1])).unwrap();
    world.wait_states(&[State::Up; 2]);
    world.wait_event(EventKind::FileChanged);
    std::fs::write(&file.0, "nonsense\n").unwrap();
    let event = world.wait_event(EventKind::FileBad);
    assert!(event.text.contains("line 1: \"nonsense\" has no port"), "{}", event.text);
    assert_eq!(world.names().len(), 2, "the old set stays");
    std::fs::write(&file.0, line(&nodes[1])).unwrap();
    let left = [nodes[1].address.to_string()];
    world.wait("one left", |world| world.directory.backends.len() == 1 && world.names() == left);

    watching.backends_file = Some(file.0.with_extension("absent"));
    world.director().follow(watching.clone()).unwrap();
    world.wait_event(EventKind::FileBad);
    assert_eq!(world.names().len(), 1, "another file that is not there changes nothing");
    watching.backends_file = None;
    watching.backends = vec![nodes[0].spec()];
    world.director().follow(watching).unwrap();
    world.wait("the flag's alone", |world| world.names() == [nodes[0].address.to_string()]);
}

#[test]
fn a_file_that_cannot_be_used_prevents_the_start() {
    let mut absent = plan(Vec::new());
    absent.backends_file = Some(PathBuf::from("/nonexistent/backends"));
    let (ears, _heard) = unbounded();
    let error = Prepared::new().unwrap().start(absent, Arc::new(Ears(ears))).map(Director::stop).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/backends: it cannot be read"), "{error}");
}

#[test]
fn names_are_resolved_again_and_again() {
    let node = Node::new();
    let port = node.address.port();
    let other = Node::start(SocketAddr::from(([127, 0, 0, 2], port)));
    name("nodes.test", &[[127, 0, 0, 1]]);
    let mut following = plan(vec![format!("late.test:{port}").parse().unwrap()]);
    following.backends_dns = Some(("nodes.test".to_owned(), port));
    let mut world = World::new(following);
    assert_eq!(world.directory.backends.len(), 0);
    world.wait("resolved", |world| world.directory.available() == 1);
    let event = world.wait_event(EventKind::ResolveFailed);
    assert!(event.text.contains("late.test cannot be resolved"), "{}", event.text);
    name("nodes.test", &[[127, 0, 0, 2], [127, 0, 0, 1]]);
    world.wait("both", |world| world.directory.available() == 2);
    names().lock().unwrap().remove("nodes.test");
    world.wait_event(EventKind::ResolveFailed);
    assert_eq!(world.directory.available(), 2, "a resolver that fails takes nobody away");
    name("nodes.test", &[[127, 0, 0, 2]]);
    world.wait("one", |world| world.directory.backends.len() == 1);
    assert_eq!(world.directory.backends[0].address, other.address);
    name("late.test", &[[127, 0, 0, 1]]);
    world.wait("the late one", |world| world.directory.available() == 2);
    assert!(world.names().contains(&format!("late.test:{port}")));
}

#[test]
fn a_reload_changes_timings_and_backends() {
    let nodes = [Node::new(), Node::new()];
    let mut following = plan(vec![nodes[0].spec()]);
    following.health_interval = Duration::from_secs(3600);
    let mut world = World::new(following.clone());
    world.wait_states(&[State::Up]);
    let before = world.directory.backends[0].id;
    following.health_fall = 1;
    following.backends = vec![nodes[1].spec(), nodes[0].spec()];
    following.send_proxy_header = true;
    world.director().follow(following).unwrap();
    world.wait_states(&[State::Up; 2]);
    assert_eq!(world.directory.backends[0].id, before, "who is in both stays");
    let request = nodes[1].requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(&request[..16], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    assert!(request[16..].starts_with(b"GET /readyz "), "{request:?}");
    nodes[0].say(500);
    world.tell(Observed::Lost { backend: before, clients: 1, age_ms: 60_000 });
    world.wait_states(&[State::Down, State::Up]);
}

/// More backends than checks are done at once, none of which answers.
#[test]
fn many_silent_backends_are_all_found_out() {
    let silent = Node::start(SocketAddr::from(([0, 0, 0, 0], 0)));
    silent.say(0);
    let port = silent.address.port();
    let spec = |n: u8| format!("127.0.1.{n}:{port}").parse().unwrap();
    let mut impatient = plan((1..=150).map(spec).collect());
    impatient.health_timeout = 100 * MS;
    let mut world = World::new(impatient);
    world.wait_states(&[State::Down; 150]);
}

#[test]
fn ipv6_backends_are_checked_too() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else { return };
    let address = probe.local_addr().unwrap();
    drop(probe);
    let node = Node::start(address);
    let mut world = World::new(plan(vec![node.spec()]));
    world.wait_states(&[State::Up]);
    assert_eq!(world.names(), [format!("[::1]:{}", address.port())]);
    let request = String::from_utf8(node.requests.recv_timeout(DEADLINE).unwrap()).unwrap();
    assert!(request.contains(&format!("\r\nHost: [::1]:{}\r\n", address.port())), "{request}");
}

#[test]
fn it_ends_when_told_to_and_takes_nothing_any_more() {
    let world = World::new(plan(Vec::new()));
    let mailbox = world.director().mailbox();
    assert!(world.director().is_alive());
    drop(world);
    assert!(mailbox.post(Observed::Connected { backend: BackendId(1) }).is_err());
}
