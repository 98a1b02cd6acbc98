//! A node as the service of a process.

use crossbeam_channel::Receiver;

use super::Service;
use crate::config::Config;
use crate::drain::Phase;
use crate::metrics::Counter;
use crate::server::{Server, ServerEvent};

impl Service for Server {
    type Config = Config;

    fn description(&self) -> String {
        let ws = self.ws_addr().map_or_else(|| "off".to_owned(), |address| address.to_string());
        let tls = match self.tls_listeners() {
            "" => String::new(),
            listeners => format!(" tls={listeners}"),
        };
        format!("http={} ws={ws} node={}{tls}", self.http_addr(), self.node_id())
    }

    fn drain(&self) {
        self.drain();
    }

    fn reload(&self, config: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
        self.reload(config)
    }

    fn events(&self) -> &Receiver<ServerEvent> {
        self.events()
    }

    fn is_alive_since(&self, turns: &mut Vec<u64>) -> bool {
        self.is_alive_since(turns)
    }

    fn connections(&self) -> usize {
        self.connections()
    }

    fn phase(&self) -> Phase {
        self.phase()
    }

    fn set_lost_log_lines(&self, lines: u64) {
        let counters = self.metrics().node();
        let known = counters.get(Counter::LogLinesDropped);
        counters.add(Counter::LogLinesDropped, lines.saturating_sub(known));
    }
}
