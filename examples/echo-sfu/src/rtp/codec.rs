//! What an SFU has to know of codecs: where a decoder can begin.
//!
//! Payloads come from strangers: any bytes are answered, and none are believed further than their
//! length.

use crate::rtp::vp8::Vp8Descriptor;

/// A codec, as far as it makes a difference to whoever forwards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodecKind {
    Opus,
    Vp8,
    Vp9,
    H264,
    Av1,
    /// One whose payload is not understood here.
    Other,
}

/// Whether the payload is the first of a frame that needs no frame before it.
///
/// Any payload of Opus is, and any of a codec not understood: waiting for what cannot be recognized
/// would be waiting forever.
pub(crate) fn is_key_frame_start(kind: CodecKind, payload: &[u8]) -> bool {
    match kind {
        CodecKind::Opus | CodecKind::Other => true,
        CodecKind::Vp8 => starts_vp8_key_frame(payload),
        CodecKind::Vp9 => starts_vp9_key_frame(payload),
        CodecKind::H264 => starts_h264_key_frame(payload),
        CodecKind::Av1 => starts_av1_sequence(payload),
    }
}

fn starts_vp8_key_frame(payload: &[u8]) -> bool {
    const INTER_FRAME: u8 = 0x01;
    let Some(descriptor) = Vp8Descriptor::parse(payload) else {
        return false;
    };
    descriptor.starts_frame()
        && payload
            .get(descriptor.length)
            .is_some_and(|frame_tag| frame_tag & INTER_FRAME == 0)
}

/// RFC 9628, section 4.2.
fn starts_vp9_key_frame(payload: &[u8]) -> bool {
    const HAS_PICTURE_ID: u8 = 0x80;
    const INTER_PICTURE_PREDICTED: u8 = 0x40;
    const HAS_LAYER_INDICES: u8 = 0x20;
    const STARTS_FRAME: u8 = 0x08;
    const LONG_PICTURE_ID: u8 = 0x80;

    let mut bytes = payload.iter().copied();
    let Some(flags) = bytes.next() else {
        return false;
    };
    if flags & STARTS_FRAME == 0 || flags & INTER_PICTURE_PREDICTED != 0 {
        return false;
    }
    if flags & HAS_PICTURE_ID != 0 {
        let Some(high) = bytes.next() else {
            return false;
        };
        if high & LONG_PICTURE_ID != 0 && bytes.next().is_none() {
            return false;
        }
    }
    if flags & HAS_LAYER_INDICES != 0 {
        // A higher spatial layer of a key picture depends on the lowest.
        return bytes
            .next()
            .is_some_and(|indices| (indices >> 1) & 0x07 == 0);
    }
    bytes.next().is_some()
}

/// RFC 6184. Parameter sets count as the start: a decoder needs them before the frame, and some
/// encoders send them in packets of their own.
fn starts_h264_key_frame(payload: &[u8]) -> bool {
    const AGGREGATE: u8 = 24;
    const FRAGMENT: u8 = 28;
    const STARTS_UNIT: u8 = 0x80;

    let Some((header, rest)) = payload.split_first() else {
        return false;
    };
    match header & 0x1f {
        AGGREGATE => units_of_aggregate(rest).any(|unit| {
            unit.split_first()
                .is_some_and(|(kind, body)| begins_decoding(*kind, body))
        }),
        FRAGMENT => rest.split_first().is_some_and(|(fragment, body)| {
            fragment & STARTS_UNIT != 0 && begins_decoding(*fragment, body)
        }),
        _ => begins_decoding(*header, rest),
    }
}

/// Whether a unit of such a type and body is the first of a key frame, or what comes right before.
fn begins_decoding(type_byte: u8, body: &[u8]) -> bool {
    const IDR_SLICE: u8 = 5;
    const SEQUENCE_PARAMETERS: u8 = 7;
    /// A slice says first where in the picture it begins; zero is one set bit.
    const FIRST_MACROBLOCK: u8 = 0x80;
    match type_byte & 0x1f {
        SEQUENCE_PARAMETERS => true,
        IDR_SLICE => body
            .first()
            .is_some_and(|byte| byte & FIRST_MACROBLOCK != 0),
        _ => false,
    }
}

/// Those that are there in full.
fn units_of_aggregate(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let (unit, next) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = next;
        Some(unit)
    })
}

