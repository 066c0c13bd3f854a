//! What an ICE restart changes in SDP.

use std::fmt::Write;

use super::{Fragment, Offer};
use crate::ApiError;
use crate::ice::IceCredentials;

impl Offer {
    /// By what the client is to be known. Those of an offer that is made anew are others than before, if
    /// the client wants ICE to restart.
    ///
    /// # Errors
    ///
    /// [`ApiError::BadOffer`], if it has none, or none that are valid.
    pub fn ice_credentials(&self) -> Result<IceCredentials, ApiError> {
        let value = |prefix| {
            let value = self.text.lines().find_map(|line| line.strip_prefix(prefix));
            value.unwrap_or_default()
        };
        IceCredentials::new(value("a=ice-ufrag:"), value("a=ice-pwd:"))
            .map_err(|error| ApiError::BadOffer(error.to_string()))
    }
}

impl Fragment {
    /// By what the client that restarts is to be known.
    pub(crate) fn ice_credentials(&self) -> Result<IceCredentials, ApiError> {
        let (ufrag, password) = (self.ufrag.as_deref(), self.password.as_deref());
        IceCredentials::new(ufrag.unwrap_or_default(), password.unwrap_or_default())
            .map_err(|error| ApiError::BadFragment(error.to_string()))
    }
}

/// An answer with other credentials, for a client that has made its offer anew. `times` is how often
/// that has happened: each has a version of its own (RFC 3264, section 8).
pub(crate) fn restarted_answer(answer: &str, credentials: &IceCredentials, times: u64) -> String {
    let mut restarted = String::with_capacity(answer.len() + 64);
    for line in answer.lines() {
        if line.starts_with("a=ice-ufrag:") {
            let _ = write!(restarted, "a=ice-ufrag:{}", credentials.ufrag());
        } else if line.starts_with("a=ice-pwd:") {
            let _ = write!(restarted, "a=ice-pwd:{}", credentials.password());
        } else if line.starts_with("o=") {
            restarted.push_str(&later_version(line, times));
        } else if line.starts_with("a=candidate:") {
            restarted.push_str(without_ufrag(line));
        } else {
            restarted.push_str(line);
        }
        restarted.push_str("\r\n");
    }
    restarted
}

/// What of an answer concerns ICE, as RFC 9725, section 4.3.3, has it told to a client that restarts.
/// All media lines are bundled, so the first that is not refused stands for them.
pub(crate) fn ice_fragment(answer: &str) -> String {
    let of_session = ["a=ice-lite", "a=group:BUNDLE"];
    // str0m has its options in each media section, where RFC 8840 allows them in a fragment, too.
    let of_either = [
        "a=ice-options:",
        "a=ice-ufrag:",
        "a=ice-pwd:",
        "a=candidate:",
        "a=end-of-candidates",
    ];
    let of_media = ["m=", "a=mid:"];
    let (mut fragment, mut candidates) = (String::new(), String::new());
    let mut section = Section::Session;
    for line in answer.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            section = match section {
                Section::Chosen | Section::AfterChosen => Section::AfterChosen,
                _ if media.split(' ').nth(1) == Some("0") => Section::Refused,
                _ => Section::Chosen,
            };
        }
        let is_one_of = |prefixes: &[&str]| prefixes.iter().any(|own| line.starts_with(own));
        let is_wanted = match section {
            Section::Session => is_one_of(&of_session) || is_one_of(&of_either),
            Section::Chosen => is_one_of(&of_media) || is_one_of(&of_either),
            // str0m has the candidates in its first media section, whatever becomes of that.
            Section::Refused if line.starts_with("a=candidate:") => {
                candidates.push_str(line);
                candidates.push_str("\r\n");
                false
            }
            Section::Refused | Section::AfterChosen => false,
        };
        if is_wanted {
            fragment.push_str(line);
            fragment.push_str("\r\n");
        }
    }
    fragment + &candidates
}

