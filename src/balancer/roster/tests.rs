use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    let timings = Timings {
        rise: 2,
        fall: 3,
        slow_start: 10 * SECOND,
        ejection_min: SECOND,
        ejection_max: 60 * SECOND,
    };
    Settings { timings, check_interval: 2 * SECOND }
}

/// A roster with everything it has told.
struct World {
    roster: Roster,
    at: Moment,
    directory: Arc<Directory>,
    events: Vec<LiveEvent>,
    closed: Vec<BackendId>,
    /// What backends answer; a status, or 0: nobody listens, or 1: no answer.
    answers: BTreeMap<String, u16>,
}

fn specs(list: &str) -> Vec<Spec> {
    list.split_whitespace().map(|spec| spec.parse().unwrap()).collect()
}

fn ips(list: &str) -> Result<Vec<IpAddr>, String> {
    Ok(list.split_whitespace().map(|ip| ip.parse().unwrap()).collect())
}

impl World {
    fn new() -> World {
        let at = Moment { now: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        World {
            roster: Roster::new(settings(), 3),
            at,
            directory: Arc::default(),
            events: Vec::new(),
            closed: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Backends that have passed their first check.
    fn with(list: &str) -> World {
        let mut world = World::new();
        world.list(Origin::Flag, list);
        world.check_round();
        world.events.clear();
        world
    }

    fn look(&mut self) {
        while let Some(effect) = self.roster.poll_effect() {
            match effect {
                Effect::Publish(directory) => {
                    assert!(directory.version > self.directory.version);
                    self.directory = directory;
                }
                Effect::Close(id, _) => self.closed.push(id),
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    fn list(&mut self, origin: Origin, list: &str) {
        self.roster.handle_list(origin, specs(list), self.at);
        self.look();
    }

    fn resolve(&mut self, host: &str, answer: Result<Vec<IpAddr>, String>) {
        self.roster.handle_resolved(host, answer, self.at);
        self.look();
    }

    fn command(&mut self, command: AdminCommand) -> Result<BackendRecord, AdminError> {
        let done = self.roster.handle_command(command, self.at);
        self.look();
        done.map(|done| done.record)
    }

    /// Does the checks that are due now.
    fn check_round(&mut self) -> usize {
        let mut checks = 0;
        while let Some(order) = self.roster.poll_check(self.at.now) {
            let checked = match self.answers.get(&order.name).copied().unwrap_or(200) {
                0 => Checked::Refused,
                1 => Checked::Failed("timed out".to_owned()),
                status => Checked::Status(status),
            };
            self.roster.handle_check(order.id, &checked, Duration::from_millis(1), self.at);
            self.look();
            checks += 1;
        }
        checks
    }

    /// Lives on, with checks as they are due.
    fn live(&mut self, span: Duration) {
        let end = self.at.now + span;
        loop {
            let next = self.roster.poll_timeout(self.at.now).map_or(end, |next| next.min(end));
            let step = next.saturating_duration_since(self.at.now);
            self.at = Moment { now: self.at.now + step, wall: self.at.wall + step };
            self.check_round();
            self.roster.handle_timeout(self.at);
            self.look();
            if self.at.now >= end {
                return;
            }
        }
    }

    fn passed(&mut self, id: u32, passed: Passed) {
        self.roster.handle_passed(BackendId(id), &passed, self.at);
        self.look();
    }

    /// Id, name, state and weight of all, as they are published and recorded.
    fn check(&self, expected: &[(u32, &str, State, u32)]) {
        let weight = |id| {
            let backend = self.directory.backend(id);
            backend.map_or(0, |backend| backend.weight_milli.load(std::sync::atomic::Ordering::Relaxed))
        };
        let records = self.roster.records();
        let found: Vec<_> = records
            .iter()
            .map(|record| (record.id.0, &*record.name, record.state, weight(record.id)))
            .collect();
        assert_eq!(found, expected, "{:#?}", self.events);
    }

    fn kinds(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.events).into_iter().map(|event| event.kind).collect()
    }

    fn backend(&self, id: u32) -> Arc<Backend> {
        Arc::clone(self.directory.backend(BackendId(id)).expect("published"))
    }
}

#[test]
fn listed_backends_come_and_are_checked_at_once() {
    let mut world = World::new();
    world.list(Origin::Flag, "10.0.0.1:80 10.0.0.2:80,weight=5 [::1]:80,max=7");
    world.check(&[
        (1, "10.0.0.1:80", State::Checking, 0),
        (2, "10.0.0.2:80", State::Checking, 0),
        (3, "[::1]:80", State::Checking, 0),
    ]);
    world.answers = [("10.0.0.2:80".to_owned(), 503), ("[::1]:80".to_owned(), 0)].into();
    assert_eq!(world.check_round(), 3);
    world.check(&[
        (1, "10.0.0.1:80", State::Up, 1000),
        (2, "10.0.0.2:80", State::Draining, 0),
        (3, "[::1]:80", State::Down, 0),
    ]);
    let is_last_resort = |id| world.backend(id).last_resort.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!([1, 2, 3].map(is_last_resort), [false, true, false]);
    world.answers.clear();
    world.live(5 * SECOND);
    world.check(&[
        (1, "10.0.0.1:80", State::Up, 1000),
        (2, "10.0.0.2:80", State::Up, 5000),
        (3, "[::1]:80", State::Up, 1000),
    ]);
    assert_eq!(world.backend(3).max_connections(), 7);
    assert_eq!(world.directory.version, 1, "states alone publish nothing");
}

#[test]
fn checks_come_once_per_interval_and_part() {
    let list: Vec<_> = (1..=50).map(|n| format!("10.0.0.{n}:80")).collect();
    let mut world = World::new();
    world.list(Origin::Flag, &list.join(" "));
    assert_eq!(world.check_round(), 50);
    let (mut most, mut checks) = (0, 0);
    for _ in 0..1000 {
        world.at.now += SECOND / 50;
        let now = world.check_round();
        (most, checks) = (most.max(now), checks + now);
    }
    assert!((450..=550).contains(&checks), "{checks} in 20 s");
    assert!(most <= 10, "{most} of 50 at once");
}

#[test]
fn a_dead_backend_is_out_in_time_and_its_pairs_are_closed() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    assert!((0..3).all(|_| world.backend(1).try_take()));
    world.answers.insert("10.0.0.1:80".to_owned(), 1);
    world.live(8 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Down, 0), (2, "10.0.0.2:80", State::Up, 1000)]);
    assert_eq!(world.closed, [BackendId(1)]);
    let event = world.events.iter().find(|event| event.kind == EventKind::Failover).unwrap();
    assert_eq!((event.clients, event.backend), (3, Some(BackendId(1))));
    assert_eq!(world.kinds(), [EventKind::BackendDown, EventKind::Failover]);
}

#[test]
fn pairs_stay_until_there_is_somewhere_to_go() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    for id in [1, 2] {
        assert!(world.backend(id).try_take());
        world.answers.insert(format!("10.0.0.{id}:80"), 1);
    }
    world.live(60 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Down, 0), (2, "10.0.0.2:80", State::Down, 0)]);
    assert_eq!(world.closed, [], "the fault may be on this side");
    world.answers.remove("10.0.0.2:80");
    world.live(5 * SECOND);
    assert_eq!(world.closed, [BackendId(1)]);
}

