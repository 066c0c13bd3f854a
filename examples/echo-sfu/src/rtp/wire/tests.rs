//! Headers by hand, headers read back, and bytes that are none.

use super::*;
use crate::rtp::packet::{AudioLevel, Extensions};
use crate::rtp::random::{Random, any_seed};

const HEADER: RtpHeader = RtpHeader {
    payload_type: 96,
    marker: true,
    sequence: 0x1234,
    timestamp: 0x5678_9abc,
    ssrc: 0xdecf_0123,
};
const FIXED: [u8; 12] = [
    0x80, 0xe0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xcf, 0x01, 0x23,
];

fn all_ids(first: u8) -> ExtensionIds {
    let mut next = first..;
    let mut id = || next.next();
    ExtensionIds {
        mid: id(),
        rid: id(),
        repaired_rid: id(),
        audio_level: id(),
        video_orientation: id(),
        absolute_send_time: id(),
        absolute_capture_time: id(),
        transport_wide_cc: id(),
    }
}

fn all_extensions() -> Extensions {
    Extensions {
        audio_level: Some(AudioLevel {
            below_full_db: 27,
            is_speech: true,
        }),
        video_orientation: Some(3),
        absolute_capture_time: Some((0x0102_0304_0506_0708, Some(-2))),
    }
}

fn written(
    ids: &ExtensionIds,
    mid: Option<&str>,
    extensions: &Extensions,
    send_time: Option<u32>,
) -> Vec<u8> {
    let mut out = HeaderBuffer::new();
    // What was there before must not show.
    HEADER.write(
        &all_ids(20),
        Some("before"),
        &all_extensions(),
        Some(1),
        &mut out,
    );
    HEADER.write(ids, mid, extensions, send_time, &mut out);
    out.as_slice().to_vec()
}

fn with_extensions(form: u16, extensions: &[u8]) -> Vec<u8> {
    let mut packet = FIXED.to_vec();
    packet[0] |= 0x10;
    packet.extend(form.to_be_bytes());
    packet.extend(((extensions.len() / 4) as u16).to_be_bytes());
    packet.extend(extensions);
    packet
}

fn read(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let view = RtpView::parse(packet).unwrap();
    let extensions = view.extensions();
    extensions.map(|(id, value)| (id, value.to_vec())).collect()
}

#[test]
fn a_header_without_extensions_has_twelve_bytes() {
    let none = written(&all_ids(1), None, &Extensions::default(), None);
    assert_eq!(FIXED.as_slice(), none);
    let unknown = ExtensionIds::default();
    let unsaid = written(&unknown, Some("0"), &all_extensions(), Some(1));
    assert_eq!(FIXED.as_slice(), unsaid);
    let zero = ExtensionIds {
        mid: Some(0),
        ..unknown
    };
    assert_eq!(
        FIXED.as_slice(),
        written(&zero, Some("0"), &Extensions::default(), None)
    );
}

#[test]
fn small_extensions_take_the_one_byte_form() {
    let ids = ExtensionIds {
        mid: Some(4),
        absolute_send_time: Some(14),
        ..ExtensionIds::default()
    };
    let header = written(&ids, Some("ab"), &all_extensions(), Some(0x0012_3456));
    let expected = [0xe2, 0x12, 0x34, 0x56, 0x41, b'a', b'b', 0];
    assert_eq!(with_extensions(0xbede, &expected), header);
}

#[test]
fn large_ids_and_long_values_take_the_two_byte_form() {
    let mut ids = ExtensionIds {
        video_orientation: Some(15),
        ..ExtensionIds::default()
    };
    let header = written(&ids, None, &all_extensions(), None);
    assert_eq!(with_extensions(0x1000, &[15, 1, 3, 0]), header);

    ids = ExtensionIds {
        mid: Some(1),
        ..ExtensionIds::default()
    };
    let none = Extensions::default();
    let mid = "0123456789abcdef0";
    let header = written(&ids, Some(mid), &none, None);
    let expected = [[1, 17].as_slice(), mid.as_bytes(), &[0]].concat();
    assert_eq!(with_extensions(0x1000, &expected), header);
    let too_long = "m".repeat(65);
    for unsaid in ["", &too_long] {
        let header = written(&ids, Some(unsaid), &none, None);
        assert_eq!(FIXED.as_slice(), header);
    }
}

