//! The thread that talks to Redis on behalf of all reactors: it registers
//! users, looks others up and publishes what goes to other nodes.
//!
//! Owns [`Publisher`]. It takes all that has come in since its last round trip
//! as one lot: nothing waits for more to come, and under load a round trip
//! carries what gathered during the one before. While Redis is away it goes on
//! taking its mail and tells every sender so.

mod membership;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connect::{self, Commands, Settings};
use super::message::{ClusterMessage, Heard};
use super::registry::{Grave, Member, Names, NodeDescription, NodeRecord, Registry, Status};
use super::router::{Bounds, Channel, Effect, Router, unavailable};
use super::subscriber::Ear;
use super::{LinkState, Overview};
use crate::delivery::UserNodes;
use crate::hub::gather::{RemoteAnswer, RemoteNode, Report};
use crate::ids::ReactorId;
use crate::metrics::Counter;
use crate::reactor::mailbox::{Inbox, Wake};
use crate::reactor::message::{ReactorMessage, ReplyTo};
use crate::reactor::shared::Shared;

/// Messages taken in before what they cause is sent off.
const MESSAGES_PER_ROUND: usize = 8192;

/// Between attempts to reach Redis: at first, and at most; each is jittered.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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

/// A connection to Redis and what depends on it.
struct Link {
    registry: Registry<Commands>,
    me: Member,
    router: Router,
    /// Whether the subscriber hears what is sent to this incarnation.
    subscribed: bool,
    /// Whether what was missed before it did has been repaired or given up.
    synchronised: bool,
    /// Reactors that have not listed their users yet.
    listing: usize,
    round: u64,
    next_beat: Instant,
    /// What the last beat said.
    status: Status,
    graves: Vec<Grave>,
    /// What this node was registered as before its last link broke, until that
    /// can be swept.
    predecessor: Option<u64>,
    /// Users that came or went, in order.
    changes: Vec<(Arc<str>, bool)>,
    nodes_outdated: bool,
    /// Lists of users that were asked for.
    pages: Vec<(String, usize, ReplyTo)>,
}

