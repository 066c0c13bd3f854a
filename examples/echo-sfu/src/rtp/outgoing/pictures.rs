//! Keeps VP8's picture numbers continuous where the source's are not.

use crate::rtp::vp8::{PictureId, Vp8Descriptor, Vp8Patch};

/// Within a stretch the source's numbers are shifted; each stretch continues where the last ended.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// The numbers of the newest packet sent.
    newest_id: Option<PictureId>,
    newest_tl0: Option<u8>,
    /// What is added in this stretch, once a packet of it had a number of such a width.
    id_shift: Option<PictureId>,
    tl0_shift: Option<u8>,
}

impl Pictures {
    /// The next packet is the first of a key frame that continues what was sent.
    pub(super) fn start(&mut self) {
        self.id_shift = None;
        self.tl0_shift = None;
    }

    /// `None` if the packet is right as it is.
    pub(super) fn rewrite(&mut self, payload: &[u8], is_newest: bool) -> Option<Vp8Patch> {
        let found = Vp8Descriptor::parse(payload)?;
        let patch = Vp8Patch {
            picture_id: found.picture_id.map(|id| self.rewrite_id(id)),
            tl0_picture_index: found.tl0_picture_index.map(|index| self.rewrite_tl0(index)),
        };
        if is_newest {
            self.newest_id = patch.picture_id.or(self.newest_id);
            self.newest_tl0 = patch.tl0_picture_index.or(self.newest_tl0);
        }
        let changes = patch.picture_id != found.picture_id
            || patch.tl0_picture_index != found.tl0_picture_index;
        changes.then_some(patch)
    }

    fn rewrite_id(&mut self, id: PictureId) -> PictureId {
        let shift = match self.id_shift {
            Some(shift) if shift.has_width_of(id) => shift,
            _ => {
                let next = match self.newest_id {
                    Some(newest) => newest.value().wrapping_add(1),
                    None => id.value(),
                };
                id.with_value(next.wrapping_sub(id.value()))
            }
        };
        self.id_shift = Some(shift);
        id.plus(shift.value())
    }

    fn rewrite_tl0(&mut self, index: u8) -> u8 {
        let newest = self.newest_tl0;
        let shift = *self.tl0_shift.get_or_insert_with(|| match newest {
            Some(newest) => newest.wrapping_add(1).wrapping_sub(index),
            None => 0,
        });
        index.wrapping_add(shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(id: u16, tl0: u8) -> [u8; 6] {
        let [high, low] = id.to_be_bytes();
        [0x90, 0xc0, high | 0x80, low, tl0, 0]
    }

    fn numbers(pictures: &mut Pictures, payload: &[u8]) -> (u16, u8) {
        let mut payload = payload.to_vec();
        if let Some(patch) = pictures.rewrite(&payload, true) {
            patch.apply(&mut payload);
        }
        let found = Vp8Descriptor::parse(&payload).unwrap();
        let id = found.picture_id.unwrap().value();
        (id, found.tl0_picture_index.unwrap())
    }

    #[test]
    fn the_first_stretch_is_as_the_source_has_it() {
        let mut pictures = Pictures::default();
        pictures.start();
        assert_eq!(None, pictures.rewrite(&payload(0x7fff, 255), true));
        assert_eq!(None, pictures.rewrite(&payload(0, 0), true));
    }

    #[test]
    fn the_next_continues_and_wraps() {
        let mut pictures = Pictures::default();
        pictures.start();
        numbers(&mut pictures, &payload(0x7ffe, 254));
        pictures.start();
        assert_eq!((0x7fff, 255), numbers(&mut pictures, &payload(100, 7)));
        assert_eq!((0x7fff, 255), numbers(&mut pictures, &payload(100, 7)));
        assert_eq!((0, 0), numbers(&mut pictures, &payload(101, 8)));
        assert_eq!((2, 1), numbers(&mut pictures, &payload(103, 9)));
    }

    #[test]
    fn a_late_packet_does_not_become_the_newest() {
        let mut pictures = Pictures::default();
        pictures.start();
        numbers(&mut pictures, &payload(10, 10));
        numbers(&mut pictures, &payload(12, 12));
        pictures.rewrite(&payload(11, 11), false);
        pictures.start();
        assert_eq!((13, 13), numbers(&mut pictures, &payload(500, 50)));
    }

    #[test]
    fn short_ids_stay_short_and_long_ones_long() {
        let mut pictures = Pictures::default();
        pictures.start();
        numbers(&mut pictures, &payload(1000, 1));
        pictures.start();
        let short = [0x90, 0xc0, 0x05, 0x09, 0];
        let next = 1001 & 0x7f;
        assert_eq!((next, 2), numbers(&mut pictures, &short));
        pictures.start();
        assert_eq!((next + 1, 3), numbers(&mut pictures, &payload(3, 3)));
        // Even if a source changes its mind.
        assert_eq!((next + 2, 9), numbers(&mut pictures, &short));
    }

    #[test]
    fn a_source_without_numbers_is_left_alone() {
        let mut pictures = Pictures::default();
        pictures.start();
        numbers(&mut pictures, &payload(1000, 1));
        pictures.start();
        assert_eq!(None, pictures.rewrite(&[0x10, 0], true));
        assert_eq!(None, pictures.rewrite(&[], true));
        pictures.start();
        assert_eq!((1001, 2), numbers(&mut pictures, &payload(3, 3)));
    }
}
