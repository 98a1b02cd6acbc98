//! Connections to Redis against real servers: one alone, with users, with TLS,
//! behind a Sentinel, a Cluster; and what happens when they fail.

mod redis_servers;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Value, cmd};
use redis_servers::{Cluster, DEADLINE, Options, Redis, Sentinel, wait_until};
use throng::cluster::connect::{Commands, LinkError, Settings, Subscription, Target, open, subscribe};

/// Longer than a call may take beyond its timeout, on a machine that has much
/// else to do.
const SLACK: Duration = Duration::from_secs(1);

fn settings(url: &str) -> Settings {
    Settings {
        target: url.parse().unwrap_or_else(|wrong| panic!("{url}: {wrong}")),
        ca_file: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
    }
}

/// Settings for a server that is about to hang.
fn impatient(url: &str) -> Settings {
    let timeout = Duration::from_millis(400);
    Settings { connect_timeout: timeout, response_timeout: timeout, ..settings(url) }
}

fn sentinel_url(servers: &Sentinel) -> String {
    format!("redis+sentinel://127.0.0.1:{}/{}", servers.sentinel.port(), servers.master_name())
}

fn cluster_url(cluster: &Cluster) -> String {
    let hosts: Vec<String> =
        cluster.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    format!("redis+cluster://{}", hosts.join(","))
}

fn command(words: &[&str]) -> Cmd {
    cmd(words[0]).arg(&words[1..]).clone()
}

fn ask<T: FromRedisValue>(commands: &mut Commands, words: &[&str]) -> T {
    let value = commands.query(&command(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    redis::from_redis_value(value).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The next message, as `channel: payload`.
fn next(subscription: &mut Subscription) -> String {
    let message = subscription.next(DEADLINE).expect("a sound subscription").expect("a message");
    format!("{}: {}", message.channel.escape_ascii(), message.payload.escape_ascii())
}

/// Waits for the end of a subscription.
fn end(subscription: &mut Subscription) -> LinkError {
    let deadline = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < deadline, "the subscription goes on");
        if let Err(error) = subscription.next(Duration::from_millis(100)) {
            return error;
        }
    }
}

/// Tries until it works.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, LinkError>) -> T {
    let mut result = None;
    wait_until(what, || {
        result = attempt().ok();
        result.is_some()
    });
    result.expect("waited for")
}

#[test]
fn one_server() {
    let server = Redis::start();
    let settings = settings(&format!("{}/3", server.url()));
    let mut commands = open(&settings).expect("open");
    assert_eq!(commands.master().map(ToString::to_string), Some(format!("127.0.0.1:{}", server.port())));
    assert_eq!(commands.verify(), Ok(()));
    assert_eq!(ask::<String>(&mut commands, &["SET", "k", "v"]), "OK");
    assert!(server.info("db3").starts_with("keys=1"), "the database of the URL is used");

    let many: Vec<Cmd> = (0..5000)
        .map(|n| if n == 2500 { command(&["HGET", "k", "x"]) } else { command(&["ECHO", &n.to_string()]) })
        .collect();
    for (n, result) in commands.pipeline(&many).into_iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(value, Value::BulkString(n.to_string().into_bytes())),
            Err(LinkError::Command { code, .. }) => assert_eq!((n, code.as_str()), (2500, "WRONGTYPE")),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    let error = commands.query(&command(&["EVALSHA", &"0".repeat(40), "0"])).expect_err("no script");
    assert!(matches!(&error, LinkError::Command { code, .. } if code == "NOSCRIPT"), "{error:?}");
    assert!(!error.ends_connection());

    assert_eq!(commands.publish(&[("a", "nobody listens")]), [Ok(0)]);
    let mut subscription = subscribe(&settings, &["a", "b"]).expect("subscribe");
    assert_eq!(subscription.master(), commands.master());
    assert_eq!(subscription.next(Duration::from_millis(20)), Ok(None));
    let large = vec![7; 3 << 20];
    let payloads: [(&str, &[u8]); 4] = [("a", b"one"), ("b", b"\r\n\0\xff"), ("c", b"x"), ("a", &large)];
    assert_eq!(commands.publish(&payloads), [Ok(1), Ok(1), Ok(0), Ok(1)]);
    assert_eq!(next(&mut subscription), "a: one");
    assert_eq!(next(&mut subscription), "b: \\r\\n\\x00\\xff");
    let message = subscription.next(DEADLINE).expect("sound").expect("a message");
    assert!(message.payload == large, "{} bytes", message.payload.len());
    assert!(commands.publish::<&str, &[u8]>(&[]).is_empty() && commands.pipeline(&[]).is_empty());
}

