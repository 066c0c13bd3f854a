//! A data producer: messages that come in.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::Serialize;

use super::address::RouterAddress;
use super::data_message::{DataCounters, DataMessage};
use super::data_on_network::DataProducerOnNetwork;
use super::data_parameters::{DataError, DataParameters};
use super::data_pipe::DataPipedFrom;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{DataProducerId, TransportId};
use super::link_ends::FromLink;
use super::replica::{Replica, Source, Versioned};
use crate::Operation;
use crate::network::DataOrigin;
use crate::reserved::Reserved;

/// What the application may have sent on one data producer that no network thread has taken yet.
pub(super) const MAX_WAITING_BYTES: usize = 16 << 20;
/// What a message counts at least: an empty one takes room, too.
const MESSAGE_OVERHEAD: usize = 64;

/// What a data producer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataProducerEvent {
    /// Nothing comes from it any more: it was paused, or what it is piped from was.
    Paused,
    /// It goes on.
    Resumed,
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for DataProducerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// How a data producer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DataProducerStatus {
    /// Whether nothing comes from it, for whichever reason.
    pub paused: bool,
    /// How often that has changed.
    pub changes: u64,
    /// How many consumers it has, those of pipes included.
    pub consumers: usize,
    /// Messages that came in, those while it was paused included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Messages that come in to a router: of a data channel that a client has opened, or of the
/// application's own. Dropping this closes nothing.
///
/// mediasoup: `DataProducer`.
#[derive(Debug)]
pub struct DataProducer {
    id: DataProducerId,
    router: RouterAddress,
    parameters: Arc<DataParameters>,
    waiting: Arc<AtomicUsize>,
    events: Events<DataProducerEvent>,
}

impl DataProducer {
    pub(super) fn new(
        id: DataProducerId,
        router: RouterAddress,
        parameters: Arc<DataParameters>,
        events: Events<DataProducerEvent>,
    ) -> Self {
        Self {
            id,
            router,
            parameters,
            waiting: Arc::default(),
            events,
        }
    }

    /// Its name.
    pub fn id(&self) -> DataProducerId {
        self.id
    }

    /// What it is called, and what it promises.
    pub fn parameters(&self) -> &DataParameters {
        &self.parameters
    }

    /// Sends a message to all its consumers, if it is one of the application's own. It goes by way of
    /// the router's thread, so that it is before or after a pause as it was called.
    ///
    /// Fails if the data producer is closed or not the application's, if the message is larger than
    /// 256 KiB, or if 16 MiB of this producer's wait to be taken already.
    ///
    /// mediasoup: `send`.
    pub fn send(&self, message: impl Into<DataMessage>) -> Operation<(), ObjectError> {
        let (id, message) = (self.id, message.into());
        let checked = message.check().and_then(|()| {
            let bytes = message.payload().len() + MESSAGE_OVERHEAD;
            Reserved::new(&self.waiting, bytes, MAX_WAITING_BYTES).ok_or(DataError::TooMuchWaiting)
        });
        match checked {
            Ok(waiting) => self
                .router
                .enqueue(move |router| router.send_data(id, message, waiting)),
            Err(error) => {
                let (reply, refused) = Operation::new();
                reply.send(Err(error.into()));
                refused
            }
        }
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
        self.router
            .enqueue(move |router| router.set_data_producer_paused(id, paused))
    }

    /// Closes it, and all its consumers; and the client's channel, if it is one's.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.close_data_producer(id, CloseReason::Called))
    }

    /// How it is when the operation takes effect.
    ///
    /// mediasoup: `getStats`, among others.
    pub fn status(&self) -> Operation<DataProducerStatus, ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.data_producer_status(id))
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<DataProducerEvent> {
        &mut self.events
    }
}

/// What a data producer's consumers have copies of.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataState {
    /// Whether it is paused, here or where it comes from.
    pub(super) paused: Versioned<bool>,
    /// Whether consumers are not to be sent what arrives: it is paused at the far end of a pipe. Where
    /// its messages arrive, they are dropped there, in order with the messages; the news of that takes
    /// another way, and would stop those that are sent once it goes on.
    pub(super) held: Versioned<bool>,
}

/// Where a data producer comes from.
#[derive(Debug)]
pub(super) enum DataSource {
    /// A client's channel.
    Client(DataProducerOnNetwork),
    Application(DataProducerOnNetwork),
    /// It is a data producer of another process.
    Process {
        /// Whose end is felt at the other end.
        _near: FromLink,
        paused: Replica<bool>,
        on_network: DataProducerOnNetwork,
    },
    /// It is a data producer of another router.
    Router {
        /// Whose end is felt at the other end.
        _pipe: DataPipedFrom,
        paused: Replica<bool>,
        held: Replica<bool>,
        origin: DataOrigin,
    },
}

