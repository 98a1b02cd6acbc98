//! Having a link to Redis, and what becomes of those who wait when it breaks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::RedisResult;

use super::Publisher;
use super::changes::Changes;
use crate::cluster::LinkState;
use crate::cluster::connect::{self, Commands, LinkError};
use crate::cluster::message::{ClusterMessage, Heard};
use crate::cluster::registry::{Grave, Member, NodeDescription, NodeRecord, Registry, Status};
use crate::cluster::router::{Effect, Router, unavailable};
use crate::cluster::sources::SourceId;
use crate::hub::gather::{RemoteNode, Report};
use crate::metrics::Counter;
use crate::reactor::message::ReplyTo;

/// A connection to Redis and what depends on it.
pub(super) struct Link {
    since: Instant,
    pub(super) registry: Registry<Commands>,
    pub(super) me: Member,
    pub(super) router: Router,
    /// Whether the subscriber hears what is sent to this incarnation.
    pub(super) subscribed: bool,
    /// Whether what was missed before it did has been repaired or given up.
    pub(super) synchronised: bool,
    /// Reactors that have not listed their users yet.
    pub(super) listing: usize,
    pub(super) round: u64,
    pub(super) next_beat: Instant,
    /// What the last beat said.
    pub(super) status: Status,
    pub(super) graves: Vec<Grave>,
    /// What this node was registered as before its last link broke, until that
    /// can be swept.
    pub(super) predecessor: Option<u64>,
    /// Users that came or went, in order.
    pub(super) changes: Changes,
    pub(super) nodes_outdated: bool,
    /// Lists of users that were asked for.
    pub(super) pages: Vec<(String, usize, ReplyTo)>,
}

impl Link {
    /// Whether all users are registered, and what is sent and was sent here is heard.
    pub(super) fn is_ready(&self) -> bool {
        self.subscribed && self.synchronised && self.listing == 0 && self.changes.is_empty()
    }
}

impl Publisher {
    pub(super) fn connect(&mut self, now: Instant) {
        match self.try_connect() {
            Ok(link) => {
                log::info!("joined the cluster as {} (incarnation {})", link.me.node, link.me.incarnation);
                self.link = Some(link);
                self.overview.set_state(LinkState::Joining);
            }
            Err(error) => {
                let error = error.to_string();
                if self.complaints.is_news(&error, now) {
                    log::warn!("the cluster cannot be joined, serving this node's clients alone: {error}");
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
            process: self.process,
        };
        if let Some(rival) = self.rival(&mut registry)? {
            return Err(rival.into());
        }
        // Users who stayed are not to be swept before this incarnation has registered them.
        let predecessor = Some(self.incarnation).filter(|&incarnation| incarnation > 0);
        let grace = predecessor.map_or(Duration::ZERO, |_| self.plan.expiry);
        let incarnation = registry.register_node(&description, self.incarnation + 1, grace)?;
        self.incarnation = incarnation;
        warn_of_eviction(registry.executor())?;
        let me = Member::new(self.shared.node_id.clone(), incarnation);
        let router = Router::new(me.clone(), self.plan.bounds, self.shared.started)?;
        self.ear.listen(incarnation);
        Ok(Link {
            since: Instant::now(),
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
            changes: Changes::default(),
            nodes_outdated: true,
            pages: Vec::new(),
        })
    }

    /// What the operator is to know of a process that has taken this node's name
    /// and lives, if there is one. As long as it does this node stays out: two
    /// that took the name from each other in turns would both be of no use. What
    /// this process itself sent to Redis may have been carried out late; that is
    /// nobody's rival.
    pub(super) fn rival(&self, registry: &mut Registry<Commands>) -> RedisResult<Option<String>> {
        if self.incarnation == 0 {
            return Ok(None);
        }
        let is_rival = |record: &NodeRecord| {
            record.incarnation > self.incarnation
                && record.node.process != self.process
                && record.beat_age <= self.plan.expiry
        };
        let rival = registry.node(&self.shared.node_id)?.filter(is_rival);
        Ok(rival.map(|NodeRecord { node, incarnation, .. }| {
            format!(
                "another process, at {}:{}, has joined as node {} (incarnation {incarnation}); each needs a \
                 --node-id of its own",
                node.address, node.port, node.id
            )
        }))
    }

    pub(super) fn lose(&mut self, link: Link, why: &str) {
        log::warn!("the link to Redis broke, serving this node's clients alone: {why}");
        self.shared.metrics.node().add(Counter::ClusterLinkLosses, 1);
        self.overview.set_state(LinkState::Down);
        self.carry_out(link.router.give_up());
        let now = Instant::now();
        self.complaints.said(why.to_owned(), now);
        self.backoff.lasted(now.saturating_duration_since(link.since));
        self.put_off(now);
    }

    fn put_off(&mut self, now: Instant) {
        self.retry_at = now + self.backoff.wait(fastrand::f64());
    }

    /// While there is no link: whoever wants to know is told; users are listed anew when there is one.
    pub(super) fn refuse(&mut self, message: ClusterMessage) {
        match message {
            ClusterMessage::Act { reply, .. } => self.carry_out(vec![unavailable(reply)]),
            ClusterMessage::Broadcast { reply, .. } => {
                let report = Report::Remote(vec![RemoteNode::all_unavailable()]);
                self.carry_out(vec![Effect::Report(reply, report)]);
            }
            ClusterMessage::Page { reply, .. } => {
                self.carry_out(vec![Effect::Report(reply, Report::Overloaded)])
            }
            ClusterMessage::Return { source: SourceId::HERE, stray }
            | ClusterMessage::Returned { stray, .. } => {
                self.carry_out(vec![Effect::Unreachable(stray.sender)]);
            }
            ClusterMessage::Heard(Heard::Newcomer(source, member)) => self.sources.add(source, member),
            ClusterMessage::Return { .. }
            | ClusterMessage::Joined(_)
            | ClusterMessage::Left(_)
            | ClusterMessage::Users { .. }
            | ClusterMessage::Report { .. }
            | ClusterMessage::Written { .. }
            | ClusterMessage::Heard(_) => {}
        }
    }

    /// Once all users are registered, those that left while the link was broken are swept.
    pub(super) fn inherit(&self, link: &mut Link) {
        if link.is_ready()
            && let Some(predecessor) = link.predecessor.take()
        {
            link.graves.push(Grave::inherited(&link.me, predecessor, self.plan.beat * 3));
        }
    }
}

/// Nodes rely on what they wrote to be there.
fn warn_of_eviction(commands: &mut Commands) -> Result<(), LinkError> {
    if let Some(policy) = commands.evicting_policy()? {
        log::warn!(
            "Redis throws keys away when its memory is full (maxmemory-policy {policy}): users whose key is gone are \
             not found by other nodes until they connect again. Set maxmemory-policy noeviction"
        );
    }
    Ok(())
}
