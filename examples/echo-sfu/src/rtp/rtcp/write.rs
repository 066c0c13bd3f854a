//! Saying something to others.

use rtcp_types::prelude::{FciBuilder, RtcpPacketWriter};
use rtcp_types::{
    Bye, FciFeedbackPacketType, PayloadFeedback, Pli, ReceiverReport, ReportBlockBuilder,
    RtcpWriteError, Sdes, SdesChunk, SdesItem, SenderReport, TransportFeedback,
};

#[cfg(test)]
use super::{
    FirRequest,
    remb::{SSRCS_MAX, WriteRemb},
};
use super::{ReportBlock, SenderInfo};

/// As many blocks or senders as fit into one packet.
const COUNT_MAX: usize = 31;
/// As many as make a packet that still fits into a datagram with others.
const NACK_PAIRS_MAX: usize = 256;
const CNAME_MAX: usize = 255;
/// What 24 bits with a sign can say.
const CUMULATIVE_LOST_MAX: i32 = (1 << 23) - 1;
const CUMULATIVE_LOST_MIN: i32 = -(1 << 23);

/// Packets, one after the other, in a buffer that is used again and again.
///
/// What does not fit into one packet is written as several of them. That a compound begins with a report
/// and has a name in it is up to the caller, as is that it fits into a datagram.
#[derive(Debug)]
pub(crate) struct Compound<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Compound<'b> {
    /// Replaces what is in `out`.
    pub(crate) fn new(out: &'b mut Vec<u8>) -> Self {
        out.clear();
        Self { out }
    }

    /// How many bytes there are.
    pub(crate) const fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn sender_report(
        &mut self,
        ssrc: u32,
        sent: SenderInfo,
        blocks: &[ReportBlock],
    ) -> &mut Self {
        let (first, more) = blocks.split_at(blocks.len().min(COUNT_MAX));
        let mut report = SenderReport::builder(ssrc)
            .ntp_timestamp(sent.ntp.0)
            .rtp_timestamp(sent.rtp)
            .packet_count(sent.packets)
            .octet_count(sent.octets);
        for block in first {
            report = report.add_report_block(block.into());
        }
        self.push(&report);
        if !more.is_empty() {
            self.receiver_report(ssrc, more);
        }
        self
    }

    /// Without blocks, it says no more than that somebody is there; a compound may begin with it.
    pub(crate) fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> &mut Self {
        let mut rest = blocks;
        loop {
            let (some, more) = rest.split_at(rest.len().min(COUNT_MAX));
            let mut report = ReceiverReport::builder(ssrc);
            for block in some {
                report = report.add_report_block(block.into());
            }
            self.push(&report);
            if more.is_empty() {
                return self;
            }
            rest = more;
        }
    }

    /// Names a sender, in at most 255 bytes.
    pub(crate) fn cname(&mut self, ssrc: u32, cname: &str) -> &mut Self {
        let cname = &cname[..cname.floor_char_boundary(CNAME_MAX)];
        let item = SdesItem::builder(SdesItem::CNAME, cname);
        self.push(&Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item)))
    }

    /// Asks for packets. Those in ascending order take the least room; that they may wrap is understood.
    pub(crate) fn nack(&mut self, sender: u32, media: u32, lost: &[u16]) -> &mut Self {
        let pairs = PackedNack::pack(lost);
        for pairs in pairs.chunks(NACK_PAIRS_MAX) {
            let packed = PackedNack { pairs };
            let nack = TransportFeedback::builder(&packed)
                .sender_ssrc(sender)
                .media_ssrc(media);
            self.push(&nack);
        }
        self
    }

    pub(crate) fn pli(&mut self, sender: u32, media: u32) -> &mut Self {
        let pli = Pli::builder();
        let pli = PayloadFeedback::builder(&pli)
            .sender_ssrc(sender)
            .media_ssrc(media);
        self.push(&pli)
    }

    #[cfg(test)]
    pub(crate) fn fir(&mut self, sender: u32, request: FirRequest) -> &mut Self {
        let fir = rtcp_types::Fir::builder().add_ssrc(request.media, request.sequence);
        let fir = PayloadFeedback::builder(&fir).sender_ssrc(sender);
        self.push(&fir)
    }

    /// Of the first 255 senders; the bitrate is for all together anyway.
    #[cfg(test)]
    pub(crate) fn remb(&mut self, sender: u32, bitrate_bps: u64, ssrcs: &[u32]) -> &mut Self {
        let remb = WriteRemb {
            bitrate_bps,
            ssrcs: &ssrcs[..ssrcs.len().min(SSRCS_MAX)],
        };
        let remb = PayloadFeedback::builder(&remb).sender_ssrc(sender);
        self.push(&remb)
    }

    pub(crate) fn bye(&mut self, ssrcs: &[u32]) -> &mut Self {
        for ssrcs in ssrcs.chunks(COUNT_MAX) {
            let mut bye = Bye::builder();
            for ssrc in ssrcs {
                bye = bye.add_source(*ssrc);
            }
            self.push(&bye);
        }
        self
    }

    /// What the library refuses is left out. It refuses only what has no room in a packet, and the
    /// limits above are its limits.
    fn push(&mut self, packet: &dyn RtcpPacketWriter) -> &mut Self {
        match packet.calculate_size() {
            Ok(size) => {
                let start = self.out.len();
                self.out.resize(start + size, 0);
                packet.write_into_unchecked(&mut self.out[start..]);
            }
            Err(error) => tracing::error!(%error, "RTCP that cannot be written"),
        }
        self
    }
}

