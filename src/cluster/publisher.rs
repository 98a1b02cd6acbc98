//! The thread that talks to Redis on behalf of all reactors: it registers
//! users, looks others up and publishes what goes to other nodes.
//!
//! Owns [`Publisher`]. It takes all that has come in since its last round trip
//! as one lot: nothing waits for more to come, and under load a round trip
//! carries what gathered during the one before. While Redis is away it goes on
//! taking its mail and tells every sender so.

mod backoff;
mod changes;
mod effects;
mod link;
mod membership;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::complaints::Complaints;
use super::connect::Settings;
use super::message::{ClusterMessage, Heard};
use super::registry::{Member, Names, NodeRecord, Status};
use super::router::{Bounds, Effect};
use super::sources::{SourceId, Sources};
use super::subscriber::Ear;
use super::{LinkState, Overview};
use crate::hub::gather::RemoteAnswer;
use crate::ids::ReactorId;
use crate::metrics::{Counter, Timing};
use crate::reactor::mailbox::{Inbox, Wake};
use crate::reactor::message::ReactorMessage;
use crate::reactor::shared::Shared;
use backoff::Backoff;
use link::Link;

/// Messages taken in before what they cause is sent off.
const MESSAGES_PER_ROUND: usize = 8192;

/// How long a node that leaves still gives back what is on its way to users
/// who have just gone.
const FAREWELL: Duration = Duration::from_millis(100);

/// Longest sleep while nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// What the cluster's threads are told at their start.
#[derive(Clone)]
pub struct Plan {
    /// How Redis is reached.
    pub settings: Settings,
    /// Names of keys and channels.
    pub names: Names,
    /// Between two beats.
    pub beat: Duration,
    /// Silence after which a node is dead.
    pub expiry: Duration,
    /// What bounds the router.
    pub bounds: Bounds,
}

/// Wakes the publisher's thread.
pub struct Unparker(pub thread::Thread);

impl Wake for Unparker {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// See the module.
pub struct Publisher {
    plan: Plan,
    shared: Arc<Shared>,
    inbox: Inbox<ClusterMessage>,
    ear: Ear,
    overview: Arc<Overview>,
    stop: Arc<AtomicBool>,
    link: Option<Link>,
    retry_at: Instant,
    backoff: Backoff,
    complaints: Complaints,
    /// See [`NodeDescription::process`](super::registry::NodeDescription::process).
    process: u64,
    incarnation: u64,
    round: u64,
    /// Names that the subscriber gave to other nodes.
    sources: Sources,
}

impl Publisher {
    /// A publisher that has not connected yet.
    pub fn new(
        plan: Plan,
        shared: Arc<Shared>,
        inbox: Inbox<ClusterMessage>,
        ear: Ear,
        overview: Arc<Overview>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Publisher {
            plan,
            shared,
            inbox,
            ear,
            overview,
            stop,
            link: None,
            retry_at: Instant::now(),
            backoff: Backoff::default(),
            complaints: Complaints::default(),
            process: fastrand::u64(1..),
            incarnation: 0,
            round: 0,
            sources: Sources::default(),
        }
    }

