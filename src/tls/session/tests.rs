use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::*;
use crate::limits::{TLS_RECORD_BYTES, TLS_SEAL_BYTES};
use crate::tls::{Channel, Scratch};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = || Arc::new(ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A socket that takes and gives `step` bytes a call, and holds `room`.
#[derive(Default)]
struct Pipe {
    to_read: Vec<u8>,
    written: Vec<u8>,
    step: usize,
    room: usize,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.step).min(self.to_read.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..count].copy_from_slice(&self.to_read[..count]);
        self.to_read.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.written.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of a connection, and what it has received.
struct End {
    session: Session,
    pipe: Pipe,
    scratch: Scratch,
    received: Vec<u8>,
    closed: bool,
}

impl End {
    fn new(session: Session, step: usize) -> End {
        let pipe = Pipe { step, room: usize::MAX, ..Pipe::default() };
        End { session, pipe, scratch: Scratch::default(), received: Vec::new(), closed: false }
    }

    fn channel(&mut self) -> Channel<'_, Pipe> {
        Channel { session: &mut self.session, socket: &mut self.pipe, scratch: &mut self.scratch }
    }

    fn read_all(&mut self) -> io::Result<()> {
        let mut plain = vec![0; 128 * 1024];
        loop {
            match self.channel().read(&mut plain) {
                Ok(read) => {
                    self.received.extend_from_slice(&plain[..read.count]);
                    self.closed |= read.closed;
                    if read.closed && read.count == 0 {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.channel().send_unsent()?;
                    return Err(error);
                }
            }
        }
        self.channel().send_unsent().map(drop)
    }
}

struct Pair {
    server: End,
    client: End,
}

impl Pair {
    fn new(configs: &(Arc<ServerConfig>, Arc<ClientConfig>), step: usize) -> Pair {
        let name = "localhost".try_into().unwrap();
        let client = Session::client(configs.1.clone(), name).unwrap();
        let server = Session::server(configs.0.clone()).unwrap();
        let mut pair = Pair { server: End::new(server, step), client: End::new(client, step) };
        pair.client.channel().send_unsent().unwrap();
        pair
    }

    fn established(version: &'static SupportedProtocolVersion, step: usize) -> Pair {
        let mut pair = Pair::new(&configs(version), step);
        pair.exchange();
        assert!(pair.server.session.is_established() && pair.client.session.is_established());
        pair
    }

    /// Carries bytes to and fro until there are none.
    fn exchange(&mut self) {
        while !(self.server.pipe.written.is_empty() && self.client.pipe.written.is_empty()) {
            self.server.pipe.to_read.append(&mut self.client.pipe.written);
            self.client.pipe.to_read.append(&mut self.server.pipe.written);
            self.server.read_all().unwrap();
            self.client.read_all().unwrap();
        }
    }
}

#[test]
fn bytes_arrive_however_they_are_cut() {
    let message: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    for version in VERSIONS {
        for step in [1, 7, 1000, usize::MAX] {
            let mut pair = Pair::established(version, step);
            let sent = if step == 1 { &message[..20_000] } else { &message[..] };
            assert_eq!(pair.client.channel().write(sent).unwrap(), sent.len());
            pair.exchange();
            assert!(pair.server.received == sent, "step {step}");
            let slices: Vec<IoSlice<'_>> = sent.chunks(999).map(IoSlice::new).collect();
            assert_eq!(pair.server.channel().write_vectored(&slices).unwrap(), sent.len());
            pair.exchange();
            assert!(pair.client.received == sent, "step {step}");
        }
    }
}

#[test]
fn an_idle_session_holds_no_buffer() {
    for version in VERSIONS {
        let mut pair = Pair::established(version, 100);
        pair.client.channel().write_all(&[7; 50_000]).unwrap();
        pair.exchange();
        for end in [&pair.server, &pair.client] {
            assert_eq!((end.session.kept.capacity(), end.session.unsent.capacity()), (0, 0));
        }
    }
}

#[test]
fn little_is_gathered_into_one_record() {
    let mut pair = Pair::established(&version::TLS13, usize::MAX);
    let slices = [[1; 50]; 40];
    let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    assert_eq!(pair.server.channel().write_vectored(&slices).unwrap(), 2000);
    // Five bytes of header, one of type, sixteen of the tag.
    assert_eq!(pair.server.pipe.written.len(), 2000 + 22);
}

#[test]
fn what_a_full_socket_does_not_take_follows_when_there_is_room() {
    let message = vec![3; 400_000];
    for version in VERSIONS {
        let mut pair = Pair::established(version, usize::MAX);
        pair.server.pipe.room = 100_000;
        let mut sent = pair.server.channel().write(&message).unwrap();
        assert!(sent < message.len() && pair.server.session.is_full());
        let error = pair.server.channel().write(&message[sent..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let most = 100_000 + TLS_SEAL_BYTES;
        assert!(sent <= most && pair.server.session.unsent_bytes() <= TLS_SEAL_BYTES + 1024, "{sent}");
        while sent < message.len() {
            pair.exchange();
            pair.server.session.has_room();
            sent += pair.server.channel().write(&message[sent..]).unwrap();
        }
        pair.server.pipe.room = usize::MAX;
        pair.server.session.has_room();
        assert!(pair.server.channel().send_unsent().unwrap());
        pair.exchange();
        assert!(pair.client.received == message);
    }
}

#[test]
fn the_end_is_said_once() {
    for version in VERSIONS {
        let mut pair = Pair::established(version, usize::MAX);
        assert!(pair.server.channel().close().unwrap());
        let said = pair.server.pipe.written.len();
        assert!(said > 0 && pair.server.channel().close().unwrap());
        assert_eq!(pair.server.pipe.written.len(), said);
        pair.exchange();
        assert!(pair.client.closed && !pair.server.closed);
        // The other direction goes on (RFC 8446, section 6.1).
        pair.client.channel().write_all(b"still here").unwrap();
        pair.exchange();
        assert_eq!(pair.server.received, b"still here");
    }
}

#[test]
fn who_does_not_speak_tls_is_told_so() {
    let (server, _) = configs(&version::TLS13);
    let mut end = End::new(Session::server(server.clone()).unwrap(), usize::MAX);
    end.pipe.to_read = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    assert_eq!(end.read_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(end.pipe.written.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    let mut end = End::new(Session::server(server).unwrap(), usize::MAX);
    end.pipe.to_read = vec![0; 100];
    assert_eq!(end.read_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
    // An alert (RFC 8446, section 6).
    assert_eq!(end.pipe.written.first(), Some(&21));
}

#[test]
fn a_record_that_was_changed_ends_the_connection() {
    for version in VERSIONS {
        let mut pair = Pair::established(version, usize::MAX);
        pair.client.channel().write_all(b"transfer 1 to alice").unwrap();
        let sealed = &mut pair.client.pipe.written;
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        pair.server.pipe.to_read.append(sealed);
        assert_eq!(pair.server.read_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(pair.server.received.is_empty() && !pair.server.pipe.written.is_empty());
    }
}

#[test]
fn nothing_can_be_sealed_before_there_are_keys() {
    let (server, _) = configs(&version::TLS13);
    let mut end = End::new(Session::server(server).unwrap(), usize::MAX);
    assert_eq!(end.channel().write(b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(end.channel().close().unwrap() && end.pipe.written.is_empty());
}

#[test]
fn a_handshake_without_an_end_is_given_up() {
    let (server, _) = configs(&version::TLS13);
    let mut end = End::new(Session::server(server).unwrap(), usize::MAX);
    // A client hello of 16 MiB less one byte, as far as it says (RFC 8446, section 4), and records of it.
    let mut record = vec![22, 3, 1, 0x40, 0x00];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + TLS_RECORD_BYTES, 0);
    end.pipe.to_read = record;
    let mut ended = end.read_all();
    for _ in 0..3 {
        let mut next = vec![22, 3, 1, 0x40, 0x00];
        next.resize(5 + TLS_RECORD_BYTES, 0);
        end.pipe.to_read = next;
        ended = ended.and_then(|()| end.read_all());
    }
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(end.session.kept.len() <= TLS_KEPT_BYTES);
}

#[test]
fn who_comes_back_resumes() {
    let mut configs = configs(&version::TLS13);
    Arc::get_mut(&mut configs.0).unwrap().ticketer = ring::Ticketer::new().unwrap();
    for resumed in [false, true] {
        let mut pair = Pair::new(&configs, usize::MAX);
        pair.exchange();
        assert_eq!(pair.server.session.is_resumed(), resumed);
        assert_eq!(pair.client.session.is_resumed(), resumed);
    }
}
