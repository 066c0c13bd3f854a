//! What a producer sends, and how one side's codecs map to another's.

use serde::{Deserialize, Serialize};
use str0m::format::{Codec, CodecConfig, PayloadParams};
use str0m::media::MediaKind;

use crate::rtp::codec::CodecKind;
use crate::rtp::outgoing::CodecMapping;

/// What a producer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) kind: MediaKind,
    /// In the order in which its client prefers them; it is expected to send the first.
    pub(crate) codecs: Vec<PayloadParams>,
    /// How many encodings it sends of the same at a time: more than one is simulcast.
    pub(crate) layers: usize,
}

impl Media {
    pub(crate) fn info(&self) -> TrackInfo {
        TrackInfo {
            kind: if self.kind.is_audio() {
                "audio"
            } else {
                "video"
            },
            codec: self.codec_name(),
        }
    }

    /// The codec that it is expected to have.
    pub(crate) fn codec_name(&self) -> &'static str {
        let codec = self.codecs.first().map(|params| params.spec().codec);
        codec.map_or("none", codec_name)
    }

    /// How its payload types translate to those that a receiver accepts. Empty if they share no
    /// codec.
    pub(crate) fn map_to(&self, accepted: &[PayloadParams]) -> Vec<CodecMapping> {
        let config = CodecConfig::new_from_payload_params(accepted.to_vec());
        let pairs = self.codecs.iter().filter_map(|params| {
            let matched = config.match_params(*params)?;
            Some((params, matched))
        });
        pairs
            .map(|(from, to)| CodecMapping {
                from: *from.pt(),
                to: *to.pt(),
                rtx: to.resend().map(|pt| *pt),
                kind: codec_kind(from.spec().codec),
                clock_rate: from.spec().clock_rate.get(),
            })
            .collect()
    }
}

/// What tells the packets of one layer from those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerSsrcs {
    pub(crate) ssrc: u32,
    /// Of packets that are sent again, by RTX.
    pub(crate) rtx_ssrc: Option<u32>,
}

impl LayerSsrcs {
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        [Some(self.ssrc), self.rtx_ssrc].into_iter().flatten()
    }
}

/// Media as the room's list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrackInfo {
    /// `audio` or `video`.
    pub kind: &'static str,
    /// The codec that the publisher prefers of those agreed on, such as `VP8` or `opus`.
    pub codec: &'static str,
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::H264 => "H264",
        Codec::Av1 => "AV1",
        _ => "other",
    }
}

pub(crate) fn codec_kind(codec: Codec) -> CodecKind {
    match codec {
        Codec::Opus => CodecKind::Opus,
        Codec::Vp8 => CodecKind::Vp8,
        Codec::Vp9 => CodecKind::Vp9,
        Codec::H264 => CodecKind::H264,
        Codec::Av1 => CodecKind::Av1,
        _ => CodecKind::Other,
    }
}

/// Which of the network threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NetworkIndex(pub(crate) usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_matched_by_codec() {
        let mut ours = CodecConfig::empty();
        ours.enable_opus(true, false);
        ours.enable_vp8(true);
        let opus = ours.params()[0];
        let media = Media {
            kind: MediaKind::Audio,
            codecs: vec![opus],
            layers: 1,
        };
        let mapped = media.map_to(ours.params());
        assert_eq!(1, mapped.len());
        assert_eq!((*opus.pt(), *opus.pt()), (mapped[0].from, mapped[0].to));
        assert!(media.map_to(&ours.params()[1..]).is_empty());
    }
}
