//! TLS as a client speaks it: records in, bytes out, and back. Never does I/O and keeps no buffer but the start of a
//! record whose end has not arrived, so that an idle connection costs little.

mod tickets;
mod trust;

pub(crate) use trust::config;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;

/// The most bytes of a record's content (RFC 8446, section 5.1), and what a record adds to it in any version.
const RECORD_BYTES_MAX: usize = 16 * 1024;
const RECORD_OVERHEAD_BYTES: usize = 64;

/// One connection's side of TLS.
pub(crate) struct Session {
    connection: UnbufferedClientConnection,
    /// Start of a record whose end has not arrived.
    held: Vec<u8>,
}

impl Session {
    /// A session that has not begun. `open` with nothing makes it begin.
    pub(crate) fn new(config: &Arc<ClientConfig>, server: &ServerName<'static>) -> Result<Session, String> {
        let connection = UnbufferedClientConnection::new(config.clone(), server.clone());
        Ok(Session { connection: connection.map_err(|error| told(&error))?, held: Vec::new() })
    }

    /// What must stand before the bytes that are read next.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Whether data can be sent.
    pub(crate) fn is_secure(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes in what was held and the bytes that followed. What the records carried is appended to `plain`, what is to
    /// be sent in answer to `out`. True when the peer has said that nothing more will come.
    pub(crate) fn open(
        &mut self,
        sealed: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, String> {
        let mut at = 0;
        let is_closed = loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut sealed[at..]);
            at += discard;
            match state.map_err(|error| told(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| told(&error))?;
                        plain.extend_from_slice(record.payload);
                        at += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => break false,
                ConnectionState::PeerClosed | ConnectionState::Closed => break true,
                _ => return Err("TLS: a state that no client has".into()),
            }
        };
        self.held.clear();
        self.held.extend_from_slice(&sealed[at..]);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        Ok(is_closed)
    }

    /// Appends records that carry these bytes to `out`.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        loop {
            match self.connection.process_tls_records(&mut self.held).state.map_err(|error| told(&error))? {
                ConnectionState::EncodeTlsData(data) => encode(data, out)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(traffic) => return encrypt(traffic, plain, out),
                _ => return Err("TLS: data before the handshake was done".into()),
            }
        }
    }
}

fn told(error: &rustls::Error) -> String {
    format!("TLS: {error}")
}

fn encode(mut data: EncodeTlsData<'_, ClientConnectionData>, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    loop {
        match data.encode(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(missing)) => out.resize(start + missing.required_size, 0),
            Err(error) => return Err(format!("TLS: {error}")),
        }
    }
}

fn encrypt(
    mut traffic: WriteTraffic<'_, ClientConnectionData>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    let records = plain.len() / RECORD_BYTES_MAX + 1;
    out.resize(start + plain.len() + records * RECORD_OVERHEAD_BYTES, 0);
    loop {
        match traffic.encrypt(plain, &mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(missing)) => out.resize(start + missing.required_size, 0),
            Err(error) => return Err(format!("TLS: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
