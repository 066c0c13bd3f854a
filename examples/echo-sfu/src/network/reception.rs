//! How well the packets of a producer arrive.

use crate::rtp::history::MAX_LAYERS;
use crate::rtp::rate::{BEST_SCORE, score};

/// Numbers that go up by more than so many are those of a source that has started anew.
const GREATEST_GAP: u64 = 1 << 15;
/// A layer of which so many looks in a row find nothing new is not sent any more.
const SILENT_LOOKS: u8 = 2;
const WEIGHT_OF_NEW: f64 = 0.5;

/// Counts what arrives by layer, between one look and the next. What was lost and has been sent again
/// has arrived.
#[derive(Debug, Default)]
pub(super) struct Reception {
    layers: [Layer; MAX_LAYERS],
}

#[derive(Debug)]
struct Layer {
    newest: Option<u64>,
    /// Whether anything ever came: a layer of which nothing did may not be sent at all, and nobody can
    /// tell how it would arrive.
    was_heard: bool,
    /// Since the last look.
    expected: u64,
    received: u64,
    /// The share of packets that do not arrive, averaged over the last looks.
    lost: f64,
    silent_looks: u8,
    told: u8,
}

impl Default for Layer {
    fn default() -> Self {
        Self {
            newest: None,
            was_heard: false,
            expected: 0,
            received: 0,
            lost: 0.0,
            silent_looks: 0,
            told: BEST_SCORE,
        }
    }
}

impl Reception {
    /// A packet with a number that only grows, but for those that are late.
    pub(super) fn receive(&mut self, layer: u8, sequence: u64) {
        let Some(layer) = self.layers.get_mut(usize::from(layer)) else {
            return;
        };
        layer.was_heard = true;
        layer.received += 1;
        let ahead = layer.newest.map(|newest| sequence.saturating_sub(newest));
        match ahead {
            Some(0) => {}
            Some(ahead) if ahead < GREATEST_GAP => {
                layer.expected += ahead;
                layer.newest = Some(sequence);
            }
            _ => {
                layer.expected += 1;
                layer.newest = Some(sequence);
            }
        }
    }

    /// The layers whose scores have changed since the last look. To be called about once a second.
    pub(super) fn news(&mut self) -> impl Iterator<Item = (u8, u8)> + use<'_> {
        let layers = self.layers.iter_mut().enumerate();
        layers.filter_map(|(at, layer)| {
            let score = layer.look()?;
            let before = std::mem::replace(&mut layer.told, score);
            (before != score).then_some((u8::try_from(at).ok()?, score))
        })
    }

    /// Counts anew: what was paused meanwhile is nobody's loss.
    pub(super) fn forget(&mut self) {
        for layer in &mut self.layers {
            (layer.expected, layer.received, layer.silent_looks) = (0, 0, 0);
            layer.newest = None;
        }
    }
}

impl Layer {
    fn look(&mut self) -> Option<u8> {
        let (expected, received) = (self.expected, self.received);
        (self.expected, self.received) = (0, 0);
        if received == 0 {
            if !self.was_heard {
                return None;
            }
            self.silent_looks = self.silent_looks.saturating_add(1);
            return (self.silent_looks >= SILENT_LOOKS).then_some(0);
        }
        self.silent_looks = 0;
        // Late ones may be those that a look before has missed.
        let lost = 1.0 - (received as f64 / expected.max(1) as f64).min(1.0);
        self.lost += (lost - self.lost) * WEIGHT_OF_NEW;
        Some(score(self.lost, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(reception: &mut Reception, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            reception.receive(0, sequence);
        }
    }

    fn news(reception: &mut Reception) -> Vec<(u8, u8)> {
        reception.news().collect()
    }

    #[test]
    fn what_arrives_in_whichever_order_has_the_best_score() {
        let mut reception = Reception::default();
        assert!(news(&mut reception).is_empty());
        receive(&mut reception, 100..200);
        assert!(news(&mut reception).is_empty());
        receive(&mut reception, (200..300).rev());
        assert!(news(&mut reception).is_empty());
    }

    #[test]
    fn loss_lowers_the_score_and_time_without_raises_it_again() {
        let mut reception = Reception::default();
        receive(&mut reception, (0..100).filter(|n| n % 2 == 0));
        // A quarter on average.
        assert_eq!(vec![(0, 3)], news(&mut reception));
        receive(&mut reception, (100..200).filter(|n| n % 2 == 0));
        assert_eq!(vec![(0, 2)], news(&mut reception));
        for second in 2..20 {
            receive(&mut reception, second * 100..(second + 1) * 100);
            news(&mut reception);
        }
        assert_eq!(10, reception.layers[0].told);
    }

    #[test]
    fn what_is_not_sent_any_more_is_worth_nothing_until_it_is() {
        let mut reception = Reception::default();
        reception.receive(2, 7);
        assert!(news(&mut reception).is_empty());
        assert!(news(&mut reception).is_empty());
        assert_eq!(vec![(2, 0)], news(&mut reception));
        assert!(news(&mut reception).is_empty());
        reception.receive(2, 8);
        assert_eq!(vec![(2, 10)], news(&mut reception));
    }

    #[test]
    fn what_is_not_sent_after_a_pause_is_worth_nothing_and_what_never_was_is_not_judged() {
        let mut reception = Reception::default();
        reception.receive(1, 7);
        assert!(news(&mut reception).is_empty());
        reception.forget();
        assert!(news(&mut reception).is_empty());
        assert_eq!(vec![(1, 0)], news(&mut reception));
        reception.forget();
        reception.receive(1, 50_000);
        assert_eq!(vec![(1, 10)], news(&mut reception));
    }

    #[test]
    fn a_source_that_starts_anew_or_was_paused_has_lost_nothing() {
        let mut reception = Reception::default();
        receive(&mut reception, 0..100);
        receive(&mut reception, (0..100).map(|n| n + (1 << 16)));
        assert!(news(&mut reception).is_empty());
        reception.forget();
        receive(&mut reception, (0..100).map(|n| n + (1 << 16) + 5_000));
        assert!(news(&mut reception).is_empty());
        reception.receive(200, 1);
        assert!(news(&mut reception).is_empty());
    }
}
