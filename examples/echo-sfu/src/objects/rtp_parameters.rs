//! What RTP looks like where nobody negotiates it: the application says it, or is told.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use str0m::format::{Codec, CodecSpec, FormatParams, PayloadParams};
use str0m::media::Frequency;
use thiserror::Error;

use crate::media::{LayerSsrcs, Media, TrackInfo};
use crate::rtp::history::MAX_LAYERS;
use crate::rtp::wire::ExtensionIds;

/// Codecs in one list. No sender has so many.
const MAX_CODECS: usize = 32;
const MAX_EXTENSIONS: usize = 16;
/// Fmtp lines of the codecs that are known here are far shorter.
const MAX_FMTP: usize = 1_000;
/// The payload types that look like RTCP on a port that is for both (RFC 5761, section 4).
const LIKE_RTCP: std::ops::RangeInclusive<u8> = 64..=95;
const MAX_PAYLOAD_TYPE: u8 = 127;

const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
const ABSOLUTE_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const ABSOLUTE_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/// What media is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// To be heard.
    Audio,
    /// To be seen.
    Video,
}

impl MediaKind {
    /// As SDP has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }

    pub(crate) const fn of(kind: str0m::media::MediaKind) -> Self {
        match kind {
            str0m::media::MediaKind::Audio => Self::Audio,
            str0m::media::MediaKind::Video => Self::Video,
        }
    }

    const fn to_str0m(self) -> str0m::media::MediaKind {
        match self {
            Self::Audio => str0m::media::MediaKind::Audio,
            Self::Video => str0m::media::MediaKind::Video,
        }
    }
}

/// A codec, and by which number its packets go.
///
/// mediasoup: `RtpCodecParameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtpCodec {
    /// `opus`, `VP8`, `VP9`, `H264` or `AV1`, in upper or lower case.
    pub name: String,
    /// 0 to 63, or 96 to 127.
    pub payload_type: u8,
    /// In hertz.
    pub clock_rate: u32,
    /// Of audio.
    #[serde(default)]
    pub channels: Option<u8>,
    /// The format's parameters, as an `a=fmtp` line of SDP has them. What is not known of them here
    /// is ignored.
    #[serde(default)]
    pub fmtp: String,
    /// By which number its packets are sent again (RFC 4588), if they are.
    #[serde(default)]
    pub rtx_payload_type: Option<u8>,
}

impl RtpCodec {
    /// Opus, by that number.
    pub fn opus(payload_type: u8) -> Self {
        Self {
            channels: Some(2),
            ..Self::new("opus", payload_type, 48_000)
        }
    }

    /// VP8, by that number.
    pub fn vp8(payload_type: u8) -> Self {
        Self::new("VP8", payload_type, 90_000)
    }

    /// VP9 of profile 0, by that number.
    pub fn vp9(payload_type: u8) -> Self {
        Self {
            fmtp: "profile-id=0".to_owned(),
            ..Self::new("VP9", payload_type, 90_000)
        }
    }

    /// H.264 of the constrained baseline profile in the usual packetization, by that number.
    pub fn h264(payload_type: u8) -> Self {
        Self {
            fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                .to_owned(),
            ..Self::new("H264", payload_type, 90_000)
        }
    }

    /// AV1, by that number.
    pub fn av1(payload_type: u8) -> Self {
        Self::new("AV1", payload_type, 90_000)
    }

    fn new(name: &str, payload_type: u8, clock_rate: u32) -> Self {
        Self {
            name: name.to_owned(),
            payload_type,
            clock_rate,
            channels: None,
            fmtp: String::new(),
            rtx_payload_type: None,
        }
    }

    /// The same, with its packets sent again by a number of their own.
    #[must_use]
    pub fn with_rtx(mut self, payload_type: u8) -> Self {
        self.rtx_payload_type = Some(payload_type);
        self
    }

