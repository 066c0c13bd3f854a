//! RTP headers as they are sent (RFC 3550), with their extensions (RFC 8285).

mod extensions;
mod header;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use extensions::{ExtensionIds, ExtensionIter};
pub(crate) use header::{HeaderBuffer, RtpHeader};

const VERSION: u8 = 2;
/// A header with neither contributing sources nor extensions.
const HEADER_MIN: usize = 12;
/// What precedes extensions: which form they have, and how long they are.
const EXTENSION_HEADER: usize = 4;
const HAS_PADDING: u8 = 0x20;
const HAS_EXTENSIONS: u8 = 0x10;
const MARKER: u8 = 0x80;
/// RFC 8285, section 4.2.
const ONE_BYTE_FORM: u16 = 0xbede;
/// RFC 8285, section 4.3. The last four bits are the application's.
const TWO_BYTE_FORM: u16 = 0x1000;
/// RFC 4588, section 4: what a retransmission has before its payload, the sequence number that the
/// packet had when it was sent first.
const RTX_PREFIX: usize = 2;

/// The bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed RTP")]
pub(crate) struct MalformedRtp;

/// An RTP packet whose header is well-formed. Its payload may be encrypted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RtpView<'p> {
    packet: &'p [u8],
    fixed: &'p [u8; HEADER_MIN],
    header_len: usize,
    extensions: ExtensionIter<'p>,
}

impl<'p> RtpView<'p> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If it is of another version, or longer than the packet. Extensions are not looked into.
    pub(crate) fn parse(packet: &'p [u8]) -> Result<Self, MalformedRtp> {
        let (fixed, rest) = packet
            .split_first_chunk::<HEADER_MIN>()
            .ok_or(MalformedRtp)?;
        if fixed[0] >> 6 != VERSION {
            return Err(MalformedRtp);
        }
        let sources = usize::from(fixed[0] & 0x0f);
        let (_, rest) = rest.split_at_checked(4 * sources).ok_or(MalformedRtp)?;
        let (extensions, payload) = if fixed[0] & HAS_EXTENSIONS == 0 {
            (ExtensionIter::default(), rest)
        } else {
            let (&[form_high, form_low, words_high, words_low], rest) = rest
                .split_first_chunk::<EXTENSION_HEADER>()
                .ok_or(MalformedRtp)?;
            let words = usize::from(u16::from_be_bytes([words_high, words_low]));
            let (extensions, payload) = rest.split_at_checked(4 * words).ok_or(MalformedRtp)?;
            let form = u16::from_be_bytes([form_high, form_low]);
            (ExtensionIter::new(form, extensions), payload)
        };
        Ok(Self {
            packet,
            fixed,
            header_len: packet.len() - payload.len(),
            extensions,
        })
    }

    pub(crate) const fn payload_type(&self) -> u8 {
        self.fixed[1] & !MARKER
    }

    pub(crate) const fn marker(&self) -> bool {
        self.fixed[1] & MARKER != 0
    }

    pub(crate) const fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    pub(crate) fn timestamp(&self) -> u32 {
        let [.., a, b, c, d, _, _, _, _] = *self.fixed;
        u32::from_be_bytes([a, b, c, d])
    }

    pub(crate) fn ssrc(&self) -> u32 {
        let [.., a, b, c, d] = *self.fixed;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Up to where the packet is not encrypted.
    pub(crate) const fn header_len(&self) -> usize {
        self.header_len
    }

    /// What follows the header: padding included, and perhaps encrypted.
    pub(crate) fn payload(&self) -> &'p [u8] {
        &self.packet[self.header_len..]
    }

    /// The decrypted payload of this packet without its padding. With nothing but padding it is empty,
    /// as in packets that only try out what the network can carry.
    ///
    /// # Errors
    ///
    /// If there is more padding than payload.
    pub(crate) fn without_padding<'d>(
        &self,
        decrypted: &'d [u8],
    ) -> Result<&'d [u8], MalformedRtp> {
        if self.fixed[0] & HAS_PADDING == 0 {
            return Ok(decrypted);
        }
        let padding = decrypted.last().copied().filter(|padding| *padding > 0);
        let padding = usize::from(padding.ok_or(MalformedRtp)?);
        let length = decrypted.len().checked_sub(padding).ok_or(MalformedRtp)?;
        Ok(&decrypted[..length])
    }

    /// The extensions that can be read, with their ids. What cannot be read ends them.
    pub(crate) const fn extensions(&self) -> ExtensionIter<'p> {
        self.extensions
    }

    /// The first extension of that id.
    #[cfg(test)]
    pub(crate) fn extension(&self, id: Option<u8>) -> Option<&'p [u8]> {
        let id = id?;
        let mut extensions = self.extensions;
        extensions
            .find(|(other, _)| *other == id)
            .map(|(_, value)| value)
    }
}

/// The time that `abs-send-time` says: seconds in 24 bits, of which 18 are behind the point. It wraps
/// every 64 seconds.
pub(crate) fn absolute_send_time(since_epoch: Duration) -> u32 {
    let seconds = (since_epoch.as_secs() & 63) as u32;
    // Less than 2^18, since there is less than a second of it.
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 18) / 1_000_000_000;
    (seconds << 18) | fraction as u32
}

/// Writes the payload of a retransmission. Returns how long it is; nothing if there is no room. The rest
/// of RFC 4588 is up to the caller: a payload type, an SSRC and sequence numbers of its own.
pub(crate) fn write_rtx_payload(
    original_sequence: u16,
    payload: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let (prefix, rest) = out.split_first_chunk_mut::<RTX_PREFIX>()?;
    *prefix = original_sequence.to_be_bytes();
    rest.get_mut(..payload.len())?.copy_from_slice(payload);
    Some(RTX_PREFIX + payload.len())
}

/// What is in a retransmission: the original sequence number, and the payload that came with it.
/// Nothing, if it is padding only.
pub(crate) fn read_rtx_payload(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (sequence, payload) = payload.split_first_chunk::<RTX_PREFIX>()?;
    Some((u16::from_be_bytes(*sequence), payload))
}
