//! One connection to one server, with a deadline on everything.

use std::fs;
use std::time::{Duration, Instant};

use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates, Value,
};

use super::{Address, Credentials, LinkError, Settings};

/// A timeout of zero would be none at all.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Which form of replies is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Replies only; for commands.
    Resp2,
    /// What is published can be told from replies; for subscriptions.
    Resp3,
}

/// One connection to one server. After an error that
/// [ends it](LinkError::ends_connection) it is dropped.
pub(super) struct Node {
    connection: redis::Connection,
    address: Address,
}

impl Node {
    /// Connects and signs in within `timeout`.
    pub(super) fn connect(
        address: &Address,
        settings: &Settings,
        credentials: Option<&Credentials>,
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<Node, LinkError> {
        let timeout = timeout.max(WAIT_MIN);
        let deadline = Instant::now() + timeout;
        let connection = client(address, settings)?
            .get_connection_with_timeout(timeout)
            .map_err(|error| LinkError::from_connecting(address, &error))?;
        let mut node = Node { connection, address: address.clone() };
        // The crate would sign in itself, but waits once for every reply.
        match node.sign_in(credentials, settings.target.database, protocol, deadline) {
            Err(LinkError::Lost(text)) => Err(LinkError::Unreachable(text)),
            signed_in => signed_in.map(|()| node),
        }
    }

    /// The server this is connected to.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends packed commands.
    pub(super) fn send(&mut self, packed: &[u8], deadline: Instant) -> Result<(), LinkError> {
        self.wait_until(deadline)?;
        let sent = self.connection.send_packed_command(packed);
        sent.map_err(|error| LinkError::from_redis(&self.address, &error))
    }

    /// Receives one reply or push; an error that the server answered with is
    /// a value.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Value, LinkError> {
        self.wait_until(deadline)?;
        let received = self.connection.recv_response();
        received.map_err(|error| LinkError::from_redis(&self.address, &error))
    }

    /// Sends one command and receives its reply.
    pub(super) fn ask(&mut self, command: &Cmd, deadline: Instant) -> Result<Value, LinkError> {
        self.send(&command.get_packed_command(), deadline)?;
        let reply = self.receive(deadline)?;
        self.value(reply)
    }

    /// A reply as a value; the error if it is one.
    pub(super) fn value(&self, reply: Value) -> Result<Value, LinkError> {
        match reply {
            Value::ServerError(error) => {
                Err(LinkError::from_reply(&self.address, error.code(), error.details().unwrap_or_default()))
            }
            value => Ok(value),
        }
    }

    /// Fails unless the server says it is a master. A user that may not ask
    /// is believed: a replica refuses the first write.
    pub(super) fn expect_master(&mut self, deadline: Instant) -> Result<(), LinkError> {
        let role = match self.ask(&redis::cmd("ROLE"), deadline) {
            Err(LinkError::Refused(_)) => return Ok(()),
            role => role?,
        };
        let Value::Array(items) = role else {
            return Err(LinkError::Lost(format!("{} has no role", self.address)));
        };
        match items.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(()),
            Some(Value::BulkString(role)) => {
                let role = String::from_utf8_lossy(role);
                Err(LinkError::NotMaster(format!("{} is not a master but a {role}", self.address)))
            }
            _ => Err(LinkError::Lost(format!("{} has no role", self.address))),
        }
    }

    fn sign_in(
        &mut self,
        credentials: Option<&Credentials>,
        database: u32,
        protocol: Protocol,
        deadline: Instant,
    ) -> Result<(), LinkError> {
        if protocol == Protocol::Resp3 {
            let mut hello = redis::cmd("HELLO");
            hello.arg(3);
            if let Some(Credentials { user, password }) = credentials {
                hello.arg("AUTH").arg(user.as_deref().unwrap_or("default")).arg(password);
            }
            self.ask(&hello, deadline)?;
        } else if let Some(Credentials { user, password }) = credentials {
            self.ask(redis::cmd("AUTH").arg(user.as_deref()).arg(password), deadline)?;
        }
        if database != 0 {
            self.ask(redis::cmd("SELECT").arg(database), deadline)?;
        }
        // Shown by CLIENT LIST, and without credentials the first to be refused;
        // a user that has signed in may be forbidden to set it.
        match self.ask(redis::cmd("CLIENT").arg("SETNAME").arg("throng"), deadline) {
            Err(error) if error.ends_connection() || credentials.is_none() => Err(error),
            _ => Ok(()),
        }
    }

    fn wait_until(&self, deadline: Instant) -> Result<(), LinkError> {
        let wait = deadline.saturating_duration_since(Instant::now()).max(WAIT_MIN);
        let set = self.connection.set_read_timeout(Some(wait));
        set.and_then(|()| self.connection.set_write_timeout(Some(wait)))
            .map_err(|error| LinkError::from_redis(&self.address, &error))
    }
}

/// What the crate connects with.
fn client(address: &Address, settings: &Settings) -> Result<redis::Client, LinkError> {
    let Address { host, port } = address.clone();
    let wrong = |error: redis::RedisError| LinkError::Settings(error.to_string());
    if !settings.target.tls {
        return redis::Client::open(information(ConnectionAddr::Tcp(host, port))?).map_err(wrong);
    }
    let information = information(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None })?;
    let Some(path) = &settings.ca_file else { return redis::Client::open(information).map_err(wrong) };
    let pem = fs::read(path)
        .map_err(|error| LinkError::Settings(format!("{} cannot be read: {error}", path.display())))?;
    redis::Client::build_with_tls(information, TlsCertificates { client_tls: None, root_cert: Some(pem) })
        .map_err(|error| LinkError::Settings(format!("{}: {error}", path.display())))
}

fn information(address: ConnectionAddr) -> Result<ConnectionInfo, LinkError> {
    let information =
        address.into_connection_info().map_err(|error| LinkError::Settings(error.to_string()))?;
    let at_once = information.tcp_settings().clone().set_nodelay(true);
    let nothing_sent = RedisConnectionInfo::default().set_skip_set_lib_name();
    Ok(information.set_tcp_settings(at_once).set_redis_settings(nothing_sent))
}
