//! A consumer: media that goes out.

use rtc_thread::ThreadBound;
use serde::Serialize;

use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, RouterId, TransportId};
use super::pipe::PipedTo;
use super::replica::{Replica, Versioned};
use super::worker::{WorkerState, enqueue_on_router};
use crate::Operation;

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
    /// Whether the application has paused it.
    pub paused: bool,
    /// Whether its producer is paused.
    pub producer_paused: bool,
    /// How often that has changed at the producer, as far as the consumer knows.
    pub producer_changes: u64,
}

/// Media of a producer that goes out of a router, on one of its transports. Dropping this closes
/// nothing.
///
/// mediasoup: `Consumer`.
#[derive(Debug)]
pub struct Consumer {
    id: ConsumerId,
    producer: ProducerId,
    router: RouterId,
    worker: ThreadBound<WorkerState>,
    /// What its producer was when it came into being.
    began_with: bool,
    events: Events<ConsumerEvent>,
}

impl Consumer {
    pub(super) fn new(
        id: ConsumerId,
        producer: ProducerId,
        router: RouterId,
        worker: ThreadBound<WorkerState>,
        began_with: bool,
        events: Events<ConsumerEvent>,
    ) -> Self {
        Self {
            id,
            producer,
            router,
            worker,
            began_with,
            events,
        }
    }

    /// Its name.
    pub fn id(&self) -> ConsumerId {
        self.id
    }

    /// What it consumes.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Whether its producer was paused when the consumer came into being. What happened after that,
    /// its [events](Self::events) tell.
    pub fn producer_was_paused(&self) -> bool {
        self.began_with
    }

    /// Pauses it: nothing of its producer goes out here.
    pub fn pause(&self) -> Operation<(), ObjectError> {
        self.set_paused(true)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Operation<(), ObjectError> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Operation<(), ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.set_consumer_paused(id, paused)
        })
    }

    /// Closes it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.close_consumer(id, CloseReason::Called)
        })
    }

    /// How it is when the operation takes effect.
    pub fn status(&self) -> Operation<ConsumerStatus, ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.consumer_status(id)
        })
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
    pub(super) own_paused: bool,
    pub(super) producer_paused: Replica<bool>,
    /// If it feeds a producer of another router: which.
    pub(super) piped_to: Option<PipedTo>,
    pub(super) events: EventSink<ConsumerEvent>,
}

impl ConsumerState {
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
    }
}
