use std::sync::Arc;

use super::asks::ANSWER_TIME;
use super::copies::Attempt;
use super::dispatch::RETRY_AFTER;
use super::theirs::REPORT_TIME;
use super::*;
use crate::cluster::message::Stray;
use crate::cluster::sources::SourceId;
use crate::cluster::wire::{self, Answer, Probe};
use crate::delivery::Outcome;
use crate::ids::ReactorId;
use crate::limits::{CLUSTER_UNHEARD, STRAY_BYTES, STRAYS, STREAM_ABSENCE};
use crate::reactor::message::{Action, Kick};
use crate::stamp::{Micros, Stamp};
use crate::trace::TraceId;

/// A channel and the kinds of the envelopes published on it.
type Published = (String, Vec<String>);

/// A router of node `me` at a time of its own.
struct Bench {
    router: Router,
    now: Instant,
    /// Effects that were neither batches nor what nodes answered.
    rest: Vec<Effect>,
}

fn member(node: &str) -> Member {
    Member::new(node, 7)
}

fn asks() -> ReplyTo {
    ReplyTo::Request { reactor: ReactorId(0), ticket: 1, trace: None }
}

fn deliver(text: &str) -> Action {
    Action::Deliver(Frame::text(text.as_bytes()))
}

fn said(connections: &[(u32, Outcome)]) -> RemoteAnswer {
    let connection = |&(n, outcome): &(u32, Outcome)| (ConnId::new(ReactorId(0), n, 1), outcome);
    RemoteAnswer::Said {
        connections: connections.iter().map(connection).collect(),
        audience: 0,
        unconfirmed: 0,
    }
}

impl Bench {
    fn new() -> Self {
        let bounds = Bounds {
            cache_users: 100,
            cache_time: Duration::from_secs(30),
            ring_bytes: 1 << 20,
            reactors: 2,
        };
        let now = Instant::now();
        Bench { router: Router::new(member("me"), bounds, now).unwrap(), now, rest: Vec::new() }
    }

    fn act(&mut self, user: &str, action: Action, reply: ReplyTo) {
        self.router.act(user.into(), action, reply, self.now);
    }

    /// Looks up who is wanted: everybody is on `nodes`.
    fn look_up(&mut self, nodes: &[&str]) -> usize {
        let wanted = self.router.wanted(self.now);
        let rows = wanted.iter().map(|_| nodes.iter().map(|node| member(node)).collect()).collect();
        self.router.found(&wanted, rows, self.now, self.now);
        wanted.len()
    }

    fn later(&mut self, span: Duration) {
        self.now += span;
        self.router.handle_timeout(self.now);
    }

    /// What is published, and what is reported.
    fn effects(&mut self) -> (Vec<Published>, Vec<Vec<RemoteNode>>) {
        let (mut published, mut reported) = (Vec::new(), Vec::new());
        for effect in self.router.take_effects(self.now) {
            match effect {
                Effect::Publish(channel, batch) => {
                    let name = match channel {
                        Channel::Node(node) => node,
                        Channel::All => "*".to_owned(),
                    };
                    let (_, envelopes) = wire::read(&batch).unwrap();
                    let kind = |envelope: &Envelope<'_>| {
                        format!("{envelope:?}").split(' ').next().unwrap_or_default().to_owned()
                    };
                    published.push((name, envelopes.map(|item| kind(&item.unwrap().envelope)).collect()));
                }
                Effect::Report(_, Report::Remote(nodes)) => reported.push(nodes),
                other => self.rest.push(other),
            }
        }
        published.sort();
        (published, reported)
    }
}

fn sent(published: &[(&str, &[&str])]) -> Vec<Published> {
    let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
    published.iter().map(|(node, envelopes)| ((*node).to_owned(), kinds(envelopes))).collect()
}

