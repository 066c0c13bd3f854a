//! The consumers of a network thread: what is ordered of them.

use std::sync::Arc;
use std::time::Instant;

use str0m::format::PayloadParams;

use super::consumer::Consumer;
use super::source::Origin;
use super::webrtc::ReceivingLine;
use super::{Network, State};
use crate::media::Media;
use crate::objects::{ConsumerId, TransportId};
use crate::rtp::outgoing::{CodecMapping, OutgoingOptions, OutgoingStream, RtxOptions};

/// A consumer that a transport is to have.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) consumer: ConsumerId,
    pub(crate) origin: Origin,
    pub(crate) media: Media,
    pub(crate) active: bool,
}

/// The codecs that a consumer's client takes.
pub(crate) type Accepted = Arc<[PayloadParams]>;

impl Network {
    /// Sends media to a consumer, or not. From when it begins to, a key frame comes first.
    pub(crate) fn set_consumer_active(&mut self, consumer: ConsumerId, active: bool) {
        self.act(|state, now| {
            if let Some(own) = state.consumers.get_mut(&consumer) {
                own.stream.set_active(active);
                state.ask_for_key_frame(now, consumer);
            }
        });
    }

    /// The best layer that a consumer is to be sent; `None` for the best there is.
    pub(crate) fn set_preferred_layer(&mut self, consumer: ConsumerId, layer: Option<u8>) {
        self.act(|state, now| {
            if let Some(own) = state.consumers.get_mut(&consumer) {
                own.stream.set_preferred_layer(layer);
                state.ask_for_key_frame(now, consumer);
            }
        });
    }

    /// Asks whoever sends what a consumer is sent for a key frame.
    pub(crate) fn request_consumer_key_frame(&mut self, consumer: ConsumerId) {
        self.act(|state, now| {
            let Some(own) = state.consumers.get(&consumer) else {
                return;
            };
            let (origin, layer) = (own.origin, own.stream.layer_asked_for());
            state.request_key_frame_at(now, origin, layer);
        });
    }

    /// Sends a consumer another producer from now on.
    pub(crate) fn switch_consumer(
        &mut self,
        consumer: ConsumerId,
        origin: Origin,
        (codecs, layers): (Vec<CodecMapping>, usize),
        active: bool,
    ) {
        self.act(|state, now| {
            let Some(own) = state.consumers.get_mut(&consumer) else {
                return;
            };
            own.stream.switch_source();
            own.stream.set_codecs(codecs);
            own.stream.set_available_layers(now, &numbers_of(layers));
            own.stream.set_active(active);
            let (left, kind) = (std::mem::replace(&mut own.origin, origin), own.kind);
            state.leave_fan_out(consumer, left);
            state.join_fan_out(consumer, origin, kind.is_video());
            state.ask_for_key_frame(now, consumer);
        });
    }

    /// Sends nothing more to a consumer.
    pub(crate) fn remove_consumer(&mut self, consumer: ConsumerId) {
        self.act(|state, _| state.remove_consumer(consumer));
    }
}

impl State {
    pub(super) fn add_consumer(
        &mut self,
        transport: TransportId,
        wanted: Wanted,
        line: ReceivingLine,
        now: Instant,
    ) {
        let mut stream = OutgoingStream::new(OutgoingOptions {
            ssrc: line.ssrc,
            rtx: line.rtx.map(|ssrc| RtxOptions { ssrc }),
            codecs: wanted.media.map_to(&line.codecs),
            is_video: wanted.media.kind.is_video(),
            active: wanted.active,
            first_sequence: 0,
            now,
        });
        stream.set_available_layers(now, &numbers_of(wanted.media.layers));
        let (id, origin) = (wanted.consumer, wanted.origin);
        let kind = wanted.media.kind;
        let names = (line.mid, line.extensions);
        let consumer = Consumer::new(transport, origin, kind, line.ssrc, stream, names);
        self.consumers.insert(id, consumer);
        if let Some(transport) = self.transports.get_mut(&transport) {
            transport.add_consumer(id, line.ssrc);
        }
        self.join_fan_out(id, origin, kind.is_video());
        tracing::debug!(consumer = ?id, ?transport, "consumer added");
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else {
            return;
        };
        if let Some(transport) = self.transports.get_mut(&consumer.transport) {
            transport.remove_consumer(id, consumer.ssrc);
            if let Some(plain) = transport.plain() {
                plain.say_goodbye(consumer.ssrc, &mut self.outbox);
            }
            if let Some(direct) = transport.direct() {
                direct.forget_consumer(id);
            }
        }
        self.leave_fan_out(id, consumer.origin);
    }
}

/// So many layers, by their numbers.
fn numbers_of(layers: usize) -> Vec<u8> {
    (0..layers).filter_map(|at| at.try_into().ok()).collect()
}
