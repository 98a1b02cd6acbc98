//! Collecting what became of one send, kick, broadcast or lookup.
//!
//! Owns: [`Gather`]. Reports arrive in any order from the reactors concerned;
//! the answer is complete when every connection (or reactor) that was named
//! has reported. Who waits decides how long.

use crate::delivery::{
    BroadcastResult, ConnectionLocation, ConnectionOutcome, KickResult, KickStatus, NodeOutcome, Outcome,
    SendResult, Status, UserConnections,
};
use crate::ids::ConnId;

/// One thing a reactor has to say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// From the user's home: these are the user's connections; each will report.
    Located(Vec<ConnId>),
    /// From the reactor that owns the connection.
    Outcome(ConnId, Outcome),
    /// From one reactor: the broadcast was queued for so many connections.
    Audience(u64),
    /// The request could not be passed on, because a mailbox was full.
    Overloaded,
}

/// What has been reported so far.
#[derive(Debug, Default)]
pub struct Gather {
    located: Option<Vec<ConnId>>,
    outcomes: Vec<(ConnId, Outcome)>,
    audiences: Vec<u64>,
    overloaded: usize,
}

impl Gather {
    /// Takes a report in.
    pub fn absorb(&mut self, report: Report) {
        match report {
            Report::Located(connections) => self.located = Some(connections),
            Report::Outcome(connection, outcome) => self.outcomes.push((connection, outcome)),
            Report::Audience(connections) => self.audiences.push(connections),
            Report::Overloaded => self.overloaded += 1,
        }
    }

    /// Whether a lookup has its answer.
    pub fn is_located(&self) -> bool {
        self.located.is_some() || self.overloaded > 0
    }

    /// Whether every connection of the user has reported.
    pub fn is_complete(&self) -> bool {
        self.overloaded > 0
            || self.located.as_ref().is_some_and(|located| self.outcomes.len() >= located.len())
    }

    /// Whether so many reactors have answered a broadcast.
    pub fn is_heard(&self, reactors: usize) -> bool {
        self.audiences.len() + self.overloaded >= reactors
    }

    /// The answer to a send, with what is missing called timed out.
    pub fn send_result(&self, user: &str, node: &str) -> SendResult {
        let status = if self.overloaded > 0 {
            Status::Failed
        } else {
            match &self.located {
                None => Status::TimedOut,
                Some(located) if located.is_empty() => Status::Offline,
                Some(_) if self.any(Outcome::Delivered) => Status::Delivered,
                Some(_) if self.is_complete() => Status::Failed,
                Some(_) => Status::TimedOut,
            }
        };
        SendResult { user_id: user.into(), status, connections: self.connections(node) }
    }

    /// The answer to a kick, with what is missing called timed out.
    pub fn kick_result(&self, user: &str, node: &str) -> KickResult {
        let status = if self.overloaded > 0 {
            KickStatus::Failed
        } else {
            match &self.located {
                None => KickStatus::TimedOut,
                Some(located) if located.is_empty() => KickStatus::Offline,
                Some(_) if self.any(Outcome::Closed) => KickStatus::Kicked,
                Some(_) if self.is_complete() => KickStatus::Failed,
                Some(_) => KickStatus::TimedOut,
            }
        };
        KickResult { user_id: user.into(), status, connections: self.connections(node) }
    }

    /// The answer to a broadcast to `reactors` reactors.
    pub fn broadcast_result(&self, node: &str, reactors: usize) -> BroadcastResult {
        let connections = self.audiences.iter().sum();
        let unconfirmed = reactors.saturating_sub(self.audiences.len()) as u64;
        BroadcastResult {
            connections,
            nodes: vec![NodeOutcome { node: node.into(), connections, unconfirmed }],
        }
    }

    /// The answer to a lookup; `None` when the home did not say.
    pub fn user_connections(&self, user: &str, node: &str) -> Option<UserConnections> {
        let located = self.located.as_ref()?;
        let locate = |id: &ConnId| ConnectionLocation { node: node.into(), connection: id.to_string() };
        Some(UserConnections {
            user_id: user.into(),
            online: !located.is_empty(),
            connections: located.iter().map(locate).collect(),
        })
    }

    fn any(&self, outcome: Outcome) -> bool {
        self.outcomes.iter().any(|(_, one)| *one == outcome)
    }

    fn connections(&self, node: &str) -> Vec<ConnectionOutcome> {
        let status_of = |connection: &ConnId| {
            let reported = self.outcomes.iter().find(|(one, _)| one == connection);
            reported.map_or(Outcome::TimedOut, |(_, outcome)| *outcome)
        };
        let outcome = |connection: &ConnId| ConnectionOutcome {
            node: node.into(),
            connection: connection.to_string(),
            status: status_of(connection),
        };
        self.located.iter().flatten().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReactorId;

    fn conn(n: u32) -> ConnId {
        ConnId::new(ReactorId(0), n, 1)
    }

    fn gathered(reports: &[Report]) -> Gather {
        let mut gather = Gather::default();
        reports.iter().cloned().for_each(|report| gather.absorb(report));
        gather
    }

    #[test]
    fn a_send_is_summed_up_over_its_connections() {
        use Outcome::{Delivered, Gone, SlowConsumer};
        let located = |n| Report::Located((0..n).map(conn).collect());
        let outcome = |n, outcome| Report::Outcome(conn(n), outcome);
        let check = |reports: &[Report], complete: bool, status: Status| {
            let gather = gathered(reports);
            let result = gather.send_result("u", "n");
            assert_eq!((gather.is_complete(), result.status), (complete, status), "{reports:?}");
        };
        check(&[], false, Status::TimedOut);
        check(&[located(0)], true, Status::Offline);
        check(&[outcome(0, Delivered)], false, Status::TimedOut);
        check(&[outcome(0, Delivered), located(1)], true, Status::Delivered);
        check(&[located(2), outcome(1, Delivered)], false, Status::Delivered);
        check(&[located(2), outcome(1, Gone)], false, Status::TimedOut);
        check(&[located(2), outcome(1, Gone), outcome(0, SlowConsumer)], true, Status::Failed);
        check(&[Report::Overloaded], true, Status::Failed);
    }

    #[test]
    fn a_connection_that_did_not_report_is_said_to_have_timed_out() {
        let gather =
            gathered(&[Report::Located(vec![conn(1), conn(2)]), Report::Outcome(conn(2), Outcome::Closed)]);
        let result = gather.kick_result("u", "node-1");
        assert_eq!(result.status, KickStatus::Kicked);
        let statuses: Vec<_> = result.connections.iter().map(|one| one.status).collect();
        assert_eq!(statuses, [Outcome::TimedOut, Outcome::Closed]);
        assert!(result.connections.iter().all(|one| one.node == "node-1"));
    }

    #[test]
    fn a_broadcast_counts_the_reactors_that_did_not_answer() {
        let gather = gathered(&[Report::Audience(3), Report::Audience(4)]);
        assert!(gather.is_heard(2) && !gather.is_heard(3));
        let result = gather.broadcast_result("n", 3);
        assert_eq!((result.connections, result.nodes[0].unconfirmed), (7, 1));
    }

    #[test]
    fn a_lookup_says_online_or_not() {
        assert_eq!(gathered(&[]).user_connections("u", "n"), None);
        let nobody = gathered(&[Report::Located(vec![])]).user_connections("u", "n");
        assert!(nobody.is_some_and(|found| !found.online));
        let found = gathered(&[Report::Located(vec![conn(5)])]).user_connections("u", "n");
        assert!(found.is_some_and(|found| found.online && found.connections.len() == 1));
    }
}
