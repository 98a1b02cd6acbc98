//! The registry against real Redis servers: one alone, and a Cluster of three
//! masters. Needs `redis-server`; `tools/test` installs it.

mod redis_servers;

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, cmd};
use redis_servers::{Cluster, Redis, wait_until};
use throng::cluster::registry::{
    Executor, Grave, Member, Names, NodeDescription, Page, Registered, Registry, RegistryError, Slice,
    Standing, Status,
};

/// Incarnations of tests count from here on: above the time of Redis, in milliseconds.
const FIRST: u64 = 1 << 50;

/// Too long to pass in a test.
const LONG: Duration = Duration::from_secs(3600);

type AnyRegistry = Registry<Box<dyn Executor + Send>>;

/// The servers, and names of a scenario's own.
struct World<'a> {
    redis: Where<'a>,
    names: Names,
}

#[derive(Clone, Copy)]
enum Where<'a> {
    Server(&'a Redis),
    Cluster(&'a Cluster),
}

impl World<'_> {
    fn registry(&self) -> AnyRegistry {
        Registry::new(self.executor(), self.names.clone())
    }

    fn executor(&self) -> Box<dyn Executor + Send> {
        match self.redis {
            Where::Server(server) => Box::new(server.connection()),
            Where::Cluster(cluster) => Box::new(cluster.connection()),
        }
    }

    fn servers(&self) -> &[Redis] {
        match self.redis {
            Where::Server(server) => std::slice::from_ref(server),
            Where::Cluster(cluster) => &cluster.servers,
        }
    }

    /// Runs `act` and returns the events that were published meanwhile, sorted.
    fn events_of(&self, act: impl FnOnce()) -> Vec<String> {
        let servers = self.servers();
        let mut connection = servers[servers.len() - 1].connection();
        let mut subscription = connection.as_pubsub();
        subscription.subscribe(self.names.events()).expect("a subscription");
        // What was published before may still be on its way through the Cluster.
        self.until_end(&mut subscription);
        act();
        let mut events = self.until_end(&mut subscription);
        events.sort();
        events
    }

    /// All that was published until now. Each server's messages arrive in their
    /// order, so after the end of the last there are none.
    fn until_end(&self, subscription: &mut redis::PubSub<'_>) -> Vec<String> {
        let mut ends = self.servers().len();
        for server in self.servers() {
            server.ask::<()>(&["PUBLISH", &self.names.events(), "end"]);
        }
        let mut events = Vec::new();
        while ends > 0 {
            let event: String =
                subscription.get_message().and_then(|message| message.get_payload()).expect("an event");
            if event == "end" { ends -= 1 } else { events.push(event) }
        }
        events
    }
}

/// What Redis answers to a command of the test's own.
fn raw<T: FromRedisValue>(registry: &mut AnyRegistry, command: &Cmd) -> T {
    let answers = registry.executor().run(vec![command.clone()]).expect("an answer");
    redis::from_redis_value(answers[0].clone()).expect("an answer of that kind")
}

/// Makes a node's last beat lie in the distant past.
fn age(registry: &mut AnyRegistry, node: &str) {
    let key = registry.names().node(node);
    raw::<()>(registry, cmd("HSET").arg(key).arg("beat_ms").arg(1));
}

fn describe(id: &str) -> NodeDescription {
    NodeDescription {
        id: id.to_owned(),
        address: "10.0.0.1".to_owned(),
        port: 8080,
        connections: 0,
        version: "1.2.3".to_owned(),
        process: 7,
        status: Status::Active,
    }
}

/// Makes a node a member with this incarnation, or the next that is free.
fn join(registry: &mut AnyRegistry, id: &str, at_least: u64) -> Member {
    let incarnation = registry.register_node(&describe(id), FIRST + at_least, Duration::ZERO);
    Member::new(id, incarnation.expect("registered"))
}

fn where_is(registry: &mut AnyRegistry, user: &str) -> Vec<Member> {
    registry.lookup(&[user]).expect("looked up").remove(0)
}