#[test]
fn a_failed_connect_ejects_until_a_check_after_it() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    world.passed(1, Passed::ConnectFailed("refused".to_owned()));
    world.check(&[(1, "10.0.0.1:80", State::Ejected, 0), (2, "10.0.0.2:80", State::Up, 1000)]);
    world.passed(2, Passed::ConnectFailed("refused".to_owned()));
    world.check(&[(1, "10.0.0.1:80", State::Ejected, 0), (2, "10.0.0.2:80", State::Up, 1000)]);
    world.live(SECOND * 15 / 10);
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::Up, 1000)]);
    assert_eq!(world.kinds(), [EventKind::BackendEjected, EventKind::BackendUp]);
}

#[test]
fn lost_connections_are_told_together_and_hasten_a_check() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    world.answers.insert("10.0.0.1:80".to_owned(), 0);
    for _ in 0..40 {
        world.passed(1, Passed::Lost(1, 60 * SECOND));
    }
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::Up, 1000)]);
    world.live(SECOND * 6 / 10);
    world.check(&[(1, "10.0.0.1:80", State::Ejected, 0), (2, "10.0.0.2:80", State::Up, 1000)]);
    let failover: Vec<_> = world.events.iter().filter(|event| event.kind == EventKind::Failover).collect();
    assert_eq!(failover.len(), 1);
    assert_eq!(
        (failover[0].clients, &*failover[0].text),
        (40, "40 clients lost their connection to 10.0.0.1:80")
    );
}