#[test]
fn what_is_written_can_be_read_back() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..10_000 {
        let ids = all_ids(1 + random.below(240) as u8);
        let mid = "mid".repeat(random.below(22) as usize);
        let level = random.next();
        let extensions = Extensions {
            audio_level: (random.below(2) == 0).then_some(AudioLevel {
                below_full_db: level as u8 & 0x7f,
                is_speech: level & 0x80 != 0,
            }),
            video_orientation: (random.below(2) == 0).then(|| random.next() as u8),
            absolute_capture_time: match random.below(3) {
                0 => None,
                1 => Some((random.next(), None)),
                _ => Some((random.next(), Some(random.next() as i64))),
            },
        };
        let send_time = (random.below(2) == 0).then(|| random.below(1 << 24) as u32);
        let mut packet = written(&ids, Some(&mid), &extensions, send_time);
        let header_len = packet.len();
        assert_eq!(0, header_len % 4);
        packet.extend(b"payload");

        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(
            (header_len, b"payload".as_slice()),
            (view.header_len(), view.payload())
        );
        let header = RtpHeader {
            payload_type: view.payload_type(),
            marker: view.marker(),
            sequence: view.sequence(),
            timestamp: view.timestamp(),
            ssrc: view.ssrc(),
        };
        assert_eq!(HEADER, header);
        assert_eq!(extensions, Extensions::read(&view, &ids));
        let read_mid = view.extension(ids.mid).unwrap_or_default();
        assert_eq!(mid.as_bytes(), read_mid);
        let read_time = view.extension(ids.absolute_send_time);
        let read_time = read_time.map(|time| u32::from_be_bytes([0, time[0], time[1], time[2]]));
        assert_eq!(send_time, read_time);
        assert_eq!(None, view.extension(ids.transport_wide_cc));
        assert_eq!(None, view.extension(None));
    }
}

#[test]
fn contributing_sources_are_skipped() {
    let mut packet = FIXED.to_vec();
    packet[0] |= 2;
    packet.extend([9; 8]);
    packet.extend(b"x");
    let view = RtpView::parse(&packet).unwrap();
    assert_eq!((20, b"x".as_slice()), (view.header_len(), view.payload()));
    assert!(RtpView::parse(&packet[..19]).is_err());
}

/// The examples of RFC 8285, sections 4.2 and 4.3.
#[test]
fn both_forms_are_those_of_rfc_8285() {
    let one_byte = [0x10, 7, 0x21, 1, 2, 0, 0, 0x33, 1, 2, 3, 4];
    let expected = vec![(1, vec![7]), (2, vec![1, 2]), (3, vec![1, 2, 3, 4])];
    assert_eq!(expected, read(&with_extensions(0xbede, &one_byte)));
    let two_bytes = [1, 0, 2, 1, 9, 0, 3, 4, 1, 2, 3, 4];
    let expected = vec![(1, vec![]), (2, vec![9]), (3, vec![1, 2, 3, 4])];
    assert_eq!(expected, read(&with_extensions(0x1000, &two_bytes)));
    assert_eq!(expected, read(&with_extensions(0x100f, &two_bytes)));
}

#[test]
fn what_cannot_be_read_ends_the_extensions() {
    let first = vec![(1, vec![7])];
    let ends: [&[u8]; 4] = [
        &[0x10, 7, 0xf0, 1, 0x20, 1, 0, 0],
        &[0x10, 7, 0x02, 1, 0x20, 1, 0, 0],
        &[0x10, 7, 0x2f, 1],
        &[0x10, 7, 0, 0x20],
    ];
    for extensions in ends {
        assert_eq!(first, read(&with_extensions(0xbede, extensions)));
    }
    let ends: [&[u8]; 3] = [&[1, 1, 7, 2], &[1, 1, 7, 0, 2, 3, 1, 1], &[1, 1, 7, 0]];
    for extensions in ends {
        assert_eq!(first, read(&with_extensions(0x1000, extensions)));
    }
    assert!(read(&with_extensions(0xabac, &[0x10, 7, 0, 0])).is_empty());
}

