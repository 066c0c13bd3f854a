//! The examples of RFCs and of libsrtp, and what happens to packets on the way.

use super::cipher::{Cipher, Direction, Protocol, derive};
use super::*;
use crate::rtp::random::{Random, any_seed};

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::Aes128CmSha1_80,
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
];
const HEADER_LEN: usize = 12;

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<_> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(String::from_iter);
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).unwrap())
        .collect()
}

fn array<const N: usize>(digits: &str) -> [u8; N] {
    hex(digits).try_into().unwrap()
}

fn key(profile: SrtpProfile, key: &str, salt: &str) -> SrtpKey {
    SrtpKey::of_parts(profile, &hex(key), &hex(salt))
}

fn pair(profile: SrtpProfile) -> (SrtpSender, SrtpReceiver) {
    let key = SrtpKey::random(profile);
    (SrtpSender::new(&key), SrtpReceiver::new(&key))
}

fn header(ssrc: u32, index: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = 0x80;
    header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    header[8..].copy_from_slice(&ssrc.to_be_bytes());
    header
}

fn protect(sender: &mut SrtpSender, header: &[u8], payload: &[u8], index: u64) -> Vec<u8> {
    let mut out = [0; 2_000];
    let length = sender.protect_rtp(header, payload, index, &mut out);
    out[..length.unwrap()].to_vec()
}

fn send(sender: &mut SrtpSender, index: u64) -> Vec<u8> {
    protect(sender, &header(7, index), &index.to_be_bytes(), index)
}

fn receive(receiver: &mut SrtpReceiver, packet: &[u8]) -> Result<u64, SrtpError> {
    let mut out = Vec::new();
    let index = receiver.unprotect_rtp(packet, HEADER_LEN, &mut out)?;
    assert_eq!(index.to_be_bytes().as_slice(), out);
    Ok(index)
}

/// RFC 3711, appendix B.3.
#[test]
fn session_keys_are_derived_as_in_rfc_3711() {
    let master = key(
        SrtpProfile::Aes128CmSha1_80,
        "e1f97a0d3e018be0d64fa32c06de4139",
        "0ec675ad498afeebb6960b3aabe6",
    );
    assert_eq!(
        array::<16>("c61e7a93744f39ee10734afe3ff7a087"),
        derive(&master, 0)
    );
    assert_eq!(
        array::<14>("30cbbc08863d8c85d49db34a9ae1"),
        derive(&master, 2)
    );
    let authentication: [u8; 94] = array(
        "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbce
         e049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc25
         6d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2",
    );
    assert_eq!(authentication, derive(&master, 1));
}