#[test]
fn a_user_is_looked_up_once_and_one_batch_goes_to_each_node() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.act("bob", deliver(&n.to_string()), ReplyTo::Nobody);
    }
    assert_eq!(bench.look_up(&["b", "c", "me"]), 1);
    let all = &["Send", "Send", "Send"][..];
    assert_eq!(bench.effects().0, sent(&[("b", all), ("c", all)]));
    bench.act("bob", Action::Kick(Arc::new(Kick::new("x", false, None))), ReplyTo::Nobody);
    assert_eq!(bench.look_up(&[]), 0, "it is remembered");
    assert_eq!(bench.effects().0, sent(&[("b", &["Kick"]), ("c", &["Kick"])]));
    bench.router.forget("bob");
    bench.act("bob", deliver("x"), ReplyTo::Nobody);
    assert_eq!(bench.look_up(&["b"]), 1, "until it is outdated");
}

#[test]
fn a_result_waits_for_every_node() {
    let mut bench = Bench::new();
    bench.act("bob", deliver("x"), asks());
    bench.look_up(&["b", "c"]);
    assert_eq!(bench.effects().1, Vec::<Vec<RemoteNode>>::new());
    let id = bench.router.asks.last_id();
    bench.router.acked(&member("c"), id, said(&[(1, Outcome::Delivered)]), bench.now);
    bench.router.acked(&member("c"), id, said(&[(1, Outcome::Delivered)]), bench.now);
    assert!(bench.effects().1.is_empty(), "one answer is not two");
    bench.later(ANSWER_TIME);
    let (_, reported) = bench.effects();
    let answers: Vec<_> = reported[0].iter().map(|node| (node.node.as_str(), node.answer.clone())).collect();
    let expected = [("c", said(&[(1, Outcome::Delivered)])), ("b", RemoteAnswer::TimedOut)];
    assert_eq!(answers, expected);
}

#[test]
fn who_was_not_there_is_looked_up_again_a_few_times() {
    let mut bench = Bench::new();
    bench.act("bob", deliver("x"), asks());
    for _ in 0..=RETRY_AFTER.len() {
        assert_eq!(bench.look_up(&["b"]), 1);
        bench.effects();
        let id = bench.router.asks.last_id();
        bench.router.acked(&member("b"), id, said(&[]), bench.now);
        assert_eq!(bench.look_up(&["b"]), 0, "not at once");
        bench.later(Duration::from_secs(1));
    }
    assert_eq!(bench.effects().1, [vec![RemoteNode { node: "b".into(), answer: said(&[]) }]]);
    assert_eq!(bench.look_up(&["b"]), 0);
}

#[test]
fn who_waits_for_a_node_that_is_not_there_is_told() {
    let unavailable = || [vec![RemoteNode::unavailable("b")]];
    let mut unheard = Bench::new();
    unheard.act("bob", deliver("x"), asks());
    unheard.look_up(&["b"]);
    unheard.effects();
    unheard.router.unheard("b", b"", unheard.now);
    assert_eq!(unheard.effects().1, unavailable());

    let mut dead = Bench::new();
    dead.router.set_others(vec![member("b")], dead.now);
    dead.act("bob", deliver("x"), asks());
    dead.look_up(&["b"]);
    dead.effects();
    dead.router.set_others(vec![], dead.now);
    assert_eq!(dead.effects().1, unavailable());

    let mut broken = Bench::new();
    broken.act("bob", deliver("x"), asks());
    broken.look_up(&["b"]);
    broken.act("cay", deliver("x"), asks());
    let reports = broken.router.give_up();
    let told = reports
        .iter()
        .filter(|effect| matches!(effect, Effect::Report(_, Report::Remote(nodes)) if !nodes.is_empty()));
    assert_eq!((told.count(), reports.len()), (2, 2));
}