#[test]
fn extensions_of_another_length_are_not_there() {
    let ids = ExtensionIds {
        absolute_capture_time: Some(1),
        audio_level: Some(2),
        ..ExtensionIds::default()
    };
    for length in [1, 7, 9, 15, 17] {
        let mut extensions = vec![1, length];
        extensions.extend(vec![1; usize::from(length)]);
        extensions.extend([2, 0]);
        extensions.resize(extensions.len().next_multiple_of(4), 0);
        let packet = with_extensions(0x1000, &extensions);
        let view = RtpView::parse(&packet).unwrap();
        assert_eq!(Extensions::default(), Extensions::read(&view, &ids));
    }
}

#[test]
fn padding_is_taken_off_when_it_is_said_to_be_there() {
    let plain = RtpView::parse(&FIXED).unwrap();
    assert_eq!(Ok([1, 9].as_slice()), plain.without_padding(&[1, 9]));
    let mut packet = FIXED;
    packet[0] |= 0x20;
    let padded = RtpView::parse(&packet).unwrap();
    assert_eq!(Ok([1].as_slice()), padded.without_padding(&[1, 0, 2]));
    assert_eq!(Ok([].as_slice()), padded.without_padding(&[0, 0, 3]));
    for malformed in [[].as_slice(), &[0], &[1, 1, 4]] {
        assert_eq!(Err(MalformedRtp), padded.without_padding(malformed));
    }
}

#[test]
fn what_is_cut_or_of_another_version_is_malformed() {
    let whole = with_extensions(0xbede, &[0x10, 7, 0, 0]);
    assert!(RtpView::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(RtpView::parse(&whole[..length]).is_err(), "{length}");
    }
    for version in [0, 1, 3] {
        let mut packet = FIXED;
        packet[0] = version << 6;
        assert!(RtpView::parse(&packet).is_err());
    }
}

#[test]
fn any_bytes_are_survived() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..100_000 {
        let length = random.below(60) as usize;
        let mut packet = random.bytes(length);
        if let Some(first) = packet.first_mut() {
            *first = 0x80 | (*first & 0x31);
        }
        if let Some([form_high, form_low, words_high, words_low]) = packet.get_mut(12..16) {
            [*form_high, *form_low] = [[0xbe, 0xde], [0x10, 0]][random.below(2) as usize];
            [*words_high, *words_low] = [0, random.below(8) as u8];
        }
        let Ok(view) = RtpView::parse(&packet) else {
            continue;
        };
        let total: usize = view.extensions().map(|(_, value)| value.len()).sum();
        assert!(total <= view.header_len() && view.header_len() <= packet.len());
        Extensions::read(&view, &all_ids(1));
        let _ = view.without_padding(view.payload());
    }
}

#[test]
fn send_times_are_seconds_in_24_bits() {
    assert_eq!(0, absolute_send_time(Duration::ZERO));
    assert_eq!(1 << 18, absolute_send_time(Duration::from_secs(1)));
    assert_eq!(1 << 17, absolute_send_time(Duration::from_millis(64_500)));
    let last = Duration::from_secs(64) - Duration::from_nanos(1);
    assert_eq!(0x00ff_ffff, absolute_send_time(last));
}

#[test]
fn retransmissions_begin_with_the_original_sequence_number() {
    let mut out = [1; 6];
    let written = write_rtx_payload(0x1234, b"abc", &mut out);
    assert_eq!(Some(5), written);
    assert_eq!(b"\x12\x34abc\x01".as_slice(), out);
    let read = read_rtx_payload(&out[..5]);
    assert_eq!(Some((0x1234, b"abc".as_slice())), read);
    assert_eq!(None, read_rtx_payload(&out[..1]));
    for too_short in 0..5 {
        let written = write_rtx_payload(0x1234, b"abc", &mut out[..too_short]);
        assert_eq!(None, written);
    }
}
