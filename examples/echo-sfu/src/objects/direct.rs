//! Transports to the application, as far as they have something on a network thread: media that the
//! application sends and is sent, packet by packet.

use std::sync::Arc;

use str0m::format::PayloadParams;
use str0m::media::MediaKind;

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerOptions};
use super::data_parameters::DataError;
use super::data_producer::MAX_WAITING_BYTES;
use super::error::ObjectError;
use super::events::EventSink;
use super::id::{ProducerId, TransportId};
use super::mailbox::mailbox;
use super::on_network::{ProducerOnNetwork, TransportOnNetwork};
use super::producer::{Producer, ProducerEvent, ProducerOptions, ProducerSource};
use super::router::RouterState;
use super::transport::{DirectTransport, TransportKind};
use crate::Operation;
use crate::media::Media;
use crate::network::{Network, NetworkThreads, Origin, Wanted};
use crate::reserved::Reserved;
use crate::rtp::wire::RtpView;

/// The largest packet that the application may send: what a consumer's connection adds to it must
/// still fit a datagram.
const MAX_PACKET_BYTES: usize = 1_400;

/// What the application sends on a producer.
///
/// Of header extensions, those are understood that are numbered as in what the application is sent:
/// see [`DirectTransport::consume`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct RtpSource {
    kind: MediaKind,
    codecs: Vec<PayloadParams>,
    ssrc: u32,
    paused: bool,
}

impl RtpSource {
    /// Packets of this kind, of one of these codecs, with this SSRC.
    pub fn new(kind: MediaKind, codecs: Vec<PayloadParams>, ssrc: u32) -> Self {
        Self {
            kind,
            codecs,
            ssrc,
            paused: false,
        }
    }

    /// Whether the producer begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }
}

/// Gives a direct transport its place, if there is any.
pub(super) fn open(
    networks: &NetworkThreads,
    id: TransportId,
    owner: &RouterAddress,
) -> Option<TransportOnNetwork> {
    let place = networks.place()?;
    let owner = owner.clone();
    let order = move |network: &mut Network| network.open_direct(id, owner);
    // A thread that has quit has no place for anybody.
    place.network.post(order).ok()?;
    Some(TransportOnNetwork { id, place })
}

impl DirectTransport {
    /// Creates a producer whose packets the application sends: [`Producer::send_rtp`].
    ///
    /// Fails if the source has no codec, if the transport is closed, or if the worker has no network
    /// threads.
    ///
    /// mediasoup: `produce`, with `rtpParameters`.
    pub fn produce_rtp(&self, source: RtpSource) -> Operation<Producer, ObjectError> {
        let (transport, address) = (self.id(), self.router().clone());
        self.router()
            .enqueue(move |router| router.produce_rtp(transport, source, address))
    }

    /// Creates a consumer of a producer of the same router.
    ///
    /// If that sends media, its packets come to [`Consumer::packets`]: complete RTP packets, with an
    /// SSRC and sequence numbers of the consumer's, and the payload types of the producer. Of header
    /// extensions (RFC 8285) they have the audio level (RFC 6464) as 1, the video orientation as 2,
    /// and the absolute capture time as 3.
    ///
    /// Fails if the producer or the transport is closed, or if there is media but the worker has no
    /// network threads.
    ///
    /// mediasoup: `consume`.
    pub fn consume(
        &self,
        producer: ProducerId,
        options: ConsumerOptions,
    ) -> Operation<Consumer, ObjectError> {
        let (transport, address) = (self.id(), self.router().clone());
        self.router()
            .enqueue(move |router| router.consume_directly(transport, producer, options, address))
    }
}