fn online(user: &str) -> String {
    format!(r#"{{"event":"online","user_id":"{user}"}}"#)
}

fn offline(user: &str) -> String {
    format!(r#"{{"event":"offline","user_id":"{user}"}}"#)
}

/// Claims and sweeps all there is; returns whom it swept and where they still are.
fn sweep_all(registry: &mut AnyRegistry, me: &Member, limit: usize) -> Vec<(String, Vec<Member>)> {
    let mut swept = Vec::new();
    for grave in registry.claim(me, LONG, LONG).expect("claimed") {
        loop {
            match registry.sweep(&grave, limit).expect("swept") {
                Slice::Swept(users) => swept.extend(users),
                Slice::Done => break,
                Slice::Lost => panic!("the lease is long"),
            }
        }
    }
    swept.sort();
    swept
}

fn ids(nodes: &[throng::cluster::registry::NodeRecord]) -> Vec<&str> {
    nodes.iter().map(|record| &*record.node.id).collect()
}

// ---- scenarios, each on one server and on a Cluster ----

fn members_come_beat_and_leave(world: &World<'_>) {
    let registry = &mut world.registry();
    let (a, b) = (join(registry, "a", 10), join(registry, "[::1]:80{x}%", 20));
    assert_eq!((a.incarnation, b.incarnation), (FIRST + 10, FIRST + 20));

    let nodes = registry.nodes(LONG).expect("nodes");
    assert_eq!(ids(&nodes), ["[::1]:80{x}%", "a"]);
    assert_eq!((&nodes[1].node, nodes[1].member()), (&describe("a"), a.clone()));

    assert_eq!(registry.beat(&a, 7, Status::Draining).expect("beat"), Standing::Member);
    let nodes = registry.nodes(LONG).expect("nodes");
    assert_eq!((nodes[1].node.connections, nodes[1].node.status), (7, Status::Draining));

    let grave = registry.leave(&a, LONG).expect("left").expect("was a member");
    assert_eq!(registry.leave(&a, LONG).expect("left"), None);
    assert_eq!(ids(&registry.nodes(LONG).expect("nodes")), ["[::1]:80{x}%"]);
    assert_eq!(registry.beat(&a, 7, Status::Active).expect("beat"), Standing::Unknown);
    assert_eq!(registry.sweep(&grave, 100).expect("swept"), Slice::Done);

    // Nothing of it is left once somebody has looked.
    assert_eq!(registry.claim(&b, LONG, LONG).expect("claimed"), []);
    let names: Vec<String> = raw(registry, cmd("SMEMBERS").arg(world.names.nodes()));
    assert_eq!(names, ["[::1]:80{x}%"]);
}

fn a_silent_node_expires_by_the_time_of_redis(world: &World<'_>) {
    const EXPIRY: Duration = Duration::from_millis(700);
    let registry = &mut world.registry();
    let begin = Instant::now();
    let (a, b) = (join(registry, "a", 1), join(registry, "b", 1));
    let mut graves = Vec::new();
    let mut was_listed_dead = false;
    wait_until("a node expires", || {
        assert_eq!(registry.beat(&b, 0, Status::Active).expect("beat"), Standing::Member);
        was_listed_dead |= !ids(&registry.nodes(EXPIRY).expect("nodes")).contains(&"a");
        graves = registry.claim(&b, EXPIRY, LONG).expect("claimed");
        assert!(graves.is_empty() || begin.elapsed() >= EXPIRY, "too early: {:?}", begin.elapsed());
        !graves.is_empty()
    });
    assert_eq!(graves.iter().map(|grave| &grave.dead).collect::<Vec<_>>(), [&a]);
    assert_eq!(ids(&registry.nodes(LONG).expect("nodes")), ["b"]);
    // It was frozen, wakes, and finds out.
    assert_eq!(registry.beat(&a, 0, Status::Active).expect("beat"), Standing::Unknown);
    let refused = registry.register_users(&a, &["u"]);
    assert!(matches!(refused, Err(RegistryError::NotMember)), "{refused:?}");
    assert_eq!(join(registry, "a", 1).incarnation, FIRST + 2);
}

fn nobody_registers_for_a_stranger(world: &World<'_>) {
    let registry = &mut world.registry();
    let stranger = Member::new("stranger", 3);
    let refused = registry.register_users(&stranger, &["u", "v"]);
    assert!(matches!(refused, Err(RegistryError::NotMember)), "{refused:?}");
    assert_eq!(registry.lookup(&["u", "v"]).expect("looked up"), [[], []]);
    assert_eq!(registry.beat(&stranger, 0, Status::Active).expect("beat"), Standing::Unknown);
    assert_eq!(registry.nodes(LONG).expect("nodes"), []);
    let names = &world.names;
    for key in [names.users_of("stranger", 3), names.users(), names.node("stranger")] {
        assert!(!raw::<bool>(registry, cmd("EXISTS").arg(&key)), "{key}");
    }
}

fn a_restart_before_the_expiry(world: &World<'_>) {
    let registry = &mut world.registry();
    let b = join(registry, "b", 1);
    let old = join(registry, "a", 10);
    registry.register_users(&old, &["back", "gone", "moved"]).expect("registered");

    let events = world.events_of(|| {
        let new = join(registry, "a", 10);
        assert_eq!(new.incarnation, FIRST + 11, "above the predecessor's");
        assert_eq!(
            registry.beat(&old, 0, Status::Active).expect("beat"),
            Standing::Replaced { by: new.incarnation }
        );
        let found = registry.register_users(&new, &["back"]).expect("registered");
        assert_eq!(found, [Registered { others: vec![], came_online: false }]);
        registry.register_users(&b, &["moved"]).expect("registered");

        // Commands of the predecessor that come late.
        assert_eq!(
            registry.unregister_users(&old, &["back"]).expect("unregistered"),
            [[new.clone()]],
            "removes nothing newer"
        );
        assert!(matches!(registry.register_users(&old, &["back"]), Err(RegistryError::NotMember)));

        let swept = sweep_all(registry, &b, 2);
        assert!(swept.contains(&("gone".to_owned(), vec![])), "{swept:?}");
        assert!(swept.contains(&("moved".to_owned(), vec![b.clone()])), "{swept:?}");
        assert_eq!(where_is(registry, "back"), [new]);
    });
    assert_eq!(events, [offline("gone")]);
}

fn a_restart_after_the_expiry(world: &World<'_>) {
    let registry = &mut world.registry();
    let b = join(registry, "b", 1);
    let old = join(registry, "a", 10);
    registry.register_users(&old, &["early", "late"]).expect("registered");
    age(registry, "a");
    let graves = registry.claim(&b, LONG, LONG).expect("claimed");
    assert_eq!(graves.len(), 1);

    // The grave is not swept yet, and the clock of the new one's machine is behind.
    let new = join(registry, "a", 5);
    assert_eq!(new.incarnation, FIRST + 11);
    let events = world.events_of(|| {
        registry.register_users(&new, &["early"]).expect("registered");
        while let Slice::Swept(_) = registry.sweep(&graves[0], 1).expect("swept") {}
        let late = registry.register_users(&new, &["late"]).expect("registered");
        assert!(late[0].came_online);
    });
    assert_eq!(events, [offline("late"), online("late")]);
    assert_eq!(registry.lookup(&["early", "late"]).expect("looked up"), [[new.clone()], [new.clone()]]);
    assert_eq!(sweep_all(registry, &b, 10), [], "the new one is alive");
    assert_eq!(ids(&registry.nodes(LONG).expect("nodes")), ["a", "b"]);
}

/// Nothing is left of the predecessor, and the clock of the new one's machine is behind.
fn a_restart_after_it_left(world: &World<'_>) {
    let registry = &mut world.registry();
    let register = |registry: &mut AnyRegistry| {
        let incarnation = registry.register_node(&describe("a"), 1, Duration::ZERO);
        Member::new("a", incarnation.expect("registered"))
    };
    let old = register(registry);
    registry.register_users(&old, &["u"]).expect("registered");
    let grave = registry.leave(&old, LONG).expect("left").expect("a member");
    while registry.sweep(&grave, 10).expect("swept") != Slice::Done {}
    let millisecond = |registry: &mut AnyRegistry| raw::<(u64, u64)>(registry, &cmd("TIME")).1 / 1000;
    let before = millisecond(registry);
    wait_until("the clock of Redis goes on", || millisecond(registry) != before);
    let new = register(registry);
    assert!(new.incarnation > old.incarnation, "{new:?} after {old:?}");
}

fn of_two_survivors_one_sweeps(world: &World<'_>) {
    let registry = &mut world.registry();
    let survivors = ["b", "c"].map(|id| join(registry, id, 1));
    let mut connections = [world.registry(), world.registry()];
    for round in 1..=30 {
        let dead = join(registry, "a", round);
        registry.register_users(&dead, &["u"]).expect("registered");
        age(registry, "a");
        let start = &Barrier::new(2);
        let graves: Vec<_> = thread::scope(|scope| {
            let claim = |(connection, me): (_, _)| {
                let connection: &mut AnyRegistry = connection;
                let me: &Member = me;
                scope.spawn(move || {
                    start.wait();
                    connection.claim(me, LONG, LONG).expect("claimed")
                })
            };
            let claims: Vec<_> = connections.iter_mut().zip(&survivors).map(claim).collect();
            claims.into_iter().flat_map(|claim| claim.join().expect("no panic")).collect()
        });
        assert_eq!(graves.iter().map(|grave| &grave.dead).collect::<Vec<_>>(), [&dead], "round {round}");
        assert!(
            matches!(registry.sweep(&graves[0], 10).expect("swept"), Slice::Swept(users) if users.len() == 1)
        );
        assert_eq!(registry.sweep(&graves[0], 10).expect("swept"), Slice::Done);
        assert_eq!(registry.sweep(&graves[0], 10).expect("swept"), Slice::Lost);
    }
}

fn who_dies_sweeping_is_followed(world: &World<'_>) {
    let registry = &mut world.registry();
    let [a, b, c] = ["a", "b", "c"].map(|id| join(registry, id, 1));
    let users: Vec<String> = (0..10).map(|n| format!("u{n}")).collect();
    registry.register_users(&a, &users).expect("registered");
    age(registry, "a");
    let lease = Duration::from_millis(500);
    let events = world.events_of(|| {
        let begin = Instant::now();
        let first = registry.claim(&b, LONG, lease).expect("claimed").remove(0);
        let Slice::Swept(swept) = registry.sweep(&first, 3).expect("swept") else {
            panic!("there are users")
        };
        assert_eq!(swept.len(), 3);
        let mut second = None;
        wait_until("the lease ends", || {
            second = registry.claim(&c, LONG, LONG).expect("claimed").pop();
            assert!(second.is_none() || begin.elapsed() >= lease, "too early: {:?}", begin.elapsed());
            second.is_some()
        });
        let second = second.expect("a grave");
        assert_eq!(registry.sweep(&first, 3).expect("swept"), Slice::Lost);
        let mut rest = 0;
        while let Slice::Swept(users) = registry.sweep(&second, 3).expect("swept") {
            rest += users.len();
        }
        assert_eq!(rest, 7);
    });
    assert_eq!(events, users.iter().map(|user| offline(user)).collect::<Vec<_>>());
    assert_eq!(registry.page(None, 10).expect("a page"), Page { users: vec![], next: None });
}

fn offline_is_published_once_for_the_last_node(world: &World<'_>) {
    let registry = &mut world.registry();
    let (a, b) = (join(registry, "a", 1), join(registry, "b", 1));
    let events = world.events_of(|| {
        let found = registry.register_users(&a, &["u"]).expect("registered");
        assert_eq!(found, [Registered { others: vec![], came_online: true }]);
        let found = registry.register_users(&b, &["u"]).expect("registered");
        assert_eq!(found, [Registered { others: vec![a.clone()], came_online: false }]);
    });
    assert_eq!(events, [online("u")]);
    assert_eq!(where_is(registry, "u"), [a.clone(), b.clone()]);

    let events = world.events_of(|| {
        assert_eq!(registry.unregister_users(&a, &["u"]).expect("unregistered"), [[b.clone()]]);
        assert_eq!(registry.unregister_users(&a, &["u"]).expect("unregistered"), [[b.clone()]]);
    });
    assert_eq!(events, [""; 0]);

    let events = world.events_of(|| {
        assert_eq!(registry.unregister_users(&b, &["u"]).expect("unregistered"), [[]]);
        assert_eq!(registry.unregister_users(&b, &["u"]).expect("unregistered"), [[]]);
        assert_eq!(registry.unregister_users(&a, &["u", "never"]).expect("unregistered"), [[], []]);
    });
    assert_eq!(events, [offline("u")]);
    assert_eq!(registry.page(None, 10).expect("a page").users, []);
    for member in [a, b] {
        let key = world.names.users_of(&member.node, member.incarnation);
        assert!(!raw::<bool>(registry, cmd("EXISTS").arg(&key)), "{key}");
    }
}

/// All users by pages of `limit`.
fn all_pages(registry: &mut AnyRegistry, limit: usize) -> Vec<(String, Vec<Member>)> {
    let mut users = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = registry.page(after.as_deref(), limit).expect("a page");
        assert!(page.users.len() <= limit);
        users.extend(page.users);
        after = page.next;
        if after.is_none() {
            return users;
        }
    }
}

fn thousands_of_users(world: &World<'_>) {
    let registry = &mut world.registry();
    let (a, b) = (join(registry, "a", 1), join(registry, "b", 1));
    let users: Vec<String> = (0..5000).map(|n| format!("user-{n:04}")).collect();
    let timed = |what: &str, begin: Instant| println!("{what} 5000 users: {:?}", begin.elapsed());

    let begin = Instant::now();
    let found = registry.register_users(&a, &users).expect("registered");
    timed("register", begin);
    assert_eq!(found.len(), users.len());
    assert!(found.iter().all(|user| user.came_online && user.others.is_empty()));

    let found = registry.register_users(&b, &users).expect("registered");
    assert!(found.iter().all(|user| !user.came_online && user.others == [a.clone()]));

    let begin = Instant::now();
    let rows = registry.lookup(&users).expect("looked up");
    timed("look up", begin);
    assert!(rows.iter().all(|row| *row == [a.clone(), b.clone()]) && rows.len() == users.len());

    let begin = Instant::now();
    let listed = all_pages(registry, 700);
    timed("page", begin);
    assert!(listed.iter().map(|(user, _)| user).eq(&users), "{} in order", listed.len());

    let begin = Instant::now();
    let left = registry.unregister_users(&a, &users).expect("unregistered");
    timed("unregister", begin);
    assert!(left.iter().all(|row| *row == [b.clone()]) && left.len() == users.len());

    age(registry, "b");
    let begin = Instant::now();
    let swept = sweep_all(registry, &a, 1000);
    timed("sweep", begin);
    assert!(swept.iter().map(|(user, _)| user).eq(&users), "{}", swept.len());
    assert!(swept.iter().all(|(_, row)| row.is_empty()));
    assert_eq!(all_pages(registry, 1000), []);
    assert!(registry.lookup(&users).expect("looked up").iter().all(Vec::is_empty));
}

fn pages_are_in_the_order_of_bytes(world: &World<'_>) {
    let registry = &mut world.registry();
    let a = join(registry, "a", 1);
    let users = ["", "(", "[", "+", "-", "a b", "events", "ä", "{x}", "Z", "z", "a\0b", "\"\\", "日本"];
    registry.register_users(&a, &users).expect("registered");
    let expected: BTreeSet<&str> = users.into();
    for limit in [1, 2, 5, 100] {
        let listed = all_pages(registry, limit);
        assert!(listed.iter().map(|(user, _)| &**user).eq(expected.iter().copied()), "{limit}: {listed:?}");
        assert!(listed.iter().all(|(_, row)| *row == [a.clone()]));
    }
    // One who is in the index and nowhere else is not shown, and forgotten.
    raw::<()>(registry, cmd("ZADD").arg(world.names.users()).arg(0).arg("ghost"));
    assert_eq!(all_pages(registry, 3).len(), users.len());
    let score: Option<f64> = raw(registry, cmd("ZSCORE").arg(world.names.users()).arg("ghost"));
    assert_eq!(score, None);
}

fn forgotten_scripts_are_loaded_again(world: &World<'_>) {
    let registry = &mut world.registry();
    let a = join(registry, "a", 1);
    let forget = || {
        world.servers().iter().for_each(|server| server.ask(&["SCRIPT", "FLUSH"]));
    };
    let users: Vec<String> = (0..50).map(|n| format!("u{n}")).collect();
    forget();
    assert_eq!(registry.register_users(&a, &users).expect("registered").len(), users.len());
    forget();
    let others = registry.register_users(&a, &users).expect("registered");
    assert!(others.iter().all(|user| user.others.is_empty() && !user.came_online));
    forget();
    assert!(registry.unregister_users(&a, &users).expect("unregistered").iter().all(Vec::is_empty));
    forget();
    assert_eq!(registry.beat(&a, 1, Status::Active).expect("beat"), Standing::Member);
    assert_eq!(all_pages(registry, 10), []);
}

/// Lets something happen just before the first run of commands one of which
/// has `word` in it: its name or an argument.
struct Interrupted<F> {
    executor: Box<dyn Executor + Send>,
    word: String,
    act: Option<F>,
}

impl<F: FnOnce()> Executor for Interrupted<F> {
    fn run(&mut self, commands: Vec<Cmd>) -> redis::RedisResult<Vec<redis::Value>> {
        let word = redis::Arg::Simple(self.word.as_bytes());
        if commands.iter().any(|command| command.args_iter().any(|arg| arg == word))
            && let Some(act) = self.act.take()
        {
            act();
        }
        self.executor.run(commands)
    }
}

impl World<'_> {
    fn interrupted<F: FnOnce()>(&self, word: &str, act: F) -> Registry<Interrupted<F>> {
        let executor = Interrupted { executor: self.executor(), word: word.to_owned(), act: Some(act) };
        Registry::new(executor, self.names.clone())
    }
}

