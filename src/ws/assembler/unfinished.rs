//! What is kept of a frame or message that has not come to its end.

use super::event::Kind;
use crate::limits::CONTROL_PAYLOAD_BYTES;
use crate::ws::error::ProtocolError;
use crate::ws::frame::{Data, OpCode};
use crate::ws::header::{self, HEADER_BYTES_MAX, Header};
use crate::ws::utf8::ValidPrefix;
use std::mem;

/// What an unfinished frame or message needs to be remembered between reads:
/// about 250 bytes and the payload received so far.
#[derive(Debug)]
pub struct Unfinished {
    /// The message that frames are being collected for.
    pub(super) message: Option<Message>,
    /// Its payload so far: unmasked, and compressed if the message is.
    pub(super) payload: Vec<u8>,
    /// How much of it is known to be UTF-8.
    valid: ValidPrefix,
    /// The frame of which payload is missing.
    pub(super) frame: Option<Partial>,
    /// What the last call handed out: the next one forgets it.
    handed_out: Option<Place>,
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of an incomplete header.
    pub(super) header_bytes: u8,
    pub(super) control: [u8; CONTROL_PAYLOAD_BYTES],
    /// Bytes of an incomplete control payload.
    pub(super) control_bytes: u8,
}

/// What its first frame said about a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) text: bool,
    pub(super) compressed: bool,
}

/// A frame of which `taken` bytes of payload were taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub(super) header: Header,
    pub(super) taken: usize,
}

/// An event whose payload lies complete at `place`.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) kind: Kind,
    pub(super) compressed: bool,
    pub(super) place: Place,
}

/// Where the payload of an event lies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In the input, from `start` to the end of what was consumed.
    Input { start: usize },
    /// In [`Unfinished::control`].
    Control,
    /// In [`Unfinished::payload`].
    Message,
}

impl Partial {
    /// Bytes of payload that are still to come. They can be counted in memory: a
    /// frame that is too long is not admitted.
    #[inline]
    pub(super) fn missing(&self) -> usize {
        self.header.payload_bytes as usize - self.taken
    }
}

impl Unfinished {
    pub(super) fn new() -> Box<Unfinished> {
        Box::new(Unfinished {
            message: None,
            payload: Vec::new(),
            valid: ValidPrefix::default(),
            frame: None,
            handed_out: None,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            control: [0; CONTROL_PAYLOAD_BYTES],
            control_bytes: 0,
        })
    }

    /// The heap this holds, in bytes.
    pub fn heap_bytes(&self) -> usize {
        mem::size_of::<Self>() + self.payload.capacity()
    }

    /// Bytes of payload and header received and not yet part of an event.
    pub fn buffered_bytes(&self) -> usize {
        self.payload.len() + usize::from(self.control_bytes) + usize::from(self.header_bytes)
    }

    /// Forgets what the last call handed out. True when nothing is left.
    pub(super) fn settle(&mut self) -> bool {
        match self.handed_out.take() {
            Some(Place::Control) => self.control_bytes = 0,
            Some(Place::Message) => self.message = None,
            Some(Place::Input { .. }) | None => {}
        }
        self.message.is_none() && self.frame.is_none() && self.header_bytes == 0
    }

    /// Takes in more of a header: the bytes of the input that belong to it, and
    /// the header once it is complete.
    pub(super) fn resume_header(&mut self, input: &[u8]) -> Result<(usize, Option<Header>), ProtocolError> {
        let known = usize::from(self.header_bytes);
        let fresh = input.len().min(HEADER_BYTES_MAX - known);
        let end = known + fresh;
        self.header[known..end].copy_from_slice(&input[..fresh]);
        match header::parse(&self.header[..end])? {
            Some((header, length)) => {
                self.header_bytes = 0;
                Ok((length - known, Some(header)))
            }
            None => {
                self.header_bytes = end as u8;
                Ok((fresh, None))
            }
        }
    }

    /// Keeps a fragment, unmasked: the event it completes, if it does.
    pub(super) fn keep(
        &mut self,
        partial: Partial,
        fragment: &[u8],
        complete: bool,
    ) -> Result<Option<Ready>, ProtocolError> {
        let Partial { header, taken } = partial;
        let taken = taken + fragment.len();
        self.frame = (!complete).then_some(Partial { header, taken });
        if taken == 0 && !complete {
            // Only the header is here. The payload may yet come in one piece.
            return Ok(None);
        }
        let ready = match header.opcode {
            OpCode::Control(_) => {
                self.control[usize::from(self.control_bytes)..][..fragment.len()].copy_from_slice(fragment);
                self.control_bytes += fragment.len() as u8;
                Kind::of(header.opcode).map(|kind| Ready { kind, compressed: false, place: Place::Control })
            }
            OpCode::Data(_) => {
                let Message { text, compressed } = self.append(partial, fragment)?;
                let kind = if text { Kind::Text } else { Kind::Binary };
                header.fin.then_some(Ready { kind, compressed, place: Place::Message })
            }
        };
        let ready = ready.filter(|_| complete);
        self.handed_out = ready.map(|ready| ready.place);
        Ok(ready)
    }

    /// Adds a fragment to the message it belongs to or starts.
    fn append(&mut self, partial: Partial, fragment: &[u8]) -> Result<Message, ProtocolError> {
        let header = partial.header;
        let text = header.opcode == OpCode::Data(Data::Text);
        let message = *self.message.get_or_insert(Message { text, compressed: header.rsv1 });
        self.reserve(fragment.len(), header.fin.then(|| partial.missing()));
        self.payload.extend_from_slice(fragment);
        if message.text && !message.compressed {
            self.valid.check(&self.payload).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        Ok(message)
    }

    /// Makes room for `fresh` bytes. The buffer grows by a multiple of what has
    /// arrived, never by what a header promises: many small pieces take linear
    /// time, and memory stays within four times what was sent. It does not
    /// outgrow the message where the `rest` it lacks is known, which is why it
    /// may then grow in larger steps.
    fn reserve(&mut self, fresh: usize, rest: Option<usize>) {
        let len = self.payload.len();
        if self.payload.capacity() - len < fresh {
            let step = match rest {
                Some(rest) => (len.max(fresh) * 3).min(rest),
                None => len.max(fresh),
            };
            self.payload.reserve_exact(step);
        }
    }
}
