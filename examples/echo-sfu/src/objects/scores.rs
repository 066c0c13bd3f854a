//! How well a producer arrives: state that is replicated through pipes.

use super::id::ProducerId;
use super::replica::Versioned;
use super::router::RouterState;
use crate::rtp::history::MAX_LAYERS;
use crate::rtp::rate::BEST_SCORE;

/// Of each layer, the smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scores {
    scores: [u8; MAX_LAYERS],
    layers: usize,
}

impl Scores {
    /// Of so many layers nothing bad is known.
    pub(super) fn best(layers: usize) -> Self {
        Self {
            scores: [BEST_SCORE; MAX_LAYERS],
            layers: layers.min(MAX_LAYERS),
        }
    }

    pub(super) fn of_layers(&self) -> &[u8] {
        &self.scores[..self.layers]
    }

    /// The same with another score of a layer; of none, if there is no such layer.
    pub(super) fn with(mut self, layer: u8, score: u8) -> Self {
        if let Some(known) = self.scores[..self.layers].get_mut(usize::from(layer)) {
            *known = score;
        }
        self
    }

    /// Layers, and what their scores are now, where they were others before.
    pub(super) fn since(&self, before: &Self) -> impl Iterator<Item = (u8, u8)> {
        let layers = (0..).zip(self.of_layers().iter().zip(before.of_layers()));
        let changed = layers.filter(|(_, (now, before))| now != before);
        changed.map(|(layer, (now, _))| (layer, *now))
    }
}

impl RouterState {
    /// A network thread has seen a producer arrive better or worse than before.
    pub(crate) fn producer_scored(&mut self, id: ProducerId, layer: u8, score: u8) {
        let producer = self.producer(id).ok();
        if let Some(changed) = producer.and_then(|own| own.scored(layer, score)) {
            self.scores_changed(id, changed);
        }
    }

    /// What a producer here is piped from arrives better or worse.
    pub(super) fn piped_scores_changed(&mut self, id: ProducerId, scores: Versioned<Scores>) {
        let producer = self.producer(id).ok();
        if let Some(changed) = producer.and_then(|own| own.piped_scores_changed(scores)) {
            self.scores_changed(id, changed);
        }
    }

    fn scores_changed(&self, id: ProducerId, scores: Versioned<Scores>) {
        for consumer in self.consumers.values().filter(|own| own.producer == id) {
            if let Some(piped_to) = &consumer.piped_to {
                piped_to.scores_changed(scores);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_that_are_there_have_scores() {
        let best = Scores::best(2);
        assert_eq!([10, 10], best.of_layers());
        let other = best.with(1, 3).with(2, 4);
        assert_eq!([10, 3], other.of_layers());
        assert_eq!(vec![(1, 3)], other.since(&best).collect::<Vec<_>>());
        assert!(Scores::best(0).with(0, 1).of_layers().is_empty());
    }
}
