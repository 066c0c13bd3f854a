//! Observers as their router knows them.
//!
//! Every interval, the network threads on which observed producers arrive are asked for what they have
//! summed up, and what they answer is looked at once all have answered; or at the next interval, if a
//! thread has not answered by then.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rtc_thread::{DelayedTask, ThreadBound};

use super::address::RouterAddress;
use super::error::ObjectError;
use super::events::CloseReason;
use super::id::{ObserverId, ProducerId};
use super::on_network::post;
use super::router::RouterState;
use super::volumes::{Heard, Speaker, Volumes};
use crate::media::NetworkIndex;
use crate::network::{LevelSum, Network};

/// How many observers a router may have. Each costs timers.
const MAX_OBSERVERS: usize = 100;
/// The round of which no answer is awaited.
const NO_ROUND: u64 = 0;

/// What an observer makes of what is heard.
#[derive(Debug)]
pub(super) enum Analyst {
    Volumes(Volumes),
    Speaker(Speaker),
}

/// An observer as its router knows it.
#[derive(Debug)]
pub(super) struct ObserverState {
    address: RouterAddress,
    interval: Duration,
    paused: bool,
    producers: BTreeMap<ProducerId, Observed>,
    analyst: Analyst,
    round: u64,
    /// How many network threads have not answered yet.
    pending: usize,
    told: Vec<(ProducerId, LevelSum)>,
    timer: Option<DelayedTask>,
}

/// A producer's part of an observer, where its media arrives.
#[derive(Debug)]
struct Observed {
    observer: ObserverId,
    /// What it is called there.
    source: ProducerId,
    index: NetworkIndex,
    network: ThreadBound<Network>,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let (observer, source) = (self.observer, self.source);
        post(&self.network, move |network| {
            network.stop_observing_level(observer, source);
        });
    }
}

impl Analyst {
    fn hear(&mut self, heard: &Heard) {
        match self {
            Self::Volumes(volumes) => volumes.hear(heard),
            Self::Speaker(speaker) => speaker.hear(heard),
        }
    }

    fn forget(&mut self, producer: ProducerId) {
        match self {
            Self::Volumes(_) => {}
            Self::Speaker(speaker) => speaker.forget(producer),
        }
    }

    /// Nobody is observed any more, for now.
    fn rest(&mut self) {
        match self {
            Self::Volumes(volumes) => volumes.fall_silent(),
            Self::Speaker(speaker) => speaker.forget_levels(),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        match self {
            Self::Volumes(volumes) => volumes.events.close(reason),
            Self::Speaker(speaker) => speaker.events.close(reason),
        }
    }
}

impl ObserverState {
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.stop_timer();
        self.analyst.close(reason);
    }

    fn has_work(&self) -> bool {
        !self.paused && !self.producers.is_empty()
    }

    fn stop_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }

    fn remove(&mut self, producer: ProducerId) {
        if self.producers.remove(&producer).is_some() {
            self.analyst.forget(producer);
            if self.producers.is_empty() {
                self.rest();
            }
        }
    }

    fn rest(&mut self) {
        self.stop_timer();
        self.pending = 0;
        self.told.clear();
        self.analyst.rest();
    }

    /// Begins, if there is something to do and it has not begun.
    fn begin(&mut self, id: ObserverId) {
        if self.has_work() && self.timer.is_none() {
            // What was summed up while nobody asked is not of interest.
            self.ask(id, NO_ROUND);
            self.arm(id);
        }
    }

    fn arm(&mut self, id: ObserverId) {
        let router = self.address.id;
        let timer = self
            .address
            .worker
            .post_delayed(self.interval, move |state| {
                if let Ok(router) = state.router(router) {
                    router.observer_is_due(id);
                }
            });
        // Refused only by a thread that is quitting.
        self.timer = timer.ok();
    }

    /// Asks all network threads that have something to tell. Returns how many.
    fn ask(&self, id: ObserverId, round: u64) -> usize {
        let mut asked = BTreeSet::new();
        for observed in self.producers.values() {
            if asked.insert(observed.index) {
                let to = self.address.clone();
                post(&observed.network, move |network| {
                    network.tell_levels(id, round, &to);
                });
            }
        }
        asked.len()
    }
}

