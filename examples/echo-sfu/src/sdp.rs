//! What has to be done to SDP around str0m's own offer and answer.

mod names;
mod restart;

use std::fmt;

use str0m::Candidate;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Mid, Pt, Rid};

use crate::ApiError;

pub(crate) use self::restart::{ice_fragment, restarted_answer};

/// No client needs more, and each costs memory on the network thread.
const MAX_MEDIA_LINES: usize = 32;
/// Encodings of one media line. libwebrtc sends no more.
const MAX_LAYERS: usize = 3;
/// Candidates taken from one trickle fragment. A browser on a machine with many interfaces sends
/// some twenty.
const MAX_FRAGMENT_CANDIDATES: usize = 64;

/// What the client offers to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferedFlow {
    /// To send and receive.
    Both,
    /// To send.
    ToUs,
    /// To receive.
    FromUs,
}

/// An offer that has been looked at, but not yet answered.
#[derive(Debug)]
pub struct Offer {
    parsed: SdpOffer,
    text: String,
}

impl Offer {
    /// Parses an offer, with two adjustments.
    ///
    /// A WHIP client may offer `sendrecv` and a WHEP client too; the answer must be one-way all the
    /// same, so the offer is read as if it were. And whoever is sent back what it sends, is sent back
    /// one layer; so it is not asked for several.
    ///
    /// # Errors
    ///
    /// [`ApiError::BadOffer`].
    pub fn parse(text: &str, flow: OfferedFlow) -> Result<Self, ApiError> {
        let media_lines = count_media_lines(text);
        if media_lines > MAX_MEDIA_LINES {
            let reason = format!("{media_lines} media lines, at most {MAX_MEDIA_LINES} are taken");
            return Err(ApiError::BadOffer(reason));
        }
        let adjusted: String = text
            .lines()
            .map(str::trim_end)
            .filter(|line| {
                let is_simulcast = line.starts_with("a=simulcast") || line.starts_with("a=rid:");
                flow == OfferedFlow::ToUs || !is_simulcast
            })
            .flat_map(|line| match (line, flow) {
                ("a=sendrecv", OfferedFlow::ToUs) => ["a=sendonly", "\r\n"],
                ("a=sendrecv", OfferedFlow::FromUs) => ["a=recvonly", "\r\n"],
                (line, _) => [line, "\r\n"],
            })
            .collect();
        names::check_names(&adjusted)?;
        let parsed = SdpOffer::from_sdp_string(&adjusted)
            .map_err(|error| ApiError::BadOffer(one_sentence(&error.to_string())))?;
        Ok(Self {
            parsed,
            text: adjusted,
        })
    }

    /// The user fragment by which the client knows itself.
    pub(crate) fn ufrag(&self) -> Option<String> {
        let named = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix("a=ice-ufrag:"));
        named.map(str::to_owned)
    }

    /// Has the offer answered, and puts the codecs of the answer into the order of the offer.
    ///
    /// str0m lists them in the order of its own configuration; but browsers send the first codec of
    /// the answer, and the order they offered is the order their user asked for.
    pub(crate) fn answer<E: fmt::Display>(
        self,
        accept: impl FnOnce(SdpOffer) -> Result<SdpAnswer, E>,
    ) -> Result<String, ApiError> {
        let answer = accept(self.parsed);
        let answer = answer.map_err(|error| ApiError::BadOffer(error.to_string()))?;
        let answer = answer.to_sdp_string();
        // str0m leaves out media lines of kinds that it does not know, and an answer with fewer media
        // lines than its offer is none (RFC 3264, section 6).
        let (offered, answered) = (count_media_lines(&self.text), count_media_lines(&answer));
        if offered != answered {
            let reason = format!("only {answered} of {offered} media lines can be answered");
            return Err(ApiError::BadOffer(reason));
        }
        Ok(order_codecs(&self.text, &answer))
    }
}

fn count_media_lines(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("m=")).count()
}

/// The parser's message is of several lines, one of which is an address in memory.
fn one_sentence(message: &str) -> String {
    let lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.contains("PointerOffset"));
    let sentence = lines.collect::<Vec<_>>().join(", ");
    if sentence.is_empty() {
        "it is not SDP".to_owned()
    } else {
        sentence
    }
}

