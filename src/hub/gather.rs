//! Collecting what became of one send, kick, broadcast or lookup.
//!
//! Owns: [`Gather`]. Reports arrive in any order from the reactors concerned,
//! and one from the cluster if other nodes are concerned; the answer is
//! complete when every connection (or reactor) that was named has reported.
//! Who waits decides how long.

use crate::delivery::{
    BroadcastResult, ConnectionLocation, ConnectionOutcome, KickResult, KickStatus, NodeOutcome, NodeStatus,
    Outcome, SendResult, Status, UserConnections, UserNodes, UserPage,
};
use crate::ids::ConnId;

/// One thing there is to say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// From the user's home: these are the user's connections here; each will report.
    Located {
        /// On this node.
        connections: Vec<ConnId>,
        /// Other nodes are asked too and will be reported once, together.
        elsewhere: bool,
    },
    /// From the reactor that owns the connection.
    Outcome(ConnId, Outcome),
    /// From one reactor: the broadcast was queued for so many connections.
    Audience(u64),
    /// From the cluster: what the other nodes said.
    Remote(Vec<RemoteNode>),
    /// From one reactor, or from the cluster: users, and if there may be more, after whom.
    Users(Vec<UserNodes>, Option<String>),
    /// The request could not be passed on, because a mailbox was full.
    Overloaded,
}

/// What became of a request on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNode {
    /// The node.
    pub node: String,
    /// What it said.
    pub answer: RemoteAnswer,
}

/// What another node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// It answered.
    Said {
        /// The user's connections there, and what happened to each.
        connections: Vec<(ConnId, Outcome)>,
        /// Connections a broadcast was queued for.
        audience: u64,
        /// Reactors that did not confirm a broadcast.
        unconfirmed: u64,
    },
    /// Not in time.
    TimedOut,
    /// It could not be asked.
    Unavailable,
}

/// What has been reported so far.
#[derive(Debug, Default)]
pub struct Gather {
    located: Option<Vec<ConnId>>,
    elsewhere: bool,
    outcomes: Vec<(ConnId, Outcome)>,
    audiences: Vec<u64>,
    remote: Option<Vec<RemoteNode>>,
    users: Vec<UserNodes>,
    pages: usize,
    next: Option<String>,
    overloaded: usize,
}

/// The sum of what happened to a user's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    Done,
    Offline,
    Failed,
    TimedOut,
    Unavailable,
}

impl Gather {
    /// A request that other nodes are asked about as well.
    pub fn with_other_nodes() -> Self {
        Gather { elsewhere: true, ..Gather::default() }
    }

    /// Takes a report in.
    pub fn absorb(&mut self, report: Report) {
        match report {
            Report::Located { connections, elsewhere } => {
                self.located = Some(connections);
                self.elsewhere = elsewhere;
            }
            Report::Outcome(connection, outcome) => self.outcomes.push((connection, outcome)),
            Report::Audience(connections) => self.audiences.push(connections),
            Report::Remote(nodes) => self.remote = Some(nodes),
            Report::Users(mut users, next) => {
                self.users.append(&mut users);
                self.pages += 1;
                self.next = next.or(self.next.take());
            }
            Report::Overloaded => self.overloaded += 1,
        }
    }

    /// Whether a lookup has its answer.
    pub fn is_located(&self) -> bool {
        self.overloaded > 0 || (self.located.is_some() && self.has_heard_others())
    }

    /// Whether the user's home has said which connections there are.
    pub fn has_located(&self) -> bool {
        self.located.is_some()
    }

    /// Whether every connection of the user has reported.
    pub fn is_complete(&self) -> bool {
        self.overloaded > 0 || (self.are_ours_done() && self.has_heard_others())
    }

    /// Whether so many reactors, and the other nodes, have answered a broadcast.
    pub fn is_heard(&self, reactors: usize) -> bool {
        self.audiences.len() + self.overloaded >= reactors && self.has_heard_others()
    }

