//! A router: who consumes whom.

use std::collections::BTreeMap;

use rtc_thread::ThreadBound;

use super::consumer::{ConsumerEvent, ConsumerOptions, ConsumerState, ConsumerStatus};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, RouterId, TransportId};
use super::pipe::{NearEnd, PipedFrom, PipedTo, RouterAddress};
use super::producer::{ProducerEvent, ProducerOptions, ProducerState, ProducerStatus};
use super::replica::{Replica, Versioned};
use super::transport::{DirectTransport, TransportEvent, TransportState};
use super::worker::{WorkerState, enqueue, enqueue_on_router};
use crate::Operation;

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
    id: RouterId,
    worker: ThreadBound<WorkerState>,
    events: Events<RouterEvent>,
}

impl Router {
    pub(super) fn new(
        id: RouterId,
        worker: ThreadBound<WorkerState>,
        events: Events<RouterEvent>,
    ) -> Self {
        Self { id, worker, events }
    }

    /// Its name.
    pub fn id(&self) -> RouterId {
        self.id
    }

    pub(super) fn address(&self) -> RouterAddress {
        RouterAddress {
            id: self.id,
            worker: self.worker.clone(),
        }
    }

    /// Creates a transport to the application itself.
    pub fn create_direct_transport(&self) -> Operation<DirectTransport, ObjectError> {
        let (router, worker) = (self.id, self.worker.clone());
        enqueue_on_router(&self.worker, router, move |state| {
            let (sink, events) = EventSink::new();
            let id = state.add_transport(sink, None)?;
            Ok(DirectTransport::new(id, router, worker, events))
        })
    }

    /// Closes it, and everything in it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        enqueue(&self.worker, move |state, reply| {
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
pub(super) struct RouterState {
    events: EventSink<RouterEvent>,
    transports: BTreeMap<TransportId, TransportState>,
    producers: BTreeMap<ProducerId, ProducerState>,
    consumers: BTreeMap<ConsumerId, ConsumerState>,
}

impl RouterState {
    pub(super) fn new(events: EventSink<RouterEvent>) -> Self {
        Self {
            events,
            transports: BTreeMap::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
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
        for (_, mut transport) in std::mem::take(&mut self.transports) {
            transport.events.close(below);
        }
        self.events.close(reason);
    }

    fn add_transport(
        &mut self,
        events: EventSink<TransportEvent>,
        pipe_to: Option<RouterId>,
    ) -> Result<TransportId, ObjectError> {
        if self.transports.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let id = TransportId::next();
        self.transports
            .insert(id, TransportState { events, pipe_to });
        Ok(id)
    }

    /// The transport of the pipe to another router, the same whoever needs it first.
    pub(super) fn pipe_transport(&mut self, to: RouterId) -> Result<TransportId, ObjectError> {
        let known = self
            .transports
            .iter()
            .find(|(_, transport)| transport.pipe_to == Some(to));
        match known {
            Some((id, _)) => Ok(*id),
            None => self.add_transport(EventSink::unheard(), Some(to)),
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
        let consumers = self.consumers.iter();
        let consumers = consumers.filter(|(_, consumer)| consumer.transport == id);
        for consumer in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_consumer(consumer, CloseReason::TransportClosed)?;
        }
        let producers = self.producers.iter();
        let producers = producers.filter(|(_, producer)| producer.transport == id);
        for producer in producers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_producer(producer, CloseReason::TransportClosed)?;
        }
        if let Some(mut transport) = self.transports.remove(&id) {
            transport.events.close(reason);
        }
        Ok(())
    }

    pub(super) fn produce(
        &mut self,
        transport: TransportId,
        options: ProducerOptions,
        events: EventSink<ProducerEvent>,
    ) -> Result<ProducerId, ObjectError> {
        self.check_transport(transport)?;
        let id = ProducerId::next();
        self.add_producer(id, transport, options, None, events)?;
        Ok(id)
    }

    pub(super) fn add_producer(
        &mut self,
        id: ProducerId,
        transport: TransportId,
        options: ProducerOptions,
        piped_from: Option<(PipedFrom, Replica<bool>)>,
        events: EventSink<ProducerEvent>,
    ) -> Result<(), ObjectError> {
        if self.producers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let producer = ProducerState::new(transport, options, piped_from, events);
        self.producers.insert(id, producer);
        Ok(())
    }