fn order_codecs(offer: &str, answer: &str) -> String {
    let mut offered = offer.lines().filter_map(payload_types);
    let mut ordered = String::with_capacity(answer.len());
    for line in answer.lines() {
        match (payload_types(line), line.starts_with("m=")) {
            (Some((head, mut answered)), true) => {
                let (_, wanted) = offered.next().unwrap_or_default();
                answered.sort_by_key(|pt| {
                    wanted
                        .iter()
                        .position(|other| other == pt)
                        .unwrap_or(usize::MAX)
                });
                ordered.push_str(head);
                for pt in answered {
                    ordered.push(' ');
                    ordered.push_str(pt);
                }
            }
            _ => ordered.push_str(line),
        }
        ordered.push_str("\r\n");
    }
    ordered
}

/// A media line of an answer, and what follows it.
pub(crate) struct MediaLine<'a> {
    pub(crate) mid: Mid,
    /// The encodings that are taken of simulcast, in the order in which they were offered.
    pub(crate) layers: Vec<Rid>,
    payload_types: Vec<&'a str>,
}

impl MediaLine<'_> {
    /// The place of a payload type on the line; last, if it is not there.
    pub(crate) fn rank(&self, pt: Pt) -> usize {
        let pt = pt.to_string();
        self.payload_types
            .iter()
            .position(|other| *other == pt)
            .unwrap_or(usize::MAX)
    }
}

/// The media lines of an answer, each that has an `a=mid`.
pub(crate) fn media_lines(answer: &str) -> Vec<MediaLine<'_>> {
    let mut listed = Vec::new();
    let mut lines: Vec<MediaLine<'_>> = Vec::new();
    for line in answer.lines() {
        if let Some((_, payload_types)) = payload_types(line) {
            listed = payload_types;
        } else if let Some(mid) = line.strip_prefix("a=mid:") {
            lines.push(MediaLine {
                mid: mid.into(),
                layers: Vec::new(),
                payload_types: std::mem::take(&mut listed),
            });
        } else if let Some(layers) = line.strip_prefix("a=simulcast:recv ")
            && let Some(last) = lines.last_mut()
        {
            let names = layers.split(';').map(|name| name.trim_start_matches('~'));
            last.layers = names.map(Rid::from).take(MAX_LAYERS).collect();
        }
    }
    lines
}

/// Whether an answer has a line for data channels that is not refused.
pub(crate) fn has_data_line(answer: &str) -> bool {
    let mut lines = answer.lines();
    lines.any(|line| line.starts_with("m=application ") && !line.starts_with("m=application 0 "))
}

/// Splits a media line after its third field: `m=video 9 UDP/TLS/RTP/SAVPF` and `96 97 98`.
fn payload_types(line: &str) -> Option<(&str, Vec<&str>)> {
    if !line.starts_with("m=") {
        return None;
    }
    let (third_space, _) = line.match_indices(' ').nth(2)?;
    let (head, tail) = line.split_at(third_space);
    Some((head, tail.split_whitespace().collect()))
}

/// The content of a trickle `PATCH` (RFC 8840, `application/trickle-ice-sdpfrag`).
#[derive(Debug)]
pub(crate) struct Fragment {
    /// The client's user fragment, if the fragment names one.
    pub(crate) ufrag: Option<String>,
    password: Option<String>,
    pub(crate) candidates: Vec<Candidate>,
}