/// A data producer as its router knows it.
#[derive(Debug)]
pub(super) struct DataProducerState {
    pub(super) transport: TransportId,
    pub(super) parameters: Arc<DataParameters>,
    /// Whether the application has paused it here.
    own_paused: bool,
    source: DataSource,
    /// Whether it is paused, for either reason. Its consumers have copies of this, and of the next.
    paused: Source<bool>,
    held: Source<bool>,
    pub(super) counters: Arc<DataCounters>,
    pub(super) events: EventSink<DataProducerEvent>,
}

impl DataProducerState {
    pub(super) fn new(
        transport: TransportId,
        parameters: Arc<DataParameters>,
        own_paused: bool,
        source: DataSource,
        counters: Arc<DataCounters>,
        events: EventSink<DataProducerEvent>,
    ) -> Self {
        let mut producer = Self {
            transport,
            parameters,
            own_paused,
            source,
            paused: Source::new(false),
            held: Source::new(false),
            counters,
            events,
        };
        producer.paused = Source::new(producer.is_paused());
        producer.held = Source::new(producer.is_held());
        producer.tell_network();
        producer
    }

    /// Whether it is paused follows from what is known here and of where it comes from.
    fn is_paused(&self) -> bool {
        let is_paused_there = match &self.source {
            DataSource::Router { paused, .. } | DataSource::Process { paused, .. } => {
                paused.state()
            }
            DataSource::Client(_) | DataSource::Application(_) => false,
        };
        self.own_paused || is_paused_there
    }

    /// Whether its consumers keep from being sent what arrives.
    fn is_held(&self) -> bool {
        match &self.source {
            DataSource::Router { held, .. } => self.own_paused || held.state(),
            DataSource::Client(_) | DataSource::Application(_) | DataSource::Process { .. } => {
                false
            }
        }
    }

    /// What consumers begin with.
    pub(super) const fn current(&self) -> DataState {
        DataState {
            paused: self.paused.current(),
            held: self.held.current(),
        }
    }

    /// The application pauses it, or lets it go on. Returns what the consumers are to know.
    pub(super) fn set_own_paused(&mut self, paused: bool) -> Option<DataState> {
        self.own_paused = paused;
        self.settle()
    }

    /// What it is piped from has changed. Returns what the consumers are to know.
    pub(super) fn piped_source_changed(&mut self, changed: DataState) -> Option<DataState> {
        let is_news = match &mut self.source {
            DataSource::Router { paused, held, .. } => {
                let is_news = paused.apply(changed.paused);
                held.apply(changed.held) || is_news
            }
            DataSource::Client(_) | DataSource::Application(_) | DataSource::Process { .. } => {
                false
            }
        };
        is_news.then(|| self.settle()).flatten()
    }

    /// The same of one that comes from another process.
    pub(super) fn remote_source_changed(&mut self, changed: Versioned<bool>) -> Option<DataState> {
        let is_news = match &mut self.source {
            DataSource::Process { paused, .. } => paused.apply(changed),
            DataSource::Client(_) | DataSource::Application(_) | DataSource::Router { .. } => false,
        };
        is_news.then(|| self.settle()).flatten()
    }

    fn settle(&mut self) -> Option<DataState> {
        let is_held_anew = self.held.set(self.is_held()).is_some();
        let changed = self.paused.set(self.is_paused());
        if let Some(changed) = changed {
            self.events.send(match changed.state {
                true => DataProducerEvent::Paused,
                false => DataProducerEvent::Resumed,
            });
        }
        self.tell_network();
        (is_held_anew || changed.is_some()).then(|| self.current())
    }

    fn tell_network(&mut self) {
        let paused = self.paused.current().state;
        match &mut self.source {
            DataSource::Client(own) | DataSource::Application(own) => own.set_paused(paused),
            // Where it comes from, nothing is sent while it is paused there; and what was sent before
            // may still be on its way.
            DataSource::Process { on_network, .. } => on_network.set_paused(self.own_paused),
            DataSource::Router { .. } => {}
        }
    }

    /// Where its messages arrive.
    pub(super) const fn origin(&self) -> DataOrigin {
        match &self.source {
            DataSource::Client(own)
            | DataSource::Application(own)
            | DataSource::Process {
                on_network: own, ..
            } => own.origin(),
            DataSource::Router { origin, .. } => *origin,
        }
    }

    pub(super) fn send(&self, message: DataMessage, waiting: Reserved) -> Result<(), DataError> {
        match &self.source {
            DataSource::Application(own) => {
                own.send(message, waiting);
                Ok(())
            }
            DataSource::Client(_) | DataSource::Router { .. } | DataSource::Process { .. } => {
                Err(DataError::NotTheApplications)
            }
        }
    }
}
