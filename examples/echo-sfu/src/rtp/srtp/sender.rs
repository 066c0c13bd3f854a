//! Packets on their way out.

use super::cipher::{Cipher, Direction, Protocol, RTCP_INDEX_MAX};
use super::{SrtpError, SrtpKey};

/// The largest index of SRTP: 2^32 cycles of sequence numbers.
const RTP_INDEX_MAX: u64 = (1 << 48) - 1;

/// Protects what is sent with one key. Session keys are made once; a packet allocates nothing here.
#[derive(Debug)]
pub(crate) struct SrtpSender {
    rtp: Cipher,
    rtcp: Cipher,
    next_rtcp_index: u32,
}

impl SrtpSender {
    pub(crate) fn new(key: &SrtpKey) -> Self {
        Self::with_ciphers(
            Cipher::derive(key, Protocol::Rtp, Direction::Encrypt),
            Cipher::derive(key, Protocol::Rtcp, Direction::Encrypt),
        )
    }

    pub(super) const fn with_ciphers(rtp: Cipher, rtcp: Cipher) -> Self {
        Self {
            rtp,
            rtcp,
            next_rtcp_index: 0,
        }
    }

    #[cfg(test)]
    pub(super) const fn set_next_rtcp_index(&mut self, index: u32) {
        self.next_rtcp_index = index;
    }

    /// Whether half of the reports have been sent that can be with this key. Of media there can be so
    /// much more that nobody gets there.
    pub(crate) const fn is_worn(&self) -> bool {
        self.next_rtcp_index > RTCP_INDEX_MAX / 2
    }

    /// Writes `header`, the encrypted `payload` and the tag into `out`, and returns how many bytes that
    /// were. `index` is the sequence number, extended beyond the 16 bits that are in the header; those
    /// are read there. It starts below 65,536 with each SSRC: the other end counts on it.
    ///
    /// No two packets of an SSRC may have the same index unless they are the same packet. Otherwise the
    /// ciphers give their plaintexts away.
    ///
    /// # Errors
    ///
    /// If `header` is shorter than any, `out` too small, or `index` has more than 48 bits.
    pub(crate) fn protect_rtp(
        &mut self,
        header: &[u8],
        payload: &[u8],
        index: u64,
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        if index > RTP_INDEX_MAX {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtp.protect_rtp(header, payload, index, out)
    }

    /// Replaces what is in `out` with the packet of those reports.
    ///
    /// # Errors
    ///
    /// If `compound` is shorter than any report, or after 2^31 packets.
    pub(crate) fn protect_rtcp(
        &mut self,
        compound: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let index = self.next_rtcp_index;
        if index > RTCP_INDEX_MAX {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtcp.protect_rtcp(compound, index, out)?;
        self.next_rtcp_index = index + 1;
        Ok(())
    }
}
