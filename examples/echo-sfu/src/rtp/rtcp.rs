//! RTCP: what is said about media (RFC 3550), and asked for by those who receive it (RFC 4585, RFC
//! 5104 and the estimate of bandwidth of draft-alvestrand-rmcat-remb).

mod ntp;
mod read;
mod remb;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use ntp::{NtpTime, round_trip_time};
pub(crate) use read::read_compound;
pub(crate) use write::Compound;

/// One packet of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rtcp {
    /// What somebody has sent, and how what it receives arrives.
    SenderReport {
        ssrc: u32,
        sent: SenderInfo,
        blocks: Vec<ReportBlock>,
    },
    /// How what somebody receives arrives.
    ReceiverReport { ssrc: u32, blocks: Vec<ReportBlock> },
    /// These packets are missing.
    Nack {
        sender: u32,
        media: u32,
        lost: Vec<u16>,
    },
    /// Pictures were lost.
    Pli { media: u32 },
    /// A picture is wanted that needs no other.
    Fir { requests: Vec<FirRequest> },
    /// No more than that can be received, of all these together.
    Remb { bitrate_bps: u64, ssrcs: Vec<u32> },
    /// These will send no more.
    Bye { ssrcs: Vec<u32> },
}

/// What a sender says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderInfo {
    /// When it said so.
    pub(crate) ntp: NtpTime,
    /// The same time, as its packets have it.
    pub(crate) rtp: u32,
    /// Since it began. Wraps.
    pub(crate) packets: u32,
    /// Of payload, since it began. Wraps.
    pub(crate) octets: u32,
}

/// How one sender's packets arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) ssrc: u32,
    /// Since the last report, of 256.
    pub(crate) fraction_lost: u8,
    /// Since it began. Negative, if more came than were sent: some came twice. Has 24 bits.
    pub(crate) cumulative_lost: i32,
    /// The number of cycles in its upper half.
    pub(crate) highest_sequence: u32,
    /// In units of the packets' timestamps.
    pub(crate) jitter: u32,
    /// The middle of the time in the last sender report, or 0 if none came.
    pub(crate) last_sr: u32,
    /// In 65,536ths of a second.
    pub(crate) delay_since_last_sr: u32,
}

/// Asks one sender for a picture that needs no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirRequest {
    pub(crate) media: u32,
    /// The same when a request is repeated, so that it is answered once.
    pub(crate) sequence: u8,
}
