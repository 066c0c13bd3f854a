//! What a consumer is sent: one RTP stream, made of the packets of a producer.

mod layers;
mod numbering;
mod pictures;
mod reports;
mod resend;
mod sent;
#[cfg(test)]
mod tests;
mod timeline;

use std::time::Instant;

pub use reports::{OutgoingCounts, OutgoingStats};
pub(crate) use reports::{ReportBlockView, SenderInfo};

use crate::rtp::codec::{CodecKind, is_key_frame_start};
use crate::rtp::history::{AUDIO_PACKETS, VIDEO_PACKETS};
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::{BitRate, Epoch, Millis, RateMeter};
use crate::rtp::vp8::Vp8Patch;

use layers::{Layers, Order};
use numbering::Numbering;
use pictures::Pictures;
use reports::Reception;
use resend::{InPlace, Rtx};
use sent::{ResendBudget, SentPackets};
use timeline::Timeline;

/// What a stream is to be.
#[derive(Debug)]
pub(crate) struct OutgoingOptions {
    pub(crate) ssrc: u32,
    /// `None` if the receiver wants lost packets again as they were.
    pub(crate) rtx: Option<RtxOptions>,
    /// A payload type of the producer that is not among them is not sent.
    pub(crate) codecs: Vec<CodecMapping>,
    pub(crate) is_video: bool,
    pub(crate) active: bool,
    /// Best in the lower half: the receiver's SRTP, should it miss the first packets, may not miss
    /// that numbers wrapped (RFC 3711, section 3.3.1).
    pub(crate) first_sequence: u16,
    pub(crate) now: Instant,
}

/// The stream of packets that are sent again (RFC 4588).
#[derive(Debug, Clone, Copy)]
pub(crate) struct RtxOptions {
    pub(crate) ssrc: u32,
}

/// What the producer calls a codec, and what the consumer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodecMapping {
    pub(crate) from: u8,
    pub(crate) to: u8,
    /// The payload type by which its packets are sent again.
    pub(crate) rtx: Option<u8>,
    pub(crate) kind: CodecKind,
    pub(crate) clock_rate: u32,
}

/// What a packet becomes; its payload and extensions stay the producer's but for the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    /// Extended; the first is in cycle 0.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// `None` if the payload is right as it is.
    pub(crate) vp8: Option<Vp8Patch>,
}

/// A packet that is to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resend {
    /// Where [`PacketHistory`](crate::rtp::history::PacketHistory) has its payload, with the next.
    pub(crate) layer: u8,
    pub(crate) source_sequence: u64,
    /// What it was sent as.
    pub(crate) original: Rewritten,
    /// What it is to be sent as; `None` for the same once more.
    pub(crate) rtx: Option<RtxHeader>,
}

/// What differs from the original. The payload begins with the original's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtxHeader {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    /// Extended; the first is in cycle 0.
    pub(crate) sequence: u64,
}

/// The stream of one consumer.
///
/// It *starts* when it is first active, and again when it is resumed, gets another source, switches
/// to another layer, or has lost more packets in a row than are remembered (512 of video, 128 of
/// audio). What is sent from one start to the next is a *stretch*: packets of one layer of one
/// source.
///
/// # Guarantees
///
/// - No sequence number is used for two packets, and no packet is sent twice but when asked for.
/// - Within a stretch, sequence numbers are as continuous as the source's: packets that did not
///   arrive leave gaps, so that the receiver asks for them; packets that are not for the receiver
///   leave none, unless they come out of order. Packets that arrive late get the number that was
///   kept for them, or are dropped if that is not known any more.
/// - A stretch begins with the number after the highest one sent. Packets that are older than its
///   first are dropped.
/// - Timestamps advance within a stretch as the source's do, and from one to the next as real time
///   does: by one tick at least, by 2³⁰ at most.
/// - A stretch of video begins with the first packet of a key frame. It has then all that came
///   after it.
/// - VP8's picture IDs and TL0PICIDX advance within a stretch as the source's do, and by one from
///   one to the next. They keep their width: a source with IDs of 7 bits gets IDs of 7 bits.
#[derive(Debug)]
pub(crate) struct OutgoingStream {
    ssrc: u32,
    rtx: Option<Rtx>,
    codecs: Box<[CodecMapping]>,
    is_video: bool,
    active: bool,
    epoch: Epoch,
    stretch: Option<Stretch>,
    layers: Layers,
    timeline: Timeline,
    pictures: Pictures,
    sent: SentPackets,
    resend_budget: ResendBudget,
    rate: RateMeter,
    reception: Reception,
    counts: OutgoingCounts,
    resent_in_place: InPlace,
}

#[derive(Debug)]
struct Stretch {
    layer: u8,
    numbering: Numbering,
}

