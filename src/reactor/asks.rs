//! HTTP requests that wait for other reactors.
//!
//! Owns: [`Asks`]. One request a connection may wait at a time, which bounds it.

mod traced;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reactor;
use super::connection::{Flag, Phase};
use super::message::{Action, Kick, ReactorMessage, ReplyTo};
use crate::admin::api::Question;
use crate::clock::Tick;
use crate::cluster::message::ClusterMessage;
use crate::delivery::UserNodes;
use crate::drain;
use crate::http::Response;
use crate::hub::gather::{Gather, Report};
use crate::ids::{ConnId, ReactorId};
use crate::limits::ANSWER_TIMEOUT;
use crate::trace::TraceId;
use crate::ws::close::CloseReason;
use crate::ws::frame::Frame;

/// A request and how its answer is to be sent.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) keep_alive: bool,
    pub(super) head_only: bool,
    /// The trace its caller says it belongs to.
    pub(super) trace: Option<Arc<TraceId>>,
}

struct Ask {
    connection: ConnId,
    asked: Asked,
    gather: Gather,
    since: Tick,
}

/// Requests by ticket, oldest first.
#[derive(Default)]
pub(super) struct Asks {
    waiting: BTreeMap<u64, Ask>,
    next: u64,
}

impl Asks {
    /// The ticket of the next request.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether a request with a lower ticket waits.
    pub(super) fn has_any_before(&self, ticket: u64) -> bool {
        self.waiting.first_key_value().is_some_and(|(&oldest, _)| oldest < ticket)
    }
}

impl Reactor {
    /// Puts a question to whom it concerns. The answer, if all concerned are
    /// here, or if nobody is any more: the node has drained.
    pub(super) fn ask(&mut self, slot: u32, asked: Asked) -> Option<Response> {
        if self.shared.phase() == drain::Phase::Drained {
            return Some(Response::error(503, "this node has drained; ask another"));
        }
        let connection = self.table.id(slot)?;
        let ticket = self.asks.next;
        let gather = match &asked.question {
            Question::Broadcast { .. } if self.shared.cluster.is_some() => Gather::with_other_nodes(),
            _ => Gather::default(),
        };
        self.asks.next += 1;
        let reply = ReplyTo::Request { reactor: self.me, ticket, trace: asked.trace.clone() };
        if let Question::Users { after, limit } = &asked.question {
            let (after, limit) = (after.clone(), *limit);
            self.asks.waiting.insert(ticket, Ask { connection, asked, gather, since: self.now });
            self.ask_for_page(reply, &after, limit);
            return self.answer_now_or_wait(slot, ticket);
        }
        let (user, action) = match &asked.question {
            Question::Users { .. } => return None,
            Question::User { user_id } => (Some(user_id.clone()), Action::Locate),
            Question::Send { user_id, message } => (Some(user_id.clone()), self.deliver_action(message)),
            Question::Broadcast { message } => (None, self.deliver_action(message)),
            Question::Kick { user_id, reason, notify, message } => (
                Some(user_id.clone()),
                Action::Kick(Arc::new(Kick::new(reason, *notify, message.as_deref()))),
            ),
        };
        self.asks.waiting.insert(ticket, Ask { connection, asked, gather, since: self.now });
        match (user, action) {
            (Some(user), action) => self.route(&user, action, reply),
            (None, Action::Deliver(frame)) => self.broadcast(frame, reply),
            (None, _) => {}
        }
        self.answer_now_or_wait(slot, ticket)
    }

    fn deliver_action(&mut self, message: &str) -> Action {
        Action::Deliver(self.stamped(Frame::text(message.as_bytes())))
    }

    fn answer_now_or_wait(&mut self, slot: u32, ticket: u64) -> Option<Response> {
        if self.is_answered(ticket) {
            let ask = self.asks.waiting.remove(&ticket)?;
            self.log_traced(&ask);
            return Some(self.answer_to(&ask));
        }
        if let Some(row) = self.table.get(slot) {
            row.set(Flag::Awaiting, true);
        }
        None
    }

