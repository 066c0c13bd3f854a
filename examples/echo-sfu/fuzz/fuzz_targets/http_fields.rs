//! Whatever stands in a request is a name, a type or a tag as it should be, or is refused.

#![no_main]

use echo_sfu::fuzzing::{if_match, offer_body};
use echo_sfu::{DisplayName, PublisherId, RoomName, SessionToken};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|field: &[u8]| {
    assert_eq!(
        Some("v=0"),
        offer_body(b"Application/SDP;charset=utf-8", b"v=0").as_deref()
    );
    if offer_body(field, b"v=0").is_some() {
        assert!(
            field
                .to_ascii_lowercase()
                .windows(15)
                .any(|bytes| bytes == b"application/sdp")
        );
    }
    let Ok(text) = str::from_utf8(field) else {
        assert_eq!(None, offer_body(b"application/sdp", field));
        return;
    };
    assert_eq!(Some(text), offer_body(b"application/sdp", field).as_deref());
    if if_match(text, "0123456789abcdef") {
        assert!(text.contains('*') || text.contains("\"0123456789abcdef\""));
    }
    // What is accepted ends up in headers, paths, logs and other people's pages.
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if let Ok(room) = text.parse::<RoomName>() {
        assert!(plain(&room.to_string()) && text.len() <= 64 && !text.contains('/'));
    }
    if let Ok(id) = text.parse::<PublisherId>() {
        assert!(plain(&id.to_string()));
    }
    if let Ok(token) = text.parse::<SessionToken>() {
        assert!(plain(&token.to_string()));
    }
    if text.parse::<DisplayName>().is_ok() {
        assert!(!text.trim().chars().any(char::is_control));
    }
});
