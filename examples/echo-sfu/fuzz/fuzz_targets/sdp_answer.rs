//! Whatever is offered has an answer with as many media lines, or none.

#![no_main]

use echo_sfu::fuzzing::answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|offer: &str| {
    if let Some(answer) = answer(offer) {
        assert!(answer.starts_with("v=0\r\n"));
        assert!(
            answer
                .lines()
                .all(|line| line.as_bytes().get(1) == Some(&b'='))
        );
        let media_lines = |text: &str| text.lines().filter(|line| line.starts_with("m=")).count();
        assert_eq!(media_lines(offer), media_lines(&answer), "{answer}");
    }
});
