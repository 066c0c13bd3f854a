//! RTP, RTCP and payloads of strangers are read, or not, and do no harm.

#![no_main]

use echo_sfu::fuzzing::{key_frame_starts, rtcp_packets, rtp_header_len};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(len) = rtp_header_len(bytes) {
        assert!((12..=bytes.len()).contains(&len));
    }
    assert!(rtcp_packets(bytes) <= bytes.len());
    key_frame_starts(bytes);
});
