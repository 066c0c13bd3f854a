//! Writing headers. Once per packet and consumer, so on the stack and in one go.

use super::extensions::{ExtensionIds, audio_level_byte};
use super::{
    EXTENSION_HEADER, HAS_EXTENSIONS, HEADER_MIN, MARKER, ONE_BYTE_FORM, TWO_BYTE_FORM, VERSION,
};
use crate::rtp::packet::Extensions;

/// Longer names are left out: they are no more than a help while SSRCs are unknown. str0m's have 16.
const MID_MAX: usize = 64;
const SEND_TIME: usize = 3;
const CAPTURE_TIME: usize = 8;
const CAPTURE_TIME_MAX: usize = 2 * CAPTURE_TIME;
/// How many extensions may be written.
const ELEMENTS: usize = 5;
/// What the one-byte form can say.
const SMALL_ID_MAX: u8 = 14;
const SMALL_LEN_MAX: usize = 16;

const CAPACITY: usize = 128;
const _: () = {
    let values = SEND_TIME + MID_MAX + 1 + 1 + CAPTURE_TIME_MAX;
    let extensions = (2 * ELEMENTS + values).next_multiple_of(4);
    assert!(HEADER_MIN + EXTENSION_HEADER + extensions <= CAPACITY);
};

/// What is written into an RTP header, besides extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpHeader {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl RtpHeader {
    /// Replaces what is in `out`. Of what there is to say, it says what the connection has an id for.
    /// `absolute_send_time` has 24 bits.
    pub(crate) fn write(
        &self,
        ids: &ExtensionIds,
        mid: Option<&str>,
        extensions: &Extensions,
        absolute_send_time: Option<u32>,
        out: &mut HeaderBuffer,
    ) {
        let mid = mid.map(str::as_bytes).filter(|mid| mid.len() <= MID_MAX);
        let audio_level = extensions
            .audio_level
            .map(|level| [audio_level_byte(level)]);
        let orientation = extensions.video_orientation.map(|byte| [byte]);
        let send_time = absolute_send_time.map(|time| {
            let [_, time @ ..] = time.to_be_bytes();
            time
        });
        let capture_time = extensions.absolute_capture_time.map(capture_time_bytes);
        let elements = [
            Element::new(ids.absolute_send_time, send_time.as_ref().map(|b| &b[..])),
            Element::new(ids.mid, mid),
            Element::new(ids.audio_level, audio_level.as_ref().map(|b| &b[..])),
            Element::new(ids.video_orientation, orientation.as_ref().map(|b| &b[..])),
            Element::new(
                ids.absolute_capture_time,
                capture_time.as_ref().map(|(b, length)| &b[..*length]),
            ),
        ];
        out.length = 0;
        out.put(&self.fixed());
        write_extensions(&elements, out);
    }

    fn fixed(&self) -> [u8; HEADER_MIN] {
        let marker = if self.marker { MARKER } else { 0 };
        let mut fixed = [0; HEADER_MIN];
        fixed[0] = VERSION << 6;
        fixed[1] = marker | (self.payload_type & !MARKER);
        fixed[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        fixed
    }
}

/// With the offset of clocks after it, if that is known; and how long this is.
fn capture_time_bytes((captured, offset): (u64, Option<i64>)) -> ([u8; CAPTURE_TIME_MAX], usize) {
    let mut bytes = [0; CAPTURE_TIME_MAX];
    bytes[..CAPTURE_TIME].copy_from_slice(&captured.to_be_bytes());
    let Some(offset) = offset else {
        return (bytes, CAPTURE_TIME);
    };
    bytes[CAPTURE_TIME..].copy_from_slice(&offset.to_be_bytes());
    (bytes, CAPTURE_TIME_MAX)
}

struct Element<'v> {
    id: u8,
    value: &'v [u8],
}

impl<'v> Element<'v> {
    /// Nothing, unless the connection has an id for it and there is something to say.
    fn new(id: Option<u8>, value: Option<&'v [u8]>) -> Option<Self> {
        let id = id.filter(|id| *id != 0)?;
        let value = value.filter(|value| !value.is_empty())?;
        Some(Self { id, value })
    }

    const fn is_small(&self) -> bool {
        self.id <= SMALL_ID_MAX && self.value.len() <= SMALL_LEN_MAX
    }
}

fn write_extensions(elements: &[Option<Element<'_>>; ELEMENTS], out: &mut HeaderBuffer) {
    let elements = || elements.iter().flatten();
    if elements().next().is_none() {
        return;
    }
    let is_small = elements().all(Element::is_small);
    let form = if is_small {
        ONE_BYTE_FORM
    } else {
        TWO_BYTE_FORM
    };
    out.bytes[0] |= HAS_EXTENSIONS;
    out.put(&form.to_be_bytes());
    let words_at = out.length;
    out.put(&[0; 2]);
    for Element { id, value } in elements() {
        // At most 64, and if it is small at most 16.
        let length = value.len() as u8;
        if is_small {
            out.put(&[(id << 4) | (length - 1)]);
        } else {
            out.put(&[*id, length]);
        }
        out.put(value);
    }
    let padding = out.length.next_multiple_of(4) - out.length;
    out.put(&[0; 4][..padding]);
    let words = (out.length - words_at - 2) / 4;
    out.bytes[words_at..words_at + 2].copy_from_slice(&(words as u16).to_be_bytes());
}

/// Room for the header of one packet after another.
#[derive(Debug, Clone)]
pub(crate) struct HeaderBuffer {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl HeaderBuffer {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            length: 0,
        }
    }

    /// The header that was written last.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }
}