/// RFC 6188, section 7.2, which is what RFC 7714 has for keys of 256 bits.
#[test]
fn session_keys_of_256_bits_are_derived_as_in_rfc_6188() {
    let master = key(
        SrtpProfile::AeadAes256Gcm,
        "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
        "3b04803de51ee7c96423ab5b78d2",
    );
    assert_eq!(
        array::<32>("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"),
        derive(&master, 0)
    );
    assert_eq!(
        array::<14>("fa31791685ca444a9e07c6c64e93"),
        derive(&master, 2)
    );
    assert_eq!(
        array::<20>("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
        derive(&master, 1)
    );
}

/// RFC 3711, appendix B.2: the key stream, which is what zeros are encrypted to.
#[test]
fn counter_mode_is_that_of_rfc_3711() {
    let mut cipher = Cipher::counter_mode(
        array("2b7e151628aed2a6abf7158809cf4f3c"),
        array("f0f1f2f3f4f5f6f7f8f9fafbfcfd"),
        [0; 20],
        Direction::Encrypt,
    );
    let mut out = vec![0; 1 << 20];
    let zeros = vec![0; 0xff02 * 16];
    let length = cipher.protect_rtp(&header(0, 0), &zeros, 0, &mut out);
    assert_eq!(Ok(HEADER_LEN + zeros.len() + 10), length);
    let stream = &out[HEADER_LEN..];
    let start = "e03ead0935c95e80e166b16dd92b4eb4
                 d23513162b02d0f72a43a2fe4a5f97ab
                 41e95b3bb0a2e8dd477901e4fca894c0";
    assert_eq!(hex(start), stream[..48]);
    let end = "ec8cdf7398607cb0f2d21675ea9ea1e4
               362b7c3c6773516318a077d7fc5073ae
               6a2cc3787889374fbeb4c81b17ba6c44";
    assert_eq!(hex(end), stream[0xfeff * 16..0xff02 * 16]);
}

/// The packets of RFC 7714, sections 16 and 17, whose keys are session keys.
struct Rfc7714 {
    cipher: fn(Direction) -> Cipher,
    srtp: &'static str,
    srtcp: &'static str,
    authenticated_only: &'static str,
}

const RTP: &str = "8040f17b8041f8d35501a0b2
                   47616c6c696120657374206f6d6e6973206469766973612069
                   6e207061727465732074726573";
const RTCP: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
                    deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
const GCM_SALT: &str = "517569642070726f2071756f";
const RFC_7714: [Rfc7714; 2] = [
    Rfc7714 {
        cipher: |direction| {
            let key = array("000102030405060708090a0b0c0d0e0f");
            Cipher::gcm_128(key, array(GCM_SALT), direction)
        },
        srtp: "8040f17b8041f8d35501a0b2
               f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b
               36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        srtcp: "81c8000d4d617273
                63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda
                4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        authenticated_only: "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
                             deadbeefdeadbeefdeadbeefdeadbeefdeadbeef
                             841dd9683dd78ec92ae58790125f62b3000005d4",
    },
    Rfc7714 {
        cipher: |direction| {
            let key = array("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
            Cipher::gcm_256(key, array(GCM_SALT), direction)
        },
        srtp: "8040f17b8041f8d35501a0b2
               32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f
               1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        srtcp: "81c8000d4d617273
                d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be
                8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        authenticated_only: "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
                             deadbeefdeadbeefdeadbeefdeadbeefdeadbeef
                             91db4afbfeee5a978fab4393ed2615fe000005d4",
    },
];

#[test]
fn gcm_is_that_of_rfc_7714() {
    for example in RFC_7714 {
        let cipher = example.cipher;
        let mut sender =
            SrtpSender::with_ciphers(cipher(Direction::Encrypt), cipher(Direction::Encrypt));
        let mut receiver =
            SrtpReceiver::with_ciphers(cipher(Direction::Decrypt), cipher(Direction::Decrypt));
        let (rtp, rtcp) = (hex(RTP), hex(RTCP));
        let (header, payload) = rtp.split_at(HEADER_LEN);
        let srtp = protect(&mut sender, header, payload, 0xf17b);
        assert_eq!(hex(example.srtp), srtp);
        let mut out = Vec::new();
        let index = receiver.unprotect_rtp(&srtp, HEADER_LEN, &mut out);
        assert_eq!((Ok(0xf17b), payload), (index, out.as_slice()));

        sender.set_next_rtcp_index(0x5d4);
        sender.protect_rtcp(&rtcp, &mut out).unwrap();
        assert_eq!(hex(example.srtcp), out);
        let refused = receiver.unprotect_rtcp(&hex(example.authenticated_only), &mut Vec::new());
        assert_eq!(Err(SrtpError::NotEncrypted), refused);
        let srtcp = out.clone();
        assert_eq!(Ok(()), receiver.unprotect_rtcp(&srtcp, &mut out));
        assert_eq!(rtcp, out);
    }
}

/// What browsers have. These are the packets with which libsrtp tests itself, from master keys.
#[test]
fn packets_are_those_of_libsrtp() {
    let counter_mode = key(
        SrtpProfile::Aes128CmSha1_80,
        "e1f97a0d3e018be0d64fa32c06de4139",
        "0ec675ad498afeebb6960b3aabe6",
    );
    let gcm = key(
        SrtpProfile::AeadAes128Gcm,
        "000102030405060708090a0b0c0d0e0f",
        "a0a1a2a3a4a5a6a7a8a9aaab",
    );
    let rtp_header = hex("800f1234decafbadcafebabe");
    let srtp = "800f1234decafbadcafebabe
                4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb";
    let mut sender = SrtpSender::new(&counter_mode);
    let packet = protect(&mut sender, &rtp_header, &[0xab; 16], 0x1234);
    assert_eq!(hex(srtp), packet);
    let srtcp = "81c8000bcafebabe
                 7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798";
    let mut out = Vec::new();
    sender.set_next_rtcp_index(1);
    let rtcp = [hex("81c8000bcafebabe"), vec![0xab; 16]].concat();
    sender.protect_rtcp(&rtcp, &mut out).unwrap();
    assert_eq!(hex(srtcp), out);

    let srtp = "800f1234decafbadcafebabe
                c5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392";
    let packet = protect(&mut SrtpSender::new(&gcm), &rtp_header, &[0xab; 16], 0x1234);
    assert_eq!(hex(srtp), packet);
}

#[test]
fn rtp_and_rtcp_have_keys_of_their_own() {
    let key = SrtpKey::random(SrtpProfile::AeadAes128Gcm);
    let mut rtp = Cipher::derive(&key, Protocol::Rtp, Direction::Encrypt);
    let mut rtcp = Cipher::derive(&key, Protocol::Rtcp, Direction::Encrypt);
    let [mut first, mut second] = [[0; 100]; 2];
    let header = header(1, 1);
    assert_eq!(Ok(32), rtp.protect_rtp(&header, &[0; 4], 1, &mut first));
    assert_eq!(Ok(32), rtcp.protect_rtp(&header, &[0; 4], 1, &mut second));
    assert_ne!(first[12..32], second[12..32]);
}

#[test]
fn what_is_sent_arrives() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let (mut protected, mut out) = (vec![0; 2_000], Vec::new());
        let mut index = random.below(1 << 15);
        for _ in 0..1_000 {
            index += 1 + random.below(2_000);
            let mut header = header(42, index).to_vec();
            let extensions = random.below(20) as usize * 4;
            header.extend(random.bytes(extensions));
            let payload_len = random.below(1_300) as usize;
            let payload = random.bytes(payload_len);
            let length = sender
                .protect_rtp(&header, &payload, index, &mut protected)
                .unwrap();
            assert_eq!(header.len() + payload_len + profile.tag_len(), length);
            let received = receiver.unprotect_rtp(&protected[..length], header.len(), &mut out);
            assert_eq!((Ok(index), &payload), (received, &out));

            let reports = [header, payload].concat();
            let mut srtcp = Vec::new();
            sender.protect_rtcp(&reports, &mut srtcp).unwrap();
            assert_eq!(Ok(()), receiver.unprotect_rtcp(&srtcp, &mut out));
            assert_eq!(reports, out);
        }
    }
}

