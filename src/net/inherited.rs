//! Listening sockets that the service manager opened before the process began.
//!
//! Owns: [`Inherited`], the sockets of `sd_listen_fds(3)`, checked, by name.
//! Never: what they are used for, nor their options beyond what reactors need.
//!
//! Such a socket outlives the process. Whoever connects while there is none
//! waits in the socket's queue for the next one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::TcpListener;
use socket2::{Socket, Type};

use crate::limits::REACTORS_MAX;

/// What the service manager passed. Empty where there is none, and in a program
/// that has the library in it: that program's sockets are its own.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Socket)>,
}

impl Inherited {
    /// Takes the sockets over. The first call in a process has them all, later ones have none.
    ///
    /// # Errors
    /// The environment contradicts itself, or a descriptor is no listening TCP socket.
    pub fn from_service_manager() -> io::Result<Inherited> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Ok(Inherited::default());
        }
        let passed: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()?.collect();
        // SAFETY: the descriptors are open, as setting their flags has just shown; the service manager
        // passed them to this very process, whose first and only call this is.
        let own = |(descriptor, name)| (name, unsafe { Socket::from_raw_fd(descriptor) });
        Inherited::new(passed.into_iter().map(own).collect())
    }

    fn new(sockets: Vec<(String, Socket)>) -> io::Result<Inherited> {
        for (name, socket) in &sockets {
            check(socket).map_err(|what| invalid(format!("the socket named {name:?} {what}")))?;
        }
        Ok(Inherited { sockets })
    }

    /// How many reactors there must be so that each socket has one that accepts
    /// from it, but at least `wanted`.
    pub fn reactors(&self, wanted: usize) -> usize {
        let most = self.sockets.iter().map(|(name, _)| self.count(name)).max();
        wanted.max(most.unwrap_or_default())
    }

    /// How many sockets have this name.
    pub fn count(&self, name: &str) -> usize {
        self.sockets.iter().filter(|(other, _)| other == name).count()
    }

    /// Hands out the sockets of this name, one for each of `reactors`, with the
    /// first one's address. Where there are fewer sockets than reactors, several
    /// reactors have the same one and whoever is free accepts. `None`: there are none.
    ///
    /// # Errors
    /// More sockets than reactors, or whatever the kernel says.
    pub(super) fn claim(
        &mut self,
        name: &str,
        reactors: usize,
    ) -> io::Result<Option<(Vec<TcpListener>, SocketAddr)>> {
        let (claimed, rest) = self.sockets.drain(..).partition(|(other, _)| other == name);
        self.sockets = rest;
        let claimed: Vec<(String, Socket)> = claimed;
        let Some((_, first)) = claimed.first() else { return Ok(None) };
        if claimed.len() > reactors {
            let count = claimed.len();
            return Err(invalid(format!(
                "{count} sockets are named {name:?}, at most {REACTORS_MAX} can be served"
            )));
        }
        let address = address(first).ok_or_else(|| invalid("no internet address".to_owned()))?;
        for (_, socket) in &claimed {
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
        }
        let shared = claimed.iter().cycle().take(reactors);
        let listeners = shared.map(|(_, socket)| Ok(TcpListener::from_std(socket.try_clone()?.into())));
        Ok(Some((listeners.collect::<io::Result<_>>()?, address)))
    }

    /// Makes sure that nothing is left that nobody would accept from.
    ///
    /// # Errors
    /// A socket was not claimed: its name is not one of `names`.
    pub(crate) fn finish(self, names: &str) -> io::Result<()> {
        match self.sockets.first() {
            None => Ok(()),
            Some((name, _)) => Err(invalid(format!(
                "a socket is named {name:?}, known are {names}: set FileDescriptorName= in its unit"
            ))),
        }
    }
}

fn check(socket: &Socket) -> Result<(), &'static str> {
    if socket.r#type().ok() != Some(Type::STREAM) || address(socket).is_none() {
        return Err("is no TCP socket");
    }
    match socket.is_listener() {
        Ok(true) => Ok(()),
        _ => Err("does not listen; with Accept=no it would"),
    }
}

fn address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener as StdListener, TcpStream, UdpSocket};

    use super::*;

    fn listening() -> Socket {
        StdListener::bind("127.0.0.1:0").unwrap().into()
    }

    fn named(names: &[&str]) -> Inherited {
        Inherited::new(names.iter().map(|name| ((*name).to_owned(), listening())).collect()).unwrap()
    }

    #[test]
    fn sockets_are_dealt_out_to_reactors() {
        for (sockets, reactors, ports) in [(1, 3, 1), (2, 3, 2), (3, 3, 3)] {
            let mut inherited = named(&vec!["http"; sockets]);
            let (listeners, address) = inherited.claim("http", reactors).unwrap().unwrap();
            let mut seen: Vec<u16> =
                listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
            assert_eq!((seen.len(), seen[0]), (reactors, address.port()));
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), ports, "every socket has a reactor");
            assert!(inherited.claim("http", reactors).unwrap().is_none(), "they are handed out once");
            inherited.finish("http").unwrap();
        }
    }

    #[test]
    fn there_are_reactors_for_all_sockets() {
        let inherited = named(&["http", "ws", "ws", "ws"]);
        assert_eq!((inherited.reactors(2), inherited.reactors(5)), (3, 5));
        assert_eq!(Inherited::default().reactors(2), 2);
        assert_eq!((inherited.count("http"), inherited.count("ws"), inherited.count("other")), (1, 3, 0));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let mut crowd = named(&["http", "http", "http"]);
        assert!(crowd.claim("http", 2).unwrap_err().to_string().contains("3 sockets"));
        let mut inherited = named(&["http", "throng.socket"]);
        inherited.claim("http", 1).unwrap();
        let complaint = inherited.finish("http and ws").unwrap_err().to_string();
        assert!(complaint.contains("\"throng.socket\"") && complaint.contains("http and ws"), "{complaint}");
        let datagrams: Socket = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let bound = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        for (socket, what) in [(datagrams, "no TCP socket"), (bound, "does not listen")] {
            let refused = Inherited::new(vec![("http".to_owned(), socket)]).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn who_waits_outlives_those_who_accept() {
        let socket = listening();
        let at = address(&socket).unwrap();
        let kept = socket.try_clone().unwrap();
        let mut inherited = Inherited::new(vec![("http".to_owned(), socket)]).unwrap();
        let first = inherited.claim("http", 2).unwrap().unwrap();
        let mut waiting = TcpStream::connect(at).unwrap();
        drop((first, inherited));
        let mut next = Inherited::new(vec![("http".to_owned(), kept)]).unwrap();
        let (listeners, _) = next.claim("http", 1).unwrap().unwrap();
        let (accepted, _) = listeners[0].accept().unwrap();
        drop(accepted);
        assert_eq!(waiting.read(&mut [0]).unwrap(), 0, "it was accepted, then closed");
    }
}
