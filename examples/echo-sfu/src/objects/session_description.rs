//! SDP for those who receive plain RTP, such as ffmpeg.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::rtp_parameters::RtpParameters;
use crate::rtp::srtp::SrtpKey;

/// What a player must know in order to receive streams: an SDP file for it.
///
/// Players that know nothing of bundling, ffmpeg among them, want each stream at a port of its own, and
/// so on a transport of its own. Each stream is described with the codec that is expected only: such
/// players do not follow a change.
///
/// ```
/// use echo_sfu::objects::{MediaKind, RtpCodec, RtpParameters, SessionDescription};
///
/// let parameters = RtpParameters {
///     kind: MediaKind::Video,
///     codecs: vec![RtpCodec::vp8(96)],
///     ssrc: Some(42),
///     rtx_ssrc: None,
///     extensions: Vec::new(),
/// };
/// let player = "127.0.0.1:5004".parse().unwrap();
/// let sdp = SessionDescription::new("camera").stream(&parameters, player, None);
/// assert!(sdp.to_string().contains("m=video 5004 RTP/AVP 96\r\n"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a description does nothing by itself"]
pub struct SessionDescription {
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    parameters: RtpParameters,
    to: SocketAddr,
    rtcp_mux: bool,
    key: Option<SrtpKey>,
}

impl SessionDescription {
    /// Without any stream yet. Control characters are left out of the name.
    pub fn new(name: &str) -> Self {
        Self {
            name: on_one_line(name),
            lines: Vec::new(),
        }
    }

    /// Adds a stream: what a [consumer](super::PlainConsumer) sends, to where it is sent, and the key
    /// with which it is encrypted, if it is. RTCP goes to the next port.
    pub fn stream(
        mut self,
        parameters: &RtpParameters,
        to: SocketAddr,
        key: Option<&SrtpKey>,
    ) -> Self {
        let mut parameters = parameters.clone();
        for codec in &mut parameters.codecs {
            codec.name = on_one_line(&codec.name);
            codec.fmtp = on_one_line(&codec.fmtp);
        }
        for extension in &mut parameters.extensions {
            extension.uri = on_one_line(&extension.uri);
        }
        self.lines.push(Line {
            parameters,
            to,
            rtcp_mux: false,
            key: key.cloned(),
        });
        self
    }

    /// Says that the RTCP of the stream that was added last goes to the same port.
    pub fn rtcp_mux(mut self) -> Self {
        if let Some(line) = self.lines.last_mut() {
            line.rtcp_mux = true;
        }
        self
    }
}

/// SDP is lines: whoever could end one could say anything.
fn on_one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name.as_str() {
            "" => "-",
            name => name,
        };
        write!(
            f,
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={name}\r\nt=0 0\r\n"
        )?;
        self.lines.iter().try_for_each(|line| line.write(f))
    }
}

impl Line {
    fn write(&self, f: &mut impl Write) -> fmt::Result {
        let Some(codec) = self.parameters.codecs.first() else {
            return Ok(());
        };
        let number = codec.payload_type;
        let kind = self.parameters.kind.name();
        let profile = if self.key.is_some() {
            "RTP/SAVP"
        } else {
            "RTP/AVP"
        };
        let family = if self.to.is_ipv4() { "IP4" } else { "IP6" };
        write!(f, "m={kind} {} {profile} {number}", self.to.port())?;
        if let Some(rtx) = codec.rtx_payload_type {
            write!(f, " {rtx}")?;
        }
        write!(f, "\r\nc=IN {family} {}\r\n", self.to.ip())?;
        write!(f, "a=rtpmap:{number} {}/{}", codec.name, codec.clock_rate)?;
        if let Some(channels) = codec.channels {
            write!(f, "/{channels}")?;
        }
        f.write_str("\r\n")?;
        if !codec.fmtp.is_empty() {
            write!(f, "a=fmtp:{number} {}\r\n", codec.fmtp)?;
        }
        if let Some(rtx) = codec.rtx_payload_type {
            write!(f, "a=rtpmap:{rtx} rtx/{}\r\n", codec.clock_rate)?;
            write!(f, "a=fmtp:{rtx} apt={number}\r\n")?;
        }
        for extension in &self.parameters.extensions {
            write!(f, "a=extmap:{} {}\r\n", extension.id, extension.uri)?;
        }
        if let Some(ssrc) = self.parameters.ssrc {
            write!(f, "a=ssrc:{ssrc} cname:echo-sfu\r\n")?;
        }
        if let Some(key) = &self.key {
            let (suite, inline) = (key.profile(), key.to_base64());
            write!(f, "a=crypto:1 {suite} inline:{inline}\r\n")?;
        }
        if self.rtcp_mux {
            f.write_str("a=rtcp-mux\r\n")?;
        }
        f.write_str("a=recvonly\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SrtpProfile;
    use crate::objects::{MediaKind, RtpCodec};

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let mut codec = RtpCodec::vp8(96);
        codec.rtx_payload_type = Some(97);
        let parameters = RtpParameters {
            kind: MediaKind::Video,
            codecs: vec![codec],
            ssrc: Some(7),
            rtx_ssrc: Some(8),
            extensions: Vec::new(),
        };
        let key = SrtpKey::random(SrtpProfile::AeadAes128Gcm);
        let to = "[::1]:5004".parse().unwrap();
        let sdp = SessionDescription::new("a\r\nm=evil")
            .stream(&parameters, to, Some(&key))
            .rtcp_mux()
            .to_string();
        assert!(sdp.contains("s=am=evil\r\n"), "{sdp}");
        assert!(
            sdp.contains("m=video 5004 RTP/SAVP 96 97\r\nc=IN IP6 ::1\r\n"),
            "{sdp}"
        );
        assert!(
            sdp.contains(&format!("inline:{}\r\n", key.to_base64())),
            "{sdp}"
        );
        assert!(sdp.ends_with("a=rtcp-mux\r\na=recvonly\r\n"), "{sdp}");
    }
}
