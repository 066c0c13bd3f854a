//! What observers make of levels.

use std::collections::BTreeMap;

use super::events::{EventSink, Events};
use super::id::ProducerId;
use super::observer::{ActiveSpeakerEvent, AudioLevelEvent, AudioLevelObserverOptions, Volume};

/// How loud somebody has to be in order to be the speaker, in dBov. A quiet room is below.
const SPEECH: f64 = -60.0;
/// What somebody is of whom nothing is heard.
const NOTHING: f64 = -127.0;
/// By how many decibels somebody has to be louder than who speaks.
const LOUDER_BY: f64 = 6.0;
/// How many intervals in a row.
const IN_A_ROW: u32 = 2;
/// How much of what was heard before counts.
const MEMORY: f64 = 0.5;

/// What has been heard in an interval, in dBov.
pub(super) type Heard = [(ProducerId, f64)];

/// Who is loud.
#[derive(Debug)]
pub(super) struct Volumes {
    max_entries: usize,
    threshold: f64,
    is_silent: bool,
    pub(super) events: EventSink<AudioLevelEvent>,
}

impl Volumes {
    pub(super) fn new(options: AudioLevelObserverOptions) -> (Self, Events<AudioLevelEvent>) {
        let (sink, events) = EventSink::new();
        let volumes = Self {
            max_entries: options.max_entries,
            threshold: options.threshold.into(),
            is_silent: true,
            events: sink,
        };
        (volumes, events)
    }

    pub(super) fn hear(&mut self, heard: &Heard) {
        let mut loud: Vec<_> = heard
            .iter()
            .filter(|(_, level)| *level >= self.threshold)
            .copied()
            .collect();
        loud.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        loud.truncate(self.max_entries.max(1));
        if loud.is_empty() {
            return self.fall_silent();
        }
        self.is_silent = false;
        let volumes = loud.into_iter().map(|(producer, level)| Volume {
            producer,
            dbov: level.round() as i8,
        });
        self.events
            .send(AudioLevelEvent::Volumes(volumes.collect()));
    }

    pub(super) fn fall_silent(&mut self) {
        if !std::mem::replace(&mut self.is_silent, true) {
            self.events.send(AudioLevelEvent::Silence);
        }
    }
}

/// Who speaks.
#[derive(Debug)]
pub(super) struct Speaker {
    /// Smoothed, lest a pause between two words count.
    levels: BTreeMap<ProducerId, f64>,
    dominant: Option<ProducerId>,
    /// Who is louder, and for how many intervals.
    challenger: Option<(ProducerId, u32)>,
    pub(super) events: EventSink<ActiveSpeakerEvent>,
}

impl Speaker {
    pub(super) fn new() -> (Self, Events<ActiveSpeakerEvent>) {
        let (sink, events) = EventSink::new();
        let speaker = Self {
            levels: BTreeMap::new(),
            dominant: None,
            challenger: None,
            events: sink,
        };
        (speaker, events)
    }

    /// Takes in what was heard of all who are observed: of those who are not among them, nothing was.
    pub(super) fn hear(&mut self, heard: &Heard) {
        for (producer, _) in heard {
            self.levels.entry(*producer).or_insert(NOTHING);
        }
        for (producer, level) in &mut self.levels {
            let now = heard.iter().find(|(own, _)| own == producer);
            let now = now.map_or(NOTHING, |(_, level)| *level);
            *level = *level * MEMORY + now * (1.0 - MEMORY);
        }
        let loudest = self
            .levels
            .iter()
            .max_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((loudest, level)) = loudest.map(|(own, level)| (*own, *level)) else {
            return;
        };
        if level < SPEECH || Some(loudest) == self.dominant {
            self.challenger = None;
            return;
        }
        let level_of = |own| self.levels.get(&own).copied().unwrap_or(NOTHING);
        let dominant = self.dominant.map_or(NOTHING, level_of);
        if dominant < SPEECH {
            // Nobody is interrupted.
            return self.set_dominant(loudest);
        }
        if level < dominant + LOUDER_BY {
            self.challenger = None;
            return;
        }
        let times = match self.challenger {
            Some((own, times)) if own == loudest => times + 1,
            _ => 1,
        };
        self.challenger = Some((loudest, times));
        if times >= IN_A_ROW {
            self.set_dominant(loudest);
        }
    }

    fn set_dominant(&mut self, producer: ProducerId) {
        self.challenger = None;
        self.dominant = Some(producer);
        let event = ActiveSpeakerEvent::DominantSpeaker(producer);
        self.events.send(event);
    }

    pub(super) fn forget(&mut self, producer: ProducerId) {
        self.levels.remove(&producer);
        self.dominant = self.dominant.filter(|own| *own != producer);
        self.challenger = self.challenger.filter(|(own, _)| *own != producer);
    }

    pub(super) fn forget_levels(&mut self) {
        self.levels.clear();
        self.challenger = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> [ProducerId; 2] {
        [ProducerId::next(), ProducerId::next()]
    }

    #[test]
    fn the_loudest_come_first_and_silence_is_told_once() {
        let [one, other] = people();
        let options = AudioLevelObserverOptions::default().max_entries(2);
        let (mut volumes, mut events) = Volumes::new(options);
        volumes.hear(&[]);
        volumes.hear(&[(one, -50.4), (other, -20.0), (ProducerId::next(), -81.0)]);
        volumes.hear(&[]);
        volumes.hear(&[(one, -90.0)]);
        let volume = |producer, dbov| Volume { producer, dbov };
        let told = vec![volume(other, -20), volume(one, -50)];
        assert_eq!(
            vec![AudioLevelEvent::Volumes(told), AudioLevelEvent::Silence],
            events.drain()
        );
    }

    #[test]
    fn a_short_noise_does_not_make_a_speaker_and_speech_does() {
        let [one, other] = people();
        let (mut speaker, mut events) = Speaker::new();
        for _ in 0..5 {
            speaker.hear(&[(one, -30.0), (other, -90.0)]);
        }
        // A cough, less loud than would be needed twice.
        speaker.hear(&[(one, -30.0), (other, -10.0)]);
        speaker.hear(&[(one, -30.0), (other, -90.0)]);
        let dominant = ActiveSpeakerEvent::DominantSpeaker;
        assert_eq!(vec![dominant(one)], events.drain());
        for _ in 0..10 {
            speaker.hear(&[(one, -30.0), (other, -27.0)]);
        }
        assert_eq!(Vec::<ActiveSpeakerEvent>::new(), events.drain());
        for _ in 0..10 {
            speaker.hear(&[(one, -50.0), (other, -27.0)]);
        }
        assert_eq!(vec![dominant(other)], events.drain());
        speaker.forget(other);
        speaker.hear(&[(one, -50.0)]);
        assert_eq!(vec![dominant(one)], events.drain());
    }

    #[test]
    fn nobody_speaks_in_a_quiet_room() {
        let [one, other] = people();
        let (mut speaker, mut events) = Speaker::new();
        for _ in 0..10 {
            speaker.hear(&[(one, -70.0), (other, -80.0)]);
        }
        assert_eq!(Vec::<ActiveSpeakerEvent>::new(), events.drain());
    }
}