    fn producer(&mut self, id: ProducerId) -> Result<&mut ProducerState, ObjectError> {
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
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        if let Some((_, there)) = &mut producer.piped_from
            && there.apply(paused)
            && let Some(changed) = producer.settle()
        {
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
        producer.events.close(reason);
        self.forget_idle_pipe(producer.transport);
        Ok(())
    }

    /// The transport of a pipe is there as long as something goes through it.
    fn forget_idle_pipe(&mut self, id: TransportId) {
        let is_pipe = |transport: &TransportState| transport.pipe_to.is_some();
        let is_used = self.consumers.values().any(|own| own.transport == id)
            || self.producers.values().any(|own| own.transport == id);
        if self.transports.get(&id).is_some_and(is_pipe) && !is_used {
            self.transports.remove(&id);
        }
    }

    pub(super) fn producer_status(
        &mut self,
        id: ProducerId,
    ) -> Result<ProducerStatus, ObjectError> {
        let paused = self.producer(id)?.paused.current();
        let consumers = self.consumers.values();
        Ok(ProducerStatus {
            paused: paused.state,
            changes: paused.version,
            consumers: consumers.filter(|own| own.producer == id).count(),
        })
    }

    pub(super) fn consume(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        events: EventSink<ConsumerEvent>,
    ) -> Result<(ConsumerId, Versioned<bool>), ObjectError> {
        self.check_transport(transport)?;
        self.add_consumer(transport, producer, options, None, events)
    }

    fn add_consumer(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        options: ConsumerOptions,
        piped_to: Option<PipedTo>,
        events: EventSink<ConsumerEvent>,
    ) -> Result<(ConsumerId, Versioned<bool>), ObjectError> {
        if self.consumers.len() >= MAX_MEMBERS {
            return Err(ObjectError::TooMany(MAX_MEMBERS));
        }
        let paused = self.producer(producer)?.paused.current();
        let id = ConsumerId::next();
        let consumer = ConsumerState {
            transport,
            producer,
            own_paused: options.paused,
            producer_paused: Replica::of(paused),
            piped_to,
            events,
        };
        self.consumers.insert(id, consumer);
        Ok((id, paused))
    }

    /// The consumer that feeds a producer of another router, the same if there is one.
    pub(super) fn pipe_consumer(
        &mut self,
        producer: ProducerId,
        to: &RouterAddress,
    ) -> Result<NearEnd, ObjectError> {
        let paused = self.producer(producer)?.paused.current();
        for (id, consumer) in &mut self.consumers {
            if consumer.producer == producer
                && let Some(piped_to) = &consumer.piped_to
                && piped_to.leads_to(to.id)
            {
                return Ok(NearEnd {
                    consumer: *id,
                    feeds: piped_to.producer(),
                    is_new: false,
                    paused,
                    events: consumer.events.subscribe(),
                });
            }
        }
        let transport = self.pipe_transport(to.id)?;
        let feeds = ProducerId::next();
        let (sink, events) = EventSink::new();
        let options = ConsumerOptions::new();
        let piped_to = PipedTo::new(to.clone(), feeds);
        let (consumer, paused) =
            self.add_consumer(transport, producer, options, Some(piped_to), sink)?;
        Ok(NearEnd {
            consumer,
            feeds,
            is_new: true,
            paused,
            events,
        })
    }

    fn consumer(&mut self, id: ConsumerId) -> Result<&mut ConsumerState, ObjectError> {
        self.consumers
            .get_mut(&id)
            .ok_or(ObjectError::ConsumerClosed(id))
    }

    pub(super) fn set_consumer_paused(
        &mut self,
        id: ConsumerId,
        paused: bool,
    ) -> Result<(), ObjectError> {
        self.consumer(id)?.own_paused = paused;
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
        self.forget_idle_pipe(consumer.transport);
        Ok(())
    }

    pub(super) fn consumer_status(
        &mut self,
        id: ConsumerId,
    ) -> Result<ConsumerStatus, ObjectError> {
        let consumer = self.consumer(id)?;
        Ok(ConsumerStatus {
            paused: consumer.own_paused,
            producer_paused: consumer.producer_paused.state(),
            producer_changes: consumer.producer_paused.version(),
        })
    }
}
