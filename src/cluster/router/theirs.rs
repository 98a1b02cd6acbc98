//! Requests of other nodes that our reactors have not all answered.
//!
//! Owns [`Theirs`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::message::{Traced, Until};
use crate::cluster::registry::Member;
use crate::cluster::wire::Envelope;
use crate::hub::gather::{Gather, Report};

/// How long our reactors have to answer a request of another node; shorter than that node waits.
pub(super) const REPORT_TIME: Duration = Duration::from_secs(3);

/// A request of another node.
pub(super) struct Request {
    pub(super) from: Member,
    id: u64,
    pub(super) traced: Option<Box<Traced>>,
    gather: Gather,
    until: Until,
    deadline: Instant,
}

/// See the module.
pub(super) struct Theirs {
    /// By ticket, so oldest first.
    waiting: BTreeMap<u64, Request>,
    /// Reactors of this node.
    reactors: usize,
}

impl Theirs {
    /// None, on a node of so many reactors.
    pub(super) fn new(reactors: usize) -> Self {
        Theirs { waiting: BTreeMap::new(), reactors }
    }

    /// A node asked our reactors for something, under this ticket.
    pub(super) fn asked(
        &mut self,
        ticket: u64,
        (from, id): (Member, u64),
        until: Until,
        traced: Option<Box<Traced>>,
        now: Instant,
    ) {
        let deadline = now + REPORT_TIME;
        self.waiting.insert(ticket, Request { from, id, traced, gather: Gather::default(), until, deadline });
    }

    /// A reactor answered; the request if it is to be answered now.
    pub(super) fn reported(&mut self, ticket: u64, report: Report) -> Option<Request> {
        let request = self.waiting.get_mut(&ticket)?;
        request.gather.absorb(report);
        let complete = match request.until {
            Until::Located => request.gather.is_located(),
            Until::Done => request.gather.is_complete(),
            Until::Heard => request.gather.is_heard(self.reactors),
        };
        if complete { self.waiting.remove(&ticket) } else { None }
    }

    /// Requests that have waited too long and can be answered in part. A user's
    /// home that has said nothing may yet do what was asked: "nobody is here"
    /// would have it done a second time, so the node that asked is told nothing
    /// and finds for itself that time is up.
    pub(super) fn late(&mut self, now: Instant) -> Vec<Request> {
        let late = self.waiting.iter().filter(|(_, request)| request.deadline <= now);
        let tickets: Vec<u64> = late.map(|(ticket, _)| *ticket).collect();
        let late = tickets.iter().filter_map(|ticket| self.waiting.remove(ticket));
        late.filter(|request| request.until == Until::Heard || request.gather.has_located()).collect()
    }

    /// When [`Theirs::late`] has something to give.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // All wait equally long, so the oldest is due first.
        self.waiting.values().next().map(|request| request.deadline)
    }

    /// The answer to a request, as far as it is known.
    pub(super) fn answer(&self, request: &Request) -> Envelope<'static> {
        let (connections, audience, unconfirmed) = request.gather.answer(match request.until {
            Until::Heard => self.reactors,
            Until::Located | Until::Done => 0,
        });
        let connections = connections.into_iter().map(|(id, outcome)| (id.as_u64(), outcome)).collect();
        Envelope::Ack { id: request.id, connections, audience, unconfirmed }
    }
}