    /// Whether so many have listed their users.
    pub fn is_listed(&self, pages: usize) -> bool {
        self.pages + self.overloaded >= pages
    }

    /// The first `limit` users of what was listed; `None` unless `pages` have listed theirs.
    pub fn user_page(&self, limit: usize, pages: usize) -> Option<UserPage> {
        if self.pages < pages {
            return None;
        }
        let mut users = self.users.clone();
        if pages == 1 {
            return Some(UserPage { users, next: self.next.clone() });
        }
        users.sort_by(|one, other| one.user_id.cmp(&other.user_id));
        let is_cut = self.next.is_some() || users.len() > limit;
        users.truncate(limit);
        let next = users.last().filter(|_| is_cut).map(|user| user.user_id.clone());
        Some(UserPage { users, next })
    }

    /// The answer to a send, with what is missing called timed out.
    pub fn send_result(&self, user: &str, node: &str) -> SendResult {
        let status = match self.sum(Outcome::Delivered) {
            Sum::Done => Status::Delivered,
            Sum::Offline => Status::Offline,
            Sum::Failed => Status::Failed,
            Sum::TimedOut => Status::TimedOut,
            Sum::Unavailable => Status::Unavailable,
        };
        SendResult { user_id: user.into(), status, connections: self.connections(node) }
    }

    /// The answer to a kick, with what is missing called timed out.
    pub fn kick_result(&self, user: &str, node: &str) -> KickResult {
        let status = match self.sum(Outcome::Closed) {
            Sum::Done => KickStatus::Kicked,
            Sum::Offline => KickStatus::Offline,
            Sum::Failed => KickStatus::Failed,
            Sum::TimedOut => KickStatus::TimedOut,
            Sum::Unavailable => KickStatus::Unavailable,
        };
        KickResult { user_id: user.into(), status, connections: self.connections(node) }
    }

    /// The answer to a broadcast to `reactors` reactors.
    pub fn broadcast_result(&self, node: &str, reactors: usize) -> BroadcastResult {
        let connections = self.audiences.iter().sum();
        let unconfirmed = reactors.saturating_sub(self.audiences.len()) as u64;
        let status = NodeStatus::Confirmed;
        let mut nodes = vec![NodeOutcome { node: node.into(), connections, unconfirmed, status }];
        nodes.extend(self.remote.iter().flatten().map(RemoteNode::outcome));
        BroadcastResult { connections: nodes.iter().map(|node| node.connections).sum(), nodes }
    }

    /// The answer to a lookup; `None` when the home did not say.
    pub fn user_connections(&self, user: &str, node: &str) -> Option<UserConnections> {
        let located = self.located.as_ref()?;
        let mut connections: Vec<_> = located.iter().map(|id| location(node, *id)).collect();
        let mut unanswered = Vec::new();
        for remote in self.remote.iter().flatten() {
            match &remote.answer {
                RemoteAnswer::Said { connections: theirs, .. } => {
                    connections.extend(theirs.iter().map(|(id, _)| location(&remote.node, *id)));
                }
                RemoteAnswer::TimedOut | RemoteAnswer::Unavailable => unanswered.push(remote.node.clone()),
            }
        }
        Some(UserConnections {
            user_id: user.into(),
            online: !connections.is_empty(),
            connections,
            unanswered,
        })
    }

    /// What there is to tell the node that asked: connections and what
    /// happened to each, and what a broadcast to `reactors` reactors reached.
    pub fn answer(&self, reactors: usize) -> (Vec<(ConnId, Outcome)>, u64, u32) {
        let located = self.located.iter().flatten();
        let connections =
            located.map(|id| (*id, self.outcome_of(*id).unwrap_or(Outcome::TimedOut))).collect();
        let unconfirmed = reactors.saturating_sub(self.audiences.len()) as u32;
        (connections, self.audiences.iter().sum(), unconfirmed)
    }

    fn are_ours_done(&self) -> bool {
        self.located.as_ref().is_some_and(|located| self.outcomes.len() >= located.len())
    }

