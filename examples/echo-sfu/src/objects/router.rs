//! A router: who consumes whom.

use std::collections::BTreeMap;

use super::address::RouterAddress;
use super::consumer::{ConsumerEvent, ConsumerOptions, ConsumerState, ConsumerStatus};
use super::data_router::DataObjects;
use super::direct;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ObserverId, ProducerId, RouterId, TransportId};
use super::link_ends::Named;
use super::observer_state::ObserverState;
use super::on_network::{ConsumerOnNetwork, TransportOnNetwork};
use super::pipe::{NearEnd, PipedTo};
use super::plain_state::PlainState;
use super::producer::{
    ProducerEvent, ProducerOptions, ProducerSource, ProducerState, ProducerStatus,
};
use super::replica::Versioned;
use super::transport::{DirectTransport, TransportKind, TransportState};
use super::webrtc_transport::Opening;
use super::worker::enqueue;
use crate::Operation;
use crate::network::NetworkThreads;
use crate::rtp::rate::BitRate;

/// How many transports, producers and consumers a router may have, of each; and routers a worker.
pub(super) const MAX_MEMBERS: usize = 10_000;

/// What a router tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouterEvent {
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for RouterEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// A router of a [`Worker`](super::Worker). Dropping this closes nothing.
///
/// mediasoup: `Router`.
#[derive(Debug)]
pub struct Router {
    address: RouterAddress,
    events: Events<RouterEvent>,
}

impl Router {
    pub(super) const fn new(address: RouterAddress, events: Events<RouterEvent>) -> Self {
        Self { address, events }
    }

    /// Its name.
    pub fn id(&self) -> RouterId {
        self.address.id
    }

    pub(super) const fn address(&self) -> &RouterAddress {
        &self.address
    }

    /// Creates a transport to the application itself.
    pub fn create_direct_transport(&self) -> Operation<DirectTransport, ObjectError> {
        let address = self.address.clone();
        self.address.enqueue(move |state| {
            let (id, (sink, events)) = (TransportId::next(), EventSink::new());
            let on_network = direct::open(state.networks(), id, &address);
            let transport = TransportState {
                kind: TransportKind::Direct(on_network),
                events: sink,
            };
            state.add_transport(id, transport)?;
            Ok(DirectTransport::new(id, address, events))
        })
    }

    /// Closes it, and everything in it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id();
        enqueue(&self.address.worker, move |state, reply| {
            let found = state.router(id).map(|_| ());
            state.close_router(id, CloseReason::Called);
            reply.send(found);
        })
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<RouterEvent> {
        &mut self.events
    }
}

/// A router as its worker knows it.
#[derive(Debug)]
pub(crate) struct RouterState {
    networks: NetworkThreads,
    events: EventSink<RouterEvent>,
    /// What clients were told to send, at most; those that were.
    pub(super) limits: BTreeMap<TransportId, BitRate>,
    /// Whether anybody who is sent something ever could not be sent everything.
    pub(super) is_limited: bool,
    pub(super) transports: BTreeMap<TransportId, TransportState>,
    pub(super) producers: BTreeMap<ProducerId, ProducerState>,
    pub(super) consumers: BTreeMap<ConsumerId, ConsumerState>,
    pub(super) data: DataObjects,
    pub(super) observers: BTreeMap<ObserverId, ObserverState>,
}

impl RouterState {
    pub(super) fn new(networks: NetworkThreads, events: EventSink<RouterEvent>) -> Self {
        Self {
            networks,
            events,
            limits: BTreeMap::new(),
            is_limited: false,
            transports: BTreeMap::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            data: DataObjects::default(),
            observers: BTreeMap::new(),
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        let below = match reason {
            CloseReason::WorkerClosed => reason,
            _ => CloseReason::RouterClosed,
        };
        for (_, mut consumer) in std::mem::take(&mut self.consumers) {
            consumer.events.close(below);
        }
        for (_, mut producer) in std::mem::take(&mut self.producers) {
            producer.events.close(below);
        }
        self.data.close(below);
        for (_, mut observer) in std::mem::take(&mut self.observers) {
            observer.close(below);
        }
        for (id, transport) in std::mem::take(&mut self.transports) {
            end_transport(id, transport, below);
        }
        self.events.close(reason);
    }

    /// How many transports, producers and consumers it has.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let transports = self.transports.len();
        (transports, self.producers.len(), self.consumers.len())
    }

    pub(super) const fn networks(&self) -> &NetworkThreads {
        &self.networks
    }

    pub(super) fn add_transport(
        &mut self,
        id: TransportId,
        transport: TransportState,
    ) -> Result<(), ObjectError> {
        if self.transports.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        self.transports.insert(id, transport);
        Ok(())
    }

