//! A consumer: media that goes out.

use std::num::NonZeroU8;

use serde::Serialize;

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::mailbox::Mailbox;
use super::on_network::ConsumerOnNetwork;
use super::pipe::PipedTo;
use super::replica::{Replica, Versioned};
use super::trace::Trace;
use crate::Operation;
use crate::pipe_link::Demand;

/// What a consumer begins with.
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "options do nothing by themselves"]
pub struct ConsumerOptions {
    pub(super) paused: bool,
}

impl ConsumerOptions {
    /// A consumer that is not paused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }
}

/// What a consumer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// Its producer is paused.
    ProducerPaused,
    /// Its producer goes on.
    ProducerResumed,
    /// It is sent this layer from now on, the smallest being 0; `None` if it is sent nothing. Another process
    /// is sent each layer: of what is piped to one, this is about the smallest.
    LayerChanged(Option<u8>),
    /// How well it arrives, from 0 to 10, as far as its client tells; of what is piped to another process,
    /// the smallest layer.
    Score(u8),
    /// What was to be [traced](Consumer::trace).
    Trace(Trace),
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for ConsumerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// How a consumer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// What it consumes.
    pub producer: ProducerId,
    /// Whether the application has paused it.
    pub paused: bool,
    /// Whether its producer is paused.
    pub producer_paused: bool,
    /// How often that has changed at the producer, as far as the consumer knows.
    pub producer_changes: u64,
    /// Which of its transport's consumers are served first.
    pub priority: NonZeroU8,
}

/// Media of a producer that goes out of a router, on one of its transports. Dropping this closes
/// nothing.
///
/// mediasoup: `Consumer`.
#[derive(Debug)]
pub struct Consumer {
    id: ConsumerId,
    producer: ProducerId,
    router: RouterAddress,
    /// What its producer was when it came into being.
    began_with: bool,
    packets: Option<Mailbox<Vec<u8>>>,
    events: Events<ConsumerEvent>,
}

impl Consumer {
    pub(super) fn new(
        id: ConsumerId,
        producer: ProducerId,
        router: RouterAddress,
        began_with: bool,
        events: Events<ConsumerEvent>,
    ) -> Self {
        Self {
            id,
            producer,
            router,
            began_with,
            packets: None,
            events,
        }
    }

    pub(super) fn with_packets(mut self, packets: Mailbox<Vec<u8>>) -> Self {
        self.packets = Some(packets);
        self
    }

    /// RTP packets for the application; `None` unless it is on a
    /// [`DirectTransport`](super::DirectTransport), and its producer sends media.
    ///
    /// mediasoup: the `rtp` event.
    pub fn packets(&mut self) -> Option<&mut Mailbox<Vec<u8>>> {
        self.packets.as_mut()
    }

    pub(super) const fn router(&self) -> &RouterAddress {
        &self.router
    }

    /// Its name.
    pub fn id(&self) -> ConsumerId {
        self.id
    }

    /// What it consumed when it was made.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Whether its producer was paused when the consumer came into being. What happened after that,
    /// its [events](Self::events) tell.
    pub fn producer_was_paused(&self) -> bool {
        self.began_with
    }

    /// Pauses it: nothing of its producer goes out here.
    ///
    /// Refused where it feeds a producer of another router: that one is as paused as its source, or as
    /// it is paused itself.
    pub fn pause(&self) -> Operation<(), ObjectError> {
        self.set_paused(true)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Operation<(), ObjectError> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.set_consumer_paused(id, paused))
    }

    /// Sends the best layer of simulcast up to this one, the smallest being 0; `None` for the best
    /// that the client's connection carries.
    ///
    /// mediasoup: `setPreferredLayers`.
    pub fn set_preferred_layer(&self, layer: Option<u8>) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router.enqueue(move |router| {
            router.with_consumer_on_network(id, |own| own.set_preferred_layer(layer))
        })
    }

    /// Serves it before those of a lower priority on the same transport, when the client's connection
    /// does not carry everything: they are sent smaller layers first. All begin with 1, and what has
    /// the same shares alike. The smallest layer is sent of each, whatever its priority.
    ///
    /// mediasoup: `setPriority`.
    pub fn set_priority(&self, priority: NonZeroU8) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router.enqueue(move |router| {
            router.consumer(id)?.set_priority(priority);
            Ok(())
        })
    }

    /// Consumes another producer of the same router from now on, of the same kind and with a codec that
    /// the client takes. To the client it is the same stream: it goes on without a gap, with a key
    /// frame if it is video.
    ///
    /// It is then as paused as that producer is, and ends with that one.
    pub fn switch_to(&self, producer: ProducerId) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.switch_consumer(id, producer))
    }

    /// Asks whoever sends it for a key frame.
    pub fn request_key_frame(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router.enqueue(move |router| {
            router.with_consumer_on_network(id, ConsumerOnNetwork::request_key_frame)
        })
    }

    /// Closes it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.close_consumer(id, CloseReason::Called))
    }

    /// How it is when the operation takes effect.
    pub fn status(&self) -> Operation<ConsumerStatus, ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.consumer_status(id))
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<ConsumerEvent> {
        &mut self.events
    }
}

