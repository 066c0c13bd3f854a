//! How loud producers are, for those who observe them: summed up as packets arrive, and told when
//! asked.

use std::collections::HashMap;

use super::Network;
use crate::objects::{ObserverId, ProducerId, RouterAddress};
use crate::rtp::packet::AudioLevel;

/// What has arrived of one producer since an observer asked last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LevelSum {
    packets: u32,
    below_full_db: u64,
}

impl LevelSum {
    fn add(&mut self, level: AudioLevel) {
        self.packets = self.packets.saturating_add(1);
        self.below_full_db += u64::from(level.below_full_db);
    }

    /// In decibels relative to full scale: from -127 to 0. `None` if nothing has arrived.
    pub(crate) fn average(self) -> Option<f64> {
        let packets = (self.packets > 0).then(|| f64::from(self.packets))?;
        Some(-(self.below_full_db as f64) / packets)
    }
}

/// The levels that somebody observes.
#[derive(Debug, Default)]
pub(super) struct Levels {
    observed: HashMap<ProducerId, Vec<ObserverId>>,
    sums: HashMap<ObserverId, HashMap<ProducerId, LevelSum>>,
}

impl Levels {
    pub(super) fn note(&mut self, producer: ProducerId, level: Option<AudioLevel>) {
        let (Some(level), Some(observers)) = (level, self.observed.get(&producer)) else {
            return;
        };
        for observer in observers {
            let sums = self.sums.get_mut(observer);
            if let Some(sum) = sums.and_then(|sums| sums.get_mut(&producer)) {
                sum.add(level);
            }
        }
    }

    fn observe(&mut self, observer: ObserverId, producer: ProducerId) {
        let sums = self.sums.entry(observer).or_default();
        if sums.insert(producer, LevelSum::default()).is_none() {
            self.observed.entry(producer).or_default().push(observer);
        }
    }

    fn stop_observing(&mut self, observer: ObserverId, producer: ProducerId) {
        if let Some(sums) = self.sums.get_mut(&observer) {
            sums.remove(&producer);
            if sums.is_empty() {
                self.sums.remove(&observer);
            }
        }
        if let Some(observers) = self.observed.get_mut(&producer) {
            observers.retain(|own| *own != observer);
            if observers.is_empty() {
                self.observed.remove(&producer);
            }
        }
    }

    fn take(&mut self, observer: ObserverId) -> Vec<(ProducerId, LevelSum)> {
        let sums = self.sums.get_mut(&observer).into_iter().flatten();
        sums.map(|(producer, sum)| (*producer, std::mem::take(sum)))
            .collect()
    }
}

impl Network {
    /// Sums up the levels of a producer for an observer.
    pub(crate) fn observe_level(&mut self, observer: ObserverId, producer: ProducerId) {
        self.0.borrow_mut().levels.observe(observer, producer);
    }

    /// Does so no longer.
    pub(crate) fn stop_observing_level(&mut self, observer: ObserverId, producer: ProducerId) {
        let mut state = self.0.borrow_mut();
        state.levels.stop_observing(observer, producer);
    }

    /// Tells an observer how loud all are that it observes here, in one post, and begins anew.
    pub(crate) fn tell_levels(&mut self, observer: ObserverId, round: u64, to: &RouterAddress) {
        let levels = self.0.borrow_mut().levels.take(observer);
        to.post(move |router| router.levels_told(observer, round, levels));
    }
}
