//! One thread's sockets: accepts, serves what is readable, fans broadcasts out at the end of a turn.
//! Never interprets a frame: the connection and tungstenite do.

use crate::connection::{Connection, Standing};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::io;
use tungstenite::Message;
use tungstenite::protocol::WebSocketConfig;

const LISTENER: Token = Token(usize::MAX);

/// A poll, a listener and the connections accepted from it.
pub(crate) struct Reactor {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    config: WebSocketConfig,
    /// Texts of this turn that go to every connection.
    broadcasts: Vec<Message>,
    /// Connections that ended in this turn; their slots are freed last.
    ended: Vec<usize>,
}

impl Reactor {
    /// Takes a listener over.
    pub(crate) fn new(mut listener: TcpListener, read_buffer_bytes: usize) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Reactor {
            poll,
            listener,
            connections: Slab::new(),
            config: WebSocketConfig::default().read_buffer_size(read_buffer_bytes),
            broadcasts: Vec::new(),
            ended: Vec::new(),
        })
    }

    /// Serves for ever.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(slot) => self.serve(slot, event.is_readable() || event.is_read_closed()),
                }
            }
            self.fan_out();
            self.reap();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(slot.key()), interest)?;
            slot.insert(Connection::Handshake { stream: Some(stream), head: Vec::new() });
        }
    }

    fn serve(&mut self, slot: usize, readable: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let standing = match readable {
            true => connection.serve(self.config, &mut self.broadcasts),
            false => connection.flush(),
        };
        if standing == Standing::Ended {
            self.ended.push(slot);
        }
    }

    fn fan_out(&mut self) {
        if self.broadcasts.is_empty() {
            return;
        }
        for (slot, connection) in &mut self.connections {
            let queued = self.broadcasts.iter().map(|message| connection.queue(message.clone()));
            if queued.fold(Standing::Waiting, worse) == Standing::Ended
                || connection.flush() == Standing::Ended
            {
                self.ended.push(slot);
            }
        }
        self.broadcasts.clear();
    }

    fn reap(&mut self) {
        for slot in self.ended.drain(..) {
            let Some(mut connection) = self.connections.try_remove(slot) else { continue };
            if let Some(stream) = connection.stream_mut() {
                // Closing the socket takes it out of the poll as well; an error here changes nothing.
                let _ = self.poll.registry().deregister(stream);
            }
        }
    }
}

fn worse(one: Standing, other: Standing) -> Standing {
    if one == Standing::Ended { one } else { other }
}
