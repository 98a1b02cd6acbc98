//! Listening sockets.
//!
//! Owns: [`listeners`], a listener for each reactor: SO_REUSEPORT sockets of our
//! own, or what the service manager passed ([`inherited`]).

pub mod inherited;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

pub use inherited::Inherited;

/// Connections the kernel completes before we accept them; `net.core.somaxconn` bounds it.
const BACKLOG: i32 = 4096;

/// One port's listeners.
#[derive(Debug)]
pub struct Listeners {
    /// One for each reactor.
    pub each: Vec<TcpListener>,
    /// Where clients connect; with several sockets of different addresses the first one's.
    pub address: SocketAddr,
    /// Whether the sockets outlive the process, so that who waits in them when
    /// it goes is served by the next.
    pub outlive: bool,
}

/// The listeners of a port: the inherited sockets of this name if there are any,
/// else new ones at `address` and `port`.
///
/// # Errors
/// See [`Inherited`] and [`listen`].
pub fn listeners(
    inherited: &mut Inherited,
    name: &str,
    address: IpAddr,
    port: u16,
    reactors: usize,
) -> io::Result<Listeners> {
    let sockets = inherited.count(name);
    match inherited.claim(name, reactors)? {
        Some((each, bound)) => {
            log::info!(
                "{sockets} listening socket(s) named {name} came from the service manager, at {bound}: \
                 the configured address, {}, is not used",
                SocketAddr::new(address, port),
            );
            Ok(Listeners { each, address: bound, outlive: true })
        }
        None => {
            let (each, bound) = listen(address, port, reactors)?;
            Ok(Listeners { each, address: bound, outlive: false })
        }
    }
}

/// Opens `count` listeners that share one address; port 0 takes a free one.
///
/// The first binds alone, without SO_REUSEPORT, and is given the option only
/// then: so a second process is refused although both would share the port
/// with themselves.
///
/// # Errors
/// `AddrInUse` when anybody listens there, and whatever else the kernel says.
pub fn listen(address: IpAddr, port: u16, count: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let first = socket(address)?;
    first.bind(&SocketAddr::new(address, port).into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let bound = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the listener has no internet address"))?;
    let mut listeners = vec![TcpListener::from_std(first.into())];
    for _ in 1..count {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(BACKLOG)?;
        listeners.push(TcpListener::from_std(next.into()));
    }
    Ok((listeners, bound))
}

fn socket(address: IpAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Gives the calling thread a descriptor table of its own, with its own limit.
///
/// Descriptors that are open stay open in both tables; what is opened later is
/// seen by this thread only (`unshare(2)`, CLONE_FILES).
///
/// # Errors
/// Whatever the kernel says.
pub fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: the call takes no pointers; it changes which table this thread uses.
    match unsafe { libc::unshare(libc::CLONE_FILES) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes descriptors in this thread's table that another thread owns in its own.
pub fn close_copies(descriptors: &[RawFd]) {
    for descriptor in descriptors {
        // SAFETY: after `own_descriptor_table` these numbers are copies that
        // no object of this thread's table owns.
        unsafe { libc::close(*descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn reactors_share_a_port_and_a_second_node_is_refused() {
        let localhost = Ipv4Addr::LOCALHOST.into();
        let (listeners, bound) = listen(localhost, 0, 3).unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == bound));
        for count in [1, 2] {
            let refused = listen(localhost, bound.port(), count).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
        drop(listeners);
        assert!(listen(localhost, bound.port(), 2).is_ok(), "free again");
    }
}