    fn has_heard_others(&self) -> bool {
        !self.elsewhere || self.remote.is_some()
    }

    fn sum(&self, wanted: Outcome) -> Sum {
        let answers = || self.remote.iter().flatten().map(|remote| &remote.answer);
        let remote_done = answers().any(|answer| answer.outcomes().any(|outcome| outcome == wanted));
        if remote_done || self.outcomes.iter().any(|(_, outcome)| *outcome == wanted) {
            return Sum::Done;
        }
        if self.overloaded > 0 {
            return Sum::Failed;
        }
        if !self.is_complete() || answers().any(|answer| *answer == RemoteAnswer::TimedOut) {
            return Sum::TimedOut;
        }
        if answers().any(|answer| *answer == RemoteAnswer::Unavailable) {
            return Sum::Unavailable;
        }
        let nobody = self.located.as_ref().is_none_or(Vec::is_empty);
        match nobody && answers().all(|answer| answer.outcomes().next().is_none()) {
            true => Sum::Offline,
            false => Sum::Failed,
        }
    }

    fn outcome_of(&self, connection: ConnId) -> Option<Outcome> {
        self.outcomes.iter().find(|(one, _)| *one == connection).map(|(_, outcome)| *outcome)
    }

    fn connections(&self, node: &str) -> Vec<ConnectionOutcome> {
        let ours = self.located.iter().flatten().map(|id| ConnectionOutcome {
            node: node.into(),
            connection: id.to_string(),
            status: self.outcome_of(*id).unwrap_or(Outcome::TimedOut),
        });
        ours.chain(self.remote.iter().flatten().flat_map(RemoteNode::connections)).collect()
    }
}

fn location(node: &str, id: ConnId) -> ConnectionLocation {
    ConnectionLocation { node: node.into(), connection: id.to_string() }
}

impl RemoteAnswer {
    fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        let connections: &[(ConnId, Outcome)] = match self {
            RemoteAnswer::Said { connections, .. } => connections,
            RemoteAnswer::TimedOut | RemoteAnswer::Unavailable => &[],
        };
        connections.iter().map(|(_, outcome)| *outcome)
    }
}

impl RemoteNode {
    /// Stands for all other nodes when none can be asked.
    pub fn all_unavailable() -> Self {
        RemoteNode::unavailable("*")
    }

    /// A node that could not be asked.
    pub fn unavailable(node: &str) -> Self {
        RemoteNode { node: node.into(), answer: RemoteAnswer::Unavailable }
    }

    fn outcome(&self) -> NodeOutcome {
        let (connections, unconfirmed, status) = match &self.answer {
            RemoteAnswer::Said { audience, unconfirmed, .. } => {
                (*audience, *unconfirmed, NodeStatus::Confirmed)
            }
            RemoteAnswer::TimedOut => (0, 0, NodeStatus::TimedOut),
            RemoteAnswer::Unavailable => (0, 0, NodeStatus::Unavailable),
        };
        NodeOutcome { node: self.node.clone(), connections, unconfirmed, status }
    }

    fn connections(&self) -> Vec<ConnectionOutcome> {
        let one =
            |connection: String, status| ConnectionOutcome { node: self.node.clone(), connection, status };
        match &self.answer {
            RemoteAnswer::Said { connections, .. } => {
                connections.iter().map(|(id, outcome)| one(id.to_string(), *outcome)).collect()
            }
            RemoteAnswer::TimedOut => vec![one(String::new(), Outcome::TimedOut)],
            RemoteAnswer::Unavailable => vec![one(String::new(), Outcome::Unavailable)],
        }
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
        let located = |n| Report::Located { connections: (0..n).map(conn).collect(), elsewhere: false };
        let outcome = |n, outcome| Report::Outcome(conn(n), outcome);
        let check = |reports: &[Report], complete: bool, status: Status| {
            let gather = gathered(reports);
            let result = gather.send_result("u", "n");
            assert_eq!((gather.is_complete(), result.status), (complete, status), "{reports:?}");
        };
        check(&[], false, Status::TimedOut);
        check(&[located(0)], true, Status::Offline);
        check(&[outcome(0, Delivered)], false, Status::Delivered);
        check(&[outcome(0, Delivered), located(1)], true, Status::Delivered);
        check(&[located(2), outcome(1, Delivered)], false, Status::Delivered);
        check(&[located(2), outcome(1, Gone)], false, Status::TimedOut);
        check(&[located(2), outcome(1, Gone), outcome(0, SlowConsumer)], true, Status::Failed);
        check(&[Report::Overloaded], true, Status::Failed);
    }

