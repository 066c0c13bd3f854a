//! Transports to browsers and other WebRTC clients.

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerEvent, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::on_network::{ConsumerOnNetwork, ProducerOnNetwork, TransportOnNetwork};
use super::producer::{Producer, ProducerOptions, ProducerSource};
use super::router::{Router, RouterState};
use super::transport::{self, TransportEvent, TransportKind, TransportState};
use super::transport_status::TransportStatus;
use crate::media::{Media, TrackInfo};
use crate::network::{Accepted, Flow, OpenWebRtc, Opened, Origin, Wanted};
use crate::operation::ReplyTo;
use crate::sdp::{Fragment, Offer};
use crate::{ApiError, Operation};

/// What a transport to a WebRTC client is for.
///
/// If its offer has a line for data channels: the channels that a sending client opens become data
/// producers, and a client that consumes is sent those of whom it consumes, each on a channel that we
/// open. What a client sends that only consumes goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The client sends: what it offers becomes producers.
    Produce,
    /// The client is sent these producers, as far as its offer has media lines for them.
    Consume(Vec<ProducerId>),
    /// The same, with consumers that are paused until each is [resumed](Consumer::resume).
    ///
    /// mediasoup: `paused` of `ConsumerOptions`.
    ConsumePaused(Vec<ProducerId>),
    /// The client is sent what it sends.
    Echo,
}

/// A transport to a WebRTC client: ICE, DTLS and SRTP, as its offer and our answer agree. Dropping
/// this closes nothing.
///
/// mediasoup: `WebRtcTransport`, and the `produce` and `consume` on it.
#[derive(Debug)]
pub struct WebRtcTransport {
    id: TransportId,
    router: RouterAddress,
    answer: String,
    tracks: Vec<TrackInfo>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    /// The same by their names, which outlast the handles.
    media: (Vec<ProducerId>, Vec<ConsumerId>),
    events: Events<TransportEvent>,
}

impl WebRtcTransport {
    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    pub(super) const fn router(&self) -> &RouterAddress {
        &self.router
    }

    /// The SDP answer to the client's offer.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// What kind of media each of the producers is.
    pub fn tracks(&self) -> &[TrackInfo] {
        &self.tracks
    }

    /// What the client sends, by the order of the media lines.
    pub fn producers(&mut self) -> &mut [Producer] {
        &mut self.producers
    }

    /// What the client is sent.
    pub fn consumers(&mut self) -> &mut [Consumer] {
        &mut self.consumers
    }

    /// Lets go of the handles of what is sent on it, for those who will not ask.
    pub(crate) fn forget_media(&mut self) {
        self.producers.clear();
        self.consumers.clear();
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<TransportEvent> {
        &mut self.events
    }

    /// Takes in candidates that the client has found since its offer.
    pub(crate) fn trickle(&self, fragment: Fragment) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router.enqueue_with_reply(move |router, reply| {
            router.trickle(id, fragment, reply);
        })
    }

    /// Pauses what its client sends and is sent, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) -> Operation<(), ObjectError> {
        let (producers, consumers) = self.media.clone();
        self.router.enqueue(move |router| {
            // What is closed by now needs it no more.
            for producer in producers {
                let _ = router.set_producer_paused(producer, paused);
            }
            for consumer in consumers {
                let _ = router.set_consumer_paused(consumer, paused);
            }
            Ok(())
        })
    }

    /// Closes it, and all producers and consumers on it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        transport::close(&self.router, self.id)
    }
}

impl Router {
    /// Creates a transport to a WebRTC client that has sent an offer.
    ///
    /// What it consumes is as paused as its producers are when this is called, and follows them from
    /// there, also while the offer is being answered.
    pub fn create_webrtc_transport(
        &self,
        offer: Offer,
        purpose: Purpose,
    ) -> Operation<WebRtcTransport, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue_with_reply(move |router, reply| {
            router.open_webrtc(address, offer, purpose, reply);
        })
    }
}

/// A transport whose offer is being answered.
#[derive(Debug)]
pub(super) struct Opening {
    address: RouterAddress,
    consumers: Vec<OrderedConsumer>,
    /// Who sends what it consumes, and may send data.
    senders: Vec<TransportId>,
    events: Events<TransportEvent>,
    reply: ReplyTo<WebRtcTransport, ObjectError>,
}

