//! Answers to Binding requests: bytes in, bytes out.

use std::net::SocketAddr;

use thiserror::Error;

use crate::wire::{fingerprint, put, set_length, take_attribute, xor_address};

/// No answer is longer, whatever is asked; nor longer than three times the request, so that little
/// is gained by sending requests in another's name.
pub const MAX_ANSWER_BYTES: usize = 108;
/// More attributes than these are not listed as unknown.
const MAX_UNKNOWN: usize = 16;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Of the whole attribute.
const FINGERPRINT_BYTES: usize = 8;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
/// What RFC 8489 defines and a client may require us to comprehend: MAPPED-ADDRESS, USERNAME, REALM,
/// NONCE, PASSWORD-ALGORITHM, USERHASH and some of the above. Comprehended, they change nothing.
const KNOWN: [u16; 11] = [
    0x0001, 0x0006, 0x0008, 0x0009, 0x000a, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e, 0x0020,
];
/// From here on attributes may be passed over.
const FIRST_OPTIONAL: u16 = 0x8000;

const UNKNOWN_ATTRIBUTE_ERROR: &[u8] = b"\0\0\x04\x14Unknown Attribute";
const OUR_NAME: &[u8] = b"stun-server";

/// Why a datagram gets no answer. The sender is not told: it may be anybody, asking in another's
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Ignored {
    /// It is no STUN message, or a broken one.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// It is STUN, but no Binding request: an indication, a response, another method.
    #[error("not a Binding request")]
    NotABindingRequest,
    /// It was changed on its way, or is another protocol's that looks like STUN.
    #[error("the FINGERPRINT does not fit")]
    BadFingerprint,
}

/// Writes the answer to a datagram from this address into `out`, in place of what was there.
///
/// # Errors
///
/// The datagram gets no answer; `out` is empty then.
pub fn answer(datagram: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> Result<(), Ignored> {
    out.clear();
    let request = Request::parse(datagram)?;
    let is_understood = request.unknown.is_empty();
    let kind = if is_understood {
        BINDING_SUCCESS
    } else {
        BINDING_ERROR
    };
    out.extend(kind.to_be_bytes());
    out.extend([0; 2]);
    out.extend(request.transaction);
    if is_understood {
        // Not also a MAPPED-ADDRESS: that is for clients of RFC 3489, and routers rewrite it.
        let address = xor_address(from, request.transaction);
        put(out, XOR_MAPPED_ADDRESS, &address);
    } else {
        put(out, ERROR_CODE, UNKNOWN_ATTRIBUTE_ERROR);
        let listed: Vec<u8> = request
            .unknown
            .iter()
            .flat_map(|kind| kind.to_be_bytes())
            .collect();
        put(out, UNKNOWN_ATTRIBUTES, &listed);
    }
    put(out, SOFTWARE, OUR_NAME);
    if request.has_fingerprint {
        // It covers the length, which includes the fingerprint itself.
        set_length(out, FINGERPRINT_BYTES);
        let value = fingerprint(out);
        put(out, FINGERPRINT, &value);
    }
    set_length(out, 0);
    Ok(())
}

/// What matters of a Binding request.
struct Request<'a> {
    /// The magic cookie and the ID; the answer repeats both.
    transaction: &'a [u8; 16],
    unknown: Vec<u16>,
    has_fingerprint: bool,
}

impl<'a> Request<'a> {
    fn parse(datagram: &'a [u8]) -> Result<Self, Ignored> {
        let (start, rest) = datagram.split_first_chunk().ok_or(Ignored::Malformed)?;
        let [kind @ .., l0, l1]: [u8; 4] = *start;
        let (transaction, mut rest) = rest.split_first_chunk().ok_or(Ignored::Malformed)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if !transaction.starts_with(&MAGIC_COOKIE) || length != rest.len() {
            return Err(Ignored::Malformed);
        }
        if u16::from_be_bytes(kind) != BINDING_REQUEST {
            return Err(Ignored::NotABindingRequest);
        }
        let (mut unknown, mut has_fingerprint, mut is_sealed) = (Vec::new(), false, false);
        while !rest.is_empty() {
            let before = &datagram[..datagram.len() - rest.len()];
            let (kind, value) = take_attribute(&mut rest).ok_or(Ignored::Malformed)?;
            match kind {
                // Nothing may follow it.
                FINGERPRINT if !rest.is_empty() => return Err(Ignored::Malformed),
                FINGERPRINT if value != fingerprint(before) => return Err(Ignored::BadFingerprint),
                FINGERPRINT => has_fingerprint = true,
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => is_sealed = true,
                // What follows the seal is to be passed over, as anybody may have added it.
                _ if is_sealed || kind >= FIRST_OPTIONAL || KNOWN.contains(&kind) => {}
                _ if unknown.len() == MAX_UNKNOWN || unknown.contains(&kind) => {}
                _ => unknown.push(kind),
            }
        }
        Ok(Self {
            transaction,
            unknown,
            has_fingerprint,
        })
    }
}