impl Producer {
    /// Sends an RTP packet to all its consumers, if it is of [`DirectTransport::produce_rtp`]. It goes
    /// by way of the router's thread, so that it is before or after a pause as it was called.
    ///
    /// Fails if the producer is closed or not such a one, if the packet is malformed or larger than
    /// 1400 bytes, or if 16 MiB wait to be taken already.
    ///
    /// mediasoup: `send`.
    pub fn send_rtp(&self, packet: impl Into<Arc<[u8]>>) -> Operation<(), ObjectError> {
        let (id, packet) = (self.id(), packet.into());
        let checked = if packet.len() > MAX_PACKET_BYTES || RtpView::parse(&packet).is_err() {
            Err(ObjectError::BadPacket)
        } else {
            let waiting = Reserved::new(self.waiting(), packet.len(), MAX_WAITING_BYTES);
            waiting.ok_or(ObjectError::Data(DataError::TooMuchWaiting))
        };
        match checked {
            Ok(waiting) => self
                .router()
                .enqueue(move |router| router.send_rtp(id, packet, waiting)),
            Err(error) => {
                let (reply, refused) = Operation::new();
                reply.send(Err(error));
                refused
            }
        }
    }
}

impl RouterState {
    fn produce_rtp(
        &mut self,
        transport: TransportId,
        source: RtpSource,
        address: RouterAddress,
    ) -> Result<Producer, ObjectError> {
        self.transport(transport)?;
        let on_network = self.transport_on_network(transport);
        let place = &on_network.ok_or(ObjectError::NoNetwork)?.place;
        if source.codecs.is_empty() {
            return Err(ObjectError::NoCodec);
        }
        let id = ProducerId::next();
        let origin = Origin {
            network: place.index,
            producer: id,
        };
        let media = Media {
            kind: source.kind,
            codecs: source.codecs,
            layers: 1,
        };
        let network = place.network.clone();
        let (ssrc, to_expect) = (source.ssrc, media.clone());
        let order = move |network: &mut Network| {
            network.add_direct_producer(transport, id, ssrc, &to_expect);
        };
        network.post(order).map_err(|_| ObjectError::NoNetwork)?;
        let on_network = ProducerOnNetwork::new(network, origin);
        let came_from = ProducerSource::Network(on_network, media);
        let (sink, events) = EventSink::new();
        let options = ProducerOptions::new().paused(source.paused);
        self.produce(id, transport, options, came_from, sink)?;
        Ok(Producer::new(id, address, events))
    }

    fn consume_directly(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        address: RouterAddress,
    ) -> Result<Consumer, ObjectError> {
        self.transport(transport)?;
        let media = self.producer(producer)?.media();
        let on_network = self.transport_on_network(transport);
        let network = on_network.map(|own| own.place.network.clone());
        if media.is_some() && network.is_none() {
            return Err(ObjectError::NoNetwork);
        }
        let (sink, events) = EventSink::new();
        let (id, paused) = self.consume(transport, producer, options, sink)?;
        let consumer = Consumer::new(id, producer, address, paused.state, events);
        let (Some(media), Some(network)) = (media, network) else {
            // The application says of the producer that it is there, and of this.
            return Ok(consumer);
        };
        let active = self.consumer(id)?.is_active();
        self.put_on_network(transport, id, active);
        let wanted = Wanted {
            consumer: id,
            origin: media.origin,
            media: media.media,
            active,
        };
        let (writer, packets) = mailbox();
        // Refused only by a thread that has quit, which ends its transports.
        let _ = network.post(move |network| network.add_direct_consumer(transport, wanted, writer));
        Ok(consumer.with_packets(packets))
    }

    fn send_rtp(
        &mut self,
        id: ProducerId,
        packet: Arc<[u8]>,
        waiting: Reserved,
    ) -> Result<(), ObjectError> {
        let producer = self.producer(id)?;
        let has_media = matches!(producer.source(), ProducerSource::Network(..));
        let transport = producer.transport;
        let own = self.transport(transport)?;
        let is_direct = matches!(own.kind, TransportKind::Direct(_));
        match own.on_network() {
            Some(on_network) if is_direct && has_media => {
                on_network.post(move |network| {
                    network.send_rtp(transport, id, &packet);
                    drop(waiting);
                });
                Ok(())
            }
            _ => Err(ObjectError::NoMedia(id)),
        }
    }

    /// Whoever consumes what the application sends needs a key frame.
    pub(crate) fn key_frame_requested(&mut self, id: ProducerId) {
        if let Ok(producer) = self.producer(id) {
            producer.events.send(ProducerEvent::KeyFrameRequested);
        }
    }
}
