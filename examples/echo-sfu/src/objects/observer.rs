//! Observers: who speaks, and how loud.

use std::time::Duration;

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::{CloseReason, Events};
use super::id::{ObserverId, ProducerId};
use super::observer_state::Analyst;
use super::router::Router;
use super::volumes::{Speaker, Volumes};
use crate::Operation;

/// What intervals are kept within.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// What an [`AudioLevelObserver`] is to tell of.
#[derive(Debug, Clone, Copy)]
#[must_use = "options do nothing by themselves"]
pub struct AudioLevelObserverOptions {
    pub(super) max_entries: usize,
    pub(super) threshold: i8,
    interval: Duration,
}

impl Default for AudioLevelObserverOptions {
    /// The loudest every second, if it is louder than -80 dBov.
    fn default() -> Self {
        Self {
            max_entries: 1,
            threshold: -80,
            interval: Duration::from_secs(1),
        }
    }
}

impl AudioLevelObserverOptions {
    /// How many it tells of at a time, the loudest first.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// How loud somebody has to be on average, in dBov: from -127 to 0.
    pub fn threshold(mut self, dbov: i8) -> Self {
        self.threshold = dbov;
        self
    }

    /// How often it tells: not more often than four times a second, nor less than every five seconds.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

/// What an [`ActiveSpeakerObserver`] begins with.
#[derive(Debug, Clone, Copy)]
#[must_use = "options do nothing by themselves"]
pub struct ActiveSpeakerObserverOptions {
    interval: Duration,
}

impl Default for ActiveSpeakerObserverOptions {
    /// It looks every 300 milliseconds.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(300),
        }
    }
}

impl ActiveSpeakerObserverOptions {
    /// How often it looks: not more often than four times a second, nor less than every five seconds.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

/// How loud a producer was on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// Which producer.
    pub producer: ProducerId,
    /// In dBov: from -127 to 0.
    pub dbov: i8,
}

/// What an [`AudioLevelObserver`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudioLevelEvent {
    /// Who was loud in the last interval, the loudest first.
    Volumes(Vec<Volume>),
    /// Nobody was, after somebody had been.
    Silence,
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for AudioLevelEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// What an [`ActiveSpeakerObserver`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActiveSpeakerEvent {
    /// Somebody else speaks from now on.
    DominantSpeaker(ProducerId),
    /// It is closed. The last event.
    Closed(CloseReason),
}

impl From<CloseReason> for ActiveSpeakerEvent {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

/// Tells how loud producers are.
///
/// mediasoup: `AudioLevelObserver`.
pub type AudioLevelObserver = Observer<AudioLevelEvent>;

/// Tells who of several speaks. A short noise of somebody else changes nothing.
///
/// mediasoup: `ActiveSpeakerObserver`.
pub type ActiveSpeakerObserver = Observer<ActiveSpeakerEvent>;

/// An observer of audio producers of its router. It goes by what their senders say of each packet (RFC
/// 6464); of those who do not say, it hears nothing. Dropping this closes nothing.
///
/// mediasoup: `RtpObserver`.
#[derive(Debug)]
pub struct Observer<E> {
    id: ObserverId,
    router: RouterAddress,
    events: Events<E>,
}

impl<E: Clone> Observer<E> {
    /// Its name.
    pub fn id(&self) -> ObserverId {
        self.id
    }

    /// Observes a producer, too. If it does so already, nothing changes.
    ///
    /// Fails if the observer or the producer is closed, or if that sends no audio.
    pub fn add_producer(&self, producer: ProducerId) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.observe(id, producer))
    }

    /// Observes a producer no longer. If it does not, nothing changes.
    pub fn remove_producer(&self, producer: ProducerId) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.stop_observing(id, producer))
    }

    /// Pauses it: it tells nothing, but that it is silent if it was not.
    pub fn pause(&self) -> Operation<(), ObjectError> {
        self.set_paused(true)
    }

    /// Lets it go on. What was said meanwhile is forgotten.
    pub fn resume(&self) -> Operation<(), ObjectError> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.set_observer_paused(id, paused))
    }

    /// Closes it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.close_observer(id, CloseReason::Called))
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<E> {
        &mut self.events
    }
}

impl Router {
    /// Creates an observer of how loud producers are.
    ///
    /// Fails if the threshold is none, or if the router has 100 observers.
    ///
    /// mediasoup: `createAudioLevelObserver`.
    pub fn create_audio_level_observer(
        &self,
        options: AudioLevelObserverOptions,
    ) -> Operation<AudioLevelObserver, ObjectError> {
        let router = self.address().clone();
        self.address().enqueue(move |state| {
            if !(-127..=0).contains(&options.threshold) {
                return Err(ObjectError::BadThreshold(options.threshold));
            }
            let (volumes, events) = Volumes::new(options);
            let analyst = Analyst::Volumes(volumes);
            let id = state.add_observer(analyst, within(options.interval), router.clone())?;
            Ok(Observer { id, router, events })
        })
    }

    /// Creates an observer of who speaks.
    ///
    /// Fails if the router has 100 observers.
    ///
    /// mediasoup: `createActiveSpeakerObserver`.
    pub fn create_active_speaker_observer(
        &self,
        options: ActiveSpeakerObserverOptions,
    ) -> Operation<ActiveSpeakerObserver, ObjectError> {
        let router = self.address().clone();
        self.address().enqueue(move |state| {
            let (speaker, events) = Speaker::new();
            let analyst = Analyst::Speaker(speaker);
            let id = state.add_observer(analyst, within(options.interval), router.clone())?;
            Ok(Observer { id, router, events })
        })
    }
}

fn within(interval: Duration) -> Duration {
    interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}
