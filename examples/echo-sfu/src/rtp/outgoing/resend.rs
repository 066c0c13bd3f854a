//! Sends again what a receiver lost.

use std::time::Instant;

use super::{OutgoingStream, Resend, RtxHeader};
use crate::rtp::rate::Millis;

/// Packets that were sent again as they were: they belong to the same stream.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Rtx {
    pub(super) ssrc: u32,
    pub(super) next: u64,
}

impl OutgoingStream {
    /// Which of what a receiver lost it is to be sent again, as far as it is remembered. Nothing
    /// happens but as the iterator is driven.
    ///
    /// A packet is sent again ten times at most, and not within half a round trip (20 ms at least)
    /// of the last time. In total, no more is sent again than was sent, and no more than 256 KiB at
    /// once: a receiver that asks for everything over and over gets twice the stream and no more.
    pub(crate) fn resend<'a>(
        &'a mut self,
        now: Instant,
        lost: &'a [u16],
    ) -> impl Iterator<Item = Resend> + 'a {
        let now = self.epoch.millis(now);
        lost.iter()
            .filter_map(move |lost| self.resend_one(now, *lost))
    }

    fn resend_one(&mut self, now: Millis, lost: u16) -> Option<Resend> {
        self.counts.nacked += 1;
        if !self.active {
            self.counts.nacked_refused += 1;
            return None;
        }
        let Some((sequence, sent)) = self.sent.find(lost) else {
            self.counts.nacked_unknown += 1;
            return None;
        };
        let is_granted = sent.resends().is_due(now, self.reception.round_trip())
            && self.resend_budget.spend(sent.bytes());
        if !is_granted {
            self.counts.nacked_refused += 1;
            return None;
        }
        sent.resends().count(now);
        let layer = sent.layer();
        let bytes = u64::from(sent.bytes());
        let original = sent.rewritten(self.ssrc, sequence);
        let source_sequence = sent.source_sequence(self.layers.newest_sequence(layer)?);
        let rtx = self.next_rtx_header(original.payload_type);
        self.counts.resent_packets += 1;
        self.counts.resent_bytes += bytes;
        if rtx.is_none() {
            self.resent_in_place.packets += 1;
            self.resent_in_place.bytes += bytes;
        }
        Some(Resend {
            layer,
            source_sequence,
            original,
            rtx,
        })
    }

    fn next_rtx_header(&mut self, payload_type: u8) -> Option<RtxHeader> {
        let codec = self.codecs.iter().find(|codec| codec.to == payload_type)?;
        let payload_type = codec.rtx?;
        let rtx = self.rtx.as_mut()?;
        let sequence = rtx.next;
        rtx.next += 1;
        Some(RtxHeader {
            ssrc: rtx.ssrc,
            payload_type,
            sequence,
        })
    }
}
