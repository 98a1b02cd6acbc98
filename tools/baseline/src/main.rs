//! The yardstick that throng's own engine is measured against: the same kind of server, an edge-triggered mio loop
//! per thread, with tungstenite as the engine. Owns the command line and the threads; a reactor owns its sockets.

mod connection;
mod reactor;

use clap::Parser;
use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

/// A WebSocket server built on tungstenite, to compare with: /echo sends every message back, /ws greets and then
/// does the same. A text that begins with {"type":"broadcast" goes to every connection of the thread instead.
#[derive(Parser, Debug)]
#[command(
    name = "throng-baseline",
    version,
    after_help = "\
Prints `baseline ready ws=ADDR:PORT pid=PID` when it can serve and runs until it is killed.
With more than one thread a broadcast reaches the connections of one thread only: compare fan-out on one."
)]
struct Cli {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads, each with a listener of its own on the same port
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Bytes of the read buffer that tungstenite allocates for every connection
    #[arg(long, default_value_t = 4096)]
    read_buffer_bytes: usize,
}

fn main() -> ExitCode {
    match serve(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng-baseline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli) -> io::Result<()> {
    let first = listen(cli.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..cli.threads {
        listeners.push(listen(address)?);
    }
    println!("baseline ready ws={address} pid={}", std::process::id());
    io::stdout().flush()?;
    let read_buffer_bytes = cli.read_buffer_bytes;
    let run = |listener| thread::spawn(move || reactor::Reactor::new(listener, read_buffer_bytes)?.run());
    let threads: Vec<_> = listeners.into_iter().map(run).collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}