/// A consumer on a transport that is being opened.
#[derive(Debug)]
struct OrderedConsumer {
    id: ConsumerId,
    producer: ProducerId,
    began_with: bool,
    events: Events<ConsumerEvent>,
}

impl Opening {
    /// The transport was closed before it was open.
    pub(super) fn abandon(self, id: TransportId, reason: CloseReason) {
        self.reply.send(Err(match reason {
            CloseReason::WorkerClosed => ObjectError::WorkerClosed,
            CloseReason::RouterClosed => ObjectError::RouterClosed(self.address.id),
            _ => ObjectError::TransportClosed(id),
        }));
    }
}

impl RouterState {
    fn open_webrtc(
        &mut self,
        address: RouterAddress,
        offer: Offer,
        purpose: Purpose,
        reply: ReplyTo<WebRtcTransport, ObjectError>,
    ) {
        let id = TransportId::next();
        let (sink, events) = EventSink::new();
        let Some(place) = self.networks().place() else {
            return reply.send(Err(ObjectError::NoNetwork));
        };
        let network = place.network.clone();
        let state = TransportState {
            kind: TransportKind::WebRtc {
                on_network: TransportOnNetwork { id, place },
                opening: None,
                downlink: None,
                allowed: None,
                status: TransportStatus::default(),
            },
            events: sink,
        };
        if let Err(error) = self.add_transport(id, state) {
            return reply.send(Err(error));
        }
        let options = ConsumerOptions::new();
        let options = options.paused(matches!(purpose, Purpose::ConsumePaused(_)));
        let (flow, wanted) = match purpose {
            Purpose::Produce => (Flow::Produce, Vec::new()),
            Purpose::Echo => (Flow::Echo, Vec::new()),
            Purpose::Consume(producers) | Purpose::ConsumePaused(producers) => {
                (Flow::Consume, producers)
            }
        };
        let senders = self.senders_of(&wanted);
        let mut consumers = Vec::new();
        let mut orders = Vec::new();
        for producer in wanted {
            match self.order_consumer(id, producer, options) {
                Ok((consumer, order)) => {
                    consumers.push(consumer);
                    orders.push(order);
                }
                Err(error) => {
                    let _ = self.close_transport(id, CloseReason::Refused);
                    return reply.send(Err(error));
                }
            }
        }
        let order = OpenWebRtc {
            id,
            owner: address.clone(),
            offer,
            flow,
            wanted: orders,
        };
        if network
            .post(move |network| network.open_webrtc(order))
            .is_err()
        {
            let _ = self.close_transport(id, CloseReason::Refused);
            return reply.send(Err(ObjectError::NoNetwork));
        }
        self.set_opening(
            id,
            Opening {
                address,
                consumers,
                senders,
                events,
                reply,
            },
        );
    }

    /// Makes a consumer before its transport is there: from now on it follows its producer.
    fn order_consumer(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
    ) -> Result<(OrderedConsumer, Wanted), ObjectError> {
        let media = self
            .producer(producer)?
            .media()
            .ok_or(ObjectError::NoMedia(producer))?;
        let (sink, events) = EventSink::new();
        let (id, paused) = self.consume(transport, producer, options, sink)?;
        let active = self.consumer(id)?.is_active();
        self.put_on_network(transport, id, active);
        let ordered = OrderedConsumer {
            id,
            producer,
            began_with: paused.state,
            events,
        };
        let wanted = Wanted {
            consumer: id,
            origin: media.origin,
            media: media.media,
            active,
        };
        Ok((ordered, wanted))
    }

    /// A consumer's media goes out where its transport is.
    pub(super) fn put_on_network(
        &mut self,
        transport: TransportId,
        consumer: ConsumerId,
        active: bool,
    ) {
        let on_network = self.transport_on_network(transport);
        let network = on_network.map(|own| own.place.network.clone());
        if let (Some(network), Ok(own)) = (network, self.consumer(consumer)) {
            own.on_network = Some(ConsumerOnNetwork::new(network, consumer, active));
        }
    }

