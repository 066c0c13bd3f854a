//! The test vectors of RFC 5769, and messages made by hand.

use std::net::SocketAddr;

use stun_server::stun::{Ignored, MAX_ANSWER_BYTES, answer};

/// Section 2.1: a check of ICE, with a fingerprint. PRIORITY (0x0024), which a STUN server is required
/// to comprehend, means nothing to it.
const ICE_REQUEST: &str = "
    00010058 2112a442 b7e7a701bc34d686fa87dfae
    80220010 5354554e207465737420636c69656e74
    00240004 6e0001ff
    80290008 932ff9b151263b36
    00060009 6576746a3a68367659 202020
    00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
    80280004 e57a3bcf";
/// Section 2.2, and its XOR-MAPPED-ADDRESS.
const IPV4_RESPONSE: &str = "
    0101003c 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f72 20
    00200008 0001a147e112a643
    00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
    80280004 c07d4c96";
const IPV4_ADDRESS: &str = "00200008 0001a147e112a643";
/// Section 2.3, and its XOR-MAPPED-ADDRESS.
const IPV6_RESPONSE: &str = "
    01010048 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f72 20
    00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
    80280004 c8fb0b4c";
const IPV6_ADDRESS: &str = "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9";
/// Section 2.4: with long-term credentials, which we do not look at.
const LONG_TERM_REQUEST: &str = "
    00010060 2112a442 78ad3433c6ad72c029da412e
    00060012 e3839ee38388e383aae38383e382afe382b9 0000
    0015001c 662f2f3439396b39353464364f4c33346f4c394653547679363473 41
    0014000b 6578616d706c652e6f7267 00
    00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666";

const HEADER: &str = "2112a442 b7e7a701bc34d686fa87dfae";
const OUR_NAME: &str = "8022000b 7374756e2d736572766572 00";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// A Binding request of the vectors' transaction.
fn request(attributes: &str) -> Vec<u8> {
    let attributes = bytes(attributes);
    let start = format!("0001 {:04x} {HEADER}", attributes.len());
    [bytes(&start), attributes].concat()
}

fn with_fingerprint(mut message: Vec<u8>) -> Vec<u8> {
    let length = (message.len() - 20 + 8) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32fast::hash(&message) ^ 0x5354_554e;
    message.extend(bytes("80280004"));
    message.extend(crc.to_be_bytes());
    message
}

fn ipv4() -> SocketAddr {
    "192.0.2.1:32853".parse().unwrap()
}

fn ipv6() -> SocketAddr {
    "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
        .parse()
        .unwrap()
}

fn answered(request: &[u8], from: SocketAddr) -> Result<Vec<u8>, Ignored> {
    let mut out = b"what was there before".to_vec();
    let outcome = answer(request, from, &mut out);
    assert!(out.len() <= MAX_ANSWER_BYTES && out.len() <= 3 * request.len());
    assert_eq!(outcome.is_err(), out.is_empty());
    outcome.map(|()| out)
}

#[test]
fn the_vectors_are_what_the_rfc_says_they_are() {
    for vector in [ICE_REQUEST, IPV4_RESPONSE, IPV6_RESPONSE] {
        let message = bytes(vector);
        let unsigned = message[..message.len() - 8].to_vec();
        assert_eq!(message, with_fingerprint(unsigned));
    }
}

#[test]
fn a_client_learns_its_address() {
    let mapped = "[::ffff:192.0.2.1]:32853".parse().unwrap();
    for (from, address, length) in [
        (ipv4(), IPV4_ADDRESS, "001c"),
        (mapped, IPV4_ADDRESS, "001c"),
        (ipv6(), IPV6_ADDRESS, "0028"),
    ] {
        let expected = bytes(&format!("0101 {length} {HEADER} {address} {OUR_NAME}"));
        assert_eq!(Ok(expected), answered(&request(""), from));
    }
}

