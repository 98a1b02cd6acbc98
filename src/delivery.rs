//! What became of a send, a broadcast or a kick: the answers of the library
//! and, serialised, of the HTTP API.

use serde::Serialize;

/// What happened to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Handed to the connection's outbound queue; its client reads at its own pace.
    Delivered,
    /// The client reads too slowly: the message exceeded `outbound_bytes_max`.
    SlowConsumer,
    /// The connection ended before the message reached it.
    Gone,
    /// Closed by a kick.
    Closed,
    /// The reactor's mailbox was full; nothing was queued.
    Overloaded,
    /// No answer within the time allowed; it may or may not have arrived.
    TimedOut,
    /// The node that holds it cannot be reached: the link to Redis is down.
    Unavailable,
}

/// One connection of a user and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionOutcome {
    /// The node that holds the connection.
    pub node: String,
    /// The connection's id on that node; empty when the node did not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
    /// What happened.
    pub status: Outcome,
}

/// The sum over all connections of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// At least one connection took it.
    Delivered,
    /// The user has no connection.
    Offline,
    /// The user has connections and none took it; see each one's status.
    Failed,
    /// Nobody answered in time.
    TimedOut,
    /// The user may be on another node, and the link to Redis is down.
    Unavailable,
}

/// The answer to `send_to_user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendResult {
    /// The user that was meant.
    pub user_id: String,
    /// The sum.
    pub status: Status,
    /// Each connection of the user.
    pub connections: Vec<ConnectionOutcome>,
}

/// What a broadcast did on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeOutcome {
    /// The node.
    pub node: String,
    /// Connections the message was queued for.
    pub connections: u64,
    /// Reactors of that node that did not confirm (overloaded or too late).
    pub unconfirmed: u64,
    /// Whether the node answered at all.
    pub status: NodeStatus,
}

/// Whether a node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// It did.
    Confirmed,
    /// Not within the time allowed.
    TimedOut,
    /// It could not be asked: the link to Redis is down.
    Unavailable,
}

/// The answer to `broadcast`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BroadcastResult {
    /// Connections the message was queued for, over all nodes.
    pub connections: u64,
    /// Each node.
    pub nodes: Vec<NodeOutcome>,
}

/// The answer to `kick_user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KickResult {
    /// The user that was meant.
    pub user_id: String,
    /// `Delivered` when at least one connection was closed.
    pub status: KickStatus,
    /// Each connection of the user.
    pub connections: Vec<ConnectionOutcome>,
}

/// The sum of a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KickStatus {
    /// At least one connection was closed.
    Kicked,
    /// The user had no connection.
    Offline,
    /// The user has connections and none was closed; see each one's status.
    Failed,
    /// Nobody answered in time.
    TimedOut,
    /// The user may be on another node, and the link to Redis is down.
    Unavailable,
}

/// Where one connection of a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionLocation {
    /// The node that holds it.
    pub node: String,
    /// Its id on that node.
    pub connection: String,
}

/// The answer to `user_connections`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserConnections {
    /// The user that was meant.
    pub user_id: String,
    /// Whether the user has a connection anywhere.
    pub online: bool,
    /// All of them.
    pub connections: Vec<ConnectionLocation>,
    /// Nodes that may hold more and did not answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
}

/// A user in a list of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserNodes {
    /// The user.
    pub user_id: String,
    /// The nodes the user is connected to.
    pub nodes: Vec<String>,
}

/// A part of the list of all users, in the order of the ids' bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserPage {
    /// Users.
    pub users: Vec<UserNodes>,
    /// What to ask for after; `None` at the end.
    pub next: Option<String>,
}

/// A node, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeListing {
    /// Its id.
    pub id: String,
    /// Where it is reached.
    pub ip_address: String,
    /// Port of its HTTP listener.
    pub port: u16,
    /// `active`, or `draining` when it wants no new connections.
    pub status: &'static str,
    /// Open WebSocket connections.
    pub connections: u64,
}
