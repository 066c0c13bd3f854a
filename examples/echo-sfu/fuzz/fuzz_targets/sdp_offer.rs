//! Whatever is posted as an offer is one, with a bounded number of media lines, or is refused.

#![no_main]

use echo_sfu::fuzzing::is_offer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if is_offer(text) {
        let media_lines = text.lines().filter(|line| line.starts_with("m="));
        assert!(media_lines.count() <= 32);
    }
});