/// A consumer as its router knows it.
#[derive(Debug)]
pub(super) struct ConsumerState {
    pub(super) transport: TransportId,
    pub(super) producer: ProducerId,
    own_paused: bool,
    priority: NonZeroU8,
    producer_paused: Replica<bool>,
    /// Where its media goes out, if any does.
    pub(super) on_network: Option<ConsumerOnNetwork>,
    /// If each layer goes out as a stream of its own: those above the smallest.
    pub(super) upper_layers: Vec<ConsumerOnNetwork>,
    /// If it feeds a producer of another router: which.
    pub(super) piped_to: Option<PipedTo>,
    /// How much of it is wanted where that is.
    pub(super) wanted: Demand,
    pub(super) events: EventSink<ConsumerEvent>,
}

impl ConsumerState {
    pub(super) fn new(
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        producer_paused: Versioned<bool>,
        piped_to: Option<PipedTo>,
        events: EventSink<ConsumerEvent>,
    ) -> Self {
        Self {
            transport,
            producer,
            own_paused: options.paused,
            priority: NonZeroU8::MIN,
            producer_paused: Replica::of(producer_paused),
            on_network: None,
            upper_layers: Vec::new(),
            piped_to,
            wanted: Demand::Everything,
            events,
        }
    }

    /// By which name the producer that it feeds is known on a link to another process.
    pub(super) fn name_on(&self, link: TransportId) -> Option<u64> {
        self.piped_to.as_ref()?.name_on(link)
    }

    /// Whether media goes out.
    pub(super) const fn is_active(&self) -> bool {
        !self.own_paused && !self.producer_paused.state()
    }

    /// The application pauses it, or lets it go on.
    pub(super) fn set_own_paused(&mut self, paused: bool) {
        self.own_paused = paused;
        self.tell_network();
    }

    fn set_priority(&mut self, priority: NonZeroU8) {
        self.priority = priority;
        if let Some(on_network) = &self.on_network {
            on_network.set_priority(priority);
        }
    }

    /// The producer has changed.
    pub(super) fn producer_changed(&mut self, paused: Versioned<bool>) {
        if !self.producer_paused.apply(paused) {
            return;
        }
        self.events.send(match paused.state {
            true => ConsumerEvent::ProducerPaused,
            false => ConsumerEvent::ProducerResumed,
        });
        if let Some(piped_to) = &self.piped_to {
            piped_to.source_changed(paused);
        }
        self.tell_network();
    }

    /// It consumes another producer from now on.
    pub(super) fn switched_to(&mut self, producer: ProducerId, paused: Versioned<bool>) {
        let was_paused = self.producer_paused.state();
        self.producer = producer;
        self.producer_paused = Replica::of(paused);
        if was_paused != paused.state {
            self.events.send(match paused.state {
                true => ConsumerEvent::ProducerPaused,
                false => ConsumerEvent::ProducerResumed,
            });
        }
    }

    pub(super) const fn own_paused(&self) -> bool {
        self.own_paused
    }

    fn tell_network(&mut self) {
        let active = self.is_active();
        for on_network in self.on_network.iter_mut().chain(&mut self.upper_layers) {
            on_network.set_active(active);
        }
    }

    pub(super) const fn status(&self) -> ConsumerStatus {
        ConsumerStatus {
            producer: self.producer,
            paused: self.own_paused,
            producer_paused: self.producer_paused.state(),
            producer_changes: self.producer_paused.version(),
            priority: self.priority,
        }
    }
}
