//! Reading what others say.

use std::borrow::Cow;

use rtcp_types::prelude::{RtcpPacket, RtcpPacketParser, RtcpPacketParserExt};
use rtcp_types::{
    Bye, Fir, Nack, PayloadFeedback, Pli, ReceiverReport, RtcpParseError, SenderReport,
    TransportFeedback, Unknown,
};

use super::remb::ReadRemb;
use super::{FirRequest, NtpTime, ReportBlock, Rtcp, SenderInfo};

/// More than fit into a datagram of the usual size. Whoever has the key could send larger ones.
const REPORTS_MAX: usize = 128;
/// What a compound may name in all: packets lost, pictures wanted and senders. Four bytes can name 17
/// packets.
const NAMES_MAX: usize = 1_000;
const HAS_PADDING: u8 = 0x20;

/// The packets of a compound, up to the first that is malformed. What is of no use here is left out;
/// and so is what goes beyond what anybody has to say.
pub(crate) fn read_compound(mut compound: &[u8]) -> Vec<Rtcp> {
    let mut reports = Vec::new();
    let mut names = Names::default();
    while let Some((packet, rest)) = split_packet(compound) {
        match read_packet(&packet, &mut names) {
            Ok(report) => reports.extend(report),
            Err(_) => break,
        }
        if reports.len() == REPORTS_MAX {
            break;
        }
        compound = rest;
    }
    reports
}

/// The first packet, without padding, and what follows it.
fn split_packet(compound: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let &[first, _, words_high, words_low] = compound.first_chunk()?;
    let words = usize::from(u16::from_be_bytes([words_high, words_low])) + 1;
    let (packet, rest) = compound.split_at_checked(4 * words)?;
    if first & HAS_PADDING == 0 {
        return Some((Cow::Borrowed(packet), rest));
    }
    // Only the last of a compound has any (RFC 3550, section 6.4.1). The library takes it for what
    // was said, so it is given what would have come without.
    let padding = usize::from(*packet.last()?);
    let length = packet.len().checked_sub(padding)?;
    if padding == 0 || !length.is_multiple_of(4) {
        return None;
    }
    let words = u16::try_from((length / 4).checked_sub(1)?).ok()?;
    let mut packet = packet[..length].to_vec();
    packet[0] &= !HAS_PADDING;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    Some((Cow::Owned(packet), &[]))
}

/// How many may still be named.
#[derive(Debug)]
struct Names {
    left: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { left: NAMES_MAX }
    }
}

impl Names {
    fn take<T>(&mut self, names: impl Iterator<Item = T>) -> Vec<T> {
        let taken: Vec<_> = names.take(self.left).collect();
        self.left -= taken.len();
        taken
    }
}

fn read_packet(packet: &[u8], names: &mut Names) -> Result<Option<Rtcp>, RtcpParseError> {
    let unknown = Unknown::parse(packet)?;
    match unknown.type_() {
        SenderReport::PACKET_TYPE => SenderReport::parse(packet).map(|report| {
            Some(Rtcp::SenderReport {
                ssrc: report.ssrc(),
                sent: SenderInfo {
                    ntp: NtpTime(report.ntp_timestamp()),
                    rtp: report.rtp_timestamp(),
                    packets: report.packet_count(),
                    octets: report.octet_count(),
                },
                blocks: report.report_blocks().map(Into::into).collect(),
            })
        }),
        ReceiverReport::PACKET_TYPE => ReceiverReport::parse(packet).map(|report| {
            Some(Rtcp::ReceiverReport {
                ssrc: report.ssrc(),
                blocks: report.report_blocks().map(Into::into).collect(),
            })
        }),
        Bye::PACKET_TYPE => Bye::parse(packet).map(|bye| {
            let ssrcs = names.take(bye.ssrcs());
            Some(Rtcp::Bye { ssrcs })
        }),
        TransportFeedback::PACKET_TYPE => {
            read_transport_feedback(&TransportFeedback::parse(packet)?, names)
        }
        PayloadFeedback::PACKET_TYPE => {
            read_payload_feedback(&PayloadFeedback::parse(packet)?, names)
        }
        _ => Ok(None),
    }
}

fn read_transport_feedback(
    feedback: &TransportFeedback<'_>,
    names: &mut Names,
) -> Result<Option<Rtcp>, RtcpParseError> {
    let Some(nack) = known(feedback.parse_fci::<Nack<'_>>())? else {
        return Ok(None);
    };
    Ok(Some(Rtcp::Nack {
        sender: feedback.sender_ssrc(),
        media: feedback.media_ssrc(),
        lost: names.take(nack.entries()),
    }))
}

fn read_payload_feedback(
    feedback: &PayloadFeedback<'_>,
    names: &mut Names,
) -> Result<Option<Rtcp>, RtcpParseError> {
    if known(feedback.parse_fci::<Pli<'_>>())?.is_some() {
        let media = feedback.media_ssrc();
        return Ok(Some(Rtcp::Pli { media }));
    }
    if let Some(fir) = known(feedback.parse_fci::<Fir<'_>>())? {
        let requests = fir.entries().map(|entry| FirRequest {
            media: entry.ssrc(),
            sequence: entry.sequence(),
        });
        let requests = names.take(requests);
        return Ok(Some(Rtcp::Fir { requests }));
    }
    Ok(match known(feedback.parse_fci::<ReadRemb>())? {
        Some(ReadRemb::Remb { bitrate_bps, ssrcs }) => Some(Rtcp::Remb {
            bitrate_bps,
            ssrcs: names.take(ssrcs.into_iter()),
        }),
        Some(ReadRemb::Other) | None => None,
    })
}

/// Feedback of another format is no error; malformed feedback is.
fn known<T>(parsed: Result<T, RtcpParseError>) -> Result<Option<T>, RtcpParseError> {
    match parsed {
        Ok(parsed) => Ok(Some(parsed)),
        Err(RtcpParseError::WrongImplementation) => Ok(None),
        Err(malformed) => Err(malformed),
    }
}

impl From<rtcp_types::ReportBlock<'_>> for ReportBlock {
    fn from(block: rtcp_types::ReportBlock<'_>) -> Self {
        Self {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            // The library has 24 bits of it without a sign; there is one.
            cumulative_lost: (block.cumulative_lost() << 8).cast_signed() >> 8,
            highest_sequence: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            last_sr: block.last_sender_report_timestamp(),
            delay_since_last_sr: block.delay_since_last_sender_report_timestamp(),
        }
    }
}
