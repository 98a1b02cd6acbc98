//! The bytes of one connection, with or without TLS, until a deadline. Owns its socket. Never knows what the bytes mean.

use crate::Cli;
use crate::belief::{anyone, roots};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest answer that is taken in, a welcome or `/health`.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What TLS is spoken with.
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl Tls {
    /// What the command line says of TLS; `None` for none. Reads the file of certificates.
    pub(crate) fn of(cli: &Cli) -> Result<Option<Tls>, String> {
        if !cli.tls {
            return Ok(None);
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &cli.ca_file {
            Some(file) => builder.with_root_certificates(roots(file)?),
            None if cli.insecure => builder.dangerous().with_custom_certificate_verifier(anyone(provider)),
            None => builder.with_root_certificates(machine_roots()?),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server =
            ServerName::try_from(cli.host.clone()).map_err(|error| format!("{}: {error}", cli.host))?;
        Ok(Some(Tls { config: Arc::new(config), server }))
    }
}

fn machine_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match added {
        0 => Err("this machine trusts no authorities; name one with --ca-file".to_owned()),
        _ => Ok(roots),
    }
}

/// A connection on which everything is over at the deadline.
pub(crate) enum Wire {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Wire {
    /// Over a socket that is connected. TLS begins with the first bytes.
    pub(crate) fn over(socket: TcpStream, tls: Option<&Tls>, deadline: Instant) -> Result<Wire, String> {
        let timed = Timed { socket, deadline };
        let Some(Tls { config, server }) = tls else { return Ok(Wire::Plain(timed)) };
        let connection = ClientConnection::new(config.clone(), server.clone());
        let connection = connection.map_err(|error| format!("TLS: {error}"))?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(connection, timed))))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match self {
            Wire::Plain(socket) => socket.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        written.map_err(|error| told("write", &error))
    }

    /// Appends what comes next; 0 at the end of the stream.
    pub(crate) fn read(&mut self, input: &mut Vec<u8>) -> Result<usize, String> {
        if input.len() > ANSWER_BYTES_MAX {
            return Err("the answer has no end".to_owned());
        }
        let mut buffer = [0; 8192];
        let read = match self {
            Wire::Plain(socket) => socket.read(&mut buffer),
            Wire::Tls(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(count) => {
                input.extend_from_slice(&buffer[..count]);
                Ok(count)
            }
            // Who does not say in TLS that it was the end has ended all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(told("read", &error)),
        }
    }

    /// Sends the last bytes; whether they are heard does not matter any more.
    pub(crate) fn close(mut self, bytes: &[u8]) {
        self.timed().deadline = Instant::now() + GOODBYE;
        let _ = self.write(bytes);
        if let Wire::Tls(stream) = &mut self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }

    fn timed(&mut self) -> &mut Timed {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => &mut stream.sock,
        }
    }
}

/// An error in the words of the report.
fn told(what: &str, error: &io::Error) -> String {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return "nothing came in time".to_owned();
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => format!("TLS: {error}"),
        None => format!("{what}: {error}"),
    }
}

/// A socket each of whose calls may take the time that is left.
pub(crate) struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