    fn to_params(&self) -> Result<PayloadParams, RtpParametersError> {
        let unsupported = || RtpParametersError::UnsupportedCodec(shortened(&self.name));
        let (codec, clock_rate) = match self.name.to_ascii_lowercase().as_str() {
            "opus" => (Codec::Opus, Frequency::FORTY_EIGHT_KHZ),
            "vp8" => (Codec::Vp8, Frequency::NINETY_KHZ),
            "vp9" => (Codec::Vp9, Frequency::NINETY_KHZ),
            "h264" => (Codec::H264, Frequency::NINETY_KHZ),
            "av1" => (Codec::Av1, Frequency::NINETY_KHZ),
            _ => return Err(unsupported()),
        };
        if clock_rate.get() != self.clock_rate || self.fmtp.len() > MAX_FMTP {
            return Err(unsupported());
        }
        // RFC 7587, section 7: it has two on paper, whatever it has in truth.
        let channels = (codec == Codec::Opus).then_some(2);
        let spec = CodecSpec {
            codec,
            clock_rate,
            channels,
            format: FormatParams::parse_line(&self.fmtp),
        };
        let rtx = self.rtx_payload_type.map(Into::into);
        Ok(PayloadParams::new(self.payload_type.into(), rtx, spec))
    }

    fn of_params(params: &PayloadParams) -> Self {
        let spec = params.spec();
        let (name, kind) = match spec.codec {
            Codec::Opus => ("opus", MediaKind::Audio),
            Codec::Vp8 => ("VP8", MediaKind::Video),
            Codec::Vp9 => ("VP9", MediaKind::Video),
            Codec::H264 => ("H264", MediaKind::Video),
            Codec::Av1 => ("AV1", MediaKind::Video),
            _ => ("other", MediaKind::Video),
        };
        Self {
            channels: (kind == MediaKind::Audio).then_some(2),
            fmtp: spec.format.to_string(),
            rtx_payload_type: params.resend().map(|pt| *pt),
            ..Self::new(name, *params.pt(), spec.clock_rate.get())
        }
    }

    fn kind(params: &PayloadParams) -> MediaKind {
        match params.spec().codec.is_audio() {
            true => MediaKind::Audio,
            false => MediaKind::Video,
        }
    }
}

/// A header extension (RFC 8285), and by which number it goes.
///
/// mediasoup: `RtpHeaderExtensionParameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtpExtension {
    /// What it is. One that is not known here is ignored.
    pub uri: String,
    /// 1 to 255, but for 15.
    pub id: u8,
}

/// A stream of RTP.
///
/// mediasoup: `RtpParameters`, of one encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtpParameters {
    /// What it is for.
    pub kind: MediaKind,
    /// What it may be encoded with; first what is expected.
    pub codecs: Vec<RtpCodec>,
    /// What tells its packets from those of other streams.
    #[serde(default)]
    pub ssrc: Option<u32>,
    /// The same of packets that are sent again, by RTX.
    #[serde(default)]
    pub rtx_ssrc: Option<u32>,
    /// Header extensions of its packets.
    #[serde(default)]
    pub extensions: Vec<RtpExtension>,
}

/// What somebody can receive.
///
/// mediasoup: `RtpCapabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtpCapabilities {
    /// Of audio and of video. With RTX, lost packets are sent again as a stream of their own.
    pub codecs: Vec<RtpCodec>,
    /// Header extensions that are understood.
    #[serde(default)]
    pub extensions: Vec<RtpExtension>,
}

impl Default for RtpCapabilities {
    /// Every codec that is forwarded here, without RTX and without extensions.
    fn default() -> Self {
        Self {
            codecs: vec![
                RtpCodec::opus(111),
                RtpCodec::vp8(96),
                RtpCodec::vp9(98),
                RtpCodec::h264(102),
                RtpCodec::av1(45),
            ],
            extensions: Vec::new(),
        }
    }
}

