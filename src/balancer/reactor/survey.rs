//! Looking through the pairs of all reactors, for the API.
//!
//! A [`Survey`] is one message that goes from reactor to reactor and collects
//! what it finds. A reactor looks through a bounded number of rows and posts
//! the rest to itself, so that pumping goes on in between.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Reactor;
use super::message::ReactorMessage;
use super::pair::{Client, KnownBy, Pair, Stage};
use crate::balancer::roster::BackendId;
use crate::balancer::view::{self, ClientView};
use crate::http::Response;
use crate::ids::{ConnId, ReactorId};

/// Rows looked through in one go.
const ROWS_PER_TURN: u32 = 8192;

/// Connections of one client that are shown.
const CONNECTIONS_MAX: usize = 1000;

/// A row: its reactor and slot.
pub(super) type Place = (u8, u32);

/// Which clients are looked for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A page of those that match.
    Page {
        /// Is part of an id, a user, a name or an address, whatever its case.
        text: Option<String>,
        /// Is where they are.
        backend: Option<BackendId>,
        /// Where the page begins.
        from: Place,
        /// At most so many.
        limit: usize,
    },
    /// Everybody of this id.
    Client(String),
}

/// A client that was found.
#[derive(Debug)]
struct Found {
    id: Option<String>,
    connection: String,
    user_id: Option<String>,
    name: Option<String>,
    address: SocketAddr,
    backend: Option<BackendId>,
    since: SystemTime,
    bytes_from_client: u64,
    bytes_to_client: u64,
}

/// A request and what was found for it so far.
#[derive(Debug)]
pub struct Survey {
    /// The connection that asked.
    pub(super) asker: ConnId,
    /// Whether it asked for the head of the answer only.
    pub(super) head_only: bool,
    wanted: Wanted,
    /// The row to look at next, and how many reactors are done.
    next_slot: u32,
    reactors_done: usize,
    found: Vec<Found>,
    /// All that match, those on other pages too.
    total: u64,
    /// Where the next page begins.
    next_page: Option<Place>,
}

impl Survey {
    /// One that has not begun.
    pub(super) fn new(asker: ConnId, head_only: bool, wanted: Wanted) -> Box<Survey> {
        let found = Vec::new();
        Box::new(Survey {
            asker,
            head_only,
            wanted,
            next_slot: 0,
            reactors_done: 0,
            found,
            total: 0,
            next_page: None,
        })
    }

    /// The answer, when all reactors are done.
    pub(super) fn response(&self) -> Response {
        let views: Vec<ClientView<'_>> = self.found.iter().map(Found::view).collect();
        match &self.wanted {
            Wanted::Client(id) => view::client(id, &views),
            Wanted::Page { .. } => {
                let next = self.next_page.map(|(reactor, slot)| format!("{reactor}-{slot}"));
                view::clients(&views, next.as_deref(), self.total)
            }
        }
    }

    /// Takes a row into account.
    fn look_at(&mut self, place: Place, pair: &Pair, scratch: &mut String) {
        let is_served = matches!(pair.stage, Stage::Opening(_) | Stage::Open);
        let Some(info) = pair.info.as_ref().filter(|_| is_served) else { return };
        scratch.clear();
        // Writing to a String cannot fail.
        let _ = write!(scratch, "{}-{}-{}", place.0, place.1, pair.generation);
        let (from, limit) = match &self.wanted {
            Wanted::Client(id) if info.id.as_deref().unwrap_or(scratch) != id => return,
            Wanted::Client(_) => ((0, 0), CONNECTIONS_MAX),
            Wanted::Page { text, backend, from, limit } => {
                let at = pair.at.as_ref().map(|at| at.id);
                let is_there = backend.is_none_or(|backend| at == Some(backend));
                if !is_there || !text.as_deref().is_none_or(|text| info.holds(text, scratch)) {
                    return;
                }
                (*from, *limit)
            }
        };
        self.total += 1;
        if place < from {
            return;
        }
        if self.found.len() < limit {
            self.found.push(pair.found(info, scratch));
        } else {
            self.next_page.get_or_insert(place);
        }
    }
}

impl Reactor {
    /// Looks through some rows and sends the survey on.
    pub(super) fn take_survey(&mut self, mut survey: Box<Survey>) {
        let (me, end) = (self.me, self.table.high_water());
        let last = survey.next_slot.saturating_add(ROWS_PER_TURN).min(end);
        let mut scratch = String::new();
        for slot in survey.next_slot..last {
            if let Some(pair) = self.table.get(slot) {
                survey.look_at((me.0, slot), pair, &mut scratch);
            }
        }
        survey.next_slot = last;
        if last < end {
            return self.post(me, ReactorMessage::Survey(survey));
        }
        survey.next_slot = 0;
        survey.reactors_done += 1;
        match survey.reactors_done < self.shared.mailboxes.len() {
            true => self.post(ReactorId(me.0 + 1), ReactorMessage::Survey(survey)),
            false => self.post(survey.asker.reactor(), ReactorMessage::Surveyed(survey)),
        }
    }
}

impl Client {
    /// Whether one of its names, or its address, has this text in it.
    fn holds(&self, text: &str, connection: &str) -> bool {
        let names = [&self.id, &self.user_id, &self.name];
        names.into_iter().flatten().any(|name| holds(name, text))
            || holds(connection, text)
            || holds(&self.address().to_string(), text)
    }
}

/// Whether `text` is a part of `field`; the case of ASCII letters does not matter.
fn holds(field: &str, text: &str) -> bool {
    let (field, text) = (field.as_bytes(), text.as_bytes());
    text.is_empty() || field.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
}

impl Pair {
    fn found(&self, info: &Client, connection: &str) -> Found {
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let known_by = |which| owned(&info.id).filter(|_| info.known_by == which);
        Found {
            id: owned(&info.id),
            connection: connection.to_owned(),
            user_id: owned(&info.user_id).or_else(|| known_by(KnownBy::UserId)),
            name: owned(&info.name).or_else(|| known_by(KnownBy::Name)),
            address: info.address(),
            backend: self.at.as_ref().map(|at| at.id),
            since: UNIX_EPOCH + Duration::from_millis(info.since),
            bytes_from_client: self.to_backend,
            bytes_to_client: self.to_client,
        }
    }
}

impl Found {
    fn view(&self) -> ClientView<'_> {
        ClientView {
            id: self.id.as_deref().unwrap_or(&self.connection),
            generated: self.id.is_none(),
            connection: &self.connection,
            user_id: self.user_id.as_deref(),
            name: self.name.as_deref(),
            address: self.address,
            backend: self.backend,
            since: self.since,
            bytes_from_client: self.bytes_from_client,
            bytes_to_client: self.bytes_to_client,
        }
    }
}
