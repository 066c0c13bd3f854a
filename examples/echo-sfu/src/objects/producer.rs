//! A producer: media that comes in.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::Serialize;

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ProducerId, TransportId};
use super::link_ends::FromLink;
use super::on_network::ProducerOnNetwork;
use super::pipe::PipedFrom;
use super::replica::{Replica, Source, Versioned};
use super::scores::Scores;
use super::trace::Trace;
use crate::Operation;
use crate::media::{Media, TrackInfo};
use crate::network::Origin;
use crate::pipe_link::Demand;

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
    /// Whoever consumes it needs a key frame, which it is for the application to send:
    /// [`send_rtp`](Producer::send_rtp).
    KeyFrameRequested,
    /// How well one of its layers arrives has changed.
    Score {
        /// The smallest is 0, and the only one if there are no layers.
        layer: u8,
        /// From 0 to 10, by the share of packets that arrive within a second, those that are sent again
        /// included: 10 without loss, 8 with 5%, 4 with 20%. 0, if nothing was sent for two seconds.
        /// Every layer begins with 10, and keeps that for as long as nothing of it has ever come.
        score: u8,
    },
    /// What was to be [traced](Producer::trace).
    Trace(Trace),
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
    /// How well each layer arrives, from 0 to 10, the smallest layer first; empty if nothing does. See [`ProducerEvent::Score`].
    pub scores: Vec<u8>,
}

/// Media that comes in to a router, on one of its transports. Dropping this closes nothing.
///
/// mediasoup: `Producer`.
#[derive(Debug)]
pub struct Producer {
    id: ProducerId,
    router: RouterAddress,
    /// What the application has sent that is not taken yet.
    waiting: Arc<AtomicUsize>,
    events: Events<ProducerEvent>,
}

impl Producer {
    pub(super) fn new(
        id: ProducerId,
        router: RouterAddress,
        events: Events<ProducerEvent>,
    ) -> Self {
        Self {
            id,
            router,
            waiting: Arc::default(),
            events,
        }
    }

    pub(super) const fn router(&self) -> &RouterAddress {
        &self.router
    }

    pub(super) const fn waiting(&self) -> &Arc<AtomicUsize> {
        &self.waiting
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
        self.router
            .enqueue(move |router| router.set_producer_paused(id, paused))
    }

    /// Closes it, and all its consumers.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.close_producer(id, CloseReason::Called))
    }

    /// How it is when the operation takes effect.
    pub fn status(&self) -> Operation<ProducerStatus, ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.producer_status(id))
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<ProducerEvent> {
        &mut self.events
    }
}

/// What a producer sends, and where that arrives.
#[derive(Debug, Clone)]
pub(super) struct ProducerMedia {
    pub(super) media: Media,
    pub(super) origin: Origin,
}

/// Where a producer comes from.
#[derive(Debug)]
pub(super) enum ProducerSource {
    /// The application says that it is there; it sends nothing.
    Application,
    /// Its media arrives on a network thread.
    Network(ProducerOnNetwork, Media),
    /// It is a producer of another process.
    Process {
        near: FromLink,
        paused: Replica<bool>,
        on_network: ProducerOnNetwork,
        media: Media,
    },
    /// It is a producer of another router.
    Router {
        /// Ends the near end when the producer is gone.
        pipe: PipedFrom,
        paused: Replica<bool>,
        scores: Replica<Scores>,
        media: Option<ProducerMedia>,
    },
}

/// A producer as its router knows it.
#[derive(Debug)]
pub(super) struct ProducerState {
    pub(super) transport: TransportId,
    /// Whether the application has paused it here.
    own_paused: bool,
    source: ProducerSource,
    /// Producers that are piped from it have copies of this.
    pub(super) scores: Source<Scores>,
    /// What the near end was told last to be wanted here. Unless told, it takes it for everything.
    wanted: Demand,
    /// Whether it is paused, for either reason. Its consumers have copies of this.
    pub(super) paused: Source<bool>,
    pub(super) events: EventSink<ProducerEvent>,
}

impl ProducerState {
    pub(super) fn new(
        transport: TransportId,
        options: ProducerOptions,
        source: ProducerSource,
        events: EventSink<ProducerEvent>,
    ) -> Self {
        let scores = match &source {
            ProducerSource::Network(_, media) | ProducerSource::Process { media, .. } => {
                Scores::best(media.layers.max(1))
            }
            ProducerSource::Application => Scores::best(0),
            ProducerSource::Router { scores, .. } => scores.state(),
        };
        let mut producer = Self {
            transport,
            own_paused: options.paused,
            scores: Source::new(scores),
            source,
            wanted: Demand::Everything,
            paused: Source::new(false),
            events,
        };
        producer.paused = Source::new(producer.is_paused());
        producer.tell_network();
        producer
    }