#[test]
fn a_newcomer_learns_where_broadcasts_stand() {
    let mut bench = Bench::new();
    bench.router.set_others(vec![member("b")], bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Begin"])]));
    bench.router.broadcast(&Frame::text(b"1"), ReplyTo::Nobody, bench.now);
    bench.router.set_others(vec![member("b"), member("c")], bench.now);
    assert_eq!(bench.effects().0, sent(&[("*", &["Broadcast"]), ("c", &["Begin"])]));
}

#[test]
fn a_stream_goes_on_with_its_numbers_when_its_node_was_only_late() {
    let mut bench = Bench::new();
    let mut numbers_after = |absence: Duration, back: Member| {
        bench.router.set_others(vec![member("b")], bench.now);
        bench.act("bob", deliver("1"), ReplyTo::Nobody);
        bench.look_up(&["b"]);
        bench.effects();
        bench.router.set_others(vec![], bench.now);
        bench.now += absence;
        bench.router.set_others(vec![], bench.now);
        bench.router.set_others(vec![back], bench.now);
        let lanes = &bench.router.lanes;
        (lanes.incarnation("b").unwrap(), lanes.next_to("b").unwrap())
    };
    let (_, before) = numbers_after(Duration::ZERO, member("b"));
    let (same, after) = numbers_after(STREAM_ABSENCE / 2, member("b"));
    assert_eq!(same, 7);
    assert!(after > before, "{after} after {before}");
    assert_eq!(numbers_after(Duration::ZERO, Member::new("b", 8)), (8, 2), "another stream, a Begin in it");
}

#[test]
fn what_a_node_missed_is_sent_to_it_alone() {
    let mut bench = Bench::new();
    bench.act("bob", deliver("1"), ReplyTo::Nobody);
    bench.look_up(&["b"]);
    bench.effects();
    bench.act("bob", deliver("2"), ReplyTo::Nobody);
    bench.effects();
    bench.router.resend(&member("b"), Stream::To(7), 1, 1, bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &[]), ("b", &["Send"])]));
    bench.router.resend(&member("b"), Stream::To(6), 1, 1, bench.now);
    assert_eq!(bench.effects().0, sent(&[]), "it is another incarnation's");
}