#[test]
fn a_fingerprint_is_answered_with_one() {
    let plain = answered(&request(""), ipv4()).unwrap();
    let signed = answered(&with_fingerprint(request("")), ipv4());
    assert_eq!(Ok(with_fingerprint(plain)), signed);
}

#[test]
fn credentials_are_not_asked_for_and_not_looked_at() {
    let answer = answered(&bytes(LONG_TERM_REQUEST), ipv4()).unwrap();
    assert_eq!(bytes("0101"), answer[..2]);
    assert_eq!(bytes(LONG_TERM_REQUEST)[4..20], answer[4..20]);
}

#[test]
fn what_must_be_understood_and_is_not_is_named() {
    let error = "00090015 00000414 556e6b6e6f776e20417474726962757465 000000";
    let expected = format!("0111 0034 {HEADER} {error} 000a0002 00240000 {OUR_NAME}");
    let expected = with_fingerprint(bytes(&expected));
    assert_eq!(Ok(expected), answered(&bytes(ICE_REQUEST), ipv4()));

    // CHANGE-REQUEST of RFC 3489, twice, one more, and one that may be passed over.
    let several = request("00030004 00000006 00030004 00000000 7fff0000 8003000300000000");
    let expected = format!("0111 0034 {HEADER} {error} 000a0004 00037fff {OUR_NAME}");
    assert_eq!(Ok(bytes(&expected)), answered(&several, ipv4()));
}

#[test]
fn many_unknown_attributes_make_no_long_answer() {
    let many: String = (0x4000..0x6000)
        .map(|kind| format!("{kind:04x}0000"))
        .collect();
    let answer = answered(&with_fingerprint(request(&many)), ipv4()).unwrap();
    assert_eq!(MAX_ANSWER_BYTES, answer.len());
}

#[test]
fn what_follows_the_integrity_is_passed_over() {
    let sealed = format!("00080014 {} 7fff0000", "00".repeat(20));
    let answer = answered(&with_fingerprint(request(&sealed)), ipv4()).unwrap();
    assert_eq!(bytes("0101"), answer[..2]);
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let indication = "0011 0000";
    let allocate = "0003 0000";
    for start in [indication, allocate, "0101 0000", "0111 0000", "4001 0000"] {
        let message = bytes(&format!("{start} {HEADER}"));
        let outcome = answered(&message, ipv4());
        assert_eq!(Err(Ignored::NotABindingRequest), outcome, "{start}");
    }
    for response in [IPV4_RESPONSE, IPV6_RESPONSE] {
        let outcome = answered(&bytes(response), ipv4());
        assert_eq!(Err(Ignored::NotABindingRequest), outcome);
    }
}

#[test]
fn what_is_malformed_gets_no_answer() {
    let good = bytes(ICE_REQUEST);
    for length in 0..good.len() {
        let outcome = answered(&good[..length], ipv4());
        assert_eq!(Err(Ignored::Malformed), outcome, "cut to {length}");
    }
    let mut longer = good;
    longer.extend([0; 4]);
    let mut no_cookie = request("");
    no_cookie[4] ^= 1;
    let fingerprint_first = {
        let mut message = with_fingerprint(request(""));
        message.extend(bytes("80220000"));
        message[3] += 4;
        message
    };
    for bad in [
        longer,
        no_cookie,
        fingerprint_first,
        request("8022"),
        request("80220001"),
        request("80220005 00000000"),
        request("8022ffff 00000000"),
    ] {
        assert_eq!(Err(Ignored::Malformed), answered(&bad, ipv4()), "{bad:?}");
    }
}

#[test]
fn every_changed_bit_is_noticed_by_the_fingerprint() {
    let good = bytes(ICE_REQUEST);
    // Of the value itself too, but not of the attribute's type, which would be another's then.
    for at in (20..good.len() - 8).chain(good.len() - 4..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        assert!(answered(&bad, ipv4()).is_err(), "byte {at}");
    }
    assert_eq!(
        Err(Ignored::BadFingerprint),
        answered(&[&good[..good.len() - 1], &[0]].concat(), ipv4())
    );
}
