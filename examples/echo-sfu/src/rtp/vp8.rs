//! The descriptor before each VP8 payload (RFC 7741, section 4.2), and the two numbers in it that a
//! forwarder must keep continuous: a decoder's side takes a jump in them for a loss.

const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const STARTS_PARTITION: u8 = 0x10;
const PARTITION: u8 = 0x07;

const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0_PICTURE_INDEX: u8 = 0x40;
const HAS_TEMPORAL_LAYER: u8 = 0x20;
const HAS_KEY_INDEX: u8 = 0x10;

const LONG_PICTURE_ID: u8 = 0x80;

/// If there is one, it comes after the first byte and the byte of flags.
const PICTURE_ID_AT: usize = 2;

/// The number of a picture. It wraps as its width says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureId {
    /// Of 7 bits.
    Short(u8),
    /// Of 15 bits; browsers send these.
    Long(u16),
}

impl PictureId {
    pub(crate) fn value(self) -> u16 {
        match self {
            Self::Short(value) => u16::from(value),
            Self::Long(value) => value,
        }
    }

    /// Of the same width, that much later.
    #[must_use]
    pub(crate) fn plus(self, shift: u16) -> Self {
        self.with_value(self.value().wrapping_add(shift))
    }

    /// Of the same width, with as much of the value as fits.
    #[must_use]
    pub(crate) fn with_value(self, value: u16) -> Self {
        match self {
            // Seven bits always fit.
            Self::Short(_) => Self::Short((value & 0x7f) as u8),
            Self::Long(_) => Self::Long(value & 0x7fff),
        }
    }

    pub(crate) fn has_width_of(self, other: Self) -> bool {
        matches!(self, Self::Long(_)) == matches!(other, Self::Long(_))
    }

    fn length(self) -> usize {
        match self {
            Self::Short(_) => 1,
            Self::Long(_) => 2,
        }
    }
}

/// What a descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp8Descriptor {
    pub(crate) is_reference: bool,
    pub(crate) starts_partition: bool,
    pub(crate) partition: u8,
    pub(crate) picture_id: Option<PictureId>,
    /// TL0PICIDX: counts the frames of the lowest temporal layer.
    pub(crate) tl0_picture_index: Option<u8>,
    pub(crate) temporal_layer: Option<TemporalLayer>,
    /// KEYIDX: counts key frames, within 5 bits.
    pub(crate) key_index: Option<u8>,
    /// Of the descriptor: where the frame's bytes begin.
    pub(crate) length: usize,
}

/// Where a frame stands in time scalability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TemporalLayer {
    /// TID.
    pub(crate) index: u8,
    /// Y: it depends on the lowest layer only.
    pub(crate) is_sync: bool,
}

impl Vp8Descriptor {
    /// `None` if it ends too early.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let mut descriptor = Self {
            is_reference: first & NON_REFERENCE == 0,
            starts_partition: first & STARTS_PARTITION != 0,
            partition: first & PARTITION,
            picture_id: None,
            tl0_picture_index: None,
            temporal_layer: None,
            key_index: None,
            length: 1,
        };
        if first & EXTENDED == 0 {
            return Some(descriptor);
        }
        let flags = bytes.next()?;
        if flags & HAS_PICTURE_ID != 0 {
            let high = bytes.next()?;
            descriptor.picture_id = Some(if high & LONG_PICTURE_ID == 0 {
                PictureId::Short(high)
            } else {
                PictureId::Long(u16::from_be_bytes([high & !LONG_PICTURE_ID, bytes.next()?]))
            });
        }
        if flags & HAS_TL0_PICTURE_INDEX != 0 {
            descriptor.tl0_picture_index = Some(bytes.next()?);
        }
        // The two share a byte.
        if flags & (HAS_TEMPORAL_LAYER | HAS_KEY_INDEX) != 0 {
            let shared = bytes.next()?;
            if flags & HAS_TEMPORAL_LAYER != 0 {
                descriptor.temporal_layer = Some(TemporalLayer {
                    index: shared >> 6,
                    is_sync: shared & 0x20 != 0,
                });
            }
            if flags & HAS_KEY_INDEX != 0 {
                descriptor.key_index = Some(shared & 0x1f);
            }
        }
        descriptor.length = payload.len() - bytes.len();
        Some(descriptor)
    }

    /// Whether a frame's first byte follows.
    pub(crate) fn starts_frame(&self) -> bool {
        self.starts_partition && self.partition == 0
    }
}

/// What to write over a descriptor's numbers. A field that the descriptor lacks is not added, and
/// one of 7 bits is not widened: that would move the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp8Patch {
    /// As wide as the one it replaces; `None` if there is none to replace.
    pub(crate) picture_id: Option<PictureId>,
    /// `None` if there is none to replace.
    pub(crate) tl0_picture_index: Option<u8>,
}

