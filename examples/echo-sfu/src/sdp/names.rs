//! By what the media of an offer is to be told apart.

use std::collections::{HashMap, HashSet};

use str0m::media::Mid;

use crate::ApiError;

/// Checks that each media line has a name of its own, and that no two have the same SSRC: what arrives
/// would belong to either. (A line that is refused by its port needs no name.)
pub(super) fn check_names(offer: &str) -> Result<(), ApiError> {
    let refuse = |reason: String| Err(ApiError::BadOffer(reason));
    let mut names = HashSet::new();
    let mut owners = HashMap::new();
    let sections = offer.split("\nm=").skip(1);
    for (at, section) in sections.enumerate() {
        let is_refused = section.split(' ').nth(1) == Some("0");
        // The last line of a section has lost its end.
        let lines = || section.lines().map(str::trim_end);
        // Compared as str0m does, which knows the first few characters.
        let name = lines().find_map(|line| line.strip_prefix("a=mid:"));
        match name.map(Mid::from) {
            Some(name) if !names.insert(name) => {
                return refuse(format!("a media line named '{name}' is there twice"));
            }
            None if !is_refused => {
                return refuse("a media line has no name (a=mid)".to_owned());
            }
            _ => {}
        }
        let sources = lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
        let numbers = sources.filter_map(|source| source.split(' ').next()?.parse::<u32>().ok());
        for number in numbers {
            if *owners.entry(number).or_insert(at) != at {
                return refuse(format!("the SSRC {number} is on two media lines"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sections: &[&str]) -> Result<(), String> {
        let offer = format!("v=0\r\ns=-\r\n{}", sections.concat());
        check_names(&offer).map_err(|error| error.to_string())
    }

    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";

    #[test]
    fn names_and_sources_are_there_once() {
        let named = |mid: &str, more: &str| format!("{AUDIO}a=mid:{mid}\r\n{more}");
        let ssrc = "a=ssrc:1 cname:x\r\na=ssrc:1 msid:x\r\na=ssrc:2 cname:x\r\n";
        assert_eq!(Ok(()), check(&[]));
        assert_eq!(
            Ok(()),
            check(&[&named("0", ssrc), &named("1", "a=ssrc:3\r\n")])
        );
        assert_eq!(
            Ok(()),
            check(&[&named("0", ""), "m=video 0 UDP/TLS/RTP/SAVPF 0\r\n"])
        );
        for (sections, reason) in [
            ([named("0", ""), named("0", "")], "twice"),
            ([named("0", ""), AUDIO.to_owned()], "no name"),
            ([named("0", ssrc), named("1", "a=ssrc:2\r\n")], "SSRC 2 "),
            (
                [named(&"x".repeat(99), ""), named(&"x".repeat(98), "")],
                "twice",
            ),
        ] {
            let refused = check(&[&sections[0], &sections[1]]).expect_err(reason);
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
