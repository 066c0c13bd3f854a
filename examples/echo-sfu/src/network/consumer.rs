//! A consumer on the network thread of its transport.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use str0m::media::{MediaKind, Mid};

use super::direct::Outlet;
use super::source::Origin;
use crate::objects::{ConsumerEvent, ConsumerId, ConsumerTracing, TransportId};
use crate::rtp::outgoing::{OutgoingStream, Resend, Rewritten};
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::BEST_SCORE;
use crate::rtp::wire::{
    ExtensionIds, HeaderBuffer, RtpHeader, absolute_send_time, write_rtx_payload,
};

/// No datagram that we send is larger.
const MAX_DATAGRAM: usize = 1_500;
/// A key frame that does not come is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A consumer whose transport is here.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) transport: TransportId,
    pub(super) origin: Origin,
    pub(super) kind: MediaKind,
    pub(super) ssrc: u32,
    pub(super) stream: OutgoingStream,
    /// When its transport does not carry everything.
    pub(super) priority: NonZeroU8,
    /// As text, since a [`Mid`] is padded and has to be trimmed each time.
    mid: Option<Box<str>>,
    extensions: ExtensionIds,
    /// When a key frame was last asked for, of which producer and layer.
    asked: Option<(Instant, Origin, u8)>,
    told: Observed,
    /// Whose client's requests these are, if it is one of several for the layers of one that is piped,
    /// and not that of the smallest: how it is besides is told of that one only.
    pub(super) reported_as: Option<ConsumerId>,
    /// What is told of its client's requests.
    pub(super) tracing: ConsumerTracing,
}

/// What is told of a consumer when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observed {
    layer: Option<u8>,
    score: u8,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarded {
    Sent,
    /// It is not for this consumer, or not now.
    NotForIt,
    /// Too much waits to be sent already.
    NoRoom,
}

impl Consumer {
    pub(super) fn new(
        transport: TransportId,
        origin: Origin,
        kind: MediaKind,
        ssrc: u32,
        stream: OutgoingStream,
        (mid, extensions): (Option<Mid>, ExtensionIds),
    ) -> Self {
        let mut extensions = extensions;
        if !stream.has_rtx() {
            // What is sent again as it was has to be the same to the last byte.
            extensions.absolute_send_time = None;
        }
        Self {
            transport,
            origin,
            kind,
            ssrc,
            stream,
            priority: NonZeroU8::MIN,
            mid: mid.map(|mid| (*mid).into()),
            extensions,
            asked: None,
            told: Observed {
                layer: None,
                score: BEST_SCORE,
            },
            reported_as: None,
            tracing: ConsumerTracing::default(),
        }
    }

    /// Sends a packet on.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        packet: &MediaPacket,
        way: &mut impl Outlet,
    ) -> Forwarded {
        match self.stream.rewrite(now, packet) {
            None => Forwarded::NotForIt,
            Some(rewritten) if self.write(&rewritten, packet, None, way) => Forwarded::Sent,
            Some(_) => Forwarded::NoRoom,
        }
    }

    /// Sends a packet again that was lost. False if there is no room for it.
    pub(super) fn resend(
        &self,
        resend: &Resend,
        packet: &MediaPacket,
        way: &mut impl Outlet,
    ) -> bool {
        // The same number with another time of sending would be encrypted as another packet with the
        // numbers of this one, which gives the key for authentication away.
        if resend.rtx.is_none() && self.extensions.absolute_send_time.is_some() {
            return true;
        }
        self.write(&resend.original, packet, Some(resend), way)
    }

    fn write(
        &self,
        rewritten: &Rewritten,
        packet: &MediaPacket,
        resend: Option<&Resend>,
        way: &mut impl Outlet,
    ) -> bool {
        let rtx = resend.and_then(|resend| resend.rtx.as_ref());
        let (ssrc, payload_type, sequence) = match rtx {
            Some(rtx) => (rtx.ssrc, rtx.payload_type, rtx.sequence),
            None => (rewritten.ssrc, rewritten.payload_type, rewritten.sequence),
        };
        let mut header = HeaderBuffer::new();
        RtpHeader {
            payload_type,
            marker: rewritten.marker,
            sequence: sequence as u16,
            timestamp: rewritten.timestamp,
            ssrc,
        }
        .write(
            &self.extensions,
            self.mid.as_deref(),
            &packet.extensions,
            Some(absolute_send_time(way.clock())),
            &mut header,
        );
        // Only what is changed is copied before it is encrypted.
        let mut changed;
        let payload = match (rtx, &rewritten.vp8) {
            (None, None) => &packet.payload[..],
            (rtx, patch) => {
                changed = [0; MAX_DATAGRAM];
                let original = &packet.payload[..];
                let written = match rtx {
                    Some(_) => write_rtx_payload(rewritten.sequence as u16, original, &mut changed),
                    None => changed.get_mut(..original.len()).map(|room| {
                        room.copy_from_slice(original);
                        original.len()
                    }),
                };
                let Some(len) = written else {
                    return false;
                };
                let changed = &mut changed[..len];
                if let Some(patch) = patch {
                    patch.apply(&mut changed[len - original.len()..]);
                }
                changed
            }
        };
        way.send(header.as_slice(), payload, sequence)
    }

    /// What has changed since this was last called.
    pub(super) fn news(&mut self) -> impl Iterator<Item = ConsumerEvent> + use<> {
        let now = Observed {
            layer: self.stream.current_layer(),
            score: self.stream.score(),
        };
        let before = std::mem::replace(&mut self.told, now);
        let layer = (before.layer != now.layer && self.kind == MediaKind::Video)
            .then_some(ConsumerEvent::LayerChanged(now.layer));
        let score = (before.score != now.score).then_some(ConsumerEvent::Score(now.score));
        layer.into_iter().chain(score)
    }

    /// Which layer's key frame is to be asked for now, if any.
    pub(super) fn key_frame_to_ask_for(&mut self, now: Instant) -> Option<u8> {
        let Some(layer) = self.stream.wanted_key_frame() else {
            self.asked = None;
            return None;
        };
        let may = self.asked.is_none_or(|(at, origin, of)| {
            (origin, of) != (self.origin, layer) || now.saturating_duration_since(at) >= ASK_AGAIN
        });
        if !may {
            return None;
        }
        self.asked = Some((now, self.origin, layer));
        Some(layer)
    }
}