impl Vp8Patch {
    /// Leaves a payload as it is whose descriptor does not have the fields of this patch.
    pub(crate) fn apply(self, payload: &mut [u8]) {
        let fits = Vp8Descriptor::parse(payload).is_some_and(|there| self.fits(&there));
        if !fits {
            return;
        }
        let mut at = PICTURE_ID_AT;
        if let Some(id) = self.picture_id {
            match id {
                PictureId::Short(value) => put(payload, at, value),
                PictureId::Long(value) => {
                    let [high, low] = value.to_be_bytes();
                    put(payload, at, high | LONG_PICTURE_ID);
                    put(payload, at + 1, low);
                }
            }
            at += id.length();
        }
        if let Some(index) = self.tl0_picture_index {
            put(payload, at, index);
        }
    }

    fn fits(self, there: &Vp8Descriptor) -> bool {
        let same_width = match (self.picture_id, there.picture_id) {
            (None, None) => true,
            (Some(new), Some(old)) => new.has_width_of(old),
            _ => false,
        };
        same_width && self.tl0_picture_index.is_some() == there.tl0_picture_index.is_some()
    }
}

fn put(payload: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = payload.get_mut(at) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::random::Random;

    #[test]
    fn one_byte_is_a_descriptor() {
        let descriptor = Vp8Descriptor::parse(&[0x10]).unwrap();
        assert!(descriptor.starts_frame());
        assert!(descriptor.is_reference);
        assert_eq!(1, descriptor.length);
        assert_eq!(None, descriptor.picture_id);
        assert!(!Vp8Descriptor::parse(&[0x11]).unwrap().starts_frame());
    }

    #[test]
    fn all_fields_are_read() {
        let bytes = [0xb0, 0xf0, 0x92, 0x34, 0x56, 0b1010_0111, 0x00];
        let descriptor = Vp8Descriptor::parse(&bytes).unwrap();
        assert!(!descriptor.is_reference);
        assert_eq!(Some(PictureId::Long(0x1234)), descriptor.picture_id);
        assert_eq!(Some(0x56), descriptor.tl0_picture_index);
        let layer = descriptor.temporal_layer.unwrap();
        assert_eq!(2, layer.index);
        assert!(layer.is_sync);
        assert_eq!(Some(7), descriptor.key_index);
        assert_eq!(6, descriptor.length);
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        let bytes = [0x90, 0xf0, 0x92, 0x34, 0x56, 0x00];
        assert!(Vp8Descriptor::parse(&bytes).is_some());
        for length in 0..bytes.len() {
            assert_eq!(None, Vp8Descriptor::parse(&bytes[..length]), "{length}");
        }
    }

    #[test]
    fn a_patch_changes_two_fields_and_no_more() {
        let mut bytes = [0x90, 0xe0, 0x92, 0x34, 0x56, 0x40, 0x77];
        Vp8Patch {
            picture_id: Some(PictureId::Long(0x7fff)),
            tl0_picture_index: Some(0x01),
        }
        .apply(&mut bytes);
        assert_eq!([0x90, 0xe0, 0xff, 0xff, 0x01, 0x40, 0x77], bytes);
    }

    #[test]
    fn seven_bits_stay_seven() {
        let mut bytes = [0x90, 0xc0, 0x7f, 0x56, 0x77];
        let id = Vp8Descriptor::parse(&bytes).unwrap().picture_id.unwrap();
        Vp8Patch {
            picture_id: Some(id.plus(1)),
            tl0_picture_index: Some(0x57),
        }
        .apply(&mut bytes);
        assert_eq!([0x90, 0xc0, 0x00, 0x57, 0x77], bytes);
    }

    #[test]
    fn a_patch_for_another_descriptor_changes_nothing() {
        for before in [
            [0x90, 0xc0, 0x7f, 0x56, 0x77],
            [0x90, 0x80, 0x92, 0x34, 0x77],
            [0x10, 0xc0, 0x92, 0x34, 0x56],
        ] {
            let mut bytes = before;
            Vp8Patch {
                picture_id: Some(PictureId::Long(1)),
                tl0_picture_index: Some(1),
            }
            .apply(&mut bytes);
            assert_eq!(before, bytes);
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let len = random.below(10) as usize;
            let mut bytes = random.bytes(len);
            let before = Vp8Descriptor::parse(&bytes);
            let patch = Vp8Patch {
                picture_id: before
                    .and_then(|there| there.picture_id)
                    .map(|id| id.plus(3)),
                tl0_picture_index: before.and_then(|there| there.tl0_picture_index),
            };
            patch.apply(&mut bytes);
            let after = Vp8Descriptor::parse(&bytes);
            assert_eq!(before.map(|d| d.length), after.map(|d| d.length));
            assert_eq!(patch.picture_id, after.and_then(|d| d.picture_id));
        }
    }
}
