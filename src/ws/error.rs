//! What a peer can do wrong, and which close reason it earns.

use crate::ws::close::CloseReason;
use std::fmt;

/// How a client broke RFC 6455 or RFC 7692. The connection has to end with
/// [`ProtocolError::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A reserved bit that no negotiated extension gives a meaning to.
    ReservedBits,
    /// An opcode that means nothing yet.
    ReservedOpcode(u8),
    /// A frame without a mask.
    Unmasked,
    /// A control frame without FIN.
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    ControlTooLong,
    /// A length with its top bit set.
    LengthTopBit,
    /// A length written in more bytes than it needs.
    LengthNotMinimal,
    /// A continuation frame while no message is unfinished.
    UnexpectedContinuation,
    /// A new message before the fragmented one was finished.
    InterruptedMessage,
    /// A close frame with half a code.
    CloseTooShort,
    /// A close code that must not be sent.
    CloseCode(u16),
    /// A text message or a close reason that is not UTF-8.
    InvalidUtf8,
    /// A message longer than allowed, before or after inflating.
    TooBig,
    /// A compressed message that does not inflate.
    Inflate,
}

impl ProtocolError {
    /// The close reason: which code the peer is sent and what is counted.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::InvalidUtf8 => CloseReason::InvalidUtf8,
            Self::TooBig => CloseReason::MessageTooBig,
            _ => CloseReason::ProtocolError,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "reserved bit set without an extension that defines it (RFC 6455, 5.2)",
            Self::ReservedOpcode(opcode) => {
                return write!(f, "reserved opcode {opcode:#x} (RFC 6455, 5.2)");
            }
            Self::Unmasked => "client frame without a mask (RFC 6455, 5.1)",
            Self::FragmentedControl => "fragmented control frame (RFC 6455, 5.5)",
            Self::ControlTooLong => "control frame above 125 bytes (RFC 6455, 5.5)",
            Self::LengthTopBit => "payload length with its top bit set (RFC 6455, 5.2)",
            Self::LengthNotMinimal => "payload length not in its shortest form (RFC 6455, 5.2)",
            Self::UnexpectedContinuation => "continuation frame without a message (RFC 6455, 5.4)",
            Self::InterruptedMessage => "new message inside a fragmented one (RFC 6455, 5.4)",
            Self::CloseTooShort => "close frame with a one-byte payload (RFC 6455, 5.5.1)",
            Self::CloseCode(code) => {
                return write!(f, "close code {code} must not be sent (RFC 6455, 7.4)");
            }
            Self::InvalidUtf8 => "text that is not UTF-8 (RFC 6455, 8.1)",
            Self::TooBig => "message above the size allowed (RFC 6455, 10.4)",
            Self::Inflate => "compressed message that does not inflate (RFC 7692, 7.2.2)",
        })
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_earns_its_close_reason_and_names_its_section() {
        let check = |error: ProtocolError, reason| {
            assert_eq!(error.reason(), reason, "{error:?}");
            assert!(error.to_string().contains("(RFC "), "{error}");
        };
        check(ProtocolError::InvalidUtf8, CloseReason::InvalidUtf8);
        check(ProtocolError::TooBig, CloseReason::MessageTooBig);
        for error in [
            ProtocolError::ReservedBits,
            ProtocolError::ReservedOpcode(3),
            ProtocolError::Unmasked,
            ProtocolError::FragmentedControl,
            ProtocolError::ControlTooLong,
            ProtocolError::LengthTopBit,
            ProtocolError::LengthNotMinimal,
            ProtocolError::UnexpectedContinuation,
            ProtocolError::InterruptedMessage,
            ProtocolError::CloseTooShort,
            ProtocolError::CloseCode(1005),
            ProtocolError::Inflate,
        ] {
            check(error, CloseReason::ProtocolError);
        }
    }
}