fn who_comes_back_while_being_swept_stays_listed(world: &World<'_>) {
    let registry = &mut world.registry();
    let (a, b) = (join(registry, "a", 1), join(registry, "b", 1));
    registry.register_users(&a, &["u", "v"]).expect("registered");
    let mut other = world.registry();
    let come_back = || {
        assert!(other.register_users(&b, &["u"]).expect("registered")[0].came_online);
    };
    let mut sweeper = world.interrupted("ZREM", come_back);
    assert_eq!(sweeper.unregister_users(&a, &["u", "v"]).expect("unregistered"), [[], []]);
    assert!(sweeper.executor().act.is_none(), "somebody came back in between");
    assert_eq!(registry.page(None, 10).expect("a page").users, [("u".to_owned(), vec![b])]);
}

fn who_is_declared_dead_while_registering_learns_it(world: &World<'_>) {
    let registry = &mut world.registry();
    let (a, b) = (join(registry, "a", 1), join(registry, "b", 1));
    let mut other = world.registry();
    let die = || {
        age(&mut other, "a");
        assert_eq!(other.claim(&b, LONG, LONG).expect("claimed").len(), 1);
    };
    // After the rows are written; its last look at the record is beside the index.
    let mut victim = world.interrupted("ZADD", die);
    let refused = victim.register_users(&a, &["u"]);
    assert!(matches!(refused, Err(RegistryError::NotMember)), "{refused:?}");
    // What it wrote is in the grave or overwritten by its next life.
    let again = join(registry, "a", 1);
    assert_eq!(again.incarnation, FIRST + 2);
    registry.register_users(&again, &["u"]).expect("registered");
    assert_eq!(where_is(registry, "u"), [again]);
}

