//! Transports: where media comes in and goes out.

use rtc_thread::ThreadBound;

use super::consumer::{Consumer, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ProducerId, RouterId, TransportId};
use super::producer::{Producer, ProducerOptions};
use super::worker::{WorkerState, enqueue_on_router};
use crate::Operation;

/// What a transport tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportEvent {
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for TransportEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// A transport between a router and the application itself, without a network.
///
/// mediasoup: `DirectTransport`.
#[derive(Debug)]
pub struct DirectTransport {
    id: TransportId,
    router: RouterId,
    worker: ThreadBound<WorkerState>,
    events: Events<TransportEvent>,
}

impl DirectTransport {
    pub(super) fn new(
        id: TransportId,
        router: RouterId,
        worker: ThreadBound<WorkerState>,
        events: Events<TransportEvent>,
    ) -> Self {
        Self {
            id,
            router,
            worker,
            events,
        }
    }

    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Creates a producer.
    pub fn produce(&self, options: ProducerOptions) -> Operation<Producer, ObjectError> {
        let (router, transport, worker) = (self.router, self.id, self.worker.clone());
        enqueue_on_router(&self.worker, router, move |state| {
            let (sink, events) = EventSink::new();
            let id = state.produce(transport, options, sink)?;
            Ok(Producer::new(id, router, worker, events))
        })
    }

    /// Creates a consumer of a producer of the same router.
    pub fn consume(
        &self,
        producer: ProducerId,
        options: ConsumerOptions,
    ) -> Operation<Consumer, ObjectError> {
        let (router, transport, worker) = (self.router, self.id, self.worker.clone());
        enqueue_on_router(&self.worker, router, move |state| {
            let (sink, events) = EventSink::new();
            let (id, paused) = state.consume(transport, producer, options, sink)?;
            Ok(Consumer::new(
                id,
                producer,
                router,
                worker,
                paused.state,
                events,
            ))
        })
    }

    /// Closes it, and all producers and consumers on it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.close_transport(id, CloseReason::Called)
        })
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<TransportEvent> {
        &mut self.events
    }
}

/// A transport as its router knows it.
#[derive(Debug)]
pub(super) struct TransportState {
    pub(super) events: EventSink<TransportEvent>,
    /// If it is one end of a pipe: to which router.
    pub(super) pipe_to: Option<RouterId>,
}
