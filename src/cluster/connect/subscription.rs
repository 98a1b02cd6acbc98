//! The subscription to what other nodes publish, at one server or at several.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::commands::{connect_master, find};
use super::feed::Feed;
use super::node::{Node, Protocol};
use super::routed::read_slots;
use super::{Address, Arrangement, LinkError, Settings, slots};

/// Messages that wait between a server's thread and the subscription; then
/// the server waits, and at last drops the connection.
const WAITING_MAX: usize = 64;
/// A server's thread looks this often whether it is still wanted.
const ATTENTION: Duration = Duration::from_millis(500);

/// One message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel it was published on.
    pub channel: Bytes,
    /// What was published.
    pub payload: Bytes,
}

/// A subscription. It ends with its first error and is then to be dropped:
/// between the error and a new subscription, messages are lost.
///
/// In a Redis Cluster the channels may be on several masters; then each has a
/// thread that ends soon after the subscription is dropped. Messages of one
/// channel keep their order.
pub struct Subscription {
    source: Source,
    master: Option<Address>,
}

enum Source {
    One(Box<Feed>),
    Several {
        messages: Receiver<Result<Message, LinkError>>,
        /// The threads end when it is gone.
        _wanted: Arc<()>,
    },
}

impl Subscription {
    pub(super) fn open(settings: &Settings, channels: &[&str]) -> Result<Subscription, LinkError> {
        let patience = settings.response_timeout;
        let Arrangement::Cluster(seeds) = &settings.target.arrangement else {
            let address = find(settings, &settings.target.arrangement)?;
            let node = connect_master(settings, &address, Protocol::Resp3)?;
            let feed = Feed::open(node, channels, false, patience)?;
            return Ok(Subscription { source: Source::One(Box::new(feed)), master: Some(address) });
        };
        let mut feeds = Vec::new();
        for (address, channels) in by_master(settings, seeds, channels)? {
            let credentials = settings.target.credentials.as_ref();
            let timeout = settings.connect_timeout;
            let node = Node::connect(&address, settings, credentials, Protocol::Resp3, timeout)?;
            feeds.push(Feed::open(node, &channels, true, patience)?);
        }
        let source = match feeds.pop() {
            Some(feed) if feeds.is_empty() => Source::One(Box::new(feed)),
            last => read_all(feeds.into_iter().chain(last))?,
        };
        Ok(Subscription { source, master: None })
    }

    /// The master this is connected to; `None` in a Redis Cluster.
    pub fn master(&self) -> Option<&Address> {
        self.master.as_ref()
    }

    /// The next message; `None` if none came within `timeout`.
    ///
    /// # Errors
    /// A connection was lost, or dropped by the server because this end read
    /// too slowly; a server did not answer a probe for the response timeout; a
    /// channel is no longer served, as its slot was moved.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Message>, LinkError> {
        match &mut self.source {
            Source::One(feed) => feed.next(timeout),
            Source::Several { messages, .. } => match messages.recv_timeout(timeout) {
                Ok(message) => message.map(Some),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    Err(LinkError::Lost("the subscription has ended before".to_owned()))
                }
            },
        }
    }
}

/// The channels of each master.
fn by_master<'a>(
    settings: &Settings,
    seeds: &[Address],
    channels: &[&'a str],
) -> Result<BTreeMap<Address, Vec<&'a str>>, LinkError> {
    let slots = read_slots(settings, seeds, &mut HashMap::new(), None)?;
    let mut shares: BTreeMap<Address, Vec<&str>> = BTreeMap::new();
    for channel in channels {
        let Some(owner) = slots.owner(slots::slot(channel.as_bytes())) else {
            return Err(LinkError::Unavailable(format!("no master owns the slot of channel {channel}")));
        };
        shares.entry(slots.masters()[owner].clone()).or_default().push(channel);
    }
    Ok(shares)
}

/// Reads every feed on a thread of its own.
fn read_all(feeds: impl Iterator<Item = Feed>) -> Result<Source, LinkError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (sender, messages) = bounded(WAITING_MAX);
    let wanted = Arc::new(());
    for feed in feeds {
        let name = format!("redis-feed-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (sender, wanted) = (sender.clone(), Arc::downgrade(&wanted));
        thread::Builder::new()
            .name(name)
            .spawn(move || pass_on(feed, &sender, &wanted))
            .map_err(|error| LinkError::Lost(format!("no thread for a subscription: {error}")))?;
    }
    Ok(Source::Several { messages, _wanted: wanted })
}

/// Passes on what a feed has, until it ends or nobody wants it.
fn pass_on(mut feed: Feed, sender: &Sender<Result<Message, LinkError>>, wanted: &Weak<()>) {
    loop {
        let ended = match feed.next(ATTENTION) {
            Ok(Some(message)) => sender.send(Ok(message)).is_err(),
            Ok(None) => wanted.strong_count() == 0,
            Err(error) => {
                // Nobody may want to know any more.
                let _ = sender.send(Err(error));
                true
            }
        };
        if ended {
            return;
        }
    }
}