    /// Whether it is paused follows from what is known here and of where it comes from.
    fn is_paused(&self) -> bool {
        let is_paused_there = match &self.source {
            ProducerSource::Router { paused, .. } | ProducerSource::Process { paused, .. } => {
                paused.state()
            }
            ProducerSource::Application | ProducerSource::Network(..) => false,
        };
        self.own_paused || is_paused_there
    }

    /// The application pauses it, or lets it go on. Returns what the consumers are to know.
    pub(super) fn set_own_paused(&mut self, paused: bool) -> Option<Versioned<bool>> {
        self.own_paused = paused;
        self.settle()
    }

    /// What it is piped from has changed. Returns what the consumers are to know.
    pub(super) fn piped_source_changed(
        &mut self,
        changed: Versioned<bool>,
    ) -> Option<Versioned<bool>> {
        match &mut self.source {
            ProducerSource::Router { paused, .. } | ProducerSource::Process { paused, .. } => {
                let is_news = paused.apply(changed);
                is_news.then(|| self.settle()).flatten()
            }
            ProducerSource::Application | ProducerSource::Network(..) => None,
        }
    }

    fn settle(&mut self) -> Option<Versioned<bool>> {
        let changed = self.paused.set(self.is_paused())?;
        self.events.send(match changed.state {
            true => ProducerEvent::Paused,
            false => ProducerEvent::Resumed,
        });
        self.tell_network();
        Some(changed)
    }

    fn tell_network(&mut self) {
        let paused = self.paused.current().state;
        if let ProducerSource::Network(on_network, _) | ProducerSource::Process { on_network, .. } =
            &mut self.source
        {
            on_network.set_paused(paused);
        }
    }

    /// What it sends, and where that arrives; `None` if it sends nothing.
    pub(super) fn media(&self) -> Option<ProducerMedia> {
        match &self.source {
            ProducerSource::Application => None,
            ProducerSource::Network(on_network, media)
            | ProducerSource::Process {
                on_network, media, ..
            } => Some(ProducerMedia {
                media: media.clone(),
                origin: on_network.origin(),
            }),
            ProducerSource::Router { media, .. } => media.clone(),
        }
    }

    /// A layer has been scored. Returns what those who are piped from it are to know.
    pub(super) fn scored(&mut self, layer: u8, score: u8) -> Option<Versioned<Scores>> {
        self.set_scores(self.scores.current().state.with(layer, score))
    }

    /// What it is piped from has been scored. Returns what those who are piped from it are to know.
    pub(super) fn piped_scores_changed(
        &mut self,
        changed: Versioned<Scores>,
    ) -> Option<Versioned<Scores>> {
        let ProducerSource::Router { scores, .. } = &mut self.source else {
            return None;
        };
        let is_news = scores.apply(changed);
        is_news.then(|| self.set_scores(changed.state)).flatten()
    }

    fn set_scores(&mut self, scores: Scores) -> Option<Versioned<Scores>> {
        let before = self.scores.current().state;
        for (layer, score) in scores.since(&before) {
            self.events.send(ProducerEvent::Score { layer, score });
        }
        self.scores.set(scores)
    }

    /// What is wanted of it here follows from its consumers. If it is piped, where it comes from is
    /// told.
    pub(super) fn set_wanted(&mut self, demand: Demand) {
        if self.wanted == demand {
            return;
        }
        self.wanted = demand;
        match &self.source {
            ProducerSource::Router { pipe, .. } => pipe.wants(demand),
            ProducerSource::Process { near, .. } => near.wants(demand),
            ProducerSource::Application | ProducerSource::Network(..) => {}
        }
    }

    pub(super) const fn is_piped(&self) -> bool {
        matches!(
            self.source,
            ProducerSource::Router { .. } | ProducerSource::Process { .. }
        )
    }

    /// Whether it sends the same in several layers.
    pub(super) fn has_layers(&self) -> bool {
        match &self.source {
            ProducerSource::Network(_, media) | ProducerSource::Process { media, .. } => {
                media.layers > 1
            }
            ProducerSource::Application | ProducerSource::Router { .. } => false,
        }
    }

    /// Whether nothing comes from it here.
    pub(super) const fn is_quiet(&self) -> bool {
        self.paused.current().state
    }

    pub(super) const fn source(&self) -> &ProducerSource {
        &self.source
    }

    pub(super) fn track(&self) -> Option<TrackInfo> {
        Some(self.media()?.media.info())
    }
}
