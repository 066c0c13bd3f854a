//! What goes in and out on transports of plain RTP, those of pipes to other processes included.

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerEvent, ConsumerOptions};
use super::error::ObjectError;
use super::events::{EventSink, Events};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::on_network::{ConsumerOnNetwork, ProducerOnNetwork};
use super::pipe::PipedTo;
use super::plain_transport::PlainConsumer;
use super::producer::{Producer, ProducerOptions, ProducerSource};
use super::replica::Versioned;
use super::router::RouterState;
use super::rtp_parameters::{CheckedCapabilities, CheckedStream, RtpCapabilities, RtpParameters};
use crate::media::{LayerSsrcs, Media};
use crate::network::{Origin, PlainLine, PlainProduced, Wanted};
use crate::rtp::history::MAX_LAYERS;

const MAX_CONSUMERS: usize = 1_000;

impl RouterState {
    pub(super) fn produce_plain(
        &mut self,
        transport: TransportId,
        parameters: &RtpParameters,
        options: ProducerOptions,
        address: RouterAddress,
    ) -> Result<Producer, ObjectError> {
        let id = ProducerId::next();
        let (on_network, media) = self.add_arriving(id, transport, parameters.check()?)?;
        let source = ProducerSource::Network(on_network, media);
        let (sink, events) = EventSink::new();
        let produced = self.produce(id, transport, options, source, sink);
        if let (Err(_), Ok(plain)) = (&produced, self.plain(transport)) {
            plain.forget_producer(id);
        }
        produced?;
        Ok(Producer::new(id, address, events))
    }

    /// Has a stream taken in that is to be a producer's.
    pub(super) fn add_arriving(
        &mut self,
        id: ProducerId,
        transport: TransportId,
        stream: CheckedStream,
    ) -> Result<(ProducerOnNetwork, Media), ObjectError> {
        let plain = self.plain(transport)?;
        plain.add_producer(id, &stream)?;
        let CheckedStream {
            media,
            layers,
            extensions,
        } = stream;
        let produced = PlainProduced {
            producer: id,
            media: media.clone(),
            layers,
            extensions,
        };
        let on_network = &plain.on_network;
        on_network.post(move |network| network.add_plain_producer(transport, produced));
        // Only now: from here on it is told there whether it is paused, and that it is gone.
        let place = &on_network.place;
        let origin = Origin {
            network: place.index,
            producer: id,
        };
        Ok((ProducerOnNetwork::new(place.network.clone(), origin), media))
    }

    pub(super) fn consume_plain(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        capabilities: &RtpCapabilities,
        options: ConsumerOptions,
        address: RouterAddress,
    ) -> Result<PlainConsumer, ObjectError> {
        let accepted = capabilities.check()?;
        let id = ConsumerId::next();
        let ordered = self.consume_plain_as(id, transport, producer, &accepted, options, None)?;
        let (began_with, events) = (ordered.paused.state, ordered.events);
        Ok(PlainConsumer {
            consumer: Consumer::new(id, producer, address, began_with, events),
            parameters: ordered.parameters,
        })
    }

    pub(super) fn consume_plain_as(
        &mut self,
        id: ConsumerId,
        transport: TransportId,
        producer: ProducerId,
        accepted: &CheckedCapabilities,
        options: ConsumerOptions,
        piped_to: Option<PipedTo>,
    ) -> Result<OrderedConsumer, ObjectError> {
        let source = self.producer(producer)?.media();
        let source = source.ok_or(ObjectError::NoMedia(producer))?;
        let plain = self.plain(transport)?;
        if plain.consumers.len() >= MAX_CONSUMERS {
            return Err(ObjectError::TooMany(MAX_CONSUMERS));
        }
        let (ssrc, rtx) = (plain.take_ssrc(), plain.take_ssrc());
        let parameters = accepted.of_consumer(&source.media, ssrc, Some(rtx));
        if parameters.codecs.is_empty() {
            return Err(ObjectError::NoCommonCodec(producer));
        }
        // Another process chooses among the layers for itself, and so is sent each of them.
        let layers = match piped_to {
            Some(_) => source.media.layers.min(MAX_LAYERS),
            None => 1,
        };
        let (sink, events) = EventSink::new();
        let paused = self.add_consumer(id, transport, producer, options, piped_to, sink)?;
        let active = self.consumer(id)?.is_active();
        self.put_on_network(transport, id, active);
        self.note_accepted(id, accepted.codecs.as_slice().into());
        let plain = self.plain(transport)?;
        plain.consumers.push(id);
        let (mut upper_layers, mut upper_on_network) = (Vec::new(), Vec::new());
        for layer in 0..layers {
            let (consumer, ssrcs) = match layer {
                0 => {
                    let rtx_ssrc = parameters.rtx_ssrc;
                    (id, LayerSsrcs { ssrc, rtx_ssrc })
                }
                _ => {
                    let (ssrc, rtx) = (plain.take_ssrc(), plain.take_ssrc());
                    let rtx_ssrc = parameters.rtx_ssrc.map(|_| rtx);
                    (ConsumerId::next(), LayerSsrcs { ssrc, rtx_ssrc })
                }
            };
            let wanted = Wanted {
                consumer,
                origin: source.origin,
                media: source.media.clone(),
                active,
            };
            let line = PlainLine {
                ssrc: ssrcs.ssrc,
                rtx: ssrcs.rtx_ssrc,
                codecs: accepted.codecs.clone(),
                extensions: accepted.extensions,
                layer: (layers > 1).then_some(layer as u8),
                reported_as: (consumer != id).then_some(id),
            };
            plain
                .on_network
                .post(move |network| network.add_plain_consumer(transport, wanted, line));
            if consumer != id {
                let network = plain.on_network.place.network.clone();
                upper_on_network.push(ConsumerOnNetwork::new(network, consumer, active));
                upper_layers.push(ssrcs);
            }
        }
        self.consumer(id)?.upper_layers = upper_on_network;
        Ok(OrderedConsumer {
            parameters,
            upper_layers,
            paused,
            events,
        })
    }
}

/// A consumer that has been ordered, and what is to be known of it.
pub(super) struct OrderedConsumer {
    /// Of its one stream, or of that of the smallest layer.
    pub(super) parameters: RtpParameters,
    /// What those of the others have for themselves.
    pub(super) upper_layers: Vec<LayerSsrcs>,
    pub(super) paused: Versioned<bool>,
    pub(super) events: Events<ConsumerEvent>,
}
