//! What comes between a connection and its opening handshake, and between the bytes of its socket and its frames, where
//! TLS is spoken.

use super::{Fleet, Ignore, Load, Phase};

impl Fleet {
    /// There is a connection: TLS or the opening handshake begins.
    pub(super) fn connected(&mut self, index: usize) {
        if self.members[index].tls.is_none() {
            return self.ask(index);
        }
        self.members[index].phase = Phase::Securing;
        if let Err(reason) = self.open_records(index, &mut [], &mut Ignore) {
            self.end(index, reason);
        }
    }

    /// Sends the request for an upgrade.
    fn ask(&mut self, index: usize) {
        self.members[index].phase = Phase::Handshaking;
        let request = std::mem::take(&mut self.requests[index]);
        self.send(index, &request);
    }

    /// Takes in TLS records, answers them as TLS asks for, and takes in what they carried.
    pub(super) fn open_records(
        &mut self,
        index: usize,
        sealed: &mut [u8],
        load: &mut impl Load,
    ) -> Result<(), String> {
        let mut plain = std::mem::take(&mut self.plain);
        let mut answer = std::mem::take(&mut self.sealed);
        let member = &mut self.members[index];
        plain.extend_from_slice(&member.partial);
        let opened = match &mut member.tls {
            Some(session) => session.open(sealed, &mut plain, &mut answer),
            None => Ok(true),
        };
        self.write(index, &answer);
        answer.clear();
        self.sealed = answer;
        self.secured(index);
        let member = &self.members[index];
        let has_more = plain.len() > member.partial.len() && member.stream.is_some();
        let taken = if has_more { self.take_in(index, &plain, load).map(drop) } else { Ok(()) };
        plain.clear();
        self.plain = plain;
        taken?;
        if opened? { Err("ended by the server without a close frame, in TLS".into()) } else { Ok(()) }
    }

    /// Goes on to the opening handshake when that of TLS is done.
    fn secured(&mut self, index: usize) {
        let member = &self.members[index];
        let Some(session) = &member.tls else { return };
        if member.phase == Phase::Securing && session.is_secure() {
            self.secured += 1;
            self.resumed += u64::from(session.is_resumed());
            self.ask(index);
        }
    }
}