#[test]
fn a_user_and_a_password() {
    let server = Redis::with(Options::default().user("app", "s3cret"));
    let at = |user: &str| format!("redis://{user}127.0.0.1:{}", server.port());
    let url = at("app:s3cret@");
    let mut commands = open(&settings(&url)).expect("open");
    assert_eq!(ask::<String>(&mut commands, &["SET", "throng:k", "v"]), "OK");
    let mut subscription = subscribe(&settings(&url), &["throng:c"]).expect("subscribe");
    assert_eq!(commands.publish(&[("throng:c", "x")]), [Ok(1)]);
    assert_eq!(next(&mut subscription), "throng:c: x");

    let refused = commands.query(&command(&["GET", "other"])).expect_err("no permission");
    assert!(matches!(refused, LinkError::Refused(_)) && !refused.ends_connection(), "{refused:?}");
    assert_eq!(ask::<String>(&mut commands, &["GET", "throng:k"]), "v");
    for wrong in ["app:wr0ng@", "other:s3cret@", ":s3cret@", ""] {
        for error in
            [open(&settings(&at(wrong))).err(), subscribe(&settings(&at(wrong)), &["throng:c"]).err()]
        {
            let error = error.unwrap_or_else(|| panic!("{wrong:?} was let in"));
            assert!(matches!(error, LinkError::Refused(_)), "{wrong}: {error:?}");
            let text = error.to_string();
            assert!(!text.contains("s3cret") && !text.contains("wr0ng"), "{text}");
        }
    }
    assert!(matches!(subscribe(&settings(&url), &["other"]).err(), Some(LinkError::Refused(_))));
}

#[test]
fn tls_with_a_private_authority() {
    let server = Redis::with(Options::default().tls());
    let trusting = Settings { ca_file: server.ca_file(), ..settings(&server.url()) };
    let mut commands = open(&trusting).expect("open");
    let mut subscription = subscribe(&trusting, &["c"]).expect("subscribe");
    assert_eq!(subscription.next(Duration::from_millis(20)), Ok(None));
    let large = "x".repeat(1 << 20);
    assert_eq!(commands.publish(&[("c", large.as_str())]), [Ok(1)]);
    assert_eq!(next(&mut subscription).len(), large.len() + 3);

    let error = open(&settings(&server.url())).err().expect("an unknown authority");
    assert!(matches!(error, LinkError::Unreachable(_)), "{error:?}");
    let plain = format!("redis://127.0.0.1:{}", server.port());
    assert!(open(&impatient(&plain)).is_err(), "a server that wants TLS was spoken to without");
    let unreadable = Settings { ca_file: Some("/nonexistent/ca.pem".into()), ..trusting.clone() };
    assert!(matches!(open(&unreadable).err(), Some(LinkError::Settings(_))));
    let no_server =
        Settings { target: Target { tls: true, ..Redis::start().url().parse().expect("a URL") }, ..trusting };
    assert!(open(&no_server).is_err());
}