#[test]
fn our_reactors_answer_is_sent_when_it_is_complete_or_late() {
    let mut bench = Bench::new();
    let connection = ConnId::new(ReactorId(0), 5, 5);
    let located = || Report::Located { connections: vec![connection], elsewhere: false };
    bench.router.asked(1, (member("b"), 40), Until::Done, None, bench.now);
    bench.router.asked(2, (member("c"), 41), Until::Done, None, bench.now);
    bench.router.reported(1, located(), bench.now);
    bench.router.reported(2, located(), bench.now);
    assert!(bench.effects().0.is_empty());
    bench.router.reported(1, Report::Outcome(connection, Outcome::Delivered), bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Ack"])]));
    bench.later(REPORT_TIME);
    let (published, _) = bench.effects();
    assert!(published.contains(&("c".to_owned(), vec!["Ack".to_owned()])), "{published:?}");
}

#[test]
fn a_home_that_said_nothing_is_not_taken_to_have_nobody() {
    let mut bench = Bench::new();
    let check = |bench: &mut Bench, until, expected: &[(&str, &[&str])]| {
        bench.router.asked(1, (member("b"), 40), until, None, bench.now);
        bench.later(REPORT_TIME);
        assert_eq!(bench.effects().0, sent(expected), "{until:?}");
        bench.router.reported(1, Report::Located { connections: vec![], elsewhere: false }, bench.now);
        assert!(bench.effects().0.is_empty(), "{until:?}: too late");
    };
    check(&mut bench, Until::Done, &[]);
    check(&mut bench, Until::Located, &[]);
    // Of a broadcast it is said how many reactors did not confirm it.
    bench.now += Duration::from_secs(60);
    check(&mut bench, Until::Heard, &[("b", &["Ack"])]);
}

#[test]
fn a_lookup_is_answered_as_soon_as_the_home_has() {
    let mut bench = Bench::new();
    let connections = vec![ConnId::new(ReactorId(0), 5, 5)];
    bench.router.asked(1, (member("b"), 40), Until::Located, None, bench.now);
    bench.router.reported(1, Report::Located { connections, elsewhere: false }, bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Ack"])]));
}

/// The connection that sends in these tests.
fn client() -> ConnId {
    ConnId::new(ReactorId(1), 3, 9)
}

fn stray(user: &str, tries: u8) -> Stray {
    Stray { user: user.into(), frame: Frame::text(b"x"), sender: client(), tries }
}

/// What the sends in the next batches ask for, by node.
fn answers(bench: &mut Bench) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for effect in bench.router.take_effects(bench.now) {
        let Effect::Publish(Channel::Node(node), batch) = effect else { panic!("{effect:?}") };
        for item in wire::read(&batch).unwrap().1 {
            if let Envelope::Send { answer, .. } = item.unwrap().envelope {
                answers.push((node.clone(), answer));
            }
        }
    }
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    answers
}

/// Whom the effects tell that the user is offline, and for whom our reactors get a message.
fn told(bench: &mut Bench) -> (Vec<ConnId>, Vec<Option<Origin>>) {
    let (mut told, mut delivered) = (Vec::new(), Vec::new());
    assert!(bench.effects().1.is_empty(), "nobody asked");
    for effect in std::mem::take(&mut bench.rest) {
        match effect {
            Effect::Undelivered(sender, user) if &*user == "bob" => told.push(sender),
            Effect::Deliver(user, _, origin) if &*user == "bob" => delivered.push(origin),
            other => panic!("{other:?}"),
        }
    }
    (told, delivered)
}

#[test]
fn a_clients_message_may_come_back() {
    let check = |reply: ReplyTo, nodes: &[&str], expected: &[(&str, Answer)]| {
        let mut bench = Bench::new();
        bench.act("bob", deliver("x"), reply.clone());
        bench.look_up(nodes);
        let expected: Vec<_> = expected.iter().map(|(node, answer)| ((*node).to_owned(), *answer)).collect();
        assert_eq!(answers(&mut bench), expected, "{reply:?} {nodes:?}");
    };
    let returns = Answer::Return { sender: client().as_u64(), tries: 0 };
    check(ReplyTo::Client(client()), &["b"], &[("b", returns)]);
    let one_of = |copies| {
        let tries = Attempt { tries: 0, copies }.pack().unwrap();
        Answer::Return { sender: client().as_u64(), tries }
    };
    check(ReplyTo::Client(client()), &["b", "c"], &[("b", one_of(2)), ("c", one_of(2))]);
    check(ReplyTo::Nobody, &["b"], &[("b", Answer::Nothing)]);
    check(ReplyTo::Nobody, &["b", "me"], &[("b", Answer::Nothing)]);
    check(asks(), &["b"], &[("b", Answer::Ack(2))]);
}

#[test]
fn what_came_back_is_sent_after_its_user_a_few_times() {
    let mut bench = Bench::new();
    bench.act("bob", deliver("x"), ReplyTo::Client(client()));
    bench.look_up(&["b"]);
    bench.effects();
    for (tries, wait) in RETRY_AFTER.iter().enumerate() {
        bench.router.returned(Some("b"), stray("bob", tries as u8), bench.now);
        bench.now += *wait - Duration::from_millis(1);
        assert_eq!(bench.look_up(&["c"]), 0, "not before its time");
        bench.now += Duration::from_millis(1);
        assert_eq!(bench.look_up(&["c"]), 1, "what was remembered is outdated");
        let returns = Answer::Return { sender: client().as_u64(), tries: tries as u8 + 1 };
        assert_eq!(answers(&mut bench), [("c".to_owned(), returns)]);
    }
    bench.router.returned(Some("b"), stray("bob", RETRY_AFTER.len() as u8), bench.now);
    assert_eq!(told(&mut bench), (vec![client()], vec![]));
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.look_up(&["c"]), 0);
}