    /// The transport of the pipe to another router, the same whoever needs it first.
    pub(super) fn pipe_transport(&mut self, to: RouterId) -> Result<TransportId, ObjectError> {
        let mut transports = self.transports.iter();
        let known = transports.find(|(_, transport)| transport.leads_to(to));
        if let Some((id, _)) = known {
            return Ok(*id);
        }
        let id = TransportId::next();
        let transport = TransportState {
            kind: TransportKind::Pipe(to),
            events: EventSink::unheard(),
        };
        self.add_transport(id, transport)?;
        Ok(id)
    }

    pub(super) fn transport_on_network(&self, id: TransportId) -> Option<&TransportOnNetwork> {
        self.transports.get(&id)?.on_network()
    }

    pub(super) fn transport_kind(&mut self, id: TransportId) -> Option<&mut TransportKind> {
        Some(&mut self.transports.get_mut(&id)?.kind)
    }

    pub(super) fn consumers_on(&self, transport: TransportId) -> Vec<ConsumerId> {
        let consumers = self.consumers.iter();
        let consumers = consumers.filter(|(_, consumer)| consumer.transport == transport);
        consumers.map(|(id, _)| *id).collect()
    }

    pub(super) fn producers_on(&self, transport: TransportId) -> Vec<ProducerId> {
        let producers = self.producers.iter();
        let producers = producers.filter(|(_, producer)| producer.transport == transport);
        producers.map(|(id, _)| *id).collect()
    }

    /// A transport of plain RTP, if it is one, or has one.
    pub(super) fn plain(&mut self, id: TransportId) -> Result<&mut PlainState, ObjectError> {
        match self.transport_kind(id) {
            Some(TransportKind::Plain(plain)) => Ok(plain),
            Some(TransportKind::RemotePipe(pipe)) => Ok(&mut pipe.plain),
            _ => Err(ObjectError::TransportClosed(id)),
        }
    }

    pub(super) fn transport(
        &mut self,
        id: TransportId,
    ) -> Result<&mut TransportState, ObjectError> {
        let transport = self.transports.get_mut(&id);
        transport.ok_or(ObjectError::TransportClosed(id))
    }

    pub(super) fn set_opening(&mut self, id: TransportId, waits: Opening) {
        if let Some(transport) = self.transports.get_mut(&id)
            && let TransportKind::WebRtc { opening, .. } = &mut transport.kind
        {
            *opening = Some(waits);
        }
    }

    pub(super) fn take_opening(&mut self, id: TransportId) -> Option<Opening> {
        match &mut self.transports.get_mut(&id)?.kind {
            TransportKind::WebRtc { opening, .. } => opening.take(),
            _ => None,
        }
    }

    fn check_transport(&self, id: TransportId) -> Result<(), ObjectError> {
        if self.transports.contains_key(&id) {
            Ok(())
        } else {
            Err(ObjectError::TransportClosed(id))
        }
    }

    pub(super) fn close_transport(
        &mut self,
        id: TransportId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        self.check_transport(id)?;
        for consumer in self.consumers_on(id) {
            self.close_consumer(consumer, CloseReason::TransportClosed)?;
        }
        for producer in self.producers_on(id) {
            self.close_producer(producer, CloseReason::TransportClosed)?;
        }
        self.close_data_on(id)?;
        self.limits.remove(&id);
        if let Some(transport) = self.transports.remove(&id) {
            tracing::debug!(transport = ?id, ?reason, "transport closed");
            end_transport(id, transport, reason);
        }
        Ok(())
    }

    pub(super) fn produce(
        &mut self,
        id: ProducerId,
        transport: TransportId,
        options: ProducerOptions,
        source: ProducerSource,
        events: EventSink<ProducerEvent>,
    ) -> Result<(), ObjectError> {
        self.check_transport(transport)?;
        self.add_producer(id, transport, options, source, events)
    }

    pub(super) fn add_producer(
        &mut self,
        id: ProducerId,
        transport: TransportId,
        options: ProducerOptions,
        source: ProducerSource,
        events: EventSink<ProducerEvent>,
    ) -> Result<(), ObjectError> {
        if self.producers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let producer = ProducerState::new(transport, options, source, events);
        self.producers.insert(id, producer);
        // Nobody consumes it yet.
        self.pass_on_demand(id);
        Ok(())
    }

    pub(super) fn producer(&mut self, id: ProducerId) -> Result<&mut ProducerState, ObjectError> {
        self.producers
            .get_mut(&id)
            .ok_or(ObjectError::ProducerClosed(id))
    }

    pub(super) fn subscribe_to_producer(
        &mut self,
        id: ProducerId,
    ) -> Option<Events<ProducerEvent>> {
        let producer = self.producers.get_mut(&id)?;
        Some(producer.events.subscribe())
    }

