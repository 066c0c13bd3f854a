//! How STUN messages and attributes are laid out (RFC 8489, sections 5 and 14).

use std::net::{IpAddr, SocketAddr};

const HEADER_BYTES: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Takes the first attribute off a message, with its padding.
pub(crate) fn take_attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (&[k0, k1, l0, l1], after) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let (padded, after) = after.split_at_checked(length.next_multiple_of(4))?;
    *rest = after;
    Some((u16::from_be_bytes([k0, k1]), &padded[..length]))
}

/// Adds an attribute, with its padding.
pub(crate) fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Notes the length of a message that has its header, and will have so many more bytes.
pub(crate) fn set_length(message: &mut [u8], to_come: usize) {
    let length = message.len() - HEADER_BYTES + to_come;
    message[2..4].copy_from_slice(&(length as u16).to_be_bytes());
}

/// What the FINGERPRINT of a message is, that being so far all that comes before it.
pub(crate) fn fingerprint(message: &[u8]) -> [u8; 4] {
    (crc32fast::hash(message) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// Family, port and address; the latter two disguised from routers that rewrite addresses wherever
/// they see them.
pub(crate) fn xor_address(address: SocketAddr, transaction: &[u8; 16]) -> Vec<u8> {
    let disguise = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .zip(transaction)
            .map(|(byte, key)| byte ^ key)
            .collect()
    };
    let port = disguise(&address.port().to_be_bytes());
    // A dual-stack socket has IPv6 addresses for IPv4 clients, which would not know what to make of
    // them.
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => [&[0, 1][..], &port, &disguise(&ip.octets())].concat(),
        IpAddr::V6(ip) => [&[0, 2][..], &port, &disguise(&ip.octets())].concat(),
    }
}
