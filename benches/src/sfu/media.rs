//! What a publisher sends, and how a packet tells which it is.
//!
//! A camera and a microphone: 2.5 Mbit/s of VP8 in 30 frames per second, ten packets each, and 50
//! packets of Opus per second. A frame is there at once, as an encoder gives it out.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use crate::measures::histogram;

pub(crate) const PACKETS_PER_FRAME: usize = 10;
const FRAME_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// 2.5 Mbit/s are 10,417 bytes a frame.
const VIDEO_BYTES: usize = 1_042;
/// 32 kbit/s.
const AUDIO_BYTES: usize = 80;
/// So that speech does not always come with the frame.
const AUDIO_PHASE: Duration = Duration::from_millis(7);

/// Where in a payload, behind what a codec has in front, the mark is.
const MARK_AT: usize = 16;
const MAGIC: u32 = 0x5f75_6221;
pub(crate) const MARK_END: usize = MARK_AT + 16;

/// One of the two streams of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// Which packet it is: of which room, and which of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) room: u16,
    pub(crate) kind: Kind,
    pub(crate) number: u64,
}

impl Mark {
    fn write(self, payload: &mut [u8]) {
        let kind = u16::from(self.kind == Kind::Audio);
        let at = &mut payload[MARK_AT..MARK_END];
        at[..4].copy_from_slice(&MAGIC.to_be_bytes());
        at[4..6].copy_from_slice(&self.room.to_be_bytes());
        at[6..8].copy_from_slice(&kind.to_be_bytes());
        at[8..].copy_from_slice(&self.number.to_be_bytes());
    }

    /// `None` if the payload is none of ours.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (magic, rest) = payload.get(MARK_AT..MARK_END)?.split_first_chunk()?;
        let (room, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let kind = match u16::from_be_bytes(*kind) {
            0 => Kind::Video,
            1 => Kind::Audio,
            _ => return None,
        };
        let mark = Self {
            room: u16::from_be_bytes(*room),
            kind,
            number: u64::from_be_bytes(rest.try_into().ok()?),
        };
        (u32::from_be_bytes(*magic) == MAGIC).then_some(mark)
    }
}

/// A packet to be sent.
#[derive(Debug)]
pub(crate) struct MediaPacket {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    /// In units of the codec's clock.
    pub(crate) timestamp: u32,
    /// The last of its frame.
    pub(crate) last: bool,
    pub(crate) payload: Vec<u8>,
}

/// The next packets of a publisher, and when they are due.
#[derive(Debug)]
pub(crate) struct Source {
    room: u16,
    next_frame: Duration,
    next_audio: Duration,
    /// How many packets there have been, of video and of audio.
    pub(crate) sent: [u64; 2],
    key_frame_due: bool,
}

impl Source {
    /// Rooms know nothing of each other: their frames come at different times.
    pub(crate) fn new(room: usize, rooms: usize, now: Duration) -> Self {
        let start = now + FRAME_INTERVAL * room as u32 / rooms as u32;
        Self {
            room: room as u16,
            next_frame: start,
            next_audio: start + AUDIO_PHASE,
            sent: [0; 2],
            key_frame_due: true,
        }
    }

    pub(crate) fn ask_for_key_frame(&mut self) {
        self.key_frame_due = true;
    }

    pub(crate) fn due(&self) -> Duration {
        self.next_frame.min(self.next_audio)
    }

    /// What is to be sent now, if anything.
    pub(crate) fn take(&mut self, now: Duration, packets: &mut Vec<MediaPacket>) {
        packets.clear();
        if self.next_frame <= now {
            self.next_frame += FRAME_INTERVAL;
            let key = std::mem::take(&mut self.key_frame_due);
            for nth in 0..PACKETS_PER_FRAME {
                packets.push(self.video(nth, key));
            }
        } else if self.next_audio <= now {
            self.next_audio += AUDIO_INTERVAL;
            packets.push(self.audio());
        }
    }

    fn video(&mut self, nth: usize, key: bool) -> MediaPacket {
        let mut payload = vec![0x5a; VIDEO_BYTES];
        // VP8's payload descriptor (RFC 7741), and behind it, where a frame starts, VP8's own header:
        // whether it is a key frame, and how large the picture is then.
        payload[..4].copy_from_slice(&[0, u8::from(!key), 0, 0]);
        if nth == 0 {
            payload[0] = 0x10;
            payload[4..11].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01]);
        }
        let frame = self.sent[0] / PACKETS_PER_FRAME as u64;
        let last = nth + 1 == PACKETS_PER_FRAME;
        self.packet(Kind::Video, (frame * 3_000) as u32, last, payload)
    }

    fn audio(&mut self) -> MediaPacket {
        let mut payload = vec![0xa5; AUDIO_BYTES];
        // One frame of 20 ms, CELT, full band.
        payload[0] = 0xfc;
        let timestamp = (self.sent[1] * 960) as u32;
        self.packet(Kind::Audio, timestamp, false, payload)
    }

    fn packet(
        &mut self,
        kind: Kind,
        timestamp: u32,
        last: bool,
        mut payload: Vec<u8>,
    ) -> MediaPacket {
        let number = self.sent[kind as usize];
        self.sent[kind as usize] += 1;
        let room = self.room;
        Mark { room, kind, number }.write(&mut payload);
        MediaPacket {
            kind,
            number,
            timestamp,
            last,
            payload,
        }
    }
}

