//! Bringing the cluster's threads up and down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Overview;
use super::connect::{self, Settings};
use super::message::ClusterMessage;
use super::publisher::{Plan, Publisher, Unparker};
use super::registry::Names;
use super::router::Bounds;
use super::subscriber::{Ear, Subscriber};
use crate::config::Config;
use crate::limits::{CLUSTER_MAILBOX_BYTES, CLUSTER_MAILBOX_MESSAGES};
use crate::reactor::mailbox::{Mailbox, mailbox};
use crate::reactor::shared::Shared;

/// From asking Redis for a connection to having it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// From a command to its reply.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The publisher's thread, waiting for what it needs: reactors have to know
/// its mailbox before they start, and it has to know the reactors.
pub struct Prepared {
    plan: Plan,
    overview: Arc<Overview>,
    mailbox: Mailbox<ClusterMessage>,
    go: mpsc::Sender<Publisher>,
    publisher: JoinHandle<()>,
    inbox: crate::reactor::mailbox::Inbox<ClusterMessage>,
}

/// The cluster's threads. Not stopped by being dropped.
pub struct Cluster {
    publisher: Part,
    subscriber: Part,
}

/// A thread and what ends it.
struct Part {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prepared {
    /// `None` when no Redis is configured.
    ///
    /// # Errors
    /// What cannot be used of the configuration, a Redis that is required and
    /// cannot be reached, or no thread.
    pub fn new(config: &Config) -> io::Result<Option<Prepared>> {
        let Some(target) = config.redis_target().map_err(io::Error::other)? else { return Ok(None) };
        let settings = Settings {
            target,
            ca_file: config.redis_ca_file.clone(),
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
        };
        if config.redis_required {
            connect::open(&settings).map_err(|error| io::Error::other(error.to_string()))?;
        }
        let plan = Plan {
            settings,
            names: Names::new(&config.redis_prefix).map_err(|error| io::Error::other(error.to_string()))?,
            beat: config.cluster_beat,
            expiry: config.cluster_expiry,
            bounds: Bounds {
                cache_users: config.lookup_cache_users,
                cache_time: config.lookup_cache_time,
                ring_bytes: config.cluster_ring_bytes,
                reactors: config.reactors,
            },
        };
        let (go, gone) = mpsc::channel::<Publisher>();
        let run = move || {
            if let Ok(publisher) = gone.recv() {
                publisher.run();
            }
        };
        let publisher = thread::Builder::new().name("throng-publisher".into()).spawn(run)?;
        let waker = Arc::new(Unparker(publisher.thread().clone()));
        let (mailbox, inbox) = mailbox(CLUSTER_MAILBOX_MESSAGES, CLUSTER_MAILBOX_BYTES, waker);
        Ok(Some(Prepared { plan, overview: Arc::default(), mailbox, go, publisher, inbox }))
    }

    /// The way into the cluster.
    pub fn mailbox(&self) -> Mailbox<ClusterMessage> {
        self.mailbox.clone()
    }

    /// What the API shows.
    pub fn overview(&self) -> Arc<Overview> {
        self.overview.clone()
    }

    /// Sets the threads going.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(self, shared: &Arc<Shared>) -> io::Result<Cluster> {
        let [silence, stop] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let ear = Ear::default();
        let subscriber = Subscriber::new(
            self.plan.clone(),
            shared.clone(),
            self.mailbox.clone(),
            ear.clone(),
            silence.clone(),
        );
        let hearing = thread::Builder::new().name("throng-subscriber".into()).spawn(|| subscriber.run())?;
        let publisher =
            Publisher::new(self.plan, shared.clone(), self.inbox, ear, self.overview, stop.clone());
        // The thread waits for it, so it is taken.
        drop(self.go.send(publisher));
        Ok(Cluster {
            publisher: Part { stop, thread: self.publisher },
            subscriber: Part { stop: silence, thread: hearing },
        })
    }
}

impl Cluster {
    /// Takes the node out of the cluster and ends the threads. What is heard
    /// until the node has left is still dealt with.
    pub fn stop(self) {
        self.publisher.stop();
        self.subscriber.stop();
    }
}

impl Part {
    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            log::error!("a thread of the cluster panicked");
        }
    }
}
