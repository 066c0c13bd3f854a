//! The fuzzer's way to what reads the bytes of strangers and is private. Thin, so that what is fuzzed
//! is what runs.

mod pipes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::HeaderValue;
use str0m::config::DtlsCert;
use str0m::net::{Protocol, Receive};

use crate::network::for_fuzzing::{Demux, WebRtcTransport};
use crate::objects::TransportId;
use crate::rtp::codec::{CodecKind, is_key_frame_start};
use crate::rtp::packet::Extensions;
use crate::rtp::rtcp;
use crate::rtp::wire::{ExtensionIds, RtpView};
use crate::sdp::{Fragment, Offer, OfferedFlow};

pub use pipes::{hear_member, hear_stranger, link_with};

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_001);

/// Whether a datagram finds the one session there is, whose user fragment is `abcd`: from its
/// client's address, and from another.
pub fn find_session(datagram: &[u8]) -> [bool; 2] {
    let mut demux = Demux::default();
    let session = TransportId::next();
    demux.insert(session, "abcd".to_owned());
    demux.learn(session, CLIENT);
    [CLIENT, STRANGER].map(|source| demux.find(source, datagram) == Ok(session))
}

/// Whether a datagram that has found its session is of a protocol that the session reads.
pub fn is_received(datagram: &[u8]) -> bool {
    Receive::new(Protocol::Udp, CLIENT, CLIENT, datagram).is_ok()
}

/// How many packets there are in what may be RTCP.
pub fn rtcp_packets(compound: &[u8]) -> usize {
    rtcp::read_compound(compound).len()
}

/// How long the header is of what may be RTP.
pub fn rtp_header_len(packet: &[u8]) -> Option<usize> {
    let ids = ExtensionIds {
        mid: Some(1),
        rid: Some(2),
        audio_level: Some(3),
        video_orientation: Some(4),
        absolute_capture_time: Some(5),
        ..ExtensionIds::default()
    };
    let view = RtpView::parse(packet).ok()?;
    let _ = Extensions::read(&view, &ids);
    Some(view.header_len())
}

/// Whether a payload begins a key frame, of each codec.
pub fn key_frame_starts(payload: &[u8]) -> [bool; 4] {
    [
        CodecKind::Vp8,
        CodecKind::Vp9,
        CodecKind::H264,
        CodecKind::Av1,
    ]
    .map(|kind| is_key_frame_start(kind, payload))
}

/// Whether this is read as an offer.
pub fn is_offer(text: &str) -> bool {
    Offer::parse(text, flow_for(text)).is_ok()
}

/// The answer to an offer, if it has one.
pub fn answer(offer: &str) -> Option<String> {
    static CERTIFICATE: OnceLock<DtlsCert> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| {
        str0m::crypto::from_feature_flags()
            .dtls_provider
            .generate_certificate()
            .expect("a certificate")
    });
    let offer = Offer::parse(offer, flow_for(offer)).ok()?;
    let (id, now) = (TransportId::next(), Instant::now());
    let negotiated = WebRtcTransport::negotiate(id, offer, certificate, &[CLIENT], now);
    Some(negotiated.ok()?.answer)
}

/// One of the three for each text, since reading an offer takes long. Chosen by the length, so that an
/// input that fails fails again.
fn flow_for(text: &str) -> OfferedFlow {
    match text.len() % 3 {
        0 => OfferedFlow::Both,
        1 => OfferedFlow::ToUs,
        _ => OfferedFlow::FromUs,
    }
}

/// How many candidates a trickled fragment brings, if it is one.
pub fn candidates(fragment: &str) -> Option<usize> {
    let fragment = Fragment::parse(fragment).ok()?;
    Some(fragment.candidates.len())
}

/// The offer in the body of a request, if that has the right type.
pub fn offer_body(content_type: &[u8], body: &[u8]) -> Option<String> {
    let content_type = HeaderValue::from_bytes(content_type).ok()?;
    crate::http::offer_body(content_type, Bytes::copy_from_slice(body))
}

/// Whether an `If-Match` field names the entity tag.
pub fn if_match(field: &str, entity_tag: &str) -> bool {
    crate::signaling::matches(field, entity_tag)
}