/// The aggregation header of AV1's RTP payload format, section 4.4.
fn starts_av1_sequence(payload: &[u8]) -> bool {
    const CONTINUES_UNIT: u8 = 0x80;
    const STARTS_SEQUENCE: u8 = 0x08;
    payload.len() > 1 && payload[0] & (CONTINUES_UNIT | STARTS_SEQUENCE) == STARTS_SEQUENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::random::Random;

    #[track_caller]
    fn assert_starts(kind: CodecKind, payload: &[u8]) {
        assert!(is_key_frame_start(kind, payload), "{payload:02x?}");
    }

    #[track_caller]
    fn assert_continues(kind: CodecKind, payload: &[u8]) {
        assert!(!is_key_frame_start(kind, payload), "{payload:02x?}");
    }

    #[test]
    fn vp8() {
        assert_starts(CodecKind::Vp8, &[0x10, 0x00]);
        assert_starts(CodecKind::Vp8, &[0x90, 0x80, 0x81, 0x01, 0x10]);
        // An inter frame; not the start of a partition; of another partition; no frame at all.
        assert_continues(CodecKind::Vp8, &[0x10, 0x01]);
        assert_continues(CodecKind::Vp8, &[0x00, 0x00]);
        assert_continues(CodecKind::Vp8, &[0x11, 0x00]);
        assert_continues(CodecKind::Vp8, &[0x10]);
    }

    #[test]
    fn vp9() {
        assert_starts(CodecKind::Vp9, &[0x08, 0x82]);
        assert_starts(CodecKind::Vp9, &[0x88, 0x81, 0x02, 0x82]);
        assert_starts(CodecKind::Vp9, &[0xaa, 0x01, 0x00, 0x18]);
        // Predicted; not the start; of the second spatial layer; cut.
        assert_continues(CodecKind::Vp9, &[0x48, 0x82]);
        assert_continues(CodecKind::Vp9, &[0x80, 0x01, 0x82]);
        assert_continues(CodecKind::Vp9, &[0xa8, 0x01, 0x03, 0x00]);
        assert_continues(CodecKind::Vp9, &[0xa8, 0x81]);
        assert_continues(CodecKind::Vp9, &[0x08]);
    }

    #[test]
    fn h264() {
        assert_starts(CodecKind::H264, &[0x65, 0x88]);
        assert_starts(CodecKind::H264, &[0x67, 0x42]);
        // Parameter sets and a slice, in one; fragments of a slice.
        assert_starts(CodecKind::H264, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68]);
        assert_starts(CodecKind::H264, &[0x78, 0, 0, 0, 2, 0x65, 0x88]);
        assert_starts(CodecKind::H264, &[0x7c, 0x85, 0x88]);
        // Not its first fragment; of another type; not the first slice; cut.
        assert_continues(CodecKind::H264, &[0x7c, 0x05, 0x88]);
        assert_continues(CodecKind::H264, &[0x7c, 0x81, 0x88]);
        assert_continues(CodecKind::H264, &[0x65, 0x08]);
        assert_continues(CodecKind::H264, &[0x65]);
        assert_continues(CodecKind::H264, &[0x41, 0x9a]);
        assert_continues(CodecKind::H264, &[0x68, 0xce]);
        assert_continues(CodecKind::H264, &[0x78, 0, 2, 0x41, 0x9a, 0, 9, 0x65]);
    }

    #[test]
    fn av1() {
        assert_starts(CodecKind::Av1, &[0x18, 0x0a]);
        assert_continues(CodecKind::Av1, &[0x10, 0x32]);
        assert_continues(CodecKind::Av1, &[0x98, 0x32]);
        assert_continues(CodecKind::Av1, &[0x18]);
    }

    #[test]
    fn what_is_not_understood_starts_anywhere() {
        assert_starts(CodecKind::Opus, &[]);
        assert_starts(CodecKind::Other, &[0xff]);
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut random = Random::new(1);
        for _ in 0..50_000 {
            let len = random.below(24) as usize;
            let bytes = random.bytes(len);
            for kind in [
                CodecKind::Vp8,
                CodecKind::Vp9,
                CodecKind::H264,
                CodecKind::Av1,
            ] {
                let starts = is_key_frame_start(kind, &bytes);
                assert!(!(starts && bytes.is_empty()));
            }
        }
    }
}