impl OutgoingStream {
    pub(crate) fn new(options: OutgoingOptions) -> Self {
        let remembered = if options.is_video {
            VIDEO_PACKETS
        } else {
            AUDIO_PACKETS
        };
        let mut stream = Self {
            ssrc: options.ssrc,
            rtx: options.rtx.map(|rtx| Rtx {
                ssrc: rtx.ssrc,
                next: u64::from(options.first_sequence),
            }),
            codecs: options.codecs.into(),
            is_video: options.is_video,
            active: false,
            epoch: Epoch::new(options.now),
            stretch: None,
            layers: Layers::new(),
            timeline: Timeline::default(),
            pictures: Pictures::default(),
            sent: SentPackets::new(remembered, options.first_sequence),
            resend_budget: ResendBudget::default(),
            rate: RateMeter::new(),
            reception: Reception::default(),
            counts: OutgoingCounts::default(),
            resent_in_place: InPlace::default(),
        };
        stream.set_active(options.active);
        stream
    }

    /// Inactive, it sends nothing. Video resumes with a key frame, which is for the owner to ask
    /// for; audio with the next packet.
    pub(crate) fn set_active(&mut self, active: bool) {
        if self.active != active {
            self.active = active;
            self.end_stretch();
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// What comes next is of another producer, whose numbers have nothing to do with the last one's.
    /// What the last one sent cannot be sent again.
    pub(crate) fn switch_source(&mut self) {
        self.layers.forget_source();
        self.sent.forget_all();
        self.end_stretch();
    }

    pub(crate) const fn has_rtx(&self) -> bool {
        self.rtx.is_some()
    }

    /// Of the latest packets, from 0 to 1, as the receiver has last said.
    pub(crate) fn fraction_lost(&self) -> f64 {
        let report = self.reception.last();
        report.map_or(0.0, |block| f64::from(block.fraction_lost) / 256.0)
    }

    /// How the payload types of what comes next translate.
    pub(crate) fn set_codecs(&mut self, codecs: Vec<CodecMapping>) {
        self.codecs = codecs.into();
    }

    pub(crate) fn is_waiting_for_key_frame(&self) -> bool {
        self.active && self.is_video && self.stretch.is_none()
    }

    /// The layer of which the owner should ask the producer for a key frame. `None` also while
    /// nothing arrives that one could be asked of.
    pub(crate) fn wanted_key_frame(&self) -> Option<u8> {
        let target = self.target_layer()?;
        (self.active && self.current_layer() != Some(target)).then_some(target)
    }

    /// The highest layer wanted; `None` for whatever there is.
    pub(crate) fn set_preferred_layer(&mut self, highest: Option<u8>) {
        self.layers.prefer(highest);
        if self.layers.is_none_wanted() {
            self.end_stretch();
        }
    }

    /// Sends this layer and no other: the receiver has a stream for each.
    pub(crate) fn send_only(&mut self, layer: u8) {
        self.layers.restrict(layer);
    }

    /// The layer of which the receiver wants a key frame when it asks for one.
    pub(crate) fn layer_asked_for(&self) -> u8 {
        let only = self.layers.only();
        only.or(self.current_layer()).unwrap_or(0)
    }

    /// What may be sent per second; `None` for whatever it takes. The lowest layer is sent in any
    /// case.
    pub(crate) fn set_bitrate_budget(&mut self, budget: Option<BitRate>) {
        self.layers.afford(budget);
    }

    /// What its smallest layer takes, and what it could use at most.
    pub(crate) fn wanted_bitrates(&mut self) -> (BitRate, BitRate) {
        match self.is_active() {
            true => self.layers.wanted(),
            false => (BitRate(0), BitRate(0)),
        }
    }

    /// Layers that others have heard of lately. Without this, they are found out as they are heard.
    pub(crate) fn set_available_layers(&mut self, now: Instant, layers: &[u8]) {
        self.layers.expect(self.epoch.millis(now), layers);
    }

    /// The layer that is forwarded.
    pub(crate) fn current_layer(&self) -> Option<u8> {
        self.stretch.as_ref().map(|stretch| stretch.layer)
    }

    /// The layer that is to be forwarded, from its next key frame on. `None` for audio, which has no
    /// layers.
    pub(crate) fn target_layer(&self) -> Option<u8> {
        self.is_video.then(|| self.layers.target()).flatten()
    }

    /// What the packet is to be sent as. `None` if it is not to be sent: while inactive or waiting
    /// for a key frame, and for packets of other layers, of unknown codecs, without payload, that
    /// are late beyond use, or were there before.
    pub(crate) fn rewrite(&mut self, now: Instant, packet: &MediaPacket) -> Option<Rewritten> {
        let millis = self.epoch.millis(now);
        let order = self.layers.hear(millis, packet)?;
        if !self.active {
            return None;
        }
        let codec = self
            .codecs
            .iter()
            .find(|codec| codec.from == packet.payload_type);
        let Some(codec) = codec.copied() else {
            self.counts.untranslatable += 1;
            self.leave_out(packet);
            return None;
        };
        if packet.payload.is_empty() {
            self.leave_out(packet);
            return None;
        }
        let sequence = match self.place(packet) {
            Placed::At(sequence) => sequence,
            Placed::Late => {
                self.counts.late += 1;
                return None;
            }
            Placed::InNoStretch => {
                self.start_stretch(now, packet, codec, order)?;
                self.sent.next()
            }
        };
        let is_newest = sequence >= self.sent.next();
        let vp8 = match codec.kind {
            CodecKind::Vp8 => self.pictures.rewrite(&packet.payload, is_newest),
            _ => None,
        };
        let rewritten = Rewritten {
            payload_type: codec.to,
            marker: packet.marker,
            sequence,
            timestamp: self
                .timeline
                .rewrite(now, packet.timestamp, codec.clock_rate),
            ssrc: self.ssrc,
            vp8,
        };
        self.sent.insert(&rewritten, packet);
        self.count_sent(millis, packet.payload.len());
        Some(rewritten)
    }

    /// `None` before the first packet.
    pub(crate) fn sender_info(&self, now: Instant) -> Option<SenderInfo> {
        Some(SenderInfo {
            ssrc: self.ssrc,
            packets: (self.counts.packets + self.resent_in_place.packets) as u32,
            octets: (self.counts.bytes + self.resent_in_place.bytes) as u32,
            rtp_timestamp: self.timeline.at(now)?,
        })
    }

    pub(crate) fn on_report_block(&mut self, block: ReportBlockView) {
        self.reception.report(block);
    }

    /// From 0 to 10, as documented at [`score`](crate::rtp::rate::score); loss is what the receiver
    /// reports, averaged with its reports before.
    pub(crate) fn score(&self) -> u8 {
        self.reception.score()
    }

    pub(crate) fn bitrate(&mut self, now: Instant) -> BitRate {
        self.rate.rate(self.epoch.millis(now))
    }

    pub(crate) fn stats(&mut self, now: Instant) -> OutgoingStats {
        let report = self.reception.last();
        OutgoingStats {
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx.as_ref().map(|rtx| rtx.ssrc),
            counts: self.counts,
            bitrate: self.bitrate(now),
            active: self.active,
            waiting_for_key_frame: self.is_waiting_for_key_frame(),
            preferred_layer: self.layers.preferred(),
            target_layer: self.target_layer(),
            current_layer: self.current_layer(),
            fraction_lost: report.map(|block| f64::from(block.fraction_lost) / 256.0),
            packets_lost: report.map(|block| block.cumulative_lost),
            jitter: report.map(|block| block.jitter),
            round_trip_ms: self
                .reception
                .round_trip()
                .map(|time| time.as_secs_f64() * 1000.0),
            score: self.score(),
        }
    }

    fn place(&mut self, packet: &MediaPacket) -> Placed {
        let Some(stretch) = &mut self.stretch else {
            return Placed::InNoStretch;
        };
        if stretch.layer != packet.layer {
            return Placed::InNoStretch;
        }
        match stretch.numbering.place(packet.sequence) {
            Some(sequence) if self.sent.is_far_ahead(sequence) => {
                self.end_stretch();
                Placed::InNoStretch
            }
            Some(sequence) if self.sent.is_free(sequence) => Placed::At(sequence),
            _ => Placed::Late,
        }
    }

    /// `None` if it cannot start with this packet.
    fn start_stretch(
        &mut self,
        now: Instant,
        packet: &MediaPacket,
        codec: CodecMapping,
        order: Order,
    ) -> Option<()> {
        // Of what came after a late one, some has been dropped already.
        if order == Order::Late {
            return None;
        }
        let was_at = self.current_layer();
        if self.is_video {
            let target = self.layers.target()?;
            // A smaller picture now is better than none until the larger one.
            let is_wanted = packet.layer == target || (was_at.is_none() && packet.layer < target);
            if !is_wanted || !is_key_frame_start(codec.kind, &packet.payload) {
                return None;
            }
        } else if was_at.is_some() {
            return None;
        }
        if was_at.is_some() {
            self.counts.layer_switches += 1;
        }
        self.timeline.start(now, packet.timestamp, codec.clock_rate);
        self.pictures.start();
        self.stretch = Some(Stretch {
            layer: packet.layer,
            numbering: Numbering::start(packet.sequence, self.sent.next()),
        });
        Some(())
    }

    fn end_stretch(&mut self) {
        self.stretch = None;
        if self.is_waiting_for_key_frame() {
            self.counts.key_frame_waits += 1;
        }
    }

    fn leave_out(&mut self, packet: &MediaPacket) {
        if let Some(stretch) = &mut self.stretch
            && stretch.layer == packet.layer
        {
            stretch.numbering.leave_out(packet.sequence);
        }
    }

    fn count_sent(&mut self, now: Millis, bytes: usize) {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        self.rate.add(now, bytes);
        self.resend_budget.earn(bytes);
    }
}

/// Where a packet belongs.
enum Placed {
    At(u64),
    /// Before what is known, or where something is already.
    Late,
    InNoStretch,
}
