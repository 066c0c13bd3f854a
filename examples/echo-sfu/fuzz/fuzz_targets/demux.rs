//! Whatever arrives at a network thread finds its session, or none, and does no harm.

#![no_main]

use echo_sfu::fuzzing::{find_session, is_received};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let [from_client, from_stranger] = find_session(datagram);
    assert!(from_client, "an address that ICE has validated is enough");
    if from_stranger {
        assert!(datagram[0] <= 3, "only a STUN request can name a session");
        assert!(datagram.windows(5).any(|bytes| bytes == b"abcd:"));
    }
    is_received(datagram);
});