#[test]
fn what_came_back_for_nobody_is_said_to_its_sender_once() {
    let mut bench = Bench::new();
    bench.router.returned(Some("b"), stray("bob", 0), bench.now);
    assert_eq!(told(&mut bench), (vec![], vec![]), "the user may be changing nodes");
    bench.later(RETRY_AFTER[0]);
    assert_eq!(bench.look_up(&[]), 1);
    assert_eq!(told(&mut bench), (vec![client()], vec![]));
    bench.router.returned(Some("b"), stray("bob", 3), bench.now);
    assert_eq!(told(&mut bench), (vec![client()], vec![]));
    bench.router.returned(Some("b"), stray("bob", 1), bench.now);
    let told = bench.router.give_up();
    assert!(matches!(told[..], [Effect::Unreachable(sender)] if sender == client()), "{told:?}");
}

#[test]
fn a_user_who_came_here_meanwhile_gets_a_clients_message_here() {
    let origin = |tries| Origin { source: SourceId::HERE, sender: client(), tries };
    let check = |nodes: &[&str], tries: u8, origin: Option<Origin>, published: &[(&str, &[&str])]| {
        let mut bench = Bench::new();
        match tries {
            0 => bench.act("bob", deliver("x"), ReplyTo::Client(client())),
            tries => bench.router.returned(Some("b"), stray("bob", tries - 1), bench.now),
        }
        bench.now += Duration::from_secs(1);
        bench.look_up(nodes);
        assert_eq!(bench.effects().0, sent(published), "{nodes:?}");
        assert_eq!(told(&mut bench), (vec![], vec![origin]));
    };
    check(&["me"], 0, Some(origin(0)), &[]);
    check(&["me"], 2, Some(origin(2)), &[]);
    // The other node may have delivered it, so it has to come back from both.
    let one_of_two = Attempt { tries: 1, copies: 2 }.pack().unwrap();
    check(&["b", "me"], 1, Some(origin(one_of_two)), &[("b", &["Send"])]);
}

#[test]
fn what_came_back_from_all_nodes_is_sent_after_its_user() {
    let mut bench = Bench::new();
    let back = |tries| stray("bob", Attempt { tries, copies: 2 }.pack().unwrap());
    bench.act("bob", deliver("x"), ReplyTo::Client(client()));
    bench.look_up(&["b", "me"]);
    bench.effects();
    bench.rest.clear();
    bench.router.returned(Some("b"), back(0), bench.now);
    bench.later(RETRY_AFTER[0]);
    assert_eq!(bench.look_up(&["c"]), 0, "it may have been delivered here");
    bench.router.returned(Some("me"), back(0), bench.now);
    bench.later(RETRY_AFTER[0]);
    assert_eq!(bench.look_up(&["c"]), 1);
    let returns = Answer::Return { sender: client().as_u64(), tries: 1 };
    assert_eq!(answers(&mut bench), [("c".to_owned(), returns)]);
}

/// Publishes what there is for `b`, which hears it or not.
fn publish(bench: &mut Bench, hears: bool) {
    for effect in bench.router.take_effects(bench.now) {
        match effect {
            Effect::Publish(Channel::Node(node), _) if hears => bench.router.heard(&node),
            Effect::Publish(Channel::Node(node), batch) => bench.router.unheard(&node, &batch, bench.now),
            other => bench.rest.push(other),
        }
    }
}

/// A bench with messages on their way to `b`, which heard the first and no other.
fn bench_with_unheard() -> Bench {
    let mut bench = Bench::new();
    bench.router.set_others(vec![member("b")], bench.now);
    for hears in [true, false, false] {
        bench.act("bob", deliver("x"), ReplyTo::Client(client()));
        bench.look_up(&["b"]);
        publish(&mut bench, hears);
    }
    bench
}