impl RouterState {
    pub(super) fn add_observer(
        &mut self,
        analyst: Analyst,
        interval: Duration,
        address: RouterAddress,
    ) -> Result<ObserverId, ObjectError> {
        if self.observers.len() >= MAX_OBSERVERS {
            return Err(ObjectError::TooMany(MAX_OBSERVERS));
        }
        let id = ObserverId::next();
        let state = ObserverState {
            address,
            interval,
            paused: false,
            producers: BTreeMap::new(),
            analyst,
            round: NO_ROUND,
            pending: 0,
            told: Vec::new(),
            timer: None,
        };
        self.observers.insert(id, state);
        Ok(id)
    }

    fn observer(&mut self, id: ObserverId) -> Result<&mut ObserverState, ObjectError> {
        let observer = self.observers.get_mut(&id);
        observer.ok_or(ObjectError::ObserverClosed(id))
    }

    pub(super) fn observe(
        &mut self,
        id: ObserverId,
        producer: ProducerId,
    ) -> Result<(), ObjectError> {
        self.observer(id)?;
        let media = self.producer(producer)?.media();
        let media = media.filter(|own| own.media.kind.is_audio());
        let origin = media.ok_or(ObjectError::NoAudio(producer))?.origin;
        let network = self.networks().at(origin.network).cloned();
        let network = network.ok_or(ObjectError::NoNetwork)?;
        let own = self.observer(id)?;
        if let Entry::Vacant(place) = own.producers.entry(producer) {
            let source = origin.producer;
            post(&network, move |network| network.observe_level(id, source));
            place.insert(Observed {
                observer: id,
                source,
                index: origin.network,
                network,
            });
            own.begin(id);
        }
        Ok(())
    }

    pub(super) fn stop_observing(
        &mut self,
        id: ObserverId,
        producer: ProducerId,
    ) -> Result<(), ObjectError> {
        self.observer(id)?.remove(producer);
        Ok(())
    }

    pub(super) fn set_observer_paused(
        &mut self,
        id: ObserverId,
        paused: bool,
    ) -> Result<(), ObjectError> {
        let own = self.observer(id)?;
        if std::mem::replace(&mut own.paused, paused) != paused {
            match paused {
                true => own.rest(),
                false => own.begin(id),
            }
        }
        Ok(())
    }

    pub(super) fn close_observer(
        &mut self,
        id: ObserverId,
        reason: CloseReason,
    ) -> Result<(), ObjectError> {
        let observer = self.observers.remove(&id);
        let mut observer = observer.ok_or(ObjectError::ObserverClosed(id))?;
        observer.close(reason);
        Ok(())
    }

    /// A producer is closed.
    pub(super) fn forget_observed(&mut self, producer: ProducerId) {
        for observer in self.observers.values_mut() {
            observer.remove(producer);
        }
    }

    fn observer_is_due(&mut self, id: ObserverId) {
        let Ok(own) = self.observer(id) else {
            return;
        };
        own.timer = None;
        let is_late = own.pending > 0;
        if is_late {
            self.look_at_levels(id);
        }
        if let Ok(own) = self.observer(id)
            && own.has_work()
        {
            own.round += 1;
            own.pending = own.ask(id, own.round);
            own.arm(id);
        }
    }

    /// A network thread has answered.
    pub(crate) fn levels_told(
        &mut self,
        id: ObserverId,
        round: u64,
        levels: Vec<(ProducerId, LevelSum)>,
    ) {
        let Ok(own) = self.observer(id) else {
            return;
        };
        if round != own.round || own.pending == 0 {
            return;
        }
        own.told.extend(levels);
        own.pending -= 1;
        if own.pending == 0 {
            self.look_at_levels(id);
        }
    }

    fn look_at_levels(&mut self, id: ObserverId) {
        let Ok(own) = self.observer(id) else {
            return;
        };
        own.pending = 0;
        let told: BTreeMap<_, _> = std::mem::take(&mut own.told).into_iter().collect();
        let mut heard = Vec::new();
        for (producer, observed) in &own.producers {
            let level = told.get(&observed.source).and_then(|sum| sum.average());
            heard.extend(level.map(|level| (*producer, level)));
        }
        // One that is piped may be paused here, and be heard where it comes from.
        heard.retain(|(producer, _)| self.producer(*producer).is_ok_and(|own| !own.is_quiet()));
        if let Ok(own) = self.observer(id) {
            own.analyst.hear(&heard);
        }
    }
}