#[test]
fn a_newcomer_gets_its_share_by_and_by() {
    let mut world = World::with("10.0.0.1:80");
    world.live(10 * SECOND);
    world.list(Origin::File, "10.0.0.2:80,weight=2");
    world.check_round();
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::SlowStart, 200)]);
    world.live(5 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::SlowStart, 1100)]);
    world.live(6 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::Up, 2000)]);
    assert_eq!(world.kinds(), [EventKind::BackendAdded, EventKind::BackendUp]);
}

#[test]
fn who_is_no_longer_listed_leaves_when_its_pairs_are_gone() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    let [one, two] = [world.backend(1), world.backend(2)];
    assert!(one.try_take() && two.try_take());
    world.list(Origin::Flag, "10.0.0.3:80,weight=4,max=9");
    world.check(&[
        (1, "10.0.0.1:80", State::Draining, 0),
        (2, "10.0.0.2:80", State::Draining, 0),
        (3, "10.0.0.3:80", State::Up, 4000),
    ]);
    assert_eq!(world.backend(3).max_connections(), 9);
    assert_eq!(world.command(AdminCommand::Enable(BackendId(1))), Err(AdminError::Unlisted(BackendId(1))));
    world.list(Origin::Flag, "10.0.0.3:80 10.0.0.2:80");
    two.release();
    one.release();
    world.live(SECOND);
    world.check(&[(2, "10.0.0.2:80", State::Up, 1000), (3, "10.0.0.3:80", State::Up, 1000)]);
    assert_eq!(world.closed, []);
    world.list(Origin::Flag, "10.0.0.1:80 10.0.0.3:80 10.0.0.2:80");
    world.check_round();
    let ids: Vec<_> = world.directory.backends.iter().map(|backend| backend.id.0).collect();
    assert_eq!(ids, [2, 3, 4], "no id is given twice");
}

#[test]
fn operators_add_drain_enable_and_remove() {
    let mut world = World::with("10.0.0.1:80");
    let spec = |text: &str| AdminCommand::Add(text.parse().unwrap());
    let added = world.command(spec("10.0.0.2:80,weight=3")).unwrap();
    assert_eq!((added.id, added.origin, added.state), (BackendId(2), Origin::Api, State::Checking));
    assert_eq!(world.command(spec("10.0.0.2:80")), Err(AdminError::Exists(BackendId(2))));
    world.check_round();
    let drained = world.command(AdminCommand::Drain(BackendId(2))).unwrap();
    assert_eq!((drained.state, drained.admin_drained), (State::Draining, true));
    world.live(5 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::Draining, 0)]);
    assert_eq!(world.command(AdminCommand::Enable(BackendId(2))).unwrap().state, State::Up);
    let two = world.backend(2);
    assert!(two.try_take());
    assert_eq!(world.command(AdminCommand::Remove(BackendId(2))).unwrap().connections, 1);
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000)]);
    assert_eq!(world.closed, [BackendId(2)]);
    assert!(!two.is_available(), "who still sees it must not pick it");
    let unknown = Err(AdminError::Unknown(BackendId(2)));
    assert_eq!(world.command(AdminCommand::Drain(BackendId(2))), unknown);
    assert_eq!(world.command(AdminCommand::Remove(BackendId(2))), unknown);
    let kinds = [
        EventKind::BackendAdded,
        EventKind::BackendUp,
        EventKind::BackendDraining,
        EventKind::BackendEnabled,
        EventKind::BackendUp,
        EventKind::BackendRemoved,
    ];
    assert_eq!(world.kinds(), kinds);
}

