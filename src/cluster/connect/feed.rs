//! One connection's subscriptions: what is published, and whether the
//! connection is alive.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{PushKind, Value};

use super::node::Node;
use super::{LinkError, Message};

/// Subscriptions on one connection to one server.
///
/// A connection over which nothing comes is probed by subscribing again to
/// what it is subscribed to already: the confirmation is a push, which, other
/// than the reply to a `PING`, cannot be taken for a late reply.
pub(super) struct Feed {
    node: Node,
    /// The commands that subscribe to each channel, packed.
    subscribing: Vec<u8>,
    /// Messages that came before all channels were confirmed.
    early: VecDeque<Message>,
    /// How long silence is believed, and how long an answer may take.
    patience: Duration,
    /// When anything was last received.
    heard: Instant,
    /// When the server was last asked whether it is there, if it has not
    /// answered yet.
    probed: Option<Instant>,
}

/// What a server sent on its own.
enum Push {
    Message(Message),
    Confirmed,
    Other,
}

impl Feed {
    /// Subscribes to `channels` (`sharded`: of a Redis Cluster) and waits for
    /// every confirmation.
    pub(super) fn open(
        mut node: Node,
        channels: &[&str],
        sharded: bool,
        patience: Duration,
    ) -> Result<Feed, LinkError> {
        let name = if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        let mut subscribing = Vec::new();
        for channel in channels {
            redis::cmd(name).arg(*channel).write_packed_command(&mut subscribing);
        }
        let now = Instant::now();
        let deadline = now + patience;
        let mut early = VecDeque::new();
        let mut confirmed = 0;
        if !channels.is_empty() {
            node.send(&subscribing, deadline)?;
        }
        while confirmed < channels.len() {
            let value = node.receive(deadline)?;
            match read(&node, value)? {
                Push::Message(message) => early.push_back(message),
                Push::Confirmed => confirmed += 1,
                Push::Other => {}
            }
        }
        Ok(Feed { node, subscribing, early, patience, heard: now, probed: None })
    }

    /// The next message; `None` if none came within `timeout`.
    pub(super) fn next(&mut self, timeout: Duration) -> Result<Option<Message>, LinkError> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(message));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let alarm = self.probed.unwrap_or(self.heard) + self.patience;
            // Read first: the answer may have been there for long.
            match self.node.receive(alarm.min(deadline)) {
                Ok(value) => {
                    self.heard = Instant::now();
                    self.probed = None;
                    if let Push::Message(message) = read(&self.node, value)? {
                        return Ok(Some(message));
                    }
                }
                Err(LinkError::TimedOut(_)) if Instant::now() < alarm => {}
                Err(LinkError::TimedOut(_)) => self.probe()?,
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Asks a server that has been silent whether it is there; gives up one
    /// that was asked before.
    fn probe(&mut self) -> Result<(), LinkError> {
        if self.probed.is_some() {
            return Err(LinkError::TimedOut(format!("{} does not answer", self.node.address())));
        }
        let now = Instant::now();
        self.node.send(&self.subscribing, now + self.patience)?;
        self.probed = Some(now);
        Ok(())
    }
}

/// What a server sent, as far as a subscription can make sense of it.
fn read(node: &Node, value: Value) -> Result<Push, LinkError> {
    let Value::Push { kind, data } = node.value(value)? else { return Ok(Push::Other) };
    match kind {
        PushKind::Message | PushKind::SMessage => match <[Value; 2]>::try_from(data) {
            Ok([Value::BulkString(channel), Value::BulkString(payload)]) => {
                Ok(Push::Message(Message { channel: Bytes::from(channel), payload: Bytes::from(payload) }))
            }
            _ => Err(LinkError::Lost(format!("{} sent no message but something else", node.address()))),
        },
        PushKind::Subscribe | PushKind::SSubscribe => Ok(Push::Confirmed),
        PushKind::Unsubscribe | PushKind::SUnsubscribe => {
            let channel = data.first().map(redis::from_redis_value_ref::<String>);
            let channel = channel.and_then(Result::ok).unwrap_or_default();
            Err(LinkError::NotMaster(format!("{} no longer serves channel {channel}", node.address())))
        }
        _ => Ok(Push::Other),
    }
}