/// Why RTP like that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtpParametersError {
    /// None of Opus, VP8, VP9, H.264 and AV1; or at a clock rate that is not its own.
    #[error("the codec {0} is not supported like that")]
    UnsupportedCodec(String),
    /// There is none.
    #[error("there is no codec")]
    NoCodec,
    /// It is a codec for the other kind of media.
    #[error("the codec {0} is not for this kind of media")]
    WrongKind(String),
    /// It cannot be told from RTCP, or has more than seven bits.
    #[error("the payload type {0} cannot be used")]
    BadPayloadType(u8),
    /// It stands for two things.
    #[error("the payload type {0} is there twice")]
    DuplicatePayloadType(u8),
    /// Packets could not be told from those of other streams.
    #[error("the stream has no SSRC")]
    NoSsrc,
    /// Packets that are sent again could not be told from others.
    #[error("there is an SSRC for RTX and no payload type, or the other way round")]
    HalfOfRtx,
    /// Another stream of the transport has it.
    #[error("the SSRC {0} is taken")]
    DuplicateSsrc(u32),
    /// A number that no extension can have, or that stands for two.
    #[error("the header extension id {0} cannot be used")]
    BadExtensionId(u8),
    /// Longer lists than anybody needs.
    #[error("there are more than {0} of a kind")]
    TooMany(usize),
}

/// RTP that has been looked at, and can be used.
#[derive(Debug, Clone)]
pub(super) struct CheckedStream {
    pub(super) media: Media,
    /// The smallest first. One, unless it is piped.
    pub(super) layers: Vec<LayerSsrcs>,
    pub(super) extensions: ExtensionIds,
}

impl CheckedStream {
    /// The same with more layers above the first.
    pub(super) fn with_layers(mut self, upper: &[LayerSsrcs]) -> Result<Self, RtpParametersError> {
        if upper.len() >= MAX_LAYERS {
            return Err(RtpParametersError::TooMany(MAX_LAYERS));
        }
        let has_rtx = |own: &LayerSsrcs| own.rtx_ssrc.is_some();
        let is_with_rtx = self.layers.iter().any(has_rtx);
        if upper.iter().any(|own| has_rtx(own) != is_with_rtx) {
            return Err(RtpParametersError::HalfOfRtx);
        }
        self.layers.extend(upper);
        let mut taken = BTreeSet::new();
        let mut ssrcs = self.layers.iter().flat_map(LayerSsrcs::all);
        if let Some(twice) = ssrcs.find(|ssrc| !taken.insert(*ssrc)) {
            return Err(RtpParametersError::DuplicateSsrc(twice));
        }
        self.media.layers = self.layers.len();
        Ok(self)
    }
}

impl RtpParameters {
    /// What a room's list shows of it.
    pub(crate) fn track(&self) -> Result<TrackInfo, RtpParametersError> {
        Ok(self.check()?.media.info())
    }

    /// Checks what a producer is to be.
    pub(super) fn check(&self) -> Result<CheckedStream, RtpParametersError> {
        let codecs = check_codecs(&self.codecs)?;
        for (codec, params) in self.codecs.iter().zip(&codecs) {
            if RtpCodec::kind(params) != self.kind {
                return Err(RtpParametersError::WrongKind(shortened(&codec.name)));
            }
        }
        let ssrc = self.ssrc.ok_or(RtpParametersError::NoSsrc)?;
        if self.rtx_ssrc == Some(ssrc) {
            return Err(RtpParametersError::DuplicateSsrc(ssrc));
        }
        if self.rtx_ssrc.is_some() != codecs.iter().any(|params| params.resend().is_some()) {
            return Err(RtpParametersError::HalfOfRtx);
        }
        Ok(CheckedStream {
            media: Media {
                kind: self.kind.to_str0m(),
                codecs,
                layers: 1,
            },
            layers: vec![LayerSsrcs {
                ssrc,
                rtx_ssrc: self.rtx_ssrc,
            }],
            extensions: check_extensions(&self.extensions)?,
        })
    }
}

/// What somebody can receive, looked at.
#[derive(Debug, Clone)]
pub(super) struct CheckedCapabilities {
    pub(super) codecs: Vec<PayloadParams>,
    pub(super) extensions: ExtensionIds,
    named: Vec<RtpExtension>,
}

/// Payload types for RTX, where a producer has none.
const FREE_FOR_RTX: std::ops::RangeInclusive<u8> = 100..=MAX_PAYLOAD_TYPE;