#[test]
fn what_was_removed_stays_away_until_it_is_asked_for() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    world.command(AdminCommand::Remove(BackendId(1))).unwrap();
    world.list(Origin::Flag, "10.0.0.1:80 10.0.0.2:80");
    world.check(&[(2, "10.0.0.2:80", State::Up, 1000)]);
    world.command(AdminCommand::Add("10.0.0.1:80".parse().unwrap())).unwrap();
    world.check(&[(2, "10.0.0.2:80", State::Up, 1000), (3, "10.0.0.1:80", State::Checking, 0)]);
    world.command(AdminCommand::Remove(BackendId(3))).unwrap();
    world.list(Origin::Flag, "10.0.0.2:80");
    world.list(Origin::Flag, "10.0.0.1:80 10.0.0.2:80");
    world.check(&[(2, "10.0.0.2:80", State::Up, 1000), (4, "10.0.0.1:80", State::Checking, 0)]);
}

#[test]
fn one_address_is_one_backend() {
    let mut world = World::with("10.0.0.1:80,weight=2 10.0.0.1:80");
    world.list(Origin::File, "10.0.0.1:80 10.0.0.2:80");
    world.list(Origin::Api, "10.0.0.2:80");
    let origins: Vec<_> =
        world.roster.records().into_iter().map(|record| (record.weight, record.origin)).collect();
    assert_eq!(origins, [(2, Origin::Flag), (1, Origin::File)]);
    world.list(Origin::Flag, "");
    let origins: Vec<_> =
        world.roster.records().into_iter().map(|record| (record.weight, record.origin)).collect();
    assert_eq!(origins, [(1, Origin::File), (1, Origin::File)], "the next who lists it has it");
    world.check(&[(1, "10.0.0.1:80", State::Up, 1000), (2, "10.0.0.2:80", State::Checking, 0)]);
}

#[test]
fn names_wait_for_their_address_and_keep_it() {
    let mut world = World::new();
    world.list(Origin::Flag, "node:80 10.0.0.9:80");
    assert_eq!(world.roster.hosts().collect::<Vec<_>>(), ["node"]);
    assert_eq!(world.directory.backends.len(), 1);
    world.resolve("node", Err("try again".to_owned()));
    let record = world.roster.records().remove(1);
    assert_eq!((&*record.name, record.address, record.id), ("node:80", None, BackendId(2)));
    assert_eq!(record.why, "it cannot be resolved: try again");
    assert_eq!(world.command(AdminCommand::Drain(BackendId(2))), Err(AdminError::Unresolved(BackendId(2))));

    world.resolve("node", ips("::1 10.0.0.2 10.0.0.1"));
    world.check_round();
    world.check(&[(1, "10.0.0.9:80", State::Up, 1000), (2, "node:80", State::Up, 1000)]);
    assert_eq!(world.backend(2).address, "10.0.0.2:80".parse().unwrap(), "the first IPv4 one");
    world.resolve("node", ips("10.0.0.1 10.0.0.2"));
    world.resolve("node", Err("try again".to_owned()));
    world.resolve("node", ips("10.0.0.3 10.0.0.2"));
    assert_eq!(world.directory.backends.len(), 2, "an address that is still good is kept");

    assert!(world.backend(2).try_take());
    world.resolve("node", ips("10.0.0.3"));
    world.check_round();
    world.check(&[
        (1, "10.0.0.9:80", State::Up, 1000),
        (2, "node:80", State::Draining, 0),
        (3, "node:80", State::Up, 1000),
    ]);
    world.command(AdminCommand::Remove(BackendId(2))).unwrap();
    world.check(&[(1, "10.0.0.9:80", State::Up, 1000), (3, "node:80", State::Up, 1000)]);
}

