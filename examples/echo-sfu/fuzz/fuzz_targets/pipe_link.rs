//! Another process on a pipe says something, or somebody who only connects, and no harm is done.

#![no_main]

use echo_sfu::fuzzing::{hear_member, hear_stranger, link_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((who, rest)) = bytes.split_first() else {
        return;
    };
    match who % 4 {
        0 => {
            hear_stranger(rest);
        }
        1 => {
            let bodies = bodies(rest);
            assert!(hear_member(&bodies) <= bodies.len() + 1);
        }
        // Slower by far, and so only if it says anything.
        _ => link_with(&bodies(rest)),
    }
});

/// What is said, each with its length before it.
fn bodies(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (body, rest) = rest.split_at(length.min(rest.len()));
        bodies.push(body);
        bytes = rest;
    }
    bodies
}