    #[test]
    fn a_connection_that_did_not_report_is_said_to_have_timed_out() {
        let gather = gathered(&[
            Report::Located { connections: vec![conn(1), conn(2)], elsewhere: false },
            Report::Outcome(conn(2), Outcome::Closed),
        ]);
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
        let nobody =
            gathered(&[Report::Located { connections: vec![], elsewhere: false }]).user_connections("u", "n");
        assert!(nobody.is_some_and(|found| !found.online));
        let found = gathered(&[Report::Located { connections: vec![conn(5)], elsewhere: false }])
            .user_connections("u", "n");
        assert!(found.is_some_and(|found| found.online && found.connections.len() == 1));
    }

    #[test]
    fn other_nodes_are_waited_for_and_counted() {
        let ours = |connections| Report::Located { connections, elsewhere: true };
        let theirs = |answer| Report::Remote(vec![RemoteNode { node: "b".into(), answer }]);
        let said = |connections| RemoteAnswer::Said { connections, audience: 0, unconfirmed: 0 };
        let check = |reports: &[Report], complete: bool, status: Status| {
            let gather = gathered(reports);
            assert_eq!(
                (gather.is_complete(), gather.send_result("u", "a").status),
                (complete, status),
                "{reports:?}"
            );
        };
        check(&[ours(vec![])], false, Status::TimedOut);
        check(&[ours(vec![]), theirs(said(vec![]))], true, Status::Offline);
        check(&[ours(vec![]), theirs(said(vec![(conn(9), Outcome::Delivered)]))], true, Status::Delivered);
        check(&[ours(vec![]), theirs(said(vec![(conn(9), Outcome::Gone)]))], true, Status::Failed);
        check(&[ours(vec![]), theirs(RemoteAnswer::TimedOut)], true, Status::TimedOut);
        check(&[ours(vec![]), theirs(RemoteAnswer::Unavailable)], true, Status::Unavailable);
        let delivered = Report::Outcome(conn(1), Outcome::Delivered);
        check(&[ours(vec![conn(1)]), delivered, theirs(RemoteAnswer::Unavailable)], true, Status::Delivered);
    }

    #[test]
    fn pages_of_reactors_are_merged_and_cut() {
        let user = |n: u32| UserNodes { user_id: format!("u{n}"), nodes: vec!["a".into()] };
        let page = |numbers: &[u32], next: Option<&str>| {
            Report::Users(numbers.iter().map(|n| user(*n)).collect(), next.map(str::to_owned))
        };
        let merged = gathered(&[page(&[1, 4, 6], None), page(&[2, 3, 5], Some("u5"))]);
        assert!(merged.is_listed(2) && !merged.is_listed(3));
        assert_eq!(merged.user_page(3, 3), None);
        let first = merged.user_page(3, 2).unwrap();
        assert_eq!((first.users, first.next), (vec![user(1), user(2), user(3)], Some("u3".into())));
        let last = gathered(&[page(&[8], None), page(&[7], None)]).user_page(3, 2).unwrap();
        assert_eq!((last.users.len(), last.next), (2, None));
        let empty_but_not_the_end = gathered(&[page(&[], Some("u9"))]).user_page(3, 1).unwrap();
        assert_eq!(empty_but_not_the_end.next, Some("u9".into()));
    }
}