#[test]
fn a_server_that_dies_and_comes_back() {
    let mut server = Redis::start();
    let settings = settings(&server.url());
    let mut commands = open(&settings).expect("open");
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    server.kill();
    assert!(matches!(end(&mut subscription), LinkError::Lost(_)));
    let error = commands.query(&command(&["PING"])).expect_err("no server");
    assert!(matches!(error, LinkError::Lost(_)), "{error:?}");
    assert!(matches!(open(&settings).err(), Some(LinkError::Unreachable(_))));
    assert!(matches!(subscribe(&settings, &["c"]).err(), Some(LinkError::Unreachable(_))));

    server.restart();
    // What was lost stays lost, so that nobody overlooks it.
    assert_eq!(commands.publish(&[("c", "x")]).len(), 1);
    assert!(matches!(commands.publish(&[("c", "x")])[0], Err(LinkError::Lost(_))));
    assert!(matches!(commands.verify(), Err(LinkError::Lost(_))));
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    assert_eq!(open(&settings).expect("open").publish(&[("c", "x")]), [Ok(1)]);
    assert_eq!(next(&mut subscription), "c: x");
}

#[test]
fn a_subscriber_that_the_server_drops() {
    let server = Redis::with(Options::default().line("client-output-buffer-limit pubsub 1mb 1mb 1"));
    let settings = settings(&server.url());
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    let mut commands = open(&settings).expect("open");
    // Nobody reads: the kernel's buffers fill, then the server's.
    let large = "x".repeat(256 * 1024);
    wait_until("the server drops the subscriber", || commands.publish(&[("c", large.as_str())]) == [Ok(0)]);
    assert!(matches!(end(&mut subscription), LinkError::Lost(_)));
}

#[test]
fn a_replica_is_refused() {
    let master = Redis::start();
    let replica = Redis::with(Options::default().line(format!("replicaof 127.0.0.1 {}", master.port())));
    let settings = settings(&replica.url());
    assert!(matches!(open(&settings).err(), Some(LinkError::NotMaster(_))));
    assert!(matches!(subscribe(&settings, &["c"]).err(), Some(LinkError::NotMaster(_))));

    // A master that becomes one is noticed when asked, and at the first write.
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    let (mut asking, mut writing) = (open(&settings).expect("open"), open(&settings).expect("open"));
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    assert!(matches!(asking.verify(), Err(LinkError::NotMaster(_))));
    let written = writing.query(&command(&["SET", "k", "v"]));
    assert!(matches!(written, Err(LinkError::NotMaster(_))), "{written:?}");
    assert!(matches!(writing.query(&command(&["PING"])), Err(LinkError::Lost(_))));
}

/// Runs a call that must fail, within a multiple of the timeout.
fn in_time<T>(what: &str, times: u32, settings: &Settings, call: impl FnOnce() -> Result<T, LinkError>) {
    let start = Instant::now();
    let error = call().err().unwrap_or_else(|| panic!("{what} worked with a server that hangs"));
    let (took, most) = (start.elapsed(), settings.response_timeout * times + SLACK);
    assert!(took < most, "{what} took {took:?}, not {most:?}");
    assert!(matches!(error, LinkError::TimedOut(_)), "{what}: {error:?}");
}

#[test]
fn no_call_outlasts_its_timeout() {
    let server = Redis::start();
    let settings = impatient(&server.url());
    let connect = || open(&settings).expect("open");
    let (mut one, mut two, mut three, mut four) = (connect(), connect(), connect(), connect());
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    server.pause();
    in_time("query", 1, &settings, || one.query(&command(&["PING"])));
    let many: Vec<Cmd> = (0..1000).map(|_| command(&["PING"])).collect();
    in_time("pipeline", 1, &settings, || two.pipeline(&many).pop().expect("a result"));
    // More than the kernel's buffers take.
    let large = vec![("c", "x".repeat(1 << 20)); 32];
    in_time("publish", 2, &settings, || three.publish(&large).pop().expect("a result"));
    in_time("verify", 1, &settings, || four.verify());
    in_time("open", 1, &settings, || open(&settings));
    in_time("subscribe", 1, &settings, || subscribe(&settings, &["c"]));
    // Once silent for the timeout, it is asked, and given up after another.
    in_time("next", 2, &settings, || subscription.next(DEADLINE));
    server.resume();
    assert_eq!(eventually("it answers again", || open(&settings)).verify(), Ok(()));
}

