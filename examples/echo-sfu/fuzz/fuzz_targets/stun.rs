//! Whatever is asked, the STUN server answers with a small and well-formed message, or not at all.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use stun_server::stun::{Ignored, MAX_ANSWER_BYTES, answer};

fuzz_target!(|datagram: &[u8]| {
    let clients: [SocketAddr; 3] = [
        ([192, 0, 2, 1], 32_853).into(),
        ([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201], 32_853).into(),
        (
            [0x2001, 0xdb8, 0x1234, 0x5678, 0x11, 0x2233, 0x4455, 0x6677],
            32_853,
        )
            .into(),
    ];
    let outcomes = clients.map(|client| {
        let mut out = vec![1, 2, 3];
        answer(datagram, client, &mut out)
            .map_or_else(|_| assert!(out.is_empty()), |()| check(datagram, &out));
        out
    });
    assert_eq!(
        outcomes[0], outcomes[1],
        "a mapped address is an IPv4 address"
    );
});

fn check(request: &[u8], answer: &[u8]) {
    assert!(answer.len() <= MAX_ANSWER_BYTES && answer.len() <= 3 * request.len());
    assert!(matches!(answer[..2], [1, 1] | [1, 17]));
    assert_eq!(request[4..20], answer[4..20]);
    assert_eq!(
        answer.len() - 20,
        usize::from(u16::from_be_bytes([answer[2], answer[3]]))
    );
    let mut rest = &answer[20..];
    let mut last = (0, &[][..]);
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        last = (u16::from_be_bytes([rest[0], rest[1]]), &rest[4..4 + length]);
        rest = &rest[4 + length.next_multiple_of(4)..];
    }
    if last.0 == 0x8028 {
        let crc = crc32fast::hash(&answer[..answer.len() - 8]) ^ 0x5354_554e;
        assert_eq!(crc.to_be_bytes(), last.1);
    }
    let again = stun_server::stun::answer(answer, ([192, 0, 2, 1], 1).into(), &mut Vec::new());
    assert_eq!(
        Err(Ignored::NotABindingRequest),
        again,
        "two servers do not answer each other"
    );
}