fn a_late_registration_does_not_overwrite_a_newer_one(world: &World<'_>) {
    let registry = &mut world.registry();
    let old = join(registry, "a", 1);
    let mut new = None;
    let restart = || {
        let member = join(registry, "a", 2);
        registry.register_users(&member, &["u"]).expect("registered");
        new = Some(member);
    };
    let mut victim = world.interrupted(&world.names.user("u"), restart);
    let refused = victim.register_users(&old, &["u"]);
    assert!(matches!(refused, Err(RegistryError::NotMember)), "{refused:?}");
    drop(victim);
    assert_eq!(where_is(registry, "u"), [new.expect("a restart in between")]);
}

type Scenario = fn(&World<'_>);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("come", members_come_beat_and_leave),
    ("expire", a_silent_node_expires_by_the_time_of_redis),
    ("stranger", nobody_registers_for_a_stranger),
    ("before", a_restart_before_the_expiry),
    ("after", a_restart_after_the_expiry),
    ("left", a_restart_after_it_left),
    ("two", of_two_survivors_one_sweeps),
    ("follow", who_dies_sweeping_is_followed),
    ("once", offline_is_published_once_for_the_last_node),
    ("thousands", thousands_of_users),
    ("order", pages_are_in_the_order_of_bytes),
    ("back", who_comes_back_while_being_swept_stays_listed),
    ("dead", who_is_declared_dead_while_registering_learns_it),
    ("overwrite", a_late_registration_does_not_overwrite_a_newer_one),
    ("scripts", forgotten_scripts_are_loaded_again),
];

