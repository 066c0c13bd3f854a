//! What arrives on a plain transport: producers, each of one stream, or of one for each layer.

use std::time::{Duration, Instant};

use crate::media::{LayerSsrcs, Media, codec_kind};
use crate::objects::ProducerId;
use crate::rtp::codec::{CodecKind, is_key_frame_start};
use crate::rtp::incoming::{IncomingOptions, IncomingStats, IncomingStream};
use crate::rtp::packet::{Extensions, MediaPacket};
use crate::rtp::rtcp::{Compound, ReportBlock};
use crate::rtp::wire::{ExtensionIds, RtpView, read_rtx_payload};

/// A key frame that is needed and does not come is asked for again.
const BETWEEN_PLIS: Duration = Duration::from_millis(500);

/// Something that arrives on a plain transport.
#[derive(Debug)]
pub(crate) struct PlainProduced {
    pub(crate) producer: ProducerId,
    pub(crate) media: Media,
    /// The smallest first.
    pub(crate) layers: Vec<LayerSsrcs>,
    pub(crate) extensions: ExtensionIds,
}

/// Of what an SSRC is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) producer: ProducerId,
    pub(super) layer: u8,
    pub(super) is_rtx: bool,
}

/// A producer whose packets arrive here.
#[derive(Debug)]
pub(super) struct Arriving {
    codecs: Vec<ArrivingCodec>,
    extensions: ExtensionIds,
    layers: Vec<ArrivingLayer>,
}

#[derive(Debug)]
struct ArrivingLayer {
    ssrc: u32,
    stream: IncomingStream,
    asked_for_key_frame: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct ArrivingCodec {
    payload_type: u8,
    rtx: Option<u8>,
    kind: CodecKind,
}

/// What is to be said about what arrives, in a compound that begins with a report when it begins (RFC
/// 3550, section 6.1).
pub(super) struct Requests<'a> {
    compound: Compound<'a>,
    /// Who asks.
    own: u32,
    is_begun: bool,
}

impl<'a> Requests<'a> {
    pub(super) fn new(own: u32, said: &'a mut Vec<u8>) -> Self {
        Self {
            compound: Compound::new(said),
            own,
            is_begun: false,
        }
    }

    pub(super) const fn is_begun(&self) -> bool {
        self.is_begun
    }

    fn compound(&mut self) -> &mut Compound<'a> {
        if !self.is_begun {
            self.is_begun = true;
            self.compound.receiver_report(self.own, &[]);
        }
        &mut self.compound
    }
}

impl Arriving {
    pub(super) fn new(now: Instant, produced: &PlainProduced) -> Self {
        let media = &produced.media;
        let clock_rate = media.codecs.first().map(|own| own.spec().clock_rate.get());
        let codecs = media.codecs.iter().map(|params| ArrivingCodec {
            payload_type: *params.pt(),
            rtx: params.resend().map(|pt| *pt),
            kind: codec_kind(params.spec().codec),
        });
        let layers = produced.layers.iter().map(|ssrcs| ArrivingLayer {
            ssrc: ssrcs.ssrc,
            stream: IncomingStream::new(IncomingOptions {
                ssrc: ssrcs.ssrc,
                clock_rate: clock_rate.unwrap_or(90_000),
                is_video: media.kind.is_video(),
                nack: media.kind.is_video() || ssrcs.rtx_ssrc.is_some(),
                now,
            }),
            asked_for_key_frame: None,
        });
        Self {
            codecs: codecs.collect(),
            extensions: produced.extensions,
            layers: layers.collect(),
        }
    }

    /// By which SSRCs what of it is found.
    pub(super) fn streams(produced: &PlainProduced) -> impl Iterator<Item = (u32, Stream)> {
        let producer = produced.producer;
        let layers = (0..).zip(&produced.layers);
        layers.flat_map(move |(layer, ssrcs)| {
            let is = move |is_rtx| Stream {
                producer,
                layer,
                is_rtx,
            };
            let rtx = ssrcs.rtx_ssrc.map(|ssrc| (ssrc, is(true)));
            [Some((ssrcs.ssrc, is(false))), rtx].into_iter().flatten()
        })
    }

    /// The media in a packet, if there is any that is new.
    pub(super) fn take(
        &mut self,
        now: Instant,
        view: &RtpView<'_>,
        of: Stream,
        payload: &[u8],
        bytes: usize,
    ) -> Option<MediaPacket> {
        let number = view.payload_type();
        let is_it = |own: &&ArrivingCodec| match of.is_rtx {
            true => own.rtx == Some(number),
            false => own.payload_type == number,
        };
        let codec = *self.codecs.iter().find(is_it)?;
        let stream = &mut self.layers.get_mut(usize::from(of.layer))?.stream;
        let (received, payload) = if of.is_rtx {
            let (sequence, payload) = read_rtx_payload(payload)?;
            (stream.recover(now, sequence, bytes)?, payload)
        } else {
            let (sequence, timestamp) = (view.sequence(), view.timestamp());
            let received = stream.receive(now, sequence, timestamp, bytes);
            (received, payload)
        };
        if !received.is_new {
            return None;
        }
        if is_key_frame_start(codec.kind, payload) {
            stream.on_key_frame(received.sequence);
        }
        Some(MediaPacket {
            payload_type: codec.payload_type,
            layer: of.layer,
            sequence: received.sequence,
            timestamp: view.timestamp(),
            marker: view.marker(),
            extensions: Extensions::read(view, &self.extensions),
            payload: payload.into(),
            arrived_at: now,
        })
    }

    pub(super) fn on_sender_report(&mut self, now: Instant, layer: u8, ntp: u32) {
        if let Some(own) = self.layers.get_mut(usize::from(layer)) {
            own.stream.on_sender_report(now, ntp);
        }
    }

    /// Asks for what is missing, if it is time to. Returns whether anything still is.
    pub(super) fn ask(&mut self, now: Instant, requests: &mut Requests<'_>) -> bool {
        let mut has_missing = false;
        for layer in &mut self.layers {
            has_missing |= layer.ask(now, requests);
        }
        has_missing
    }

    /// How its layers arrive, as others are told.
    pub(super) fn report_blocks(&mut self, now: Instant) -> impl Iterator<Item = ReportBlock> {
        let layers = self.layers.iter_mut();
        layers.filter_map(move |own| own.stream.report_block(now))
    }

    /// How the smallest of its layers arrives.
    pub(super) fn stats(&mut self, now: Instant) -> Option<IncomingStats> {
        Some(self.layers.first_mut()?.stream.stats(now))
    }

    pub(super) fn ssrc(&self, layer: u8) -> Option<u32> {
        Some(self.layers.get(usize::from(layer))?.ssrc)
    }
}

impl ArrivingLayer {
    fn ask(&mut self, now: Instant, requests: &mut Requests<'_>) -> bool {
        let own = requests.own;
        if self.stream.has_missing() {
            let lost = self.stream.lost_to_ask_for(now);
            if !lost.is_empty() {
                requests.compound().nack(own, self.ssrc, &lost);
            }
        }
        if self.wants_key_frame(now) {
            requests.compound().pli(own, self.ssrc);
        }
        self.stream.has_missing()
    }

    fn wants_key_frame(&mut self, now: Instant) -> bool {
        if !self.stream.needs_key_frame() {
            self.asked_for_key_frame = None;
            return false;
        }
        let again = |at: Instant| now.saturating_duration_since(at) >= BETWEEN_PLIS;
        let is_time = self.asked_for_key_frame.is_none_or(again);
        if is_time {
            self.asked_for_key_frame = Some(now);
        }
        is_time
    }
}
