//! Names and what they stand for, asked again and again.
//!
//! Owns: [`Resolver`], a thread that asks the system's resolver, which blocks,
//! and when a name is asked for next. Names wait for each other: one that takes
//! long delays the others, nothing else.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::balancer::roster::BACKENDS_MAX;

/// Questions that wait for the thread, and answers that wait to be fetched.
const WAITING_MAX: usize = 64;

/// After a failure a name is asked for again at the latest after this.
const RETRY: Duration = Duration::from_secs(2);

/// Finds what a name stands for; may block.
pub(super) type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Asks the system's resolver (`getaddrinfo(3)`).
///
/// # Errors
/// The resolver's.
pub(super) fn system(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|found| found.ip()).collect())
}

/// What came of a question.
pub(super) struct Answer {
    pub(super) host: String,
    pub(super) addresses: Result<Vec<IpAddr>, String>,
}

#[derive(Clone, Copy)]
enum Turn {
    Asked,
    At(Instant),
}

/// Asks for names. Its thread ends after the question it is at when this is dropped.
pub(super) struct Resolver {
    questions: Sender<String>,
    answers: Receiver<Answer>,
    turns: BTreeMap<String, Turn>,
}

impl Resolver {
    /// Starts the thread; `waker` is woken for each answer.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn spawn(waker: Arc<mio::Waker>, lookup: Lookup) -> io::Result<Resolver> {
        let (questions, asked) = bounded::<String>(WAITING_MAX);
        let (answer, answers) = bounded(WAITING_MAX);
        let run = move || {
            for host in asked {
                let addresses = lookup(&host).map_err(|error| error.to_string());
                let addresses = addresses.map(|found| found.into_iter().take(BACKENDS_MAX).collect());
                if answer.send(Answer { host, addresses }).is_err() {
                    return;
                }
                if let Err(error) = waker.wake() {
                    log::error!("the director could not be woken: {error}");
                }
            }
        };
        thread::Builder::new().name("throng-resolver".into()).spawn(run)?;
        Ok(Resolver { questions, answers, turns: BTreeMap::new() })
    }

    /// Asks for those of the names whose turn it is and forgets all others.
    pub(super) fn ask<'a>(&mut self, hosts: impl Iterator<Item = &'a str>, now: Instant) {
        let mut turns = std::mem::take(&mut self.turns);
        for host in hosts {
            let turn = turns.remove(host).unwrap_or(Turn::At(now));
            let asked = match turn {
                // One the thread has no room for is asked for next time.
                Turn::At(at) if at <= now => self.questions.try_send(host.to_owned()).is_ok(),
                _ => false,
            };
            self.turns.insert(host.to_owned(), if asked { Turn::Asked } else { turn });
        }
    }

    /// The next answer. Its name is asked for again after about `interval`.
    pub(super) fn answer(&mut self, interval: Duration, now: Instant) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        let failed = answer.addresses.as_ref().map_or(true, Vec::is_empty);
        let interval = if failed { interval.min(RETRY) } else { interval };
        if let Some(turn) = self.turns.get_mut(&answer.host) {
            *turn = Turn::At(now + interval * fastrand::u32(90..=110) / 100);
        }
        Some(answer)
    }
}