/// The time of the kernel's receive timestamps, which have no other clock.
pub(crate) fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Packets that are remembered: some ten seconds of video.
const REMEMBERED: usize = 4_096;

/// When the packets of one room were sent, which of them count, and how those fared.
///
/// They are told by their number, not by when they arrive: what is late counts as well as what is
/// not, and what is lost is missed.
#[derive(Debug)]
pub(crate) struct Ledger {
    sent_at: [Vec<Duration>; 2],
    counted: [std::ops::Range<u64>; 2],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            sent_at: [(); 2].map(|()| vec![Duration::ZERO; REMEMBERED]),
            counted: [u64::MAX..u64::MAX, u64::MAX..u64::MAX],
        }
    }
}

impl Ledger {
    pub(crate) fn sent(&mut self, kind: Kind, number: u64, at: Duration) {
        self.sent_at[kind as usize][number as usize % REMEMBERED] = at;
    }

    /// Packets count from now on.
    pub(crate) fn start(&mut self, source: &Source) {
        self.counted = source.sent.map(|next| next..u64::MAX);
    }

    /// Packets do not count any more. Returns how many did.
    pub(crate) fn stop(&mut self, source: &Source) -> u64 {
        let counted = self.counted.iter_mut().zip(source.sent);
        counted
            .map(|(range, end)| {
                range.end = end;
                end - range.start
            })
            .sum()
    }

    /// How long the packet was under way, if it counts.
    pub(crate) fn latency(&self, mark: Mark, arrived: Duration) -> Option<Duration> {
        let kind = mark.kind as usize;
        let sent = self.sent_at[kind][mark.number as usize % REMEMBERED];
        self.counted[kind]
            .contains(&mark.number)
            .then(|| arrived.saturating_sub(sent))
    }
}

/// How packets fared that count.
#[derive(Debug)]
pub(crate) struct Fared {
    pub(crate) arrived: u64,
    pub(crate) latency: Histogram<u64>,
}

impl Default for Fared {
    fn default() -> Self {
        Self {
            arrived: 0,
            latency: histogram(),
        }
    }
}

impl Fared {
    pub(crate) fn note(&mut self, latency: Duration) {
        self.arrived += 1;
        self.latency.saturating_record(latency.as_nanos() as u64);
    }

    /// At the median, at 99 and at 99.9 per cent, in seconds.
    pub(crate) fn quantiles(&self) -> [f64; 3] {
        [0.5, 0.99, 0.999].map(|quantile| seconds(&self.latency, quantile))
    }
}

pub(crate) fn seconds(nanoseconds: &Histogram<u64>, quantile: f64) -> f64 {
    nanoseconds.value_at_quantile(quantile) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_what_a_second_should_have_and_every_packet_tells_which_it_is() {
        let mut source = Source::new(3, 10, Duration::ZERO);
        let (mut packets, mut bytes) = (Vec::new(), 0);
        let first = source.due();
        while source.due() < first + Duration::from_secs(1) {
            source.take(source.due(), &mut packets);
            for packet in &packets {
                let mark = Mark {
                    room: 3,
                    kind: packet.kind,
                    number: packet.number,
                };
                assert_eq!(Some(mark), Mark::read(&packet.payload));
                bytes += packet.payload.len() * usize::from(packet.kind == Kind::Video);
            }
        }
        let [video, audio] = source.sent;
        assert!((300..=310).contains(&video), "{video}");
        assert!((49..=51).contains(&audio), "{audio}");
        assert!((310_000..=325_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn only_what_was_sent_while_it_counted_counts() {
        let mut source = Source::new(0, 1, Duration::ZERO);
        let (mut ledger, mut packets) = (Ledger::default(), Vec::new());
        let mark = |number| Mark {
            room: 0,
            kind: Kind::Video,
            number,
        };
        source.take(source.due(), &mut packets);
        ledger.start(&source);
        source.take(Duration::from_millis(40), &mut packets);
        for packet in &packets {
            ledger.sent(packet.kind, packet.number, Duration::from_millis(40));
        }
        assert_eq!(PACKETS_PER_FRAME as u64, ledger.stop(&source));
        let latency = |number| ledger.latency(mark(number), Duration::from_millis(42));
        assert_eq!(None, latency(9));
        assert_eq!(Some(Duration::from_millis(2)), latency(10));
        assert_eq!(None, latency(20));
    }
}