#[test]
fn sequence_numbers_may_wrap_get_lost_and_change_places() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let order = [
            65_530, 65_534, 65_536, 65_535, 65_537, 65_531, 90_000, 120_000, 131_072, 131_071,
            131_074, 163_000, 190_000, 196_608,
        ];
        for index in order {
            let packet = send(&mut sender, index);
            assert_eq!(Ok(index), receive(&mut receiver, &packet));
        }
        let late = send(&mut sender, 131_073);
        assert_eq!(Err(SrtpError::NotAuthentic), receive(&mut receiver, &late));
    }
}

#[test]
fn the_header_says_the_lower_half_of_the_index() {
    for profile in PROFILES {
        let (mut sender, _) = pair(profile);
        let header = header(7, 0x1_0005);
        let expected = protect(&mut sender, &header, b"abc", 0x1_0005);
        assert_eq!(expected, protect(&mut sender, &header, b"abc", 0x1_0000));
    }
}

#[test]
fn what_comes_twice_is_refused() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let packets: Vec<_> = (65_500..65_700).map(|i| send(&mut sender, i)).collect();
        assert_eq!(Ok(65_500), receive(&mut receiver, &packets[0]));
        for packet in packets.iter().skip(1).step_by(2) {
            assert!(receive(&mut receiver, packet).is_ok());
        }
        let again = packets.iter().map(|packet| receive(&mut receiver, packet));
        for (index, result) in (65_500..).zip(again) {
            let is_new = index % 2 == 0 && index > 65_699 - 128;
            assert_eq!(is_new, result.is_ok(), "{index}");
            assert!(is_new || result == Err(SrtpError::Replayed));
        }

        let mut out = Vec::new();
        let reports: Vec<_> = (0..3)
            .map(|_| {
                let mut srtcp = Vec::new();
                sender.protect_rtcp(&hex(RTCP), &mut srtcp).unwrap();
                srtcp
            })
            .collect();
        for order in [2, 0, 1] {
            assert_eq!(Ok(()), receiver.unprotect_rtcp(&reports[order], &mut out));
            let again = receiver.unprotect_rtcp(&reports[order], &mut out);
            assert_eq!((Err(SrtpError::Replayed), 0), (again, out.len()));
        }
    }
}

