//! Header extensions: which there are, and what they say.

use super::{ONE_BYTE_FORM, RtpView, TWO_BYTE_FORM};
use crate::rtp::packet::{AudioLevel, Extensions};

const IS_SPEECH: u8 = 0x80;

/// By which numbers header extensions are known on one connection. 0 stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExtensionIds {
    /// RFC 9143: of which media description a packet is.
    pub(crate) mid: Option<u8>,
    /// RFC 8852: of which encoding.
    pub(crate) rid: Option<u8>,
    /// RFC 8852: of which encoding the packet is that is sent again.
    pub(crate) repaired_rid: Option<u8>,
    /// RFC 6464.
    pub(crate) audio_level: Option<u8>,
    /// `urn:3gpp:video-orientation`.
    pub(crate) video_orientation: Option<u8>,
    /// `abs-send-time`.
    pub(crate) absolute_send_time: Option<u8>,
    /// `abs-capture-time`.
    pub(crate) absolute_capture_time: Option<u8>,
    /// `transport-wide-cc`.
    pub(crate) transport_wide_cc: Option<u8>,
}

impl Extensions {
    /// What a packet has of them. What has not the length it should have is not there.
    pub(crate) fn read(packet: &RtpView<'_>, ids: &ExtensionIds) -> Self {
        let mut read = Self::default();
        for (id, value) in packet.extensions() {
            let id = Some(id);
            if id == ids.audio_level {
                read.audio_level = read_audio_level(value);
            } else if id == ids.video_orientation {
                read.video_orientation = value.first().copied();
            } else if id == ids.absolute_capture_time {
                read.absolute_capture_time = read_capture_time(value);
            }
        }
        read
    }
}

fn read_audio_level(value: &[u8]) -> Option<AudioLevel> {
    let byte = *value.first()?;
    Some(AudioLevel {
        below_full_db: byte & !IS_SPEECH,
        is_speech: byte & IS_SPEECH != 0,
    })
}

pub(super) const fn audio_level_byte(level: AudioLevel) -> u8 {
    let speech = if level.is_speech { IS_SPEECH } else { 0 };
    speech | (level.below_full_db & !IS_SPEECH)
}

fn read_capture_time(value: &[u8]) -> Option<(u64, Option<i64>)> {
    let (captured, offset) = value.split_first_chunk()?;
    let offset = match offset {
        [] => None,
        offset => Some(i64::from_be_bytes(offset.try_into().ok()?)),
    };
    Some((u64::from_be_bytes(*captured), offset))
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoBytes,
    /// Not of RFC 8285; nothing is known of what is in it.
    #[default]
    Other,
}

/// The extensions of a packet, each with its id.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ExtensionIter<'p> {
    form: Form,
    rest: &'p [u8],
}

impl<'p> ExtensionIter<'p> {
    pub(super) const fn new(form: u16, extensions: &'p [u8]) -> Self {
        let form = match form {
            ONE_BYTE_FORM => Form::OneByte,
            other if other & 0xfff0 == TWO_BYTE_FORM => Form::TwoBytes,
            _ => Form::Other,
        };
        Self {
            form,
            rest: extensions,
        }
    }

    /// The next element's id and length, if there is one that may be read.
    fn next_header(&mut self) -> Option<(u8, usize)> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            self.rest = rest;
            // Padding, which may stand between any two.
            if first == 0 {
                continue;
            }
            return match self.form {
                // RFC 8285, section 4.2: these two ids end it all.
                Form::OneByte if matches!(first >> 4, 0 | 15) => None,
                Form::OneByte => Some((first >> 4, usize::from(first & 0x0f) + 1)),
                Form::TwoBytes => {
                    let (&length, rest) = rest.split_first()?;
                    self.rest = rest;
                    Some((first, usize::from(length)))
                }
                Form::Other => None,
            };
        }
    }
}

impl<'p> Iterator for ExtensionIter<'p> {
    type Item = (u8, &'p [u8]);

    fn next(&mut self) -> Option<(u8, &'p [u8])> {
        let element = self.next_header().and_then(|(id, length)| {
            let (value, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            Some((id, value))
        });
        if element.is_none() {
            self.rest = &[];
        }
        element
    }
}