/// Where in an answer a line is.
#[derive(Clone, Copy)]
enum Section {
    Session,
    /// A media line with port 0: nothing is sent by it.
    Refused,
    Chosen,
    AfterChosen,
}

/// `o=<name> <session> <version> …`, with a version that is later by so much.
fn later_version(origin: &str, times: u64) -> String {
    let mut fields: Vec<_> = origin.split(' ').map(str::to_owned).collect();
    if let Some(version) = fields.get_mut(2)
        && let Ok(number) = version.parse::<u64>()
    {
        *version = number.wrapping_add(times).to_string();
    }
    fields.join(" ")
}

/// A candidate may say of which generation it is.
fn without_ufrag(candidate: &str) -> &str {
    let at = candidate.find(" ufrag ");
    at.map_or(candidate, |at| &candidate[..at])
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use str0m::{Candidate, Rtc};

    use super::super::OfferedFlow;
    use super::super::tests::MINIMAL;
    use super::*;

    const ANSWER: &str = "v=0\r\no=str0m 17 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0 1\r\na=ice-lite\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
        a=ice-ufrag:old\r\na=ice-pwd:older\r\na=fingerprint:sha-256 AA\r\n\
        a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host ufrag old\r\n\
        a=end-of-candidates\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:old\r\na=ice-pwd:older\r\n";

    fn credentials() -> IceCredentials {
        IceCredentials::new("newer", "abcdefghijklmnopqrstuv").unwrap()
    }

    #[test]
    fn an_answer_gets_other_credentials_and_a_later_version_and_nothing_else() {
        let restarted = restarted_answer(ANSWER, &credentials(), 3);
        let expected = ANSWER
            .replace(" ufrag old", "")
            .replace("ufrag:old", "ufrag:newer")
            .replace("pwd:older", "pwd:abcdefghijklmnopqrstuv")
            .replace("17 2 IN", "17 5 IN");
        assert_eq!(expected, restarted);
    }

    #[test]
    fn a_fragment_is_what_concerns_ice_of_the_first_media_line() {
        let fragment = ice_fragment(&restarted_answer(ANSWER, &credentials(), 1));
        let expected = "a=group:BUNDLE 0 1\r\na=ice-lite\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
            a=ice-ufrag:newer\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
            a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(expected, fragment);
        // Ours, too, is a fragment that can be read.
        let read = Fragment::parse(&fragment).unwrap();
        assert_eq!(Ok(credentials()), read.ice_credentials());
    }

    #[test]
    fn a_fragment_has_what_a_real_answer_says_of_ice_in_a_line_that_is_not_refused() {
        let (_, audio) = MINIMAL.split_once("m=audio").unwrap();
        let second = audio.replace("mid:0", "mid:1");
        let offer = format!("{MINIMAL}m=audio{second}").replace("BUNDLE 0", "BUNDLE 0 1");
        let mut rtc = Rtc::builder().set_ice_lite(true).build(Instant::now());
        let address = "127.0.0.1:5000".parse().unwrap();
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let answer = Offer::parse(&offer, OfferedFlow::Both)
            .unwrap()
            .answer(|offer| rtc.sdp_api().accept_offer(offer))
            .unwrap();
        for (answer, mid) in [
            (answer.clone(), "a=mid:0"),
            (answer.replacen("m=audio 9", "m=audio 0", 1), "a=mid:1"),
        ] {
            let fragment = ice_fragment(&restarted_answer(&answer, &credentials(), 1));
            let count = |prefix: &str| {
                let lines = fragment.lines();
                lines.filter(|line| line.starts_with(prefix)).count()
            };
            for prefix in [
                "a=ice-lite",
                "a=ice-options:trickle",
                "a=group:BUNDLE 0 1",
                "m=audio 9 ",
                "m=",
                mid,
                "a=mid:",
                "a=ice-ufrag:newer",
                "a=ice-pwd:",
                "a=candidate:",
            ] {
                assert_eq!(1, count(prefix), "{prefix}: {fragment} of {answer}");
            }
        }
    }
}