    /// A list of users is had from the cluster, or from every reactor of a node that is alone.
    fn ask_for_page(&mut self, reply: ReplyTo, after: &str, limit: usize) {
        if self.shared.cluster.is_some() {
            let message = ClusterMessage::Page { after: after.to_owned(), limit, reply: reply.clone() };
            if !self.post_to_cluster(message) {
                self.report(&reply, Report::Overloaded);
            }
            return;
        }
        for index in 0..self.shared.mailboxes.len() {
            let reactor = ReactorId(index as u8);
            if reactor == self.me {
                self.list_users(after, limit, &reply);
            } else if !self
                .post(reactor, ReactorMessage::Page { after: after.to_owned(), limit, reply: reply.clone() })
            {
                self.report(&reply, Report::Overloaded);
            }
        }
    }

    /// Reports users at home here.
    pub(super) fn list_users(&mut self, after: &str, limit: usize, reply: &ReplyTo) {
        let (users, more) = self.hub.users_after(after, limit);
        let node = &self.shared.node_id;
        let one = |user: &Arc<str>| UserNodes { user_id: user.to_string(), nodes: vec![node.clone()] };
        let next = users.last().filter(|_| more).map(ToString::to_string);
        let users = users.iter().map(one).collect();
        self.report(reply, Report::Users(users, next));
    }

    /// Who reports on a list of users: the cluster, or each reactor.
    fn pages(&self) -> usize {
        if self.shared.cluster.is_some() { 1 } else { self.shared.mailboxes.len() }
    }

    /// Takes in what a reactor reports about a request of ours.
    pub(super) fn absorb(&mut self, ticket: u64, report: Report) {
        if let Some(ask) = self.asks.waiting.get_mut(&ticket) {
            ask.gather.absorb(report);
        }
    }

    /// Answers the request if all have reported and it was not answered at once.
    pub(super) fn settle_ask(&mut self, ticket: u64) {
        if self.is_answered(ticket) {
            self.close_ask(ticket);
        }
    }

    /// Answers requests that have waited too long with what is known.
    pub(super) fn give_up_on_asks(&mut self) {
        let patience = Tick::count(ANSWER_TIMEOUT);
        while let Some((&ticket, ask)) = self.asks.waiting.first_key_value()
            && self.now.since(ask.since) > patience
        {
            self.close_ask(ticket);
        }
    }

    /// Answers every request with what is known, as nothing more will be.
    pub(super) fn close_all_asks(&mut self) {
        let tickets: Vec<u64> = self.asks.waiting.keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.close_ask(ticket));
    }

    fn is_answered(&self, ticket: u64) -> bool {
        let reactors = self.shared.mailboxes.len();
        self.asks.waiting.get(&ticket).is_some_and(|ask| match ask.asked.question {
            Question::Users { .. } => ask.gather.is_listed(self.pages()),
            Question::User { .. } => ask.gather.is_located(),
            Question::Send { .. } | Question::Kick { .. } => ask.gather.is_complete(),
            Question::Broadcast { .. } => ask.gather.is_heard(reactors),
        })
    }

    fn answer_to(&self, ask: &Ask) -> Response {
        let node = &self.shared.node_id;
        match &ask.asked.question {
            Question::Users { limit, .. } => match ask.gather.user_page(*limit, self.pages()) {
                Some(page) => Response::json(200, &page),
                None => try_again(),
            },
            Question::User { user_id } => match ask.gather.user_connections(user_id, node) {
                Some(found) => Response::json(200, &found),
                None => try_again(),
            },
            Question::Send { user_id, .. } => Response::json(200, &ask.gather.send_result(user_id, node)),
            Question::Kick { user_id, .. } => Response::json(200, &ask.gather.kick_result(user_id, node)),
            Question::Broadcast { .. } => {
                Response::json(200, &ask.gather.broadcast_result(node, self.shared.mailboxes.len()))
            }
        }
    }

    /// Sends the answer of a request that waited and goes on with what its client sent since.
    fn close_ask(&mut self, ticket: u64) {
        let Some(ask) = self.asks.waiting.remove(&ticket) else { return };
        self.log_traced(&ask);
        let Some(slot) = self.table.find(ask.connection) else { return };
        let response = self.answer_to(&ask);
        let Some(row) = self.table.get(slot) else { return };
        row.set(Flag::Awaiting, false);
        if row.phase != Phase::Http {
            return;
        }
        self.respond(slot, &response, ask.asked.keep_alive, ask.asked.head_only);
        if ask.asked.keep_alive {
            self.resume(slot);
        } else {
            self.finish(slot, CloseReason::HttpDone);
        }
    }
}

fn try_again() -> Response {
    Response::error(503, "the list cannot be had at present; ask again").with("Retry-After", "1")
}
