//! What happens to packets, for those who look for the reason of something.

use super::consumer::Consumer;
use super::error::ObjectError;
use super::id::ProducerId;
use super::producer::{Producer, ProducerEvent, ProducerSource};
use super::router::RouterState;
use crate::Operation;
use crate::media::codec_kind;

/// What is to be told of a producer, packet by packet. By default nothing, which costs nothing; what is
/// told costs the worker's thread a task for each batch of packets. Of the traces that nobody reads in
/// time, [some are not kept](super::Events::missed); other events are, since there is room left for them.
///
/// mediasoup: the types of `producer.enableTraceEvent`. What is asked for again is not among them: the
/// WebRTC library does that by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct ProducerTracing {
    /// Every packet that arrives, those of a producer that is paused included: [`Trace::Rtp`].
    pub rtp: bool,
    /// Where key frames begin: [`Trace::KeyFrame`].
    pub key_frames: bool,
    /// Requests for key frames that are passed on to whoever sends it: [`Trace::Pli`].
    pub key_frame_requests: bool,
}

/// What is to be told of what a consumer's client says. By default nothing, which costs nothing. What a
/// consumer is sent, the trace of its producer tells.
///
/// mediasoup: the types of `consumer.enableTraceEvent`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct ConsumerTracing {
    /// Packets that it asks for again: [`Trace::Nack`].
    pub nacks: bool,
    /// Key frames that it asks for: [`Trace::Pli`] and [`Trace::Fir`].
    pub key_frame_requests: bool,
}

/// Something that has happened to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trace {
    /// A packet has arrived.
    Rtp {
        /// The smallest is 0.
        layer: u8,
        /// As its sender has numbered it, until that changes its SSRC.
        sequence: u16,
        /// In ticks of its sender's clock.
        timestamp: u32,
        /// Of its payload.
        bytes: usize,
    },
    /// A packet has arrived with which a key frame begins.
    KeyFrame {
        /// The smallest is 0.
        layer: u8,
        /// As its sender has numbered it, until that changes its SSRC.
        sequence: u16,
    },
    /// The client asks for packets again.
    Nack {
        /// How many.
        packets: usize,
    },
    /// A picture loss indication: a key frame is needed.
    Pli,
    /// A full intra request: the same, said otherwise.
    Fir,
}

impl Producer {
    /// Tells of packets by events from now on, or tells of fewer.
    ///
    /// # Errors
    ///
    /// [`ObjectError::ArrivesElsewhere`] for what is piped from another router, and
    /// [`ObjectError::NoMedia`] for what sends nothing.
    pub fn trace(&self, tracing: ProducerTracing) -> Operation<(), ObjectError> {
        let id = self.id();
        self.router()
            .enqueue(move |router| router.trace_producer(id, tracing))
    }
}

impl Consumer {
    /// Tells by events what the client asks for from now on, or tells of less.
    pub fn trace(&self, tracing: ConsumerTracing) -> Operation<(), ObjectError> {
        let id = self.id();
        self.router()
            .enqueue(move |router| router.with_consumer_on_network(id, |own| own.trace(tracing)))
    }
}

impl RouterState {
    fn trace_producer(
        &mut self,
        id: ProducerId,
        tracing: ProducerTracing,
    ) -> Result<(), ObjectError> {
        let (on_network, media) = match self.producer(id)?.source() {
            ProducerSource::Network(on_network, media)
            | ProducerSource::Process {
                on_network, media, ..
            } => (on_network, media),
            ProducerSource::Router { .. } => return Err(ObjectError::ArrivesElsewhere(id)),
            ProducerSource::Application => return Err(ObjectError::NoMedia(id)),
        };
        let codecs = media.codecs.iter();
        let codecs = codecs.map(|params| (*params.pt(), codec_kind(params.spec().codec)));
        on_network.trace(tracing, codecs.collect());
        Ok(())
    }

    /// A network thread has seen packets of a producer that is traced.
    pub(crate) fn producer_traced(&mut self, id: ProducerId, traces: Vec<Trace>) {
        if let Ok(producer) = self.producer(id) {
            for trace in traces {
                producer.events.send_trace(ProducerEvent::Trace(trace));
            }
        }
    }
}
