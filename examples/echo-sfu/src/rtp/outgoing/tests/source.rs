//! A producer and its network, at random.

use super::*;
use crate::rtp::random::Random;

/// What a packet really is: what the stream is not told, and the checker goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) layer: u8,
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) payload_type: u8,
    pub(super) starts_key_frame: bool,
    pub(super) is_for_receiver: bool,
    pub(super) picture: Picture,
}

/// As the source numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Picture {
    /// With its width in bits.
    pub(super) id: Option<(u16, u32)>,
    pub(super) tl0: Option<u8>,
}

#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) at: u64,
    pub(super) truth: Truth,
    pub(super) packet: MediaPacket,
}

/// How bad the way from the source is, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) delayed: u64,
}

#[derive(Debug)]
pub(super) struct Source {
    is_video: bool,
    layers: Vec<LayerSource>,
    /// In the order of arrival.
    on_the_way: Vec<Arrival>,
}

#[derive(Debug)]
struct LayerSource {
    index: u8,
    sequence: u64,
    timestamp_shift: u32,
    id: Option<(u16, u32)>,
    tl0: Option<u8>,
    /// When it sends the next key frame.
    key_frame_at: Option<u64>,
    silent_until: u64,
}

impl Source {
    pub(super) fn new(random: &mut Random, is_video: bool) -> Self {
        let layers = if is_video { 1 + random.below(3) } else { 1 };
        let width = [None, Some(7), Some(15)][random.below(3) as usize];
        let has_tl0 = random.chance(70);
        Self {
            is_video,
            layers: (0..layers)
                .map(|index| LayerSource {
                    index: index as u8,
                    // Near where they wrap, or not.
                    sequence: random.below(4) * 65_536 + 65_000 + random.below(700),
                    timestamp_shift: (random.below(2_000_000) as u32).wrapping_sub(1_000_000),
                    id: width.map(|width| (random.below(1 << width) as u16, width)),
                    tl0: has_tl0.then(|| random.next() as u8),
                    key_frame_at: Some(0),
                    silent_until: 0,
                })
                .collect(),
            on_the_way: Vec::new(),
        }
    }

    pub(super) fn highest_layer(&self) -> u8 {
        self.layers.len() as u8 - 1
    }

    pub(super) fn ask_for_key_frame(&mut self, layer: u8, at: u64) {
        let layer = &mut self.layers[usize::from(layer)];
        layer.key_frame_at.get_or_insert(at);
    }

    pub(super) fn silence(&mut self, layer: u8, until: u64) {
        if let Some(layer) = self.layers.get_mut(usize::from(layer)) {
            layer.silent_until = layer.silent_until.max(until);
        }
    }

    /// As if thousands of packets had been lost.
    pub(super) fn skip(&mut self) {
        for layer in &mut self.layers {
            layer.sequence += 3000;
        }
    }

    /// Captures a frame, which is some packets of each layer.
    pub(super) fn capture(&mut self, random: &mut Random, now: u64, base: Instant, way: Way) {
        for layer in &mut self.layers {
            if layer.silent_until > now {
                continue;
            }
            let is_key = layer.key_frame_at.is_some_and(|at| at <= now);
            if is_key {
                layer.key_frame_at = None;
            }
            let ticks = if self.is_video { 90 } else { 48 };
            let timestamp = (now as u32)
                .wrapping_mul(ticks)
                .wrapping_add(layer.timestamp_shift);
            layer.id = layer.id.map(|(id, width)| ((id + 1) % (1 << width), width));
            if is_key || random.chance(50) {
                layer.tl0 = layer.tl0.map(|tl0| tl0.wrapping_add(1));
            }
            let packets = if self.is_video {
                1 + random.below(5)
            } else {
                1
            };
            for index in 0..packets {
                if random.chance(2) {
                    let run = 1 + random.below(3);
                    for _ in 0..run {
                        let stray = layer.stray(random, self.is_video, timestamp);
                        send(&mut self.on_the_way, random, stray, now, base, way);
                    }
                }
                let starts_frame = index == 0;
                let packet = layer.packet(self.is_video, starts_frame, is_key, timestamp);
                send(&mut self.on_the_way, random, packet, now, base, way);
            }
        }
        self.on_the_way.sort_by_key(|arrival| arrival.at);
    }

    pub(super) fn arrived(&mut self, now: u64) -> Vec<Arrival> {
        let count = self.on_the_way.partition_point(|arrival| arrival.at <= now);
        self.on_the_way.drain(..count).collect()
    }
}

impl LayerSource {
    fn packet(
        &mut self,
        is_video: bool,
        starts_frame: bool,
        is_key: bool,
        timestamp: u32,
    ) -> (Truth, Vec<u8>) {
        let mut payload = vec![0; 20 + 100 * usize::from(self.index)];
        if is_video {
            let flags = [(self.id.is_some(), 0x80), (self.tl0.is_some(), 0x40)];
            let flags: u8 = flags.iter().map(|(has, bit)| u8::from(*has) * bit).sum();
            let mut descriptor = vec![if starts_frame { 0x90 } else { 0x80 }, flags];
            match self.id {
                Some((id, 7)) => descriptor.push(id as u8),
                Some((id, _)) => descriptor.extend([(id >> 8) as u8 | 0x80, id as u8]),
                None => {}
            }
            descriptor.extend(self.tl0);
            descriptor.push(u8::from(!is_key));
            payload[..descriptor.len()].copy_from_slice(&descriptor);
        }
        let payload_type = if is_video { VIDEO } else { AUDIO };
        let truth = self.number(timestamp, payload_type);
        let truth = Truth {
            starts_key_frame: starts_frame && is_key,
            is_for_receiver: true,
            ..truth
        };
        (truth, payload)
    }

    /// A packet that is not for the receiver.
    fn stray(&mut self, random: &mut Random, is_video: bool, timestamp: u32) -> (Truth, Vec<u8>) {
        if is_video && random.chance(50) {
            (self.number(timestamp, VIDEO), Vec::new())
        } else {
            (self.number(timestamp, UNKNOWN), vec![1; 30])
        }
    }

    fn number(&mut self, timestamp: u32, payload_type: u8) -> Truth {
        self.sequence += 1;
        Truth {
            layer: self.index,
            sequence: self.sequence,
            timestamp,
            payload_type,
            starts_key_frame: false,
            is_for_receiver: false,
            picture: Picture {
                id: self.id,
                tl0: self.tl0,
            },
        }
    }
}

fn send(
    on_the_way: &mut Vec<Arrival>,
    random: &mut Random,
    (truth, payload): (Truth, Vec<u8>),
    now: u64,
    base: Instant,
    way: Way,
) {
    let copies = if random.chance(way.lost) {
        0
    } else {
        1 + usize::from(random.chance(way.doubled))
    };
    for _ in 0..copies {
        let delay = if random.chance(way.delayed) {
            random.below(80)
        } else {
            0
        };
        let at = now + delay;
        let packet = MediaPacket {
            payload_type: truth.payload_type,
            layer: truth.layer,
            sequence: truth.sequence,
            timestamp: truth.timestamp,
            marker: random.chance(20),
            extensions: Extensions::default(),
            payload: payload.clone().into(),
            arrived_at: base + milliseconds(at),
        };
        on_the_way.push(Arrival { at, truth, packet });
    }
}