/// How often a server was given a command.
fn calls(server: &Redis, command: &str) -> u64 {
    let statistics = server.info(&format!("cmdstat_{command}"));
    let calls = statistics.split(',').find_map(|field| field.strip_prefix("calls=")?.parse().ok());
    calls.unwrap_or_default()
}

#[test]
fn a_quiet_subscription_goes_on() {
    let server = Redis::start();
    let settings = Settings { response_timeout: Duration::from_millis(100), ..settings(&server.url()) };
    let mut subscription = subscribe(&settings, &["a", "b"]).expect("subscribe");
    let asked = || calls(&server, "subscribe") / 2;
    let subscribed = asked();
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(1) {
        assert_eq!(subscription.next(Duration::from_millis(30)), Ok(None));
    }
    assert!(asked() > subscribed, "it was never asked whether it is there");
    // The caller has other things to do, for longer than an answer may take: a
    // command that the server holds. Every other time a question is open then,
    // whose answer has long lain there, and that is no silence.
    let mut connection = server.connection();
    let busy = (settings.response_timeout * 2).as_secs_f64().to_string();
    let before = asked();
    for _ in 0..3 {
        let nothing: Option<(String, String)> =
            redis_servers::ask(&mut connection, &["BLPOP", "nothing", &busy]).expect("a command that blocks");
        assert_eq!((nothing, subscription.next(Duration::ZERO)), (None, Ok(None)));
    }
    assert!(asked() > before, "it was not asked meanwhile");
    let receivers: u64 = redis_servers::ask(&mut connection, &["PUBLISH", "b", "x"]).expect("published");
    assert_eq!((receivers, next(&mut subscription).as_str()), (1, "b: x"));
}

/// A server that says what is needed to subscribe, then what `rest` sends.
fn fake(rest: impl FnOnce(&mut dyn Write) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("the stream")).lines();
        let mut stream = stream;
        let answers = [
            ("HELLO", "%0\r\n"),
            ("CLIENT", "+OK\r\n"),
            ("ROLE", "*1\r\n$6\r\nmaster\r\n"),
            ("SUBSCRIBE", CONFIRMED),
        ];
        for (name, answer) in answers {
            assert!(lines.any(|line| line.expect("a line") == name));
            stream.write_all(answer.as_bytes()).expect("written");
        }
        rest(&mut stream);
        // Until the other end closes.
        lines.for_each(drop);
    });
    port
}

const CONFIRMED: &str = ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";

#[test]
fn a_message_in_pieces_survives_timeouts() {
    let (go_on, wait) = mpsc::channel::<()>();
    let message = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n";
    let port = fake(move |stream| {
        for piece in message.chunks(7) {
            stream.write_all(piece).expect("written");
            wait.recv().expect("a reader");
        }
        stream.write_all(message).expect("written");
    });
    let mut subscription =
        subscribe(&settings(&format!("redis://127.0.0.1:{port}")), &["c"]).expect("subscribe");
    for _ in message.chunks(7).skip(1) {
        assert_eq!(subscription.next(Duration::from_millis(30)), Ok(None));
        go_on.send(()).expect("a writer");
    }
    assert_eq!(next(&mut subscription), "c: hello");
    go_on.send(()).expect("a writer");
    assert_eq!(next(&mut subscription), "c: hello");
}