impl RtpCapabilities {
    /// What another process takes of a producer here: whatever it sends, as it sends it, and lost
    /// packets of video again.
    pub(super) fn of_pipe(media: &Media) -> Self {
        let mut codecs: Vec<_> = media.codecs.iter().map(RtpCodec::of_params).collect();
        codecs.truncate(MAX_CODECS);
        let numbers = |own: &RtpCodec| [Some(own.payload_type), own.rtx_payload_type];
        let taken: BTreeSet<_> = codecs.iter().flat_map(numbers).flatten().collect();
        let mut free = FREE_FOR_RTX.filter(|number| !taken.contains(number));
        if media.kind.is_video() {
            for codec in &mut codecs {
                codec.rtx_payload_type = codec.rtx_payload_type.or_else(|| free.next());
            }
        }
        let uris = [
            AUDIO_LEVEL,
            VIDEO_ORIENTATION,
            ABSOLUTE_SEND_TIME,
            ABSOLUTE_CAPTURE_TIME,
        ];
        let extensions = uris.into_iter().zip(1..).map(|(uri, id)| RtpExtension {
            uri: uri.to_owned(),
            id,
        });
        Self {
            codecs,
            extensions: extensions.collect(),
        }
    }

    pub(super) fn check(&self) -> Result<CheckedCapabilities, RtpParametersError> {
        let extensions = check_extensions(&self.extensions)?;
        let is_known = |own: &&RtpExtension| known(&own.uri).is_some();
        Ok(CheckedCapabilities {
            codecs: check_codecs(&self.codecs)?,
            extensions,
            named: self.extensions.iter().filter(is_known).cloned().collect(),
        })
    }
}

impl CheckedCapabilities {
    /// What a consumer of this is sent. Empty codecs, if there is none in common.
    pub(super) fn of_consumer(
        &self,
        media: &Media,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
    ) -> RtpParameters {
        let mut codecs: Vec<RtpCodec> = Vec::new();
        for mapping in media.map_to(&self.codecs) {
            let mut accepted = self.codecs.iter();
            let accepted = accepted.find(|params| *params.pt() == mapping.to);
            // Several of the producer's may become one.
            let is_new = codecs.iter().all(|own| own.payload_type != mapping.to);
            codecs.extend(accepted.filter(|_| is_new).map(RtpCodec::of_params));
        }
        let has_rtx = codecs.iter().any(|own| own.rtx_payload_type.is_some());
        RtpParameters {
            kind: MediaKind::of(media.kind),
            codecs,
            ssrc: Some(ssrc),
            rtx_ssrc: rtx_ssrc.filter(|_| has_rtx),
            extensions: self.named.clone(),
        }
    }
}

fn check_codecs(codecs: &[RtpCodec]) -> Result<Vec<PayloadParams>, RtpParametersError> {
    if codecs.is_empty() {
        return Err(RtpParametersError::NoCodec);
    }
    if codecs.len() > MAX_CODECS {
        return Err(RtpParametersError::TooMany(MAX_CODECS));
    }
    let mut taken = BTreeSet::new();
    for codec in codecs {
        for number in [Some(codec.payload_type), codec.rtx_payload_type] {
            let Some(number) = number else {
                continue;
            };
            if number > MAX_PAYLOAD_TYPE || LIKE_RTCP.contains(&number) {
                return Err(RtpParametersError::BadPayloadType(number));
            }
            if !taken.insert(number) {
                return Err(RtpParametersError::DuplicatePayloadType(number));
            }
        }
    }
    codecs.iter().map(RtpCodec::to_params).collect()
}

fn check_extensions(extensions: &[RtpExtension]) -> Result<ExtensionIds, RtpParametersError> {
    if extensions.len() > MAX_EXTENSIONS {
        return Err(RtpParametersError::TooMany(MAX_EXTENSIONS));
    }
    let (mut ids, mut taken) = (ExtensionIds::default(), BTreeSet::new());
    for RtpExtension { uri, id } in extensions {
        // RFC 8285, section 4.2: 0 is padding, and 15 is reserved.
        if matches!(*id, 0 | 15) || !taken.insert(*id) {
            return Err(RtpParametersError::BadExtensionId(*id));
        }
        if let Some(known) = known(uri) {
            *known(&mut ids) = Some(*id);
        }
    }
    Ok(ids)
}