    pub(super) fn set_producer_paused(
        &mut self,
        id: ProducerId,
        paused: bool,
    ) -> Result<(), ObjectError> {
        if let Some(changed) = self.producer(id)?.set_own_paused(paused) {
            self.producer_changed(id, changed);
        }
        Ok(())
    }

    /// What a producer here is piped from has changed.
    pub(super) fn piped_source_changed(&mut self, id: ProducerId, paused: Versioned<bool>) {
        let producer = self.producers.get_mut(&id);
        if let Some(changed) = producer.and_then(|own| own.piped_source_changed(paused)) {
            self.producer_changed(id, changed);
        }
    }

    fn producer_changed(&mut self, id: ProducerId, paused: Versioned<bool>) {
        let consumers = self.consumers.values_mut();
        for consumer in consumers.filter(|consumer| consumer.producer == id) {
            consumer.producer_changed(paused);
        }
    }

    pub(super) fn close_producer(
        &mut self,
        id: ProducerId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let mut producer = self
            .producers
            .remove(&id)
            .ok_or(ObjectError::ProducerClosed(id))?;
        let consumers = self.consumers.iter();
        let consumers = consumers.filter(|(_, consumer)| consumer.producer == id);
        for consumer in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_consumer(consumer, CloseReason::ProducerClosed)?;
        }
        self.forget_observed(id);
        producer.events.close(reason);
        if let Ok(plain) = self.plain(producer.transport) {
            plain.forget_producer(id);
        }
        self.forget_named(producer.transport, Named::Producer(id));
        self.forget_idle_pipe(producer.transport);
        Ok(())
    }

    /// The transport of a pipe is there as long as something goes through it.
    pub(super) fn forget_idle_pipe(&mut self, id: TransportId) {
        let is_used = self.data.uses(id)
            || self.consumers.values().any(|own| own.transport == id)
            || self.producers.values().any(|own| own.transport == id);
        if self
            .transports
            .get(&id)
            .is_some_and(TransportState::is_pipe)
            && !is_used
        {
            self.transports.remove(&id);
        }
    }

    pub(super) fn producer_status(&self, id: ProducerId) -> Result<ProducerStatus, ObjectError> {
        let producer = self.producers.get(&id);
        let producer = producer.ok_or(ObjectError::ProducerClosed(id))?;
        Ok(self.status_of(id, producer))
    }

    pub(super) fn status_of(&self, id: ProducerId, producer: &ProducerState) -> ProducerStatus {
        let paused = producer.paused.current();
        let consumers = self.consumers.values();
        ProducerStatus {
            paused: paused.state,
            changes: paused.version,
            consumers: consumers.filter(|own| own.producer == id).count(),
            scores: producer.scores.current().state.of_layers().to_vec(),
        }
    }

    pub(super) fn consume(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        events: EventSink<ConsumerEvent>,
    ) -> Result<(ConsumerId, Versioned<bool>), ObjectError> {
        let id = ConsumerId::next();
        let paused = self.consume_as(id, transport, producer, options, events)?;
        Ok((id, paused))
    }

    pub(super) fn consume_as(
        &mut self,
        id: ConsumerId,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        events: EventSink<ConsumerEvent>,
    ) -> Result<Versioned<bool>, ObjectError> {
        self.check_transport(transport)?;
        self.add_consumer(id, transport, producer, options, None, events)
    }

    pub(super) fn add_consumer(
        &mut self,
        id: ConsumerId,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        piped_to: Option<PipedTo>,
        events: EventSink<ConsumerEvent>,
    ) -> Result<Versioned<bool>, ObjectError> {
        if self.consumers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let paused = self.producer(producer)?.paused.current();
        let consumer = ConsumerState::new(transport, producer, options, paused, piped_to, events);
        self.consumers.insert(id, consumer);
        self.relimit(producer);
        Ok(paused)
    }

    /// The consumer that feeds a producer of another router, the same if there is one.
    pub(super) fn pipe_consumer(
        &mut self,
        producer: ProducerId,
        to: &RouterAddress,
    ) -> Result<NearEnd, ObjectError> {
        let source = self.producer(producer)?;
        let (paused, scores) = (source.paused.current(), source.scores.current());
        let media = source.media();
        for (id, consumer) in &mut self.consumers {
            if consumer.producer == producer
                && let Some(piped_to) = &consumer.piped_to
                && let Some(feeds) = piped_to.producer_in(to.id)
            {
                return Ok(NearEnd {
                    consumer: *id,
                    feeds,
                    is_new: false,
                    paused,
                    scores,
                    media,
                    events: consumer.events.subscribe(),
                });
            }
        }
        let transport = self.pipe_transport(to.id)?;
        let feeds = ProducerId::next();
        let (sink, events) = EventSink::new();
        let options = ConsumerOptions::new();
        let piped_to = PipedTo::new(to.clone(), feeds);
        let consumer = ConsumerId::next();
        self.add_consumer(consumer, transport, producer, options, Some(piped_to), sink)?;
        Ok(NearEnd {
            consumer,
            feeds,
            is_new: true,
            paused,
            scores,
            media,
            events,
        })
    }

    /// The consumer that feeds a producer of another process, if there is one: whether its source was
    /// paused, and its events from here on.
    pub(super) fn find_pipe_consumer(
        &mut self,
        link: TransportId,
        producer: ProducerId,
    ) -> Option<(ConsumerId, bool, Events<ConsumerEvent>)> {
        let paused = self.producer(producer).ok()?.paused.current().state;
        let mut consumers = self.consumers.iter_mut();
        let (id, found) =
            consumers.find(|(_, own)| own.producer == producer && own.name_on(link).is_some())?;
        Some((*id, paused, found.events.subscribe()))
    }

    /// The consumer that has such a name on a link to another process.
    pub(super) fn piping_consumer(&self, link: TransportId, name: u64) -> Option<ConsumerId> {
        let mut consumers = self.consumers.iter();
        let found = consumers.find(|(_, own)| own.name_on(link) == Some(name));
        found.map(|(id, _)| *id)
    }

    pub(super) fn consumer(&mut self, id: ConsumerId) -> Result<&mut ConsumerState, ObjectError> {
        self.consumers
            .get_mut(&id)
            .ok_or(ObjectError::ConsumerClosed(id))
    }

    pub(super) fn set_consumer_paused(
        &mut self,
        id: ConsumerId,
        paused: bool,
    ) -> Result<(), ObjectError> {
        let consumer = self.consumer(id)?;
        if consumer.piped_to.is_some() {
            return Err(ObjectError::FeedsAPipe(id));
        }
        consumer.set_own_paused(paused);
        Ok(())
    }

    pub(super) fn close_consumer(
        &mut self,
        id: ConsumerId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let mut consumer = self
            .consumers
            .remove(&id)
            .ok_or(ObjectError::ConsumerClosed(id))?;
        consumer.events.close(reason);
        if let Ok(plain) = self.plain(consumer.transport) {
            plain.forget_consumer(id);
        }
        self.forget_idle_pipe(consumer.transport);
        self.relimit(consumer.producer);
        Ok(())
    }

    pub(super) fn consumer_status(
        &mut self,
        id: ConsumerId,
    ) -> Result<ConsumerStatus, ObjectError> {
        Ok(self.consumer(id)?.status())
    }

    /// A network thread has seen something of a consumer that the application may want to know.
    pub(crate) fn consumer_observed(&mut self, id: ConsumerId, event: ConsumerEvent) {
        if let Ok(consumer) = self.consumer(id) {
            match event {
                ConsumerEvent::Trace(_) => consumer.events.send_trace(event),
                _ => consumer.events.send(event),
            }
        }
    }

    pub(super) fn switch_consumer(
        &mut self,
        id: ConsumerId,
        producer: ProducerId,
    ) -> Result<(), ObjectError> {
        let source = self.producer(producer)?;
        let (paused, media) = (source.paused.current(), source.media());
        let consumer = self.consumer(id)?;
        if consumer.piped_to.is_some() {
            return Err(ObjectError::FeedsAPipe(id));
        }
        let active = !consumer.own_paused() && !paused.state;
        if let Some(on_network) = &mut consumer.on_network {
            let media = media.ok_or(ObjectError::NoMedia(producer))?;
            if !on_network.switch_to(&media, active) {
                return Err(ObjectError::NoCommonCodec(producer));
            }
        }
        let left = consumer.producer;
        consumer.switched_to(producer, paused);
        self.relimit(left);
        self.relimit(producer);
        Ok(())
    }

    /// Has the part of a consumer that is on a network thread do something. One that has none has
    /// nothing to do.
    pub(super) fn with_consumer_on_network(
        &mut self,
        id: ConsumerId,
        act: impl Fn(&ConsumerOnNetwork),
    ) -> Result<(), ObjectError> {
        let own = self.consumer(id)?;
        own.on_network.iter().chain(&own.upper_layers).for_each(act);
        Ok(())
    }
}

/// The last of a transport. Whoever waits for it to be open waits no longer.
fn end_transport(id: TransportId, mut transport: TransportState, reason: CloseReason) {
    if let TransportKind::WebRtc { opening, .. } = &mut transport.kind
        && let Some(opening) = opening.take()
    {
        opening.abandon(id, reason);
    }
    match &mut transport.kind {
        TransportKind::RemotePipe(pipe) => pipe.events.close(reason),
        TransportKind::PipeListener(listener) => listener.events.close(reason),
        _ => {}
    }
    transport.events.close(reason);
}