#[test]
fn what_is_no_redis() {
    let check = |bytes: &'static [u8]| {
        let port = fake(move |stream| stream.write_all(bytes).expect("written"));
        let settings = impatient(&format!("redis://127.0.0.1:{port}"));
        let error = end(&mut subscribe(&settings, &["c"]).expect("subscribe"));
        assert!(error.ends_connection(), "{}: {error:?}", bytes.escape_ascii());
    };
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    check(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n");
    check(b">2\r\n$7\r\nmessage\r\n$1\r\nc\r\n");
    check(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n");
    check(b"$99999999999999999999\r\n");
}

#[test]
fn a_failover_by_sentinel() {
    let mut servers = Sentinel::start();
    let settings = settings(&sentinel_url(&servers));
    let mut commands = open(&settings).expect("open");
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    assert_eq!(commands.verify(), Ok(()));
    assert_eq!(ask::<String>(&mut commands, &["SET", "k", "v"]), "OK");
    servers.master.await_replica(&servers.replica);
    let old = servers.master.port();
    assert_eq!(commands.master().map(|master| master.port), Some(old));

    servers.master.kill();
    assert!(matches!(end(&mut subscription), LinkError::Lost(_)));
    assert!(commands.query(&command(&["PING"])).is_err_and(|error| error.ends_connection()));
    let mut commands = eventually("a new master", || open(&settings));
    let new = servers.replica.port();
    assert_eq!(commands.master().map(|master| master.port), Some(new));
    let mut subscription = subscribe(&settings, &["c"]).expect("subscribe");
    assert_eq!(subscription.master(), commands.master());
    assert_eq!(ask::<String>(&mut commands, &["GET", "k"]), "v");
    assert_eq!(commands.publish(&[("c", "x")]), [Ok(1)]);
    assert_eq!(next(&mut subscription), "c: x");

    let nobody = Settings {
        target: sentinel_url(&servers).replace("/main", "/other").parse().expect("a URL"),
        ..settings
    };
    assert!(matches!(open(&nobody).err(), Some(LinkError::Unavailable(_))));
}

#[test]
fn a_master_that_was_cut_off_and_replaced() {
    let servers = Sentinel::start();
    let settings = settings(&sentinel_url(&servers));
    let mut commands = open(&settings).expect("open");
    servers.master.pause();
    wait_until("a failover", || servers.master_port() == servers.replica.port());
    servers.replica.ask::<String>(&["SET", "k", "new"]);
    // It wakes and takes itself for the master, until a sentinel tells it.
    servers.master.resume();
    let error = commands.verify().expect_err("a master that was replaced");
    assert!(error.ends_connection(), "{error:?}");
    assert_eq!(ask::<String>(&mut open(&settings).expect("open"), &["GET", "k"]), "new");
}

/// A channel, and a key, of each master.
const NAMES: [&str; 3] = ["b", "c", "a"];

#[test]
fn a_cluster() {
    let mut cluster = Cluster::quick_to_fail_over();
    let settings = settings(&cluster_url(&cluster));
    let mut commands = open(&settings).expect("open");
    assert_eq!((commands.verify(), commands.master()), (Ok(()), None));
    let masters = NAMES.map(|name| {
        assert_eq!(ask::<String>(&mut commands, &["SET", name, name]), "OK");
        cluster.master_of(name)
    });
    assert_eq!(masters, [0, 1, 2], "the names are of different masters");

    let (text, key) = ("return redis.call('GET', KEYS[1])", "b");
    let hash: String = ask(&mut commands, &["SCRIPT", "LOAD", text]);
    let calls: Vec<Cmd> = (0..300).map(|n| command(&["EVALSHA", &hash, "1", NAMES[n % 3]])).collect();
    for (n, result) in commands.pipeline(&calls).into_iter().enumerate() {
        assert_eq!(result, Ok(Value::BulkString(NAMES[n % 3].into())));
    }
    ask::<Vec<u64>>(&mut commands, &["TIME"]);

    let mut subscription = subscribe(&settings, &NAMES).expect("subscribe");
    let mut alone = subscribe(&settings, &[key]).expect("subscribe");
    let messages: Vec<(&str, String)> = (0..300).map(|n| (NAMES[n % 3], n.to_string())).collect();
    for ((channel, _), result) in messages.iter().zip(commands.publish(&messages)) {
        assert_eq!(result, Ok(if *channel == key { 2 } else { 1 }));
    }
    let mut received: Vec<String> = (0..300).map(|_| next(&mut subscription)).collect();
    for channel in NAMES {
        let of_channel = received.extract_if(.., |text| text.starts_with(&format!("{channel}: ")));
        let sent = messages
            .iter()
            .filter(|(name, _)| *name == channel)
            .map(|(name, text)| format!("{name}: {text}"));
        assert!(of_channel.eq(sent), "{channel} has lost something, or its order");
    }
    assert_eq!(next(&mut alone), "b: 0");
    a_slot_moves(&cluster, &settings, &mut commands, subscription);
    a_master_hangs(&cluster);
    a_master_dies(&mut cluster, &settings, commands);
}

fn a_slot_moves(
    cluster: &Cluster,
    settings: &Settings,
    commands: &mut Commands,
    mut subscription: Subscription,
) {
    cluster.move_slot("c", 1, 0);
    let error = end(&mut subscription);
    assert!(matches!(error, LinkError::NotMaster(_)), "{error:?}");
    // Commands follow by themselves.
    assert_eq!(ask::<String>(commands, &["GET", "c"]), "c");
    let mut subscription = eventually("the new owner serves", || subscribe(settings, &NAMES));
    let results = commands.publish(&NAMES.map(|name| (name, "moved")));
    assert!(
        results.iter().all(|result| result.as_ref().is_ok_and(|receivers| *receivers > 0)),
        "{results:?}"
    );
    let mut received: Vec<String> = (0..3).map(|_| next(&mut subscription)).collect();
    received.sort();
    assert_eq!(received, ["a: moved", "b: moved", "c: moved"]);

    // While it is being moved, keys that are gone are asked for at the new owner.
    let ids = [0, 1].map(|server| cluster.servers[server].ask::<String>(&["CLUSTER", "MYID"]));
    let slot = cluster.servers[0].ask::<u32>(&["CLUSTER", "KEYSLOT", "c"]).to_string();
    cluster.servers[1].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
    cluster.servers[0].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
    assert_eq!(ask::<String>(commands, &["GET", "c"]), "c");
    let port = cluster.servers[1].port().to_string();
    cluster.servers[0].ask::<()>(&["MIGRATE", "127.0.0.1", &port, "c", "0", "5000"]);
    assert_eq!(ask::<String>(commands, &["GET", "c"]), "c");
    for server in [1, 0] {
        cluster.servers[server].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]);
    }
    assert_eq!(ask::<String>(commands, &["GET", "c"]), "c");
}

