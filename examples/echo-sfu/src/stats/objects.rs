//! What objects are, and what they have done, as it is shown.

use std::net::SocketAddr;

use serde::Serialize;

use crate::TrackInfo;
use crate::objects::{
    ConsumerId, ConsumerStatus, ProducerId, ProducerStatus, RouterId, TransportId, WorkerStatus,
};
use crate::rtp::incoming::IncomingStats;
use crate::rtp::outgoing::OutgoingStats;
use crate::rtp::rate::BitRate;

/// A worker, and all that it has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its thread's name.
    pub thread: String,
    /// How many objects it has.
    pub totals: WorkerStatus,
    /// Its routers.
    pub routers: Vec<RouterStats>,
}

/// A router, and all that it has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouterStats {
    /// Its name.
    pub id: RouterId,
    /// Its transports.
    pub transports: Vec<TransportStats>,
    /// Its producers.
    pub producers: Vec<ProducerStats>,
    /// Its consumers.
    pub consumers: Vec<ConsumerStats>,
}

/// A transport.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TransportStats {
    /// Its name.
    pub id: TransportId,
    /// `webrtc`, `plain`, `direct`, `pipe`, `remote-pipe` or `pipe-listener`.
    pub kind: &'static str,
    /// What its network thread knows of it, if it is on one and has been opened.
    pub network: Option<TransportTraffic>,
}

/// What a network thread knows of a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TransportTraffic {
    /// The thread's name.
    pub thread: String,
    /// Whether packets can go out.
    pub connected: bool,
    /// Where they go. Not in the JSON: anybody may ask for that, and this is where somebody is.
    #[serde(skip_serializing)]
    pub remote: Option<SocketAddr>,
    /// Datagrams received from there.
    pub packets_in: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes_in: u64,
    /// What the connection seems to carry towards the other end, in bits per second, if that limits
    /// anything.
    pub downlink: Option<BitRate>,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProducerStats {
    /// Its name.
    pub id: ProducerId,
    /// The transport on which it comes in.
    pub transport: TransportId,
    /// Whether it is paused, and who consumes it.
    #[serde(flatten)]
    pub status: ProducerStatus,
    /// What it sends, if it sends anything.
    pub track: Option<TrackInfo>,
    /// What has arrived of it; none if that is on another router, of which this is the far end.
    pub media: Option<ProducerTraffic>,
}

/// What has arrived of a producer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProducerTraffic {
    /// RTP packets of each layer, the smallest first.
    pub packets: Vec<u64>,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Times that its client was asked for a key frame.
    pub key_frame_requests: u64,
    /// How it arrives, if that is not WebRTC.
    pub reception: Option<IncomingStats>,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Its name.
    pub id: ConsumerId,
    /// The transport on which it goes out.
    pub transport: TransportId,
    /// What it consumes, and whether it is paused.
    #[serde(flatten)]
    pub status: ConsumerStatus,
    /// What it has been sent, if media goes out of it.
    pub media: Option<OutgoingStats>,
}
