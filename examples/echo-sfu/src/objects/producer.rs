//! A producer: media that comes in.

use rtc_thread::ThreadBound;
use serde::Serialize;

use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ProducerId, RouterId, TransportId};
use super::pipe::PipedFrom;
use super::replica::{Replica, Source, Versioned};
use super::worker::{WorkerState, enqueue_on_router};
use crate::Operation;

/// What a producer begins with.
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "options do nothing by themselves"]
pub struct ProducerOptions {
    pub(super) paused: bool,
}

impl ProducerOptions {
    /// A producer that is not paused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }
}

/// What a producer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProducerEvent {
    /// Nothing comes from it any more: it was paused, or what it is piped from was.
    Paused,
    /// It goes on.
    Resumed,
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for ProducerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// How a producer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProducerStatus {
    /// Whether nothing comes from it, for whichever reason.
    pub paused: bool,
    /// How often that has changed.
    pub changes: u64,
    /// How many consumers it has, those of pipes included.
    pub consumers: usize,
}

/// Media that comes in to a router, on one of its transports. Dropping this closes nothing.
///
/// mediasoup: `Producer`.
#[derive(Debug)]
pub struct Producer {
    id: ProducerId,
    router: RouterId,
    worker: ThreadBound<WorkerState>,
    events: Events<ProducerEvent>,
}

impl Producer {
    pub(super) fn new(
        id: ProducerId,
        router: RouterId,
        worker: ThreadBound<WorkerState>,
        events: Events<ProducerEvent>,
    ) -> Self {
        Self {
            id,
            router,
            worker,
            events,
        }
    }

    /// Its name.
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// Pauses it: nothing goes to its consumers, wherever they are.
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
            router.set_producer_paused(id, paused)
        })
    }

    /// Closes it, and all its consumers.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.close_producer(id, CloseReason::Called)
        })
    }

    /// How it is when the operation takes effect.
    pub fn status(&self) -> Operation<ProducerStatus, ObjectError> {
        let id = self.id;
        enqueue_on_router(&self.worker, self.router, move |router| {
            router.producer_status(id)
        })
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<ProducerEvent> {
        &mut self.events
    }
}

/// A producer as its router knows it.
#[derive(Debug)]
pub(super) struct ProducerState {
    pub(super) transport: TransportId,
    /// Whether the application has paused it here.
    own_paused: bool,
    /// If it is piped from another router: where from, and whether it is paused there.
    pub(super) piped_from: Option<(PipedFrom, Replica<bool>)>,
    /// Whether it is paused, for either reason. Its consumers have copies of this.
    pub(super) paused: Source<bool>,
    pub(super) events: EventSink<ProducerEvent>,
}

impl ProducerState {
    pub(super) fn new(
        transport: TransportId,
        options: ProducerOptions,
        piped_from: Option<(PipedFrom, Replica<bool>)>,
        events: EventSink<ProducerEvent>,
    ) -> Self {
        let is_paused_there = piped_from.as_ref().is_some_and(|(_, there)| there.state());
        Self {
            transport,
            own_paused: options.paused,
            piped_from,
            paused: Source::new(options.paused || is_paused_there),
            events,
        }
    }

    /// The application pauses it, or lets it go on. Returns what the consumers are to know.
    pub(super) fn set_own_paused(&mut self, paused: bool) -> Option<Versioned<bool>> {
        self.own_paused = paused;
        self.settle()
    }

    /// Whether it is paused follows from what is known here and of where it comes from.
    pub(super) fn settle(&mut self) -> Option<Versioned<bool>> {
        let is_paused_there = self
            .piped_from
            .as_ref()
            .is_some_and(|(_, there)| there.state());
        let changed = self.paused.set(self.own_paused || is_paused_there)?;
        self.events.send(match changed.state {
            true => ProducerEvent::Paused,
            false => ProducerEvent::Resumed,
        });
        Some(changed)
    }
}