fn a_master_hangs(cluster: &Cluster) {
    let settings = impatient(&cluster_url(cluster));
    let mut commands = open(&settings).expect("open");
    let mut subscription = subscribe(&settings, &NAMES).expect("subscribe");
    let all: Vec<Cmd> = (0..300).map(|n| command(&["GET", NAMES[n % 3]])).collect();
    assert!(commands.pipeline(&all).iter().all(Result::is_ok));
    cluster.servers[2].pause();
    let start = Instant::now();
    let results = commands.pipeline(&all);
    let took = start.elapsed();
    assert!(took < settings.response_timeout + SLACK, "{took:?}");
    for (n, result) in results.iter().enumerate() {
        match NAMES[n % 3] {
            "a" => assert!(matches!(result, Err(LinkError::TimedOut(_))), "{result:?}"),
            // Their own masters have answered.
            name => assert_eq!(result, &Ok(Value::BulkString(name.into()))),
        }
    }
    let start = Instant::now();
    assert!(matches!(end(&mut subscription), LinkError::TimedOut(_)));
    assert!(start.elapsed() < settings.response_timeout * 3 + SLACK);
    cluster.servers[2].resume();
    eventually("the master answers again", || commands.query(&command(&["GET", "a"])));
}

fn a_master_dies(cluster: &mut Cluster, settings: &Settings, mut commands: Commands) {
    let killed = cluster.master_of("b");
    let keys = ["b", "c", "a"];
    let mut subscription = eventually("subscribe", || subscribe(settings, &keys));
    cluster.servers[killed].kill();
    assert!(matches!(end(&mut subscription), LinkError::Lost(_)));
    // The same connection finds the promoted replica by itself.
    let value = eventually("the replica is promoted", || commands.query(&command(&["GET", "b"])));
    assert_eq!(value, Value::BulkString(b"b".into()));
    let mut subscription = eventually("subscribe", || subscribe(settings, &keys));
    for key in keys {
        assert!(commands.publish(&[(key, "x")])[0].is_ok());
        assert_eq!(next(&mut subscription), format!("{key}: x"));
    }
}