#[test]
fn what_is_tampered_with_is_refused_and_changes_nothing() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let mut out = Vec::new();
        receive(&mut receiver, &send(&mut sender, 100)).unwrap();
        let srtp = send(&mut sender, 101);
        let mut srtcp = Vec::new();
        sender.protect_rtcp(&hex(RTCP), &mut srtcp).unwrap();
        let heard = receiver.heard();
        for bit in 0..8 {
            for byte in 0..srtp.len() {
                let mut forged = srtp.clone();
                forged[byte] ^= 1 << bit;
                let result = receiver.unprotect_rtp(&forged, HEADER_LEN, &mut out);
                assert!(result.is_err() && out.is_empty(), "{profile} {byte}");
            }
            for byte in 0..srtcp.len() {
                let mut forged = srtcp.clone();
                forged[byte] ^= 1 << bit;
                let result = receiver.unprotect_rtcp(&forged, &mut out);
                assert!(result.is_err() && out.is_empty(), "{profile} {byte}");
            }
        }
        for length in 0..srtp.len() {
            let cut = &srtp[..length];
            assert!(receiver.unprotect_rtp(cut, HEADER_LEN, &mut out).is_err());
        }
        for length in 0..srtcp.len() {
            assert!(receiver.unprotect_rtcp(&srtcp[..length], &mut out).is_err());
        }
        assert_eq!(heard, receiver.heard());
        assert_eq!(Ok(101), receive(&mut receiver, &srtp));
        assert_eq!(Ok(()), receiver.unprotect_rtcp(&srtcp, &mut out));
    }
}

#[test]
fn any_bytes_and_any_header_length_are_survived() {
    let seed = any_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for profile in PROFILES {
        let (_, mut receiver) = pair(profile);
        let mut out = Vec::new();
        for _ in 0..10_000 {
            let length = random.below(80) as usize;
            let packet = random.bytes(length);
            let header_len = random.below(100) as usize;
            let result = receiver.unprotect_rtp(&packet, header_len, &mut out);
            assert!(result.is_err());
            assert!(receiver.unprotect_rtcp(&packet, &mut out).is_err());
        }
        let tag = profile.tag_len();
        let too_short = receiver.unprotect_rtp(&vec![0x80; 12 + tag], 13, &mut out);
        assert_eq!(Err(SrtpError::TooShort), too_short);
        let too_short = receiver.unprotect_rtcp(&vec![0x80; 11 + tag], &mut out);
        assert_eq!(Err(SrtpError::TooShort), too_short);
    }
}

#[test]
fn what_cannot_be_protected_is_refused() {
    for profile in PROFILES {
        let (mut sender, _) = pair(profile);
        let mut out = [0; 100];
        let needed = HEADER_LEN + 4 + profile.tag_len();
        let header = header(1, 0);
        let mut protect = |header: &[u8], index, room: usize| {
            sender.protect_rtp(header, &[0; 4], index, &mut out[..room])
        };
        assert_eq!(Ok(needed), protect(&header, 0, needed));
        assert_eq!(
            Err(SrtpError::OutputTooSmall),
            protect(&header, 0, needed - 1)
        );
        assert_eq!(Err(SrtpError::TooShort), protect(&header[..11], 0, 100));
        assert_eq!(Err(SrtpError::KeyExhausted), protect(&header, 1 << 48, 100));

        let mut out = Vec::new();
        let too_short = sender.protect_rtcp(&[0x80; 7], &mut out);
        assert_eq!(Err(SrtpError::TooShort), too_short);
        sender.set_next_rtcp_index((1 << 30) - 1);
        assert!(!sender.is_worn());
        assert_eq!(Ok(()), sender.protect_rtcp(&hex(RTCP), &mut out));
        assert!(sender.is_worn());
        sender.set_next_rtcp_index((1 << 31) - 1);
        assert_eq!(Ok(()), sender.protect_rtcp(&hex(RTCP), &mut out));
        let exhausted = sender.protect_rtcp(&hex(RTCP), &mut out);
        assert_eq!(Err(SrtpError::KeyExhausted), exhausted);
    }
}
