//! What a balancer's reactor is told, and what it tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;

use super::survey::Survey;
use crate::balancer::config::BalanceConfig;
use crate::balancer::roster::BackendId;
use crate::reactor::mailbox::Weigh;
use crate::tls::Peers;

/// Travels in a reactor's bounded mailbox.
#[derive(Debug)]
pub enum ReactorMessage {
    /// The connections to this backend are worth nothing any more.
    BackendDown(BackendId),
    /// For everybody who listens to events.
    News(Bytes),
    /// Look through your pairs.
    Survey(Box<Survey>),
    /// What all have found for a request of yours.
    Surveyed(Box<Survey>),
}

impl Weigh for ReactorMessage {
    fn weight(&self) -> usize {
        match self {
            ReactorMessage::News(bytes) => bytes.len(),
            ReactorMessage::BackendDown(_) | ReactorMessage::Survey(_) | ReactorMessage::Surveyed(_) => 0,
        }
    }
}

/// An order for a reactor. Travels in a queue of its own.
#[derive(Debug)]
pub enum Order {
    /// Begin to accept.
    Accept,
    /// Close all pairs, spread over the window.
    Close {
        /// That of the drain's beginning, whatever has been reloaded since.
        window: Duration,
    },
    /// Cut off what is left.
    Abort,
    /// New settings.
    Reload(Arc<BalanceConfig>),
    /// Who we are to clients, and who backends have to be, from now on, where TLS is spoken.
    Tls {
        /// To clients.
        identity: Option<Arc<ServerConfig>>,
        /// Backends.
        peers: Option<Peers>,
    },
    /// End the thread.
    Stop,
}

impl Weigh for Order {
    fn weight(&self) -> usize {
        0
    }
}
