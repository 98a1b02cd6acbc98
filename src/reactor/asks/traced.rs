//! What the log says of requests that belong to a trace, at level `debug`.

use log::kv::Value;

use super::Ask;
use crate::admin::api::Question;
use crate::clock::Tick;
use crate::delivery::{ConnectionOutcome, Outcome};
use crate::logging;
use crate::reactor::Reactor;

impl Reactor {
    /// Says what became of a request that belongs to a trace.
    pub(super) fn log_traced(&self, ask: &Ask) {
        let Some(trace) = ask.asked.trace.as_deref().filter(|_| log::log_enabled!(log::Level::Debug)) else {
            return;
        };
        let (call, user) = match &ask.asked.question {
            Question::Users { .. } => ("users", None),
            Question::User { user_id } => ("user", Some(&**user_id)),
            Question::Send { user_id, .. } => ("send", Some(&**user_id)),
            Question::Broadcast { .. } => ("broadcast", None),
            Question::Kick { user_id, .. } => ("kick", Some(&**user_id)),
        };
        let seconds = f64::from(self.now.since(ask.since)) * f64::from(Tick::MS) / 1000.0;
        let reached = self.reached(ask);
        let mut fields = vec![("call", Value::from(call))];
        fields.extend(user.map(|user| ("user", Value::from(user))));
        fields.push(("reached", reached.into()));
        fields.push(("seconds", seconds.into()));
        fields.push(("trace_id", Value::from_display(trace)));
        logging::say(
            log::Level::Debug,
            module_path!(),
            &fields,
            format_args!("a call to {call} was answered, having reached {reached} connections"),
        );
    }

    /// How many connections a request was carried out on, or found.
    fn reached(&self, ask: &Ask) -> u64 {
        let node = &self.shared.node_id;
        let count = |outcomes: Vec<ConnectionOutcome>, wanted: Outcome| {
            outcomes.iter().filter(|one| one.status == wanted).count() as u64
        };
        match &ask.asked.question {
            Question::Users { .. } => 0,
            Question::User { user_id } => {
                ask.gather.user_connections(user_id, node).map_or(0, |found| found.connections.len() as u64)
            }
            Question::Send { user_id, .. } => {
                count(ask.gather.send_result(user_id, node).connections, Outcome::Delivered)
            }
            Question::Kick { user_id, .. } => {
                count(ask.gather.kick_result(user_id, node).connections, Outcome::Closed)
            }
            Question::Broadcast { .. } => {
                ask.gather.broadcast_result(node, self.shared.mailboxes.len()).connections
            }
        }
    }
}