    /// Runs until told to stop; then takes the node out of the cluster.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            if self.link.is_none() && now >= self.retry_at {
                self.connect(now);
            }
            self.turn(IDLE);
        }
        let end = Instant::now() + FAREWELL;
        while self.link.is_some() && Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()));
        }
        self.leave();
        // Who asked meanwhile is told that nobody is to be reached any more.
        self.take_mail(Instant::now());
    }

    /// Does what there is to do, then sleeps until there is more, at most so long.
    fn turn(&mut self, sleep: Duration) {
        let waiting = self.take_mail(Instant::now());
        self.work();
        if waiting == 0 {
            thread::park_timeout(self.patience().min(sleep));
        }
    }

    fn patience(&self) -> Duration {
        let now = Instant::now();
        let due = match &self.link {
            None => Some(self.retry_at),
            Some(link) => {
                let router = link.router.deadline();
                let sweep = (!link.graves.is_empty()).then_some(now);
                [router, Some(link.next_beat), sweep].into_iter().flatten().min()
            }
        };
        due.map_or(IDLE, |due| due.saturating_duration_since(now).min(IDLE))
    }

    /// Takes what is in the mailbox, at most a round's worth; how much was left.
    fn take_mail(&mut self, now: Instant) -> usize {
        let waiting = self.inbox.begin();
        let taken = waiting.min(MESSAGES_PER_ROUND);
        for _ in 0..taken {
            let Some(message) = self.inbox.pop() else { break };
            match &mut self.link {
                Some(_) => self.take(message, now),
                None => self.refuse(message),
            }
        }
        waiting - taken
    }

    fn take(&mut self, message: ClusterMessage, now: Instant) {
        let Some(link) = &mut self.link else { return };
        match message {
            ClusterMessage::Joined(user) => link.changes.extend([(user, true)]),
            ClusterMessage::Left(user) => link.changes.extend([(user, false)]),
            ClusterMessage::Users { round, users, done } if round == link.round => {
                link.changes.extend(users.into_iter().map(|user| (user, true)));
                link.listing -= usize::from(done);
            }
            ClusterMessage::Users { .. } => {}
            ClusterMessage::Act { user, action, reply } => link.router.act(user, action, reply, now),
            ClusterMessage::Broadcast { frame, reply } => link.router.broadcast(&frame, reply, now),
            ClusterMessage::Page { after, limit, reply } => link.pages.push((after, limit, reply)),
            ClusterMessage::Report { ticket, report } => link.router.reported(ticket, report, now),
            ClusterMessage::Return { source: SourceId::HERE, stray } => {
                link.router.returned(Some(&link.me.node), stray, now);
            }
            ClusterMessage::Returned { from, stray } => {
                self.shared.metrics.node().add(Counter::ClusterReturned, 1);
                let node = from.and_then(|from| self.sources.get(from));
                link.router.returned(node.map(|member| &*member.node), stray, now);
            }
            ClusterMessage::Return { source, stray } => {
                if let Some(source) = self.sources.get(source) {
                    link.router.give_back(source, &stray, now);
                }
            }
            ClusterMessage::Written { probe, at } => link.router.probe_written(probe, at, now),
            ClusterMessage::Heard(heard) => self.hear(heard, now),
        }
    }

    fn hear(&mut self, heard: Heard, now: Instant) {
        let Some(link) = &mut self.link else { return };
        match heard {
            Heard::Subscribed { incarnation } if incarnation == link.me.incarnation && !link.subscribed => {
                link.subscribed = true;
                // Who was registered before the subscription was lost still is.
                if link.round == 0 {
                    self.ask_for_users();
                }
            }
            Heard::Subscribed { .. } => {}
            Heard::Synchronised { incarnation } => {
                link.synchronised = link.subscribed && incarnation == link.me.incarnation;
            }
            Heard::Deaf => {
                (link.subscribed, link.synchronised) = (false, false);
                log::warn!(
                    "the subscription to Redis was lost; what was missed is asked for when it is back"
                );
            }
            Heard::Asked { ticket, from, id, until, traced } => {
                link.router.asked(ticket, (from, id), until, traced, now);
            }
            Heard::Probe { name, from, probe, heard } => link.router.heard_probe(name, from, probe, heard),
            Heard::Acked { from, id, connections, audience, unconfirmed } => {
                let answer = RemoteAnswer::Said { connections, audience, unconfirmed };
                link.router.acked(&from, id, answer, now);
            }
            Heard::Missing(missing) => {
                self.shared.metrics.node().add(Counter::ClusterGaps, 1);
                link.router.ask_for(&missing, now);
            }
            Heard::Resend { from, stream, first, last } => {
                self.shared.metrics.node().add(Counter::ClusterRepairs, 1);
                link.router.resend(&from, stream, first, last, now)
            }
            Heard::Forget(user) => link.router.forget(&user),
            Heard::Newcomer(source, member) => {
                link.nodes_outdated = true;
                self.sources.add(source, member);
            }
        }
    }

    /// Asks every reactor for its users: Redis is to know all of them.
    fn ask_for_users(&mut self) {
        self.round += 1;
        let round = self.round;
        if let Some(link) = &mut self.link {
            link.round = round;
            link.listing = self.shared.mailboxes.len();
            link.changes.begin();
        }
        for reactor in 0..self.shared.mailboxes.len() {
            self.post_surely(ReactorId(reactor as u8), || ReactorMessage::ListUsers { round });
        }
    }

    /// Posts what must arrive: the publisher may wait for a reactor, a reactor never waits for it.
    fn post_surely(&self, reactor: ReactorId, message: impl Fn() -> ReactorMessage) {
        let Some(mailbox) = self.shared.mailbox(reactor) else { return };
        while mailbox.post(message()).is_err() && !self.stop.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Everything that needs Redis. A failure ends the link.
    fn work(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        match self.try_work(&mut link) {
            Ok(()) => self.link = Some(link),
            Err(error) => self.lose(link, &error.to_string()),
        }
    }

    fn try_work(&mut self, link: &mut Link) -> Result<(), Box<dyn std::error::Error>> {
        let now = Instant::now();
        self.keep_membership(link, now)?;
        let wanted = link.router.wanted(now);
        if !wanted.is_empty() {
            self.shared.metrics.node().add(Counter::ClusterLookups, wanted.len() as u64);
            let rows = self.timed(Timing::RedisLookup, || link.registry.lookup(&wanted))?;
            link.router.found(&wanted, rows, now, Instant::now());
        }
        self.list_users(link)?;
        self.inherit(link);
        link.router.handle_timeout(now);
        let taken_back = link.router.take_back(now) as u64;
        self.shared.metrics.node().add(Counter::ClusterReturned, taken_back);
        let effects = link.router.take_effects(now);
        let (batches, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Publish(..)));
        self.publish(link, batches)?;
        self.carry_out(rest);
        self.show(link);
        Ok(())
    }

    /// Does what needs an answer of Redis, and keeps how long that took.
    fn timed<T>(&self, timing: Timing, ask: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let answer = ask();
        self.shared.metrics.node().took(timing, began.elapsed());
        answer
    }

    fn status(&self) -> Status {
        match self.shared.phase() {
            crate::drain::Phase::Serving => Status::Active,
            _ => Status::Draining,
        }
    }

    /// Shows what the API and the metrics tell of the cluster.
    fn show(&self, link: &Link) {
        self.overview.set_state(if link.is_ready() { LinkState::Ready } else { LinkState::Joining });
    }
}

/// Records of other nodes as members.
fn others(records: &[NodeRecord], me: &Member) -> Vec<Member> {
    records.iter().map(NodeRecord::member).filter(|member| member.node != me.node).collect()
}