/// Where the number of a known extension is kept.
fn known(uri: &str) -> Option<fn(&mut ExtensionIds) -> &mut Option<u8>> {
    match uri {
        AUDIO_LEVEL => Some(|ids| &mut ids.audio_level),
        VIDEO_ORIENTATION => Some(|ids| &mut ids.video_orientation),
        ABSOLUTE_SEND_TIME => Some(|ids| &mut ids.absolute_send_time),
        ABSOLUTE_CAPTURE_TIME => Some(|ids| &mut ids.absolute_capture_time),
        _ => None,
    }
}

/// A name of a stranger's, for an error message.
fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(codecs: Vec<RtpCodec>) -> RtpParameters {
        RtpParameters {
            kind: MediaKind::Video,
            codecs,
            ssrc: Some(1),
            rtx_ssrc: None,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn what_is_supported_is_taken_as_it_is() {
        let capabilities = RtpCapabilities::default().check().unwrap();
        for codec in RtpCapabilities::default().codecs {
            let params = codec.to_params().unwrap();
            assert_eq!(codec, RtpCodec::of_params(&params));
            let media = Media {
                kind: RtpCodec::kind(&params).to_str0m(),
                codecs: vec![params],
                layers: 1,
            };
            let sent = capabilities.of_consumer(&media, 7, Some(8));
            assert_eq!(vec![codec], sent.codecs);
            assert_eq!((Some(7), None), (sent.ssrc, sent.rtx_ssrc));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        use RtpParametersError as E;
        let unsupported = RtpCodec::new("theora", 96, 90_000);
        let slow = RtpCodec::new("VP8", 96, 8_000);
        let cases = [
            (video(vec![]), E::NoCodec),
            (
                video(vec![unsupported]),
                E::UnsupportedCodec("theora".to_owned()),
            ),
            (video(vec![slow]), E::UnsupportedCodec("VP8".to_owned())),
            (
                video(vec![RtpCodec::opus(111)]),
                E::WrongKind("opus".to_owned()),
            ),
            (video(vec![RtpCodec::vp8(72)]), E::BadPayloadType(72)),
            (video(vec![RtpCodec::vp8(128)]), E::BadPayloadType(128)),
            (
                video(vec![RtpCodec::vp8(96).with_rtx(96)]),
                E::DuplicatePayloadType(96),
            ),
            (video(vec![RtpCodec::vp8(96).with_rtx(97)]), E::HalfOfRtx),
            (video(vec![RtpCodec::vp8(96); 33]), E::TooMany(32)),
        ];
        for (parameters, error) in cases {
            assert_eq!(error, parameters.check().unwrap_err(), "{parameters:?}");
        }
        let mut parameters = video(vec![RtpCodec::vp8(96)]);
        parameters.ssrc = None;
        assert_eq!(E::NoSsrc, parameters.check().unwrap_err());
        let mut parameters = video(vec![RtpCodec::vp8(96).with_rtx(97)]);
        parameters.rtx_ssrc = Some(1);
        assert_eq!(E::DuplicateSsrc(1), parameters.check().unwrap_err());
        let extension = |id| RtpExtension {
            uri: AUDIO_LEVEL.to_owned(),
            id,
        };
        for bad in [0, 15] {
            let mut parameters = video(vec![RtpCodec::vp8(96)]);
            parameters.extensions = vec![extension(bad)];
            assert_eq!(E::BadExtensionId(bad), parameters.check().unwrap_err());
        }
        let mut parameters = video(vec![RtpCodec::vp8(96)]);
        parameters.extensions = vec![extension(3), extension(3)];
        assert_eq!(E::BadExtensionId(3), parameters.check().unwrap_err());
    }

    #[test]
    fn without_a_codec_in_common_there_is_none() {
        let opus_only = RtpCapabilities {
            codecs: vec![RtpCodec::opus(100)],
            extensions: Vec::new(),
        };
        let stream = video(vec![RtpCodec::vp8(96)]).check().unwrap();
        let sent = opus_only
            .check()
            .unwrap()
            .of_consumer(&stream.media, 1, None);
        assert!(sent.codecs.is_empty());
    }
}
