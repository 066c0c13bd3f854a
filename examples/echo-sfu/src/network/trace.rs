//! Packets that are looked at on their way, where somebody wants to know.

use super::source::Source;
use super::{Network, State};
use crate::objects::{
    ConsumerEvent, ConsumerId, ConsumerTracing, ProducerId, ProducerTracing, Trace,
};
use crate::rtp::codec::{CodecKind, is_key_frame_start};
use crate::rtp::packet::MediaPacket;

/// What is told of a producer.
#[derive(Debug)]
pub(super) struct Tracer {
    tracing: ProducerTracing,
    codecs: Vec<(u8, CodecKind)>,
    /// What is to be told next.
    traces: Vec<Trace>,
}

impl Network {
    pub(crate) fn trace_producer(
        &mut self,
        producer: ProducerId,
        tracing: ProducerTracing,
        codecs: Vec<(u8, CodecKind)>,
    ) {
        self.act(|state, _| {
            if let Some(source) = state.sources.get_mut(&producer) {
                let is_wanted = tracing != ProducerTracing::default();
                source.tracer = is_wanted.then(|| {
                    Box::new(Tracer {
                        tracing,
                        codecs,
                        traces: Vec::new(),
                    })
                });
            }
        });
    }

    pub(crate) fn trace_consumer(&mut self, consumer: ConsumerId, tracing: ConsumerTracing) {
        self.act(|state, _| {
            if let Some(own) = state.consumers.get_mut(&consumer) {
                own.tracing = tracing;
            }
        });
    }
}

impl Tracer {
    pub(super) fn see(&mut self, packet: &MediaPacket) {
        let (layer, sequence) = (packet.layer, packet.sequence as u16);
        if self.tracing.rtp {
            self.traces.push(Trace::Rtp {
                layer,
                sequence,
                timestamp: packet.timestamp,
                bytes: packet.payload.len(),
            });
        }
        let of_packet = |(number, _): &&(u8, CodecKind)| *number == packet.payload_type;
        if self.tracing.key_frames
            && let Some((_, kind)) = self.codecs.iter().find(of_packet)
            && !matches!(kind, CodecKind::Opus | CodecKind::Other)
            && is_key_frame_start(*kind, &packet.payload)
        {
            self.traces.push(Trace::KeyFrame { layer, sequence });
        }
    }
}

impl Source {
    /// A request for a key frame is passed on.
    pub(super) fn trace_key_frame_request(&mut self) {
        if let Some(tracer) = &mut self.tracer
            && tracer.tracing.key_frame_requests
        {
            tracer.traces.push(Trace::Pli);
        }
    }
}

impl State {
    /// Tells what was seen of a producer, if anything was.
    pub(super) fn tell_traces(&mut self, producer: ProducerId) {
        let Some(source) = self.sources.get_mut(&producer) else {
            return;
        };
        let Some(tracer) = source.tracer.as_mut() else {
            return;
        };
        let traces = std::mem::take(&mut tracer.traces);
        if let Some(transport) = self.transports.get(&source.transport)
            && !traces.is_empty()
        {
            let owner = &transport.owner;
            owner.post(move |router| router.producer_traced(producer, traces));
        }
    }

    /// Tells what a consumer's client asks for, if that is wanted.
    pub(super) fn trace_consumer(
        &self,
        id: ConsumerId,
        is_wanted: impl FnOnce(ConsumerTracing) -> bool,
        trace: Trace,
    ) {
        if let Some(consumer) = self.consumers.get(&id)
            && is_wanted(consumer.tracing)
            && let Some(transport) = self.transports.get(&consumer.transport)
        {
            let owner = &transport.owner;
            let id = consumer.reported_as.unwrap_or(id);
            owner.post(move |router| router.consumer_observed(id, ConsumerEvent::Trace(trace)));
        }
    }
}
