//! Being a member: beats, users that come and go, and the users of the dead.

use std::sync::Arc;
use std::time::Instant;

use redis::RedisResult;

use super::{Link, Publisher, others};
use crate::cluster::registry::{Member, RegistryError, Slice, Standing};
use crate::metrics::Timing;
use crate::reactor::message::ReactorMessage;

/// Users registered, or swept, in one go.
const USERS_PER_STEP: usize = 1000;

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Publisher {
    pub(super) fn keep_membership(&mut self, link: &mut Link, now: Instant) -> Outcome {
        // That it is leaving is told at once.
        if now >= link.next_beat || self.status() != link.status {
            link.status = self.status();
            link.next_beat = now + self.plan.beat;
            self.beat(link)?;
        }
        if link.nodes_outdated {
            link.nodes_outdated = false;
            self.refresh_nodes(link, now)?;
        }
        self.register_changes(link, now)?;
        let was_sweeping = !link.graves.is_empty();
        self.sweep_a_slice(link, now)?;
        // A node that failed again and again left many graves, of which each claim leases one.
        if was_sweeping && link.graves.is_empty() {
            self.claim(link)?;
        }
        Ok(())
    }

    fn beat(&mut self, link: &mut Link) -> Outcome {
        let connections = self.shared.open.load(std::sync::atomic::Ordering::Relaxed) as u64;
        // A server that was demoted would take everything in and keep nothing.
        link.registry.executor().verify()?;
        let standing =
            self.timed(Timing::RedisBeat, || link.registry.beat(&link.me, connections, self.status()))?;
        match standing {
            Standing::Member => {}
            Standing::Unknown => return Err("this node is not registered any more".into()),
            Standing::Replaced { .. } => return Err(self.why_replaced(link)?.into()),
        }
        link.nodes_outdated = true;
        self.claim(link)
    }

    /// Takes on the dead whom nobody sweeps.
    fn claim(&self, link: &mut Link) -> Outcome {
        let lease = self.plan.beat * 3;
        let mut graves = link.registry.claim(&link.me, self.plan.expiry, lease)?;
        for grave in &graves {
            log::warn!(
                "node {} (incarnation {}) is dead; removing its users",
                grave.dead.node,
                grave.dead.incarnation
            );
        }
        link.graves.append(&mut graves);
        Ok(())
    }

    /// Why this node is not a member any more.
    fn why_replaced(&self, link: &mut Link) -> RedisResult<String> {
        let Some(rival) = self.rival(&mut link.registry)? else {
            return Ok("this node was declared dead, or registered twice".to_owned());
        };
        log::error!("this node's name was taken; it stays out of the cluster until the other has gone");
        Ok(rival)
    }

    fn refresh_nodes(&mut self, link: &mut Link, now: Instant) -> Outcome {
        let records = link.registry.nodes(self.plan.expiry)?;
        link.router.set_others(others(&records, &link.me), now);
        self.overview.set_nodes(records);
        Ok(())
    }

    /// Registers and unregisters users in the order they came and went.
    fn register_changes(&mut self, link: &mut Link, now: Instant) -> Outcome {
        if !link.subscribed {
            // Nobody is to send here before this node hears it.
            return match link.changes.are_too_many() {
                true => Err("users come and go, and nothing can be subscribed to".into()),
                false => Ok(()),
            };
        }
        let changes = link.changes.take();
        let mut rest = &changes[..];
        while let Some((_, joined)) = rest.first() {
            let alike = rest.iter().take_while(|(_, other)| other == joined).count().min(USERS_PER_STEP);
            let (step, later) = rest.split_at(alike);
            let users: Vec<&Arc<str>> = step.iter().map(|(user, _)| user).collect();
            match joined {
                true => self.register(link, &users, now)?,
                false => self.unregister(link, &users, now)?,
            }
            rest = later;
        }
        Ok(())
    }

    fn register(&mut self, link: &mut Link, users: &[&Arc<str>], now: Instant) -> Outcome {
        let found = match self.timed(Timing::RedisRegister, || link.registry.register_users(&link.me, users))
        {
            Ok(found) => found,
            Err(RegistryError::NotMember) => return Err(self.why_replaced(link)?.into()),
            Err(error) => return Err(error.into()),
        };
        for (user, found) in users.iter().zip(found) {
            // Who was nowhere is remembered nowhere: that was told when it left.
            if !found.came_online {
                link.router.tell_forget(user, now);
            }
            if !found.others.is_empty() {
                self.tell_home(user, true);
            }
            for other in &found.others {
                link.router.tell_elsewhere(other, user, true, now);
            }
        }
        Ok(())
    }

    fn unregister(&mut self, link: &mut Link, users: &[&Arc<str>], now: Instant) -> Outcome {
        let left = self.timed(Timing::RedisRegister, || link.registry.unregister_users(&link.me, users))?;
        for (user, nodes) in users.iter().zip(left) {
            self.tell_who_is_left(link, user, &nodes, now);
        }
        Ok(())
    }

    /// A user left a node, and is on `nodes` still.
    fn tell_who_is_left(&mut self, link: &mut Link, user: &str, nodes: &[Member], now: Instant) {
        link.router.tell_forget(user, now);
        if let [only] = nodes {
            if only.node == link.me.node {
                self.tell_home(user, false);
            } else {
                link.router.tell_elsewhere(only, user, false, now);
            }
        }
    }

    fn tell_home(&self, user: &str, elsewhere: bool) {
        let home = self.shared.homes.of(user);
        self.post_surely(home, || ReactorMessage::Elsewhere { user: user.into(), elsewhere });
    }

    /// Removes some users of a dead node, so that the living get their turn in between.
    fn sweep_a_slice(&mut self, link: &mut Link, now: Instant) -> Outcome {
        let Some(grave) = link.graves.last() else { return Ok(()) };
        match link.registry.sweep(grave, USERS_PER_STEP)? {
            Slice::Done | Slice::Lost => {
                link.graves.pop();
            }
            Slice::Swept(users) => {
                for (user, nodes) in users {
                    self.tell_who_is_left(link, &user, &nodes, now);
                }
            }
        }
        Ok(())
    }

    /// Takes this node out of the cluster: its users are offline, or where else they are.
    pub(super) fn leave(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        if let Ok(Some(grave)) = link.registry.leave(&link.me, self.plan.beat * 3) {
            link.graves.push(grave);
            self.sweep_all(&mut link);
        }
        self.carry_out(link.router.give_up());
    }

    fn sweep_all(&mut self, link: &mut Link) {
        while !link.graves.is_empty() {
            if let Err(error) = self.sweep_a_slice(link, Instant::now()) {
                return log::warn!("not all users could be removed from Redis; another node will: {error}");
            }
        }
    }
}
