//! What the router wants done: batches published, reactors and callers told.

use std::time::Instant;

use log::kv::Value;

use super::{Link, Publisher};
use crate::cluster::message::Traced;
use crate::cluster::registry::Member;
use crate::cluster::router::{Channel, Effect};
use crate::delivery::{Outcome as Delivery, UserNodes};
use crate::hub::gather::Report;
use crate::logging;
use crate::metrics::{Counter, Timing};
use crate::reactor::message::{Action, Origin, ReactorMessage, ReplyTo};
use crate::ws::frame::Frame;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Publisher {
    pub(super) fn publish(&self, link: &mut Link, batches: Vec<Effect>) -> Outcome {
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
        let outcomes = self.timed(Timing::RedisPublish, || link.registry.executor().publish(&publishing));
        let now = Instant::now();
        for ((outcome, node), (_, batch)) in outcomes.into_iter().zip(nodes).zip(&publishing) {
            match (outcome?, node) {
                (_, None) => {}
                (0, Some(node)) => link.router.unheard(&node, batch, now),
                (_, Some(node)) => link.router.heard(&node),
            }
        }
        Ok(())
    }

    pub(super) fn list_users(&self, link: &mut Link) -> Outcome {
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
    pub(super) fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Report(ReplyTo::Request { reactor, ticket, .. }, report) => {
                    self.post_surely(reactor, || ReactorMessage::Report { ticket, report: report.clone() });
                }
                // A caller that gave up has dropped the other end.
                Effect::Report(ReplyTo::Thread(caller), report) => drop(caller.try_send(report)),
                Effect::Report(..) | Effect::Publish(..) => {}
                Effect::Answered(node, traced, connections, audience) => {
                    log_answered(&node, &traced, &connections, audience);
                }
                Effect::Deliver(user, frame, origin) => self.deliver_here(&user, &frame, origin),
                Effect::Unreachable(sender) => {
                    self.post_surely(sender.reactor(), || ReactorMessage::Unreachable { sender });
                }
                Effect::Undelivered(sender, user) => {
                    self.shared.metrics.node().add(Counter::Undelivered, 1);
                    let message = || ReactorMessage::Undelivered { sender, user: user.clone() };
                    self.post_surely(sender.reactor(), message);
                }
            }
        }
    }

    fn deliver_here(&self, user: &str, frame: &Frame, origin: Option<Origin>) {
        self.post_surely(self.shared.homes.of(user), || match origin {
            Some(origin) => ReactorMessage::Deliver { user: user.into(), frame: frame.clone(), origin },
            None => {
                let (action, reply) = (Action::Deliver(frame.clone()), ReplyTo::Cluster { ticket: None });
                ReactorMessage::Route { user: user.into(), action, reply }
            }
        });
    }
}

/// Says what became of another node's request that belongs to a trace.
fn log_answered(node: &str, traced: &Traced, connections: &[(u64, Delivery)], audience: u64) {
    let took = |outcome: &Delivery| matches!(outcome, Delivery::Delivered | Delivery::Closed);
    let reached = connections.iter().filter(|(_, outcome)| took(outcome)).count() as u64 + audience;
    let mut fields = vec![("node", Value::from(node)), ("call", traced.call.into())];
    fields.extend(traced.user.as_deref().map(|user| ("user", user.into())));
    fields.push(("reached", reached.into()));
    fields.push(("trace_id", Value::from_display(&traced.trace)));
    logging::say(
        log::Level::Debug,
        module_path!(),
        &fields,
        format_args!("a request of node {node} to {} reached {reached} connections", traced.call),
    );
}