#[test]
fn what_nobody_heard_is_taken_back_after_a_while_and_not_sent_again() {
    let mut bench = bench_with_unheard();
    bench.now += CLUSTER_UNHEARD - Duration::from_millis(1);
    assert_eq!(bench.router.take_back(bench.now), 0);
    bench.now += Duration::from_millis(1);
    assert!(bench.router.deadline().is_some_and(|due| due <= bench.now));
    assert_eq!((bench.router.take_back(bench.now), bench.router.take_back(bench.now)), (2, 0));
    assert_eq!(bench.router.lanes.unheard.deadline(), None, "there is nothing to do");
    bench.later(RETRY_AFTER[0]);
    // It still is where Redis says, and that node still does not hear.
    bench.look_up(&["b"]);
    publish(&mut bench, false);
    assert_eq!(bench.router.take_back(bench.now), 2, "at once");
    bench.later(RETRY_AFTER[1]);
    bench.look_up(&[]);
    bench.effects();
    assert_eq!(told(&mut bench), (vec![client(); 2], vec![]));
    // Should it come to life: a Begin and a message before, and then what is lost.
    bench.router.resend(&member("b"), Stream::To(7), 1, u64::MAX, bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &[]), ("b", &["Begin", "Send"])]));
    bench.router.resend(&member("b"), Stream::To(7), 3, u64::MAX, bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &[]), ("b", &["Lost"])]));
}

#[test]
fn who_listens_again_asks_for_what_was_missed_itself() {
    let mut listens = bench_with_unheard();
    listens.act("bob", deliver("x"), ReplyTo::Client(client()));
    publish(&mut listens, true);
    let mut asks = bench_with_unheard();
    asks.router.resend(&member("b"), Stream::To(7), 3, u64::MAX, asks.now);
    for mut bench in [listens, asks] {
        bench.effects();
        bench.later(2 * CLUSTER_UNHEARD);
        assert_eq!(bench.router.take_back(bench.now), 0);
        bench.effects();
        bench.router.resend(&member("b"), Stream::To(7), 3, 4, bench.now);
        assert_eq!(bench.effects().0, sent(&[("b", &[]), ("b", &["Send"]), ("b", &["Send"])]));
    }
}

#[test]
fn what_nobody_heard_is_taken_back_at_once_from_the_dead() {
    for others in [vec![], vec![Member::new("b", 8)]] {
        let mut bench = bench_with_unheard();
        bench.router.set_others(others.clone(), bench.now);
        assert_eq!(bench.router.take_back(bench.now), 2, "{others:?}");
    }
    let unreachable = bench_with_unheard().router.give_up();
    assert!(matches!(unreachable[..], [Effect::Unreachable(_), Effect::Unreachable(_)]), "{unreachable:?}");
}

#[test]
fn messages_that_wait_for_another_try_are_bounded() {
    let mut bench = Bench::new();
    for _ in 0..STRAYS + 10 {
        bench.router.returned(Some("b"), stray("bob", 0), bench.now);
    }
    assert_eq!(told(&mut bench).0.len(), 10);
    bench.later(RETRY_AFTER[0]);
    bench.look_up(&["b"]);
    bench.router.returned(Some("b"), stray("bob", 1), bench.now);
    assert_eq!(told(&mut bench).0.len(), 0, "there is room again");
    let large = || Frame::text(&vec![b'x'; STRAY_BYTES / 2]);
    for _ in 0..2 {
        bench.router.returned(Some("b"), Stray { frame: large(), ..stray("bob", 0) }, bench.now);
    }
    assert_eq!(told(&mut bench).0.len(), 1);
}