impl From<&ReportBlock> for ReportBlockBuilder {
    fn from(block: &ReportBlock) -> Self {
        let lost = block
            .cumulative_lost
            .clamp(CUMULATIVE_LOST_MIN, CUMULATIVE_LOST_MAX);
        rtcp_types::ReportBlock::builder(block.ssrc)
            .fraction_lost(block.fraction_lost)
            .cumulative_lost(lost.cast_unsigned() & 0x00ff_ffff)
            .extended_sequence_number(block.highest_sequence)
            .interarrival_jitter(block.jitter)
            .last_sender_report_timestamp(block.last_sr)
            .delay_since_last_sender_report_timestamp(block.delay_since_last_sr)
    }
}

/// A packet that is missing, and which of the 16 after it are.
#[derive(Debug, Clone, Copy)]
struct NackPair {
    first: u16,
    following: u16,
}

/// RFC 4585, section 6.2.1. The library's own sorts numbers first, which tears apart those that wrap.
#[derive(Debug)]
struct PackedNack<'p> {
    pairs: &'p [NackPair],
}

impl PackedNack<'_> {
    fn pack(lost: &[u16]) -> Vec<NackPair> {
        let mut pairs: Vec<NackPair> = Vec::new();
        for sequence in lost {
            if let Some(pair) = pairs.last_mut() {
                match sequence.wrapping_sub(pair.first) {
                    0 => continue,
                    ahead @ 1..=16 => {
                        pair.following |= 1 << (ahead - 1);
                        continue;
                    }
                    _ => {}
                }
            }
            pairs.push(NackPair {
                first: *sequence,
                following: 0,
            });
        }
        pairs
    }
}

impl FciBuilder<'_> for PackedNack<'_> {
    fn format(&self) -> u8 {
        1
    }

    fn supports_feedback_type(&self) -> FciFeedbackPacketType {
        FciFeedbackPacketType::TRANSPORT
    }
}

impl RtcpPacketWriter for PackedNack<'_> {
    fn calculate_size(&self) -> Result<usize, RtcpWriteError> {
        Ok(4 * self.pairs.len())
    }

    fn write_into_unchecked(&self, buf: &mut [u8]) -> usize {
        let (chunks, _) = buf.as_chunks_mut::<4>();
        for (chunk, pair) in chunks.iter_mut().zip(self.pairs) {
            let [a, b] = pair.first.to_be_bytes();
            let [c, d] = pair.following.to_be_bytes();
            *chunk = [a, b, c, d];
        }
        4 * self.pairs.len()
    }

    fn get_padding(&self) -> Option<u8> {
        None
    }
}