    pub(super) fn note_accepted(&mut self, consumer: ConsumerId, accepted: Accepted) {
        if let Ok(own) = self.consumer(consumer)
            && let Some(on_network) = &mut own.on_network
        {
            on_network.accepted = Some(accepted);
        }
    }

    /// A network thread has answered an offer, or has not.
    pub(crate) fn transport_opened(&mut self, id: TransportId, outcome: Result<Opened, ApiError>) {
        // It may have been closed meanwhile, and been abandoned.
        let Some(opening) = self.take_opening(id) else {
            return;
        };
        let opened = match outcome {
            Ok(opened) => opened,
            Err(error) => {
                let _ = self.close_transport(id, CloseReason::Refused);
                return opening.reply.send(Err(error.into()));
            }
        };
        let address = opening.address;
        let mut transport = WebRtcTransport {
            id,
            router: address.clone(),
            answer: opened.answer,
            tracks: opened
                .produced
                .iter()
                .map(|(_, media)| media.info())
                .collect(),
            producers: Vec::new(),
            consumers: Vec::new(),
            media: (Vec::new(), Vec::new()),
            events: opening.events,
        };
        for (producer, media) in opened.produced {
            match self.add_offered(id, producer, media, &address) {
                Ok(producer) => transport.producers.push(producer),
                Err(error) => {
                    let _ = self.close_transport(id, CloseReason::Refused);
                    return opening.reply.send(Err(error));
                }
            }
        }
        for (consumer, producer, accepted) in opened.echoed {
            let (sink, events) = EventSink::new();
            let added = self.consume_as(consumer, id, producer, ConsumerOptions::new(), sink);
            if let Ok(paused) = added {
                self.put_on_network(id, consumer, true);
                self.note_accepted(consumer, accepted);
                let (began_with, address) = (paused.state, address.clone());
                transport.consumers.push(Consumer::new(
                    consumer, producer, address, began_with, events,
                ));
            }
        }
        for ordered in opening.consumers {
            let mut consumed = opened.consumed.iter();
            if let Some((_, accepted)) = consumed.find(|(id, _)| *id == ordered.id) {
                self.note_accepted(ordered.id, accepted.clone());
                // If it is closed already, its events say so.
                transport.consumers.push(Consumer::new(
                    ordered.id,
                    ordered.producer,
                    address.clone(),
                    ordered.began_with,
                    ordered.events,
                ));
            } else {
                let _ = self.close_consumer(ordered.id, CloseReason::Refused);
            }
        }
        transport.media = (
            transport.producers.iter().map(Producer::id).collect(),
            transport.consumers.iter().map(Consumer::id).collect(),
        );
        if opened.has_data {
            self.follow_data_of(id, opening.senders);
        }
        tracing::debug!(transport = ?id, "transport opened");
        opening.reply.send(Ok(transport));
    }

    /// Something that a client offers to send.
    fn add_offered(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        media: Media,
        address: &RouterAddress,
    ) -> Result<Producer, ObjectError> {
        let on_network = self
            .transport_on_network(transport)
            .ok_or(ObjectError::TransportClosed(transport))?;
        let (network, place) = (on_network.place.network.clone(), on_network.place.index);
        let origin = Origin {
            network: place,
            producer,
        };
        let source = ProducerSource::Network(ProducerOnNetwork::new(network, origin), media);
        let (sink, events) = EventSink::new();
        let options = ProducerOptions::new();
        self.produce(producer, transport, options, source, sink)?;
        Ok(Producer::new(producer, address.clone(), events))
    }

    /// A network thread has ended a transport, because its client has gone.
    pub(crate) fn transport_ended(&mut self, id: TransportId) {
        self.close_broken_pipe(id);
        // It is closed already if that is why it has ended there.
        let _ = self.close_transport(id, CloseReason::Disconnected);
    }

    fn trickle(&mut self, id: TransportId, fragment: Fragment, reply: ReplyTo<(), ObjectError>) {
        let Some(on_network) = self.transport_on_network(id) else {
            return reply.send(Err(ObjectError::TransportClosed(id)));
        };
        let candidates = fragment.candidates;
        on_network.post(move |network| {
            network.add_remote_candidates(id, candidates, reply);
        });
    }
}
