//! Beginning sessions: so many at once, once there are addresses.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Runner;
use crate::client::refusal::Failure;
use crate::client::resolve::Resolver;
use crate::client::session::Stage;
use crate::client::work::UNDERWAY_MAX;

/// How long resolved addresses serve for further connections.
const ADDRESSES_FRESH: Duration = Duration::from_secs(1);

impl Runner {
    pub(super) fn begin_sessions(&mut self, now: Instant) {
        if self.work.queue.is_empty() || !self.has_addresses(now) {
            return;
        }
        let addresses = std::mem::take(&mut self.work.addresses);
        while self.work.underway < UNDERWAY_MAX
            && let Some(index) = self.work.queue.pop_front()
        {
            if self.work.sessions[index].stage() == Stage::Queued {
                self.call(index, now, |session, context| session.begin(context, &addresses));
            }
        }
        self.work.addresses = addresses;
    }

    /// Whether there are addresses to connect to; asks for them otherwise.
    fn has_addresses(&mut self, now: Instant) -> bool {
        match &self.resolver {
            Resolver::Known(address) => {
                if self.work.addresses.is_empty() {
                    self.work.addresses.push(*address);
                }
                true
            }
            Resolver::Thread(_) if self.work.addresses_until.is_some_and(|until| now < until) => true,
            Resolver::Thread(ask) => {
                match self.work.asked_until {
                    Some(until) if until <= now => {
                        self.work.asked_until = None;
                        self.fail_queued("the name was not resolved in time", now);
                    }
                    Some(_) => {}
                    None => {
                        // It is full while the resolver is still at the last one.
                        let _ = ask.try_send(());
                        self.work.asked_until = Some(now + self.options.connect_timeout);
                    }
                }
                false
            }
        }
    }

    pub(super) fn resolved(&mut self, found: Result<Vec<SocketAddr>, String>, now: Instant) {
        self.work.asked_until = None;
        match found {
            Ok(addresses) => {
                self.work.addresses = addresses;
                self.work.addresses_until = Some(now + ADDRESSES_FRESH);
            }
            Err(why) => self.fail_queued(&why, now),
        }
    }

    fn fail_queued(&mut self, why: &str, now: Instant) {
        for index in std::mem::take(&mut self.work.queue) {
            if self.work.sessions[index].stage() == Stage::Queued {
                self.call(index, now, |session, context| session.fail(context, Failure::passing(why)));
            }
        }
    }
}
