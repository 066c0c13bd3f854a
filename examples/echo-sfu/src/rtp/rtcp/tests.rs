//! Reports by hand, reports read back, and bytes that are none.

use std::time::Duration;

use super::*;
use crate::rtp::random::{Random, any_seed};

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 0x4c75_6e61,
    fraction_lost: 0xde,
    cumulative_lost: 0xad_beef - 0x0100_0000,
    highest_sequence: 0xdead_beef,
    jitter: 0xdead_beef,
    last_sr: 0xdead_beef,
    delay_since_last_sr: 0xdead_beef,
};
const SENT: SenderInfo = SenderInfo {
    ntp: NtpTime(0x4e54_5031_4e54_5032),
    rtp: 0x5254_5020,
    packets: 0x042a,
    octets: 0xe930,
};
/// The sender report of RFC 7714, section 17, with [`BLOCK`] in it; and with its own length, where the
/// RFC has one word more.
const SENDER_REPORT: [u8; 52] = [
    0x81, 0xc8, 0x00, 0x0c, 0x4d, 0x61, 0x72, 0x73, 0x4e, 0x54, 0x50, 0x31, 0x4e, 0x54, 0x50, 0x32,
    0x52, 0x54, 0x50, 0x20, 0x00, 0x00, 0x04, 0x2a, 0x00, 0x00, 0xe9, 0x30, 0x4c, 0x75, 0x6e, 0x61,
    0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef,
    0xde, 0xad, 0xbe, 0xef,
];
const EMPTY_RECEIVER_REPORT: [u8; 8] = [0x80, 0xc9, 0, 1, 0, 0, 0, 1];
const PLI: [u8; 12] = [0x81, 0xce, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];