fn run_all(redis: Where<'_>) {
    for (name, scenario) in SCENARIOS {
        let begin = Instant::now();
        println!("scenario {name}");
        let names = Names::new(&format!("throng:{name}")).expect("a good prefix");
        scenario(&World { redis, names });
        println!("scenario {name}: {:?}", begin.elapsed());
    }
}

#[test]
fn on_one_server() {
    run_all(Where::Server(&Redis::start()));
}

#[test]
fn on_a_cluster() {
    run_all(Where::Cluster(&Cluster::start()));
}

// ---- one server only ----

#[test]
fn with_tls_and_a_user_of_few_rights() {
    let server = Redis::with(redis_servers::Options::default().tls().user("gateway", "secret"));
    assert!(server.ca_file().is_some_and(|file| file.exists()));
    let refused = redis::Client::open(format!("redis://127.0.0.1:{}", server.port()));
    let refused = refused.expect("a good address").get_connection_with_timeout(Duration::from_secs(5));
    assert!(refused.is_err(), "without TLS nobody is let in");
    let names = Names::new("throng").expect("a good prefix");
    offline_is_published_once_for_the_last_node(&World { redis: Where::Server(&server), names });
}

#[test]
fn a_redis_that_comes_back_empty() {
    let mut server = Redis::start();
    let names = Names::new("throng").expect("a good prefix");
    let world = World { redis: Where::Server(&server), names: names.clone() };
    let mut registry = world.registry();
    let a = join(&mut registry, "a", 10);
    let users: Vec<String> = (0..5000).map(|n| format!("u{n}")).collect();
    registry.register_users(&a, &users).expect("registered");

    server.kill();
    let error = registry.beat(&a, 0, Status::Active).expect_err("Redis is gone");
    assert!(error.is_io_error() || error.is_connection_dropped(), "{error:?}");
    server.restart();

    let registry = &mut World { redis: Where::Server(&server), names }.registry();
    assert_eq!(registry.beat(&a, 0, Status::Active).expect("beat"), Standing::Unknown);
    assert_eq!(join(registry, "a", 10), a, "nobody stands in the way of the same incarnation");
    let begin = Instant::now();
    assert!(registry.register_users(&a, &users).expect("registered").iter().all(|user| user.came_online));
    println!("all routable again after {:?}", begin.elapsed());
    assert!(registry.lookup(&users).expect("looked up").iter().all(|row| *row == [a.clone()]));
}