#[test]
fn all_addresses_of_the_dns_name_are_backends() {
    let mut world = World::new();
    world.roster.handle_dns(Some(("nodes.svc".to_owned(), 8080)), world.at);
    world.look();
    assert_eq!(world.roster.records()[0].name, "nodes.svc:8080");
    world.resolve("nodes.svc", ips("10.0.0.1 10.0.0.2 10.0.0.1 fd00::1"));
    world.check_round();
    world.check(&[(2, "10.0.0.1:8080", State::Up, 1000), (3, "10.0.0.2:8080", State::Up, 1000)]);
    world.resolve("nodes.svc", Err("no such name".to_owned()));
    world.resolve("nodes.svc", Ok(Vec::new()));
    assert_eq!(world.directory.backends.len(), 2, "a resolver that fails takes nobody away");
    world.resolve("nodes.svc", ips("10.0.0.2 10.0.0.1"));
    world.resolve("nodes.svc", ips("10.0.0.3 10.0.0.2"));
    world.check_round();
    world.check(&[(3, "10.0.0.2:8080", State::Up, 1000), (4, "10.0.0.3:8080", State::Up, 1000)]);
    let resolving = |kind: &EventKind| matches!(kind, EventKind::Resolved | EventKind::ResolveFailed);
    let kinds: Vec<_> = world.kinds().into_iter().filter(resolving).collect();
    assert_eq!(
        kinds,
        [EventKind::Resolved, EventKind::ResolveFailed, EventKind::Resolved, EventKind::Resolved]
    );
    world.roster.handle_dns(None, world.at);
    world.look();
    assert!(world.directory.backends.is_empty());
    world.resolve("nodes.svc", ips("10.0.0.1"));
    assert!(world.directory.backends.is_empty(), "nobody asked any more");
}

#[test]
fn what_an_operator_adds_by_a_known_name_is_found_to_be_there() {
    let mut world = World::new();
    world.list(Origin::Flag, "10.0.0.1:80 node:81");
    world.resolve("node", ips("10.0.0.1"));
    let again = world.command(AdminCommand::Add("node:80".parse().unwrap()));
    assert_eq!(again, Err(AdminError::Exists(BackendId(1))));
    let other = world.command(AdminCommand::Add("other:80".parse().unwrap())).unwrap();
    assert_eq!((other.address, &*other.why), (None, "its name is being resolved"));
    assert_eq!(world.command(AdminCommand::Remove(other.id)).unwrap().name, "other:80");
    assert_eq!(world.roster.hosts().collect::<Vec<_>>(), ["node"]);
}

#[test]
fn there_is_an_end_to_backends() {
    let list: Vec<_> = (0..=BACKENDS_MAX).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250)).collect();
    let mut world = World::new();
    world.list(Origin::File, &list.join(" "));
    assert_eq!(world.directory.backends.len(), BACKENDS_MAX);
    let one_more = AdminCommand::Add("10.1.0.1:80".parse().unwrap());
    assert_eq!(world.command(one_more), Err(AdminError::TooMany));
}

#[test]
fn draining_a_dead_one_is_told_and_lasts() {
    let mut world = World::with("10.0.0.1:80 10.0.0.2:80");
    world.answers.insert("10.0.0.1:80".to_owned(), 1);
    world.live(8 * SECOND);
    world.events.clear();
    world.command(AdminCommand::Drain(BackendId(1))).unwrap();
    assert_eq!(world.events[0].text, "10.0.0.1:80 takes no new connections: drained by an operator");
    assert_eq!(world.kinds(), [EventKind::BackendDraining]);
    world.answers.clear();
    world.live(5 * SECOND);
    world.check(&[(1, "10.0.0.1:80", State::Draining, 0), (2, "10.0.0.2:80", State::Up, 1000)]);
}

#[test]
fn errors_are_cut_between_characters() {
    assert_eq!(cut("short"), "short");
    let long = format!("x{}", "é".repeat(ERROR_BYTES_MAX));
    assert_eq!(cut(&long).len(), ERROR_BYTES_MAX - 1);
}