impl Link {
    /// Whether all users are registered, and what is sent and was sent here is heard.
    fn is_ready(&self) -> bool {
        self.subscribed && self.synchronised && self.listing == 0 && self.changes.is_empty()
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
    failures: u32,
    incarnation: u64,
    round: u64,
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
            failures: 0,
            incarnation: 0,
            round: 0,
        }
    }

    /// Runs until told to stop; then takes the node out of the cluster.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            if self.link.is_none() && now >= self.retry_at {
                self.connect(now);
            }
            let waiting = self.take_mail(Instant::now());
            self.work();
            if waiting == 0 {
                thread::park_timeout(self.patience());
            }
        }
        self.leave();
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

    /// While there is no link: whoever wants to know is told; users are listed anew when there is one.
    fn refuse(&mut self, message: ClusterMessage) {
        match message {
            ClusterMessage::Act { reply, .. } => self.carry_out(vec![unavailable(reply)]),
            ClusterMessage::Broadcast { reply, .. } => {
                let report = Report::Remote(vec![RemoteNode::all_unavailable()]);
                self.carry_out(vec![Effect::Report(reply, report)]);
            }
            ClusterMessage::Page { reply, .. } => {
                self.carry_out(vec![Effect::Report(reply, Report::Overloaded)])
            }
            ClusterMessage::Joined(_)
            | ClusterMessage::Left(_)
            | ClusterMessage::Users { .. }
            | ClusterMessage::Report { .. }
            | ClusterMessage::Heard(_) => {}
        }
    }

    fn take(&mut self, message: ClusterMessage, now: Instant) {
        let Some(link) = &mut self.link else { return };
        match message {
            ClusterMessage::Joined(user) => link.changes.push((user, true)),
            ClusterMessage::Left(user) => link.changes.push((user, false)),
            ClusterMessage::Users { round, users, done } if round == link.round => {
                link.changes.extend(users.into_iter().map(|user| (user, true)));
                link.listing -= usize::from(done);
            }
            ClusterMessage::Users { .. } => {}
            ClusterMessage::Act { user, action, reply } => link.router.act(user, action, reply, now),
            ClusterMessage::Broadcast { frame, reply } => link.router.broadcast(&frame, reply, now),
            ClusterMessage::Page { after, limit, reply } => link.pages.push((after, limit, reply)),
            ClusterMessage::Report { ticket, report } => link.router.reported(ticket, report, now),
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
            Heard::Asked { ticket, from, id, until } => link.router.asked(ticket, from, id, until, now),
            Heard::Acked { from, id, connections, audience, unconfirmed } => {
                let answer = RemoteAnswer::Said { connections, audience, unconfirmed };
                link.router.acked(&from, id, answer, now);
            }
            Heard::Missing(missing) => {
                self.shared.metrics.node().add(Counter::ClusterGaps, 1);
                link.router.ask_for(&missing, now);
            }
            Heard::Resend { from, stream, first, last } => {
                link.router.resend(&from, stream, first, last, now)
            }
            Heard::Forget(user) => link.router.forget(&user),
            Heard::Newcomer => link.nodes_outdated = true,
        }
    }

    /// Asks every reactor for its users: Redis is to know all of them.
    fn ask_for_users(&mut self) {
        self.round += 1;
        let round = self.round;
        if let Some(link) = &mut self.link {
            link.round = round;
            link.listing = self.shared.mailboxes.len();
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
            let rows = link.registry.lookup(&wanted)?;
            link.router.found(&wanted, rows, now);
        }
        self.list_users(link)?;
        self.inherit(link);
        link.router.handle_timeout(now);
        let effects = link.router.take_effects(now);
        let (batches, rest): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Publish(..)));
        self.publish(link, batches)?;
        self.carry_out(rest);
        self.show(link);
        Ok(())
    }

    fn publish(&self, link: &mut Link, batches: Vec<Effect>) -> Result<(), Box<dyn std::error::Error>> {
        let names = link.registry.names().clone();
        let (mut publishing, mut nodes) = (Vec::new(), Vec::new());
        for effect in batches {
            let Effect::Publish(channel, batch) = effect else { continue };
            match channel {
                Channel::Node(node) => {
                    publishing.push((names.node_channel(&node), batch));
                    nodes.push(Some(node));
                }
                Channel::All => {
                    publishing.push((names.broadcast_channel(), batch));
                    nodes.push(None);
                }
            }
        }
        if publishing.is_empty() {
            return Ok(());
        }
        let counters = self.shared.metrics.node();
        counters.add(Counter::ClusterBatchesSent, publishing.len() as u64);
        counters.add(Counter::ClusterBytesSent, publishing.iter().map(|(_, batch)| batch.len() as u64).sum());
        for (outcome, node) in link.registry.executor().publish(&publishing).into_iter().zip(nodes) {
            if let (0, Some(node)) = (outcome?, node) {
                link.router.unheard(&node);
            }
        }
        Ok(())
    }

    fn list_users(&self, link: &mut Link) -> Result<(), Box<dyn std::error::Error>> {
        for (after, limit, reply) in std::mem::take(&mut link.pages) {
            let after = Some(&*after).filter(|after| !after.is_empty());
            let page = link.registry.page(after, limit)?;
            let one = |(user_id, nodes): (String, Vec<Member>)| UserNodes {
                user_id,
                nodes: nodes.into_iter().map(|member| member.node).collect(),
            };
            let report = Report::Users(page.users.into_iter().map(one).collect(), page.next);
            self.carry_out(vec![Effect::Report(reply, report)]);
        }
        Ok(())
    }

    /// Tells reactors and callers what became of their requests.
    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Report(ReplyTo::Request { reactor, ticket }, report) => {
                    self.post_surely(reactor, || ReactorMessage::Report { ticket, report: report.clone() });
                }
                // A caller that gave up has dropped the other end.
                Effect::Report(ReplyTo::Thread(caller), report) => drop(caller.try_send(report)),
                Effect::Report(..) | Effect::Publish(..) => {}
                Effect::Unreachable(sender) => {
                    self.post_surely(sender.reactor(), || ReactorMessage::Unreachable { sender });
                }
                Effect::Undelivered(sender, user) => {
                    let message = || ReactorMessage::Undelivered { sender, user: user.clone() };
                    self.post_surely(sender.reactor(), message);
                }
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        match self.try_connect() {
            Ok(link) => {
                log::info!("joined the cluster as {} (incarnation {})", link.me.node, link.me.incarnation);
                self.failures = 0;
                self.link = Some(link);
                self.overview.set_state(LinkState::Joining);
            }
            Err(error) => {
                if self.failures == 0 {
                    log::warn!("Redis cannot be reached, serving this node's clients alone: {error}");
                }
                self.put_off(now);
            }
        }
    }

    fn try_connect(&mut self) -> Result<Link, Box<dyn std::error::Error>> {
        let commands = connect::open(&self.plan.settings)?;
        let mut registry = Registry::new(commands, self.plan.names.clone());
        let description = NodeDescription {
            id: self.shared.node_id.clone(),
            address: self.shared.advertised.ip().to_string(),
            port: self.shared.advertised.port(),
            connections: self.shared.open.load(Ordering::Relaxed) as u64,
            version: self.shared.version.to_owned(),
            status: self.status(),
        };
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at_least = (since_epoch.as_millis() as u64).max(self.incarnation + 1);
        // Users who stayed are not to be swept before this incarnation has registered them.
        let predecessor = Some(self.incarnation).filter(|&incarnation| incarnation > 0);
        let grace = predecessor.map_or(Duration::ZERO, |_| self.plan.expiry);
        let incarnation = registry.register_node(&description, at_least, grace)?;
        self.incarnation = incarnation;
        let me = Member::new(self.shared.node_id.clone(), incarnation);
        let router = Router::new(me.clone(), self.plan.bounds)?;
        self.ear.listen(incarnation);
        Ok(Link {
            registry,
            me,
            router,
            subscribed: false,
            synchronised: false,
            listing: 0,
            round: 0,
            next_beat: Instant::now(),
            status: self.status(),
            graves: Vec::new(),
            predecessor,
            changes: Vec::new(),
            nodes_outdated: true,
            pages: Vec::new(),
        })
    }

    fn lose(&mut self, link: Link, why: &str) {
        log::warn!("the link to Redis broke, serving this node's clients alone: {why}");
        self.shared.metrics.node().add(Counter::ClusterLinkLosses, 1);
        self.overview.set_state(LinkState::Down);
        self.carry_out(link.router.give_up());
        self.put_off(Instant::now());
    }

    fn put_off(&mut self, now: Instant) {
        let bound = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        // Full jitter, so that nodes do not come back in step; never at once.
        let wait = bound.mul_f64(fastrand::f64()).max(RETRY.0 / 2);
        self.retry_at = now + wait;
    }

    fn status(&self) -> Status {
        match self.shared.phase() {
            crate::drain::Phase::Serving => Status::Active,
            _ => Status::Draining,
        }
    }

    /// Once all users are registered, those that left while the link was broken are swept.
    fn inherit(&self, link: &mut Link) {
        if link.is_ready()
            && let Some(predecessor) = link.predecessor.take()
        {
            link.graves.push(Grave::inherited(&link.me, predecessor, self.plan.beat * 3));
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