impl Fragment {
    /// Reads a fragment. Candidates that cannot be used here, TCP ones and mDNS names, are left
    /// out: an ICE-lite server learns where its client is from the client's own checks. Credentials are
    /// the first, as in an offer: media that is bundled has no others.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let (mut ufrag, mut password) = (None, None);
        let mut candidates = Vec::new();
        let (mut candidate_lines, mut is_of_ice) = (0, false);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.as_bytes().get(1) != Some(&b'=') {
                return Err(ApiError::BadFragment(
                    "a line is not of the form x=…".to_owned(),
                ));
            }
            if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
                is_of_ice = true;
                ufrag.get_or_insert_with(|| value.to_owned());
            } else if let Some(value) = line.strip_prefix("a=candidate:") {
                is_of_ice = true;
                candidate_lines += 1;
                if candidate_lines > MAX_FRAGMENT_CANDIDATES {
                    return Err(ApiError::BadFragment("too many candidates".to_owned()));
                }
                if let Ok(candidate) = Candidate::from_sdp_string(&format!("candidate:{value}")) {
                    candidates.push(candidate);
                }
            } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
                is_of_ice = true;
                password.get_or_insert_with(|| value.to_owned());
            } else if line.starts_with("a=end-of-candidates") {
                is_of_ice = true;
            }
        }
        if !is_of_ice {
            return Err(ApiError::BadFragment("it has no ICE attribute".to_owned()));
        }
        Ok(Self {
            ufrag,
            password,
            candidates,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use str0m::Rtc;

    use super::*;

    #[test]
    fn an_answer_takes_the_order_of_the_offer() {
        let offer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n\
                     m=video 9 UDP/TLS/RTP/SAVPF 45 46 98 99 96\r\n";
        let answer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=x\r\n\
                      m=video 9 UDP/TLS/RTP/SAVPF 96 98 99 45 46 7\r\n";
        let expected = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=x\r\n\
                        m=video 9 UDP/TLS/RTP/SAVPF 45 46 98 99 96 7\r\n";
        assert_eq!(expected, order_codecs(offer, answer));
    }

    #[test]
    fn offers_that_are_not_sdp_are_refused_with_a_reason() {
        for bad in ["", "hello", "v=0", "m=", "\0\0", "v=0\r\nm=video\r\n"] {
            let refused = Offer::parse(bad, OfferedFlow::Both);
            assert!(
                matches!(refused, Err(ApiError::BadOffer(_))),
                "{bad:?}: {refused:?}"
            );
        }
        let many = format!(
            "{MINIMAL}{}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(100)
        );
        assert!(matches!(
            Offer::parse(&many, OfferedFlow::Both),
            Err(ApiError::BadOffer(reason)) if reason.contains("media lines")
        ));
    }

    /// Found by the fuzzer.
    #[test]
    fn an_offer_that_can_be_answered_in_part_is_refused() {
        let (_, audio) = MINIMAL.split_once("m=audio").unwrap();
        let second = audio.replace("mid:0", "mid:1");
        let answer = |kind: &str| {
            let text = format!("{MINIMAL}m={kind}{second}").replace("BUNDLE 0", "BUNDLE 0 1");
            let mut rtc = Rtc::builder().set_ice_lite(true).build(Instant::now());
            Offer::parse(&text, OfferedFlow::Both)
                .unwrap()
                .answer(|offer| rtc.sdp_api().accept_offer(offer))
        };
        assert_eq!(2, count_media_lines(&answer("audio").unwrap()));
        let reason = "only 1 of 2 media lines can be answered".to_owned();
        assert_eq!(Err(ApiError::BadOffer(reason)), answer("text"));
    }

    #[test]
    fn media_lines_that_cannot_be_told_apart_are_refused() {
        let (_, audio) = MINIMAL.split_once("m=audio").unwrap();
        for (mid, reason) in [("0", "twice"), ("", "no name")] {
            let second = match mid {
                "" => audio.replace("a=mid:0\r\n", ""),
                _ => audio.to_owned(),
            };
            let text = format!("{MINIMAL}m=audio{second}");
            let refused = Offer::parse(&text, OfferedFlow::Both);
            assert!(
                matches!(&refused, Err(ApiError::BadOffer(why)) if why.contains(reason)),
                "{mid:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn fragments_give_the_candidates_that_can_be_used() {
        let fragment = Fragment::parse(
            "a=ice-ufrag:abcd\r\na=ice-pwd:secret\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
             a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\n\
             a=candidate:2 1 udp 2130706431 0b1c.local 5001 typ host\r\n\
             a=end-of-candidates\r\n",
        )
        .unwrap();
        assert_eq!(Some("abcd"), fragment.ufrag.as_deref());
        assert_eq!(1, fragment.candidates.len());
        for bad in ["", "hello", "a=mid:0\r\n"] {
            assert!(
                matches!(Fragment::parse(bad), Err(ApiError::BadFragment(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn fragments_have_the_first_credentials_and_those_of_other_lines_are_no_candidates() {
        let text = format!(
            "a=ice-ufrag:first\r\na=ice-pwd:{}\r\n{}{}",
            "a".repeat(22),
            "a=ice-ufrag:second\r\na=ice-pwd:other\r\n".repeat(100),
            "a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\n"
                .repeat(MAX_FRAGMENT_CANDIDATES)
        );
        let fragment = Fragment::parse(&text).unwrap();
        assert_eq!(MAX_FRAGMENT_CANDIDATES, fragment.candidates.len());
        assert_eq!("first", fragment.ice_credentials().unwrap().ufrag());
        let more = format!("{text}a=candidate:1 1 udp 1 127.0.0.1 5000 typ host\r\n");
        assert!(matches!(
            Fragment::parse(&more),
            Err(ApiError::BadFragment(_))
        ));
    }

    pub(super) const MINIMAL: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=setup:actpass\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";
}