fn written(write: impl FnOnce(&mut Compound<'_>)) -> Vec<u8> {
    let mut out = vec![1; 10];
    write(&mut Compound::new(&mut out));
    out
}

/// Checks both ways.
fn assert_same(report: &Rtcp, bytes: &[u8], write: impl FnOnce(&mut Compound<'_>)) {
    assert_eq!(std::slice::from_ref(report), read_compound(bytes));
    assert_eq!(bytes, written(write));
}

#[test]
fn reports_are_those_of_the_rfcs() {
    let sender_report = Rtcp::SenderReport {
        ssrc: 0x4d61_7273,
        sent: SENT,
        blocks: vec![BLOCK],
    };
    assert_same(&sender_report, &SENDER_REPORT, |compound| {
        compound.sender_report(0x4d61_7273, SENT, &[BLOCK]);
    });

    let empty = Rtcp::ReceiverReport {
        ssrc: 1,
        blocks: Vec::new(),
    };
    assert_same(&empty, &EMPTY_RECEIVER_REPORT, |compound| {
        compound.receiver_report(1, &[]);
    });
    let receiver_report = Rtcp::ReceiverReport {
        ssrc: 2,
        blocks: vec![BLOCK],
    };
    let bytes = [&[0x81, 0xc9, 0, 7, 0, 0, 0, 2], &SENDER_REPORT[28..]].concat();
    assert_same(&receiver_report, &bytes, |compound| {
        compound.receiver_report(2, &[BLOCK]);
    });

    let bye = Rtcp::Bye { ssrcs: vec![1, 2] };
    let bytes = [0x82, 0xcb, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_same(&bye, &bytes, |compound| {
        compound.bye(&[1, 2]);
    });
}

#[test]
fn feedback_is_that_of_the_rfcs() {
    let nack = Rtcp::Nack {
        sender: 1,
        media: 2,
        lost: vec![0x1234, 0x1235, 0x1244, 0x1245],
    };
    let bytes = [
        0x81, 0xcd, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0x12, 0x34, 0x80, 0x01, 0x12, 0x45, 0, 0,
    ];
    assert_same(&nack, &bytes, |compound| {
        compound.nack(1, 2, &[0x1234, 0x1235, 0x1244, 0x1245]);
    });

    assert_same(&Rtcp::Pli { media: 2 }, &PLI, |compound| {
        compound.pli(1, 2);
    });

    let request = FirRequest {
        media: 3,
        sequence: 4,
    };
    let fir = Rtcp::Fir {
        requests: vec![request],
    };
    let bytes = [
        0x84, 0xce, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0,
    ];
    assert_same(&fir, &bytes, |compound| {
        compound.fir(1, request);
    });

    // The example in libwebrtc's tests.
    let ssrcs = [0x2345_6789, 0x2345_678a, 0x2345_678b];
    let remb = Rtcp::Remb {
        bitrate_bps: 522_022,
        ssrcs: ssrcs.to_vec(),
    };
    let bytes = [
        0x8f, 0xce, 0x00, 0x07, 0x12, 0x34, 0x56, 0x78, 0x00, 0x00, 0x00, 0x00, b'R', b'E', b'M',
        b'B', 0x03, 0x07, 0xfb, 0x93, 0x23, 0x45, 0x67, 0x89, 0x23, 0x45, 0x67, 0x8a, 0x23, 0x45,
        0x67, 0x8b,
    ];
    assert_same(&remb, &bytes, |compound| {
        compound.remb(0x1234_5678, 522_023, &ssrcs);
    });
}

#[test]
fn a_name_is_written_and_not_read() {
    let bytes = [
        0x81, 0xca, 0, 3, 0, 0, 0, 1, 1, 3, b'a', b'b', b'c', 0, 0, 0,
    ];
    let named = written(|compound| {
        compound.cname(1, "abc");
    });
    assert_eq!(bytes.as_slice(), named);
    assert!(read_compound(&bytes).is_empty());
    let long = written(|compound| {
        compound.cname(1, &"ä".repeat(200));
    });
    assert_eq!(254, long[9]);
}

#[test]
fn what_is_missing_around_the_wrap_is_asked_for_in_one_go() {
    let lost = [65_530, 65_535, 0, 3, 10];
    let bytes = written(|compound| {
        compound.nack(1, 2, &lost);
    });
    assert_eq!(16, bytes.len());
    let [Rtcp::Nack { lost: read, .. }] = &read_compound(&bytes)[..] else {
        panic!("a NACK")
    };
    assert_eq!(lost.as_slice(), read);
}

#[test]
fn whatever_is_missing_is_asked_for() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..1_000 {
        let mut sequence = random.next() as u16;
        let lost: Vec<_> = (0..random.below(900))
            .map(|_| {
                sequence = sequence.wrapping_add(1 + random.below(40) as u16);
                sequence
            })
            .collect();
        let bytes = written(|compound| {
            compound.nack(1, 2, &lost);
        });
        let read = read_compound(&bytes).into_iter().flat_map(|report| {
            let Rtcp::Nack { lost, .. } = report else {
                panic!("a NACK")
            };
            assert!(!lost.is_empty());
            lost
        });
        assert_eq!(lost, read.collect::<Vec<_>>());
    }
}

#[test]
fn what_does_not_fit_into_a_packet_is_said_in_several() {
    let block = |ssrc| ReportBlock { ssrc, ..BLOCK };
    let blocks: Vec<_> = (0..70).map(block).collect();
    let ssrcs: Vec<_> = (0..300).collect();
    let bytes = written(|compound| {
        compound
            .sender_report(1, SENT, &blocks)
            .bye(&ssrcs)
            .bye(&[])
            .remb(1, 1, &ssrcs);
    });
    let mut said = (Vec::new(), Vec::new());
    for report in read_compound(&bytes) {
        match report {
            Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } => {
                said.0.extend(blocks);
            }
            Rtcp::Bye { ssrcs } => said.1.extend(ssrcs),
            Rtcp::Remb { ssrcs, .. } => assert_eq!(255, ssrcs.len()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((blocks, ssrcs), said);
}

#[test]
fn losses_have_a_sign_and_24_bits() {
    for (lost, read_back) in [
        (0, 0),
        (-1, -1),
        (0x7f_ffff, 0x7f_ffff),
        (-0x80_0000, -0x80_0000),
        (i32::MAX, 0x7f_ffff),
        (i32::MIN, -0x80_0000),
    ] {
        let block = |cumulative_lost| ReportBlock {
            cumulative_lost,
            ..BLOCK
        };
        let bytes = written(|compound| {
            compound.receiver_report(1, &[block(lost)]);
        });
        let report = Rtcp::ReceiverReport {
            ssrc: 1,
            blocks: vec![block(read_back)],
        };
        assert_eq!(vec![report], read_compound(&bytes));
    }
}

#[test]
fn what_is_unknown_is_left_out_and_what_is_malformed_ends_it() {
    let pli = Rtcp::Pli { media: 2 };
    let application = [0x80, 0xcc, 0, 2, 0, 0, 0, 1, b'n', b'a', b'm', b'e'];
    let extended = [0x80, 0xcf, 0, 1, 0, 0, 0, 1];
    let congestion = [0x8f, 0xcd, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4];
    let other_feedback = [
        0x8f, 0xce, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, b'R', b'E', b'M', b'X',
    ];
    for unknown in [
        &application[..],
        &extended,
        &congestion,
        &other_feedback,
        &[0x80, 0xff, 0, 0],
    ] {
        let compound = [unknown, &PLI].concat();
        assert_eq!(vec![pli.clone()], read_compound(&compound));
    }

    let short_remb = [
        0x8f, 0xce, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, b'R', b'E', b'M', b'B',
    ];
    let mut remb_of_two = [0; 24];
    remb_of_two[..16].copy_from_slice(&short_remb);
    remb_of_two[3] = 5;
    remb_of_two[16] = 2;
    let malformed: [&[u8]; 8] = [
        &short_remb,
        &remb_of_two,
        // One block that is not there.
        &[0x81, 0xc9, 0, 1, 0, 0, 0, 1],
        // One sender that is not there.
        &[0x81, 0xcb, 0, 0],
        // A request without a sender.
        &[0x84, 0xce, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
        // Of another version.
        &[0x40, 0xff, 0, 0],
        // Longer than everything.
        &[0x80, 0xff, 0, 100],
        // Padding in the middle.
        &[0xa0, 0xff, 0, 1, 0, 0, 0, 4],
    ];
    for malformed in malformed {
        let compound = [&PLI, malformed, &PLI].concat();
        assert_eq!(vec![pli.clone()], read_compound(&compound), "{malformed:?}");
    }
    for length in 0..PLI.len() {
        let compound = [&PLI[..], &PLI[..length]].concat();
        assert_eq!(vec![pli.clone()], read_compound(&compound));
    }
}

#[test]
fn padding_is_not_taken_for_what_was_said() {
    let mut nack = written(|compound| {
        compound.nack(1, 2, &[7]);
    });
    nack[0] |= 0x20;
    nack[3] += 2;
    for (padding, is_read) in [(8, true), (0, false), (3, false), (20, false), (255, false)] {
        let padded = [&nack[..], &[0, 0, 0, 0, 0, 0, 0, padding]].concat();
        let read = read_compound(&padded);
        let lost = Rtcp::Nack {
            sender: 1,
            media: 2,
            lost: vec![7],
        };
        assert_eq!(is_read, read == vec![lost], "{padding}");
        assert_eq!(is_read, !read.is_empty(), "{padding}");
    }
}

#[test]
fn there_is_a_limit_to_what_is_read() {
    let many_packets = PLI.repeat(5_000);
    assert_eq!(128, read_compound(&many_packets).len());

    let mut nack = vec![0x81, 0xcd, 0, 102, 0, 0, 0, 1, 0, 0, 0, 2];
    nack.extend([0xff; 400]);
    let named = read_compound(&nack.repeat(3)).into_iter().map(|report| {
        let Rtcp::Nack { lost, .. } = report else {
            panic!("a NACK")
        };
        lost.len()
    });
    assert_eq!(1_000, named.sum::<usize>());
}

#[test]
fn any_bytes_are_survived() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..100_000 {
        let mut compound = Vec::new();
        for _ in 0..=random.below(3) {
            let words = random.below(12) as usize;
            // Mostly what it takes to be looked into.
            let bits = if random.below(4) == 0 { 0xff } else { 0x0f };
            compound.push(0x80 | (random.next() as u8 & bits));
            compound.push(198 + random.below(12) as u8);
            compound.extend((words as u16).to_be_bytes());
            let mut body = random.bytes(4 * words);
            if let Some(name) = body.get_mut(8..12)
                && random.below(3) == 0
            {
                name.copy_from_slice(b"REMB");
            }
            compound.extend(body);
        }
        let cut = random.below(8) as usize / 7;
        compound.truncate(compound.len() - cut);
        read_compound(&compound);
    }
}

#[test]
fn time_is_that_of_ntp() {
    let epoch = NtpTime::since_unix_epoch(Duration::ZERO);
    assert_eq!(0x83aa_7e80_0000_0000, epoch.0);
    let later = NtpTime::since_unix_epoch(Duration::from_millis(1_500));
    assert_eq!(0x83aa_7e81_8000_0000, later.0);
    assert_eq!(0x7e81_8000, later.middle32());
    // 2036: the seconds have wrapped.
    let wrapped = NtpTime::since_unix_epoch(Duration::from_secs(2_085_978_496));
    assert_eq!(NtpTime(0), wrapped);
}

#[test]
fn round_trips_are_timed_as_in_rfc_3550() {
    let block = |last_sr, delay_since_last_sr| ReportBlock {
        last_sr,
        delay_since_last_sr,
        ..BLOCK
    };
    let now = NtpTime(0xb44d_b710_8000_0000);
    let time = |last_sr, delay| round_trip_time(&block(last_sr, delay), now);
    // The example of section 6.4.1.
    let example = time(0xb705_2000, 0x0005_4000);
    assert_eq!(Some(Duration::from_millis(6_125)), example);
    assert_eq!(Some(Duration::ZERO), time(0xb710_8000, 0));
    assert_eq!(Some(Duration::ZERO), time(0xb710_0000, 0x8001));
    // No report to answer, one from the future, a delay longer than there was time, a very old one.
    for (last_sr, delay) in [
        (0, 0),
        (0xb712_0000, 0),
        (0xb710_0000, 0x0009_0000),
        (0xb710_0000, u32::MAX / 2),
        (0xb6a0_0000, 0),
    ] {
        assert_eq!(None, time(last_sr, delay));
    }
    // Across the wrap of the seconds.
    let wrapped = round_trip_time(&block(0xffff_8000, 0), NtpTime(0x0001_0000_8000_0000));
    assert_eq!(Some(Duration::from_secs(1)), wrapped);
}
