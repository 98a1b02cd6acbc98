//! A client that comes in through the balancer and knows which instance serves it.

use std::net::SocketAddr;

use crate::node::Node;
use crate::socket::{self, CLOSE, FIN, PING, PONG, Socket};

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a close frame, with this code and reason.
    Told(u16, String),
    /// Without one.
    Cut,
}

pub(crate) struct Client {
    pub(crate) socket: Socket,
    /// Who sent the welcome.
    pub(crate) instance: String,
    balancer: SocketAddr,
    number: usize,
}

impl Client {
    /// Connects; the first try must do.
    pub(crate) fn join(balancer: SocketAddr, number: usize) -> Self {
        let target = format!("/ws?client_id=client-{number}&user_id=user-{number}");
        let mut socket = Socket::connect(balancer, &target, "");
        let welcome = socket.json();
        let instance = welcome["service_identity"]["instance_id"].as_str();
        let instance = instance.unwrap_or_else(|| panic!("no welcome: {welcome}")).to_owned();
        Client { socket, instance, balancer, number }
    }

    /// What it is called.
    pub(crate) fn id(&self) -> String {
        format!("client-{}", self.number)
    }

    /// The same client on a new connection.
    pub(crate) fn join_again(self) -> Self {
        Client::join(self.balancer, self.number)
    }

    /// Reads on until the connection ends.
    pub(crate) fn end(&mut self) -> End {
        loop {
            let Some(frame) = self.socket.try_frame() else { return End::Cut };
            if frame.first == FIN | CLOSE {
                let (code, reason) = socket::close_of(&frame);
                self.socket.answer_close(code);
                return End::Told(code, reason);
            }
            if frame.first == FIN | PING {
                self.socket.send(socket::frame(FIN | PONG, &frame.payload));
            }
        }
    }
}

/// The instance id that a node sends in its welcomes.
pub(crate) fn instance_of(node: &Node) -> String {
    node.json("/health")["service_identity"]["instance_id"].as_str().unwrap().to_owned()
}
