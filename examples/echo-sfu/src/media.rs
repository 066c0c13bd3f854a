//! What moves between transports: tracks, packets, and how one side's codecs map to another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use str0m::format::{Codec, CodecConfig, PayloadParams};
use str0m::media::{MediaKind, Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo};

/// A session within the SFU; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionKey(u64);

impl SessionKey {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A media stream that a client sends us; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TrackId(u64);

impl TrackId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A media stream that a client sends us, and what it may be encoded with.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) kind: MediaKind,
    /// In the order in which the client prefers them; it is expected to send the first.
    pub(crate) codecs: Vec<PayloadParams>,
}

impl Track {
    pub(crate) fn info(&self) -> TrackInfo {
        TrackInfo {
            kind: if self.kind.is_audio() {
                "audio"
            } else {
                "video"
            },
            codec: self
                .codecs
                .first()
                .map_or("none", |params| codec_name(params.spec().codec)),
        }
    }
}

/// A track as the room's list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackInfo {
    /// `audio` or `video`.
    pub kind: &'static str,
    /// The codec that the publisher prefers of those agreed on, such as `VP8` or `opus`.
    pub codec: &'static str,
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::H264 => "H264",
        Codec::Av1 => "AV1",
        _ => "other",
    }
}

/// A track that a client wants to receive, where and how.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    /// What it receives.
    pub(crate) track: TrackId,
    /// The network thread on which the track arrives.
    pub(crate) source: NetworkIndex,
    /// The media line of its own session through which it is sent.
    pub(crate) mid: Mid,
    pub(crate) kind: MediaKind,
    payload_types: PayloadTypeMap,
    sequence: SequenceShift,
}

/// Which of the network threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NetworkIndex(pub(crate) usize);

impl Consumer {
    /// `None` if the two sides share no codec.
    pub(crate) fn new(
        track: &Track,
        source: NetworkIndex,
        mid: Mid,
        accepted: &[Pt],
        config: &CodecConfig,
    ) -> Option<Self> {
        let payload_types = PayloadTypeMap::new(&track.codecs, accepted, config)?;
        Some(Self {
            track: track.id,
            source,
            mid,
            kind: track.kind,
            payload_types,
            sequence: SequenceShift::default(),
        })
    }

    /// The packet as this consumer is to be sent it. `None` if it has a codec the consumer does not
    /// know, or is older than the first one the consumer was sent.
    pub(crate) fn translate(&mut self, packet: &MediaPacket) -> Option<RtpWrite> {
        let payload_type = self.payload_types.translate(packet.payload_type)?;
        let sequence = self.sequence.apply(packet.sequence)?;
        let write = RtpWrite::new(
            payload_type,
            SeqNo::from(sequence),
            packet.timestamp,
            packet.arrived_at,
            packet.payload.clone(),
        );
        Some(
            write
                .marker(packet.marker)
                .nackable(true)
                .csrc(&packet.contributors)
                .ext_vals(packet.extensions.clone()),
        )
    }
}

/// Payload types are agreed on per connection: what one side calls 96, another may call 120.
#[derive(Debug, Clone)]
struct PayloadTypeMap(Vec<(Pt, Pt)>);

impl PayloadTypeMap {
    fn new(sent: &[PayloadParams], accepted: &[Pt], config: &CodecConfig) -> Option<Self> {
        let pairs: Vec<_> = sent
            .iter()
            .filter_map(|params| {
                let matched = config.match_params(*params)?;
                accepted
                    .contains(&matched.pt())
                    .then_some((params.pt(), matched.pt()))
            })
            .collect();
        (!pairs.is_empty()).then_some(Self(pairs))
    }

    fn translate(&self, from: Pt) -> Option<Pt> {
        self.0
            .iter()
            .find(|(sent, _)| *sent == from)
            .map(|(_, accepted)| *accepted)
    }
}

/// Lets a consumer that joins late start in the first cycle of sequence numbers: the receiver's
/// SRTP cannot know how many cycles went by before it came (RFC 3711, section 3.3.1).
#[derive(Debug, Clone, Default)]
struct SequenceShift {
    /// What is subtracted from the track's sequence numbers.
    shift: Option<u64>,
}

impl SequenceShift {
    fn apply(&mut self, sequence: u64) -> Option<u64> {
        // Keeps the low bits, so that packets are easy to find in captures of both sides.
        let shift = *self.shift.get_or_insert(sequence & !0x7fff);
        sequence.checked_sub(shift)
    }
}

/// An RTP packet between two transports. The payload is shared, not copied.
#[derive(Debug, Clone)]
pub(crate) struct MediaPacket {
    payload_type: Pt,
    /// Extended beyond 16 bits, so that it does not wrap.
    sequence: u64,
    timestamp: u32,
    marker: bool,
    contributors: Vec<u32>,
    extensions: ExtensionValues,
    payload: Arc<[u8]>,
    arrived_at: Instant,
}

impl From<RtpPacket> for MediaPacket {
    fn from(packet: RtpPacket) -> Self {
        let header = packet.header;
        let mut extensions = header.ext_vals;
        // These name streams of the incoming connection; str0m sets those of the outgoing one.
        extensions.mid = None;
        extensions.rid = None;
        extensions.rid_repair = None;
        extensions.transport_cc = None;
        Self {
            payload_type: header.payload_type,
            sequence: *packet.seq_no,
            timestamp: header.timestamp,
            marker: header.marker,
            contributors: header.csrc[..header.csrc_count.min(header.csrc.len())].to_vec(),
            extensions,
            payload: packet.payload,
            arrived_at: packet.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_consumer_starts_in_the_first_cycle() {
        let mut shift = SequenceShift::default();
        let first = 7 * 65_536 + 40_000;
        assert_eq!(Some(40_000 - 32_768), shift.apply(first));
        assert_eq!(Some(40_001 - 32_768), shift.apply(first + 1));
        assert_eq!(Some(40_000 - 32_768 + 65_536), shift.apply(first + 65_536));
        assert_eq!(None, shift.apply(first - 40_000));
    }

    #[test]
    fn payload_types_are_matched_by_codec() {
        let mut ours = CodecConfig::empty();
        ours.enable_opus(true, false);
        ours.enable_vp8(true);
        let opus = ours.params()[0];
        let accepted: Vec<Pt> = ours.params().iter().map(PayloadParams::pt).collect();
        let map = PayloadTypeMap::new(&[opus], &accepted, &ours).unwrap();
        assert_eq!(Some(opus.pt()), map.translate(opus.pt()));
        assert_eq!(None, map.translate(Pt::new_with_value(1)));
        assert!(PayloadTypeMap::new(&[opus], &accepted[1..], &ours).is_none());
    }
}
