//! Packets on their way in.

use super::cipher::{Cipher, Direction, Protocol};
use super::replay::{STREAMS_OF_A_CLIENT, STREAMS_OF_MANY, Streams};
use super::{RtpIdentity, SrtpError, SrtpKey, read_u32};

/// Reads what was protected with one key. What is refused changes nothing here.
///
/// Of each sender it knows how often its sequence numbers have wrapped, and which of its last 128
/// packets came. It does so for the 56 senders heard last at least, or for 3,584 if there may be
/// [many](Self::of_many): one that was pushed out, and whose numbers have wrapped, is not understood
/// again.
#[derive(Debug)]
pub(crate) struct SrtpReceiver {
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams,
    rtcp_streams: Streams,
}

impl SrtpReceiver {
    pub(crate) fn new(key: &SrtpKey) -> Self {
        Self::with_ciphers(
            Cipher::derive(key, Protocol::Rtp, Direction::Decrypt),
            Cipher::derive(key, Protocol::Rtcp, Direction::Decrypt),
        )
    }

    /// For an end that sends what hundreds of others do.
    pub(crate) fn of_many(key: &SrtpKey) -> Self {
        Self {
            rtp_streams: Streams::new(STREAMS_OF_MANY),
            rtcp_streams: Streams::new(STREAMS_OF_MANY),
            ..Self::new(key)
        }
    }

    pub(super) fn with_ciphers(rtp: Cipher, rtcp: Cipher) -> Self {
        Self {
            rtp,
            rtcp,
            rtp_streams: Streams::new(STREAMS_OF_A_CLIENT),
            rtcp_streams: Streams::new(STREAMS_OF_A_CLIENT),
        }
    }

    /// A sender has ended: nothing more is expected of it.
    pub(crate) fn forget(&mut self, ssrc: u32) {
        self.rtp_streams.forget(ssrc);
        self.rtcp_streams.forget(ssrc);
    }

    #[cfg(test)]
    pub(super) fn heard(&self) -> (Streams, Streams) {
        (self.rtp_streams.known(), self.rtcp_streams.known())
    }

    /// Replaces what is in `out` with the payload, padding included, and returns the sequence number,
    /// extended beyond 16 bits. `header_len` includes header extensions.
    ///
    /// # Errors
    ///
    /// If the packet is too short, not authentic, or came before. `out` has nothing to be read then.
    pub(crate) fn unprotect_rtp(
        &mut self,
        packet: &[u8],
        header_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<u64, SrtpError> {
        out.clear();
        let RtpIdentity { ssrc, sequence } = RtpIdentity::read(packet)?;
        let index = match self.rtp_streams.window(ssrc) {
            Some(window) => {
                let index = window.index_of(sequence);
                window.check(index)?;
                index
            }
            None => u64::from(sequence),
        };
        self.rtp.unprotect_rtp(packet, header_len, index, out)?;
        self.rtp_streams.note(ssrc, index);
        Ok(index)
    }

    /// Replaces what is in `out` with the reports.
    ///
    /// # Errors
    ///
    /// If the packet is too short, not encrypted, not authentic, or came before. `out` has nothing to be
    /// read then.
    pub(crate) fn unprotect_rtcp(
        &mut self,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        out.clear();
        let index = self.rtcp.rtcp_index(packet)?;
        let ssrc = read_u32(packet, 4)?;
        if let Some(window) = self.rtcp_streams.window(ssrc) {
            window.check(u64::from(index))?;
        }
        self.rtcp.unprotect_rtcp(packet, index, out)?;
        self.rtcp_streams.note(ssrc, u64::from(index));
        Ok(())
    }
}
