//! SRTP and SRTCP (RFC 3711, and RFC 7714 for GCM): packets that nobody but the other end can read or
//! forge.
//!
//! Ciphers and hashes are those of str0m's crypto library. What is done with them is here: session
//! keys, initialization vectors, packet indexes, and the refusal of what came before.

mod cipher;
mod key;
mod receiver;
mod replay;
mod sender;
#[cfg(test)]
mod tests;

pub use key::{SrtpKey, SrtpKeyError, SrtpProfile, UnknownSrtpProfile};
pub(crate) use receiver::SrtpReceiver;
pub(crate) use sender::SrtpSender;

/// Why a packet was neither protected nor read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SrtpError {
    /// It cannot hold what every such packet has.
    #[error("the packet is too short")]
    TooShort,
    /// It was changed on the way, or made by somebody without the key.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// It came before, or is so old that this cannot be told.
    #[error("the packet came before, or too late")]
    Replayed,
    /// SRTCP may be sent authenticated only. Who agreed on a cipher has no reason to.
    #[error("the packet is not encrypted")]
    NotEncrypted,
    /// The caller's buffer.
    #[error("the buffer is too small for the packet")]
    OutputTooSmall,
    /// One more packet would use an initialization vector a second time.
    #[error("the key has protected as many packets as it may")]
    KeyExhausted,
    /// The crypto library refused to encrypt.
    #[error("the cipher failed")]
    CipherFailed,
}

fn read_u32(bytes: &[u8], offset: usize) -> Result<u32, SrtpError> {
    bytes
        .get(offset..)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or(SrtpError::TooShort)
}

/// The header of an RTP packet with neither contributing sources nor extensions.
const RTP_HEADER_MIN: usize = 12;

/// What tells an RTP packet from others of its session, but for the cycle of the sequence number.
#[derive(Debug, Clone, Copy)]
struct RtpIdentity {
    ssrc: u32,
    sequence: u16,
}

impl RtpIdentity {
    fn read(header: &[u8]) -> Result<Self, SrtpError> {
        let [_, _, high, low] = read_u32(header, 0)?.to_be_bytes();
        Ok(Self {
            ssrc: read_u32(header, 8)?,
            sequence: u16::from_be_bytes([high, low]),
        })
    }
}