#[test]
fn a_message_goes_back_to_the_life_it_came_from() {
    let mut bench = Bench::new();
    bench.router.give_back(&member("b"), &stray("bob", 0), bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Returned"])]));
    bench.router.give_back(&Member::new("b", 6), &stray("bob", 0), bench.now);
    assert_eq!(bench.effects().0, sent(&[]), "its successor has other connections");
}

#[test]
fn users_of_a_node_that_is_gone_or_began_anew_are_looked_up_again() {
    let check = |others: &[Member], wanted: usize| {
        let mut bench = Bench::new();
        bench.router.set_others(vec![member("b"), member("c")], bench.now);
        bench.act("bob", deliver("x"), ReplyTo::Nobody);
        bench.look_up(&["b"]);
        bench.router.set_others(others.to_vec(), bench.now);
        bench.act("bob", deliver("x"), ReplyTo::Nobody);
        assert_eq!(bench.look_up(&["c"]), wanted, "{others:?}");
    };
    check(&[member("b"), member("c")], 0);
    check(&[member("b")], 0);
    check(&[member("c")], 1);
    check(&[Member::new("b", 8), member("c")], 1);
}

/// What the sends in the next batches say besides, by node.
fn asides(bench: &mut Bench) -> Vec<(String, Aside)> {
    let mut asides = Vec::new();
    for effect in bench.router.take_effects(bench.now) {
        let Effect::Publish(Channel::Node(node), batch) = effect else { panic!("{effect:?}") };
        for item in wire::read(&batch).unwrap().1 {
            if let Envelope::Send { aside, .. } = item.unwrap().envelope {
                asides.push((node.clone(), aside));
            }
        }
    }
    asides
}

#[test]
fn a_stamped_message_is_a_probe_and_the_lookup_is_part_of_its_way() {
    let mut bench = Bench::new();
    let taken = Micros::from_u32(5);
    let stamped = || Action::Deliver(Frame::text(b"x").stamped(Some(Stamp::taken(taken))));
    bench.act("bob", stamped(), ReplyTo::Client(client()));
    bench.act("bob", stamped(), ReplyTo::Client(client()));
    let asked = bench.now;
    let wanted = bench.router.wanted(asked);
    bench.now += Duration::from_millis(3);
    bench.router.found(&wanted, vec![vec![member("b")]], asked, bench.now);
    let probe = Probe { taken, sent: Micros::from_u32(3000) };
    let said = |probe| ("b".to_owned(), Aside { probe, trace: None });
    assert_eq!(asides(&mut bench), [said(Some(probe)), said(None)], "the second comes too soon");
}

#[test]
fn a_nodes_probe_goes_back_when_it_is_written() {
    let mut bench = Bench::new();
    let probe = Probe { taken: Micros::from_u32(1), sent: Micros::from_u32(2) };
    bench.router.heard_probe(9, member("b"), probe, Micros::from_u32(0));
    bench.router.probe_written(8, Micros::from_u32(10), bench.now);
    assert_eq!(bench.effects().0, sent(&[]));
    bench.router.probe_written(9, Micros::from_u32(10), bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Probed"])]));
}

#[test]
fn a_trace_goes_along_and_is_told_of_where_it_led() {
    let mut bench = Bench::new();
    let trace = TraceId::from_bytes([7; 16]).unwrap();
    let reply = ReplyTo::Request { reactor: ReactorId(0), ticket: 1, trace: Some(Arc::new(trace)) };
    bench.act("bob", deliver("x"), reply);
    bench.look_up(&["b"]);
    let aside = Aside { probe: None, trace: Some(trace) };
    assert_eq!(asides(&mut bench), [("b".to_owned(), aside)]);

    let traced = Box::new(Traced { trace, call: "send", user: Some("ann".into()) });
    bench.router.asked(1, (member("b"), 40), Until::Done, Some(traced), bench.now);
    let connection = ConnId::new(ReactorId(0), 1, 1);
    bench.router.reported(1, Report::Located { connections: vec![connection], elsewhere: false }, bench.now);
    bench.router.reported(1, Report::Outcome(connection, Outcome::Delivered), bench.now);
    assert_eq!(bench.effects().0, sent(&[("b", &["Ack"])]));
    let [Effect::Answered(node, traced, connections, 0)] = &bench.rest[..] else {
        panic!("{:?}", bench.rest)
    };
    assert_eq!((&**node, traced.trace), ("b", trace));
    assert_eq!(connections[..], [(connection.as_u64(), Outcome::Delivered)]);
}