#[test]
fn a_paused_redis_costs_one_timeout() {
    let server = Redis::start();
    let timeout = Duration::from_millis(300);
    let connection = server.connection();
    connection.set_read_timeout(Some(timeout)).expect("a timeout");
    let mut registry = Registry::new(connection, Names::new("throng").expect("a good prefix"));
    let incarnation = registry.register_node(&describe("a"), 1, Duration::ZERO).expect("registered");
    let a = Member::new("a", incarnation);
    let users: Vec<String> = (0..1000).map(|n| format!("u{n}")).collect();
    registry.register_users(&a, &users).expect("registered");

    server.pause();
    let begin = Instant::now();
    let error = registry.lookup(&users).expect_err("Redis is paused");
    assert!(error.is_timeout(), "{error:?}");
    assert!((timeout..timeout * 10).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    server.resume();
    let rows = Registry::new(server.connection(), registry.names().clone()).lookup(&users);
    assert!(rows.expect("looked up").iter().all(|row| *row == [a.clone()]));
}

// ---- a Cluster only ----

#[test]
fn a_slot_that_moves_and_a_master_that_dies() {
    let mut cluster = Cluster::quick_to_fail_over();
    let names = Names::new("throng").expect("a good prefix");
    let world = World { redis: Where::Cluster(&cluster), names: names.clone() };
    let registry = &mut world.registry();
    let a = join(registry, "a", 1);
    let users: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    registry.register_users(&a, &users).expect("registered");

    let key = names.user("u7");
    let from = cluster.master_of(&key);
    let to = (from + 1) % 3;
    cluster.move_slot(&key, from, to);
    assert_eq!(cluster.master_of(&key), to);
    let rows = registry.lookup(&users).expect("looked up");
    assert!(rows.iter().all(|row| *row == [a.clone()]), "{rows:?}");
    assert!(registry.unregister_users(&a, &users).expect("unregistered").iter().all(Vec::is_empty));
    assert!(registry.register_users(&a, &users).expect("registered").iter().all(|user| user.came_online));

    let replica = to + 3;
    cluster.servers[to].await_replica(&cluster.servers[replica]);
    cluster.servers[to].kill();
    wait_until("the replica is promoted", || cluster.servers[replica].info("role") == "master");
    let survivors: Vec<String> = (0..6).filter(|n| *n != to).map(|n| cluster.servers[n].url()).collect();
    wait_until("the cluster is whole again", || {
        let Ok(client) = redis::cluster::ClusterClient::new(survivors.clone()) else { return false };
        let Ok(connection) = client.get_connection() else { return false };
        let mut registry = Registry::new(connection, names.clone());
        // The promoted replica knows no script.
        registry.register_users(&a, &users).is_ok()
            && registry.lookup(&users).is_ok_and(|rows| rows.iter().all(|row| *row == [a.clone()]))
    });
}

#[test]
fn a_sentinel_promotes_the_replica() {
    let mut servers = redis_servers::Sentinel::start();
    assert_eq!(servers.master_port(), servers.master.port());
    let names = Names::new("throng").expect("a good prefix");
    let mut registry = Registry::new(servers.master.connection(), names.clone());
    let incarnation = registry.register_node(&describe("a"), 1, Duration::ZERO).expect("registered");
    let a = Member::new("a", incarnation);
    registry.register_users(&a, &["u"]).expect("registered");
    servers.master.await_replica(&servers.replica);
    servers.master.kill();
    wait_until("the replica is master", || servers.replica.info("role") == "master");
    wait_until("the Sentinel says so", || servers.master_port() == servers.replica.port());
    let mut registry = Registry::new(servers.replica.connection(), names);
    assert_eq!(registry.lookup(&["u"]).expect("looked up"), [[a.clone()]]);
    assert_eq!(registry.beat(&a, 0, Status::Active).expect("beat"), Standing::Member);
}

/// A node that was away for a moment registers its users anew before the old
/// entries are swept, and sweeps them itself: only who left goes offline.
#[test]
fn with_a_grace_a_predecessor_is_swept_by_its_successor_only() {
    let server = Redis::start();
    let names = Names::new("throng").expect("a good prefix");
    let mut registry = World { redis: Where::Server(&server), names }.registry();
    let old = join(&mut registry, "a", 1);
    let b = join(&mut registry, "b", 1);
    registry.register_users(&old, &["ann", "bob"]).expect("registered");
    let new = Member::new("a", registry.register_node(&describe("a"), 1, LONG).expect("registered"));
    assert!(new.incarnation > old.incarnation);
    assert_eq!(registry.claim(&b, LONG, LONG).expect("claimed"), [], "it is leased");
    registry.register_users(&new, &["ann"]).expect("registered");
    let grave = Grave::inherited(&new, old.incarnation, LONG);
    let Slice::Swept(mut swept) = registry.sweep(&grave, 10).expect("swept") else { panic!("not swept") };
    swept.sort();
    assert_eq!(swept, [("ann".to_owned(), vec![new.clone()]), ("bob".to_owned(), vec![])]);
    assert_eq!(registry.sweep(&grave, 10).expect("swept"), Slice::Done);
    assert_eq!(where_is(&mut registry, "ann"), [new]);
    // Who had no time to sweep leaves it to others when the grace is over.
    let newer = registry.register_node(&describe("a"), 1, Duration::from_millis(1)).expect("registered");
    assert!(newer > grave.dead.incarnation);
    wait_until("the grace is over", || !registry.claim(&b, LONG, LONG).expect("claimed").is_empty());
}
