//! What is counted, and how it is shown.

mod gather;
mod objects;
mod threads;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

pub(crate) use self::gather::{Gather, NetworkPart};
pub use self::objects::{
    ConsumerStats, ProducerStats, ProducerTraffic, RouterStats, TransportStats, TransportTraffic,
    WorkerStats,
};
pub use self::threads::{Quantiles, ThreadReport};
use crate::media::TrackInfo;
use crate::names::{DisplayName, PublisherId, RoomName};
use crate::network::Stranger;

/// A number that one thread counts up and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// For the owning thread only: it is not an atomic addition, and so costs no more than one to a
    /// plain number.
    pub(crate) fn add(&self, n: usize) {
        let value = self.0.load(Ordering::Relaxed) + n as u64;
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one network thread counts.
#[derive(Debug, Default)]
pub(crate) struct NetworkCounters {
    pub(crate) transports: AtomicUsize,
    pub(crate) producers: AtomicUsize,
    pub(crate) consumers: AtomicUsize,
    pub(crate) fan_outs: AtomicUsize,
    pub(crate) packets_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) packets_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) send_errors: Counter,
    pub(crate) media_packets_in: Counter,
    pub(crate) media_packets_forwarded: Counter,
    pub(crate) media_packets_untranslatable: Counter,
    pub(crate) keyframe_requests: Counter,
    datagrams_malformed: Counter,
    datagrams_unknown_source: Counter,
    stun_unknown_user: Counter,
}

impl NetworkCounters {
    pub(crate) fn count_stranger(&self, stranger: Stranger) {
        match stranger {
            Stranger::Malformed => &self.datagrams_malformed,
            Stranger::UnknownUser => &self.stun_unknown_user,
            Stranger::UnknownSource => &self.datagrams_unknown_source,
        }
        .add(1);
    }

    pub(crate) fn snapshot(&self, thread: &str, udp: SocketAddr) -> NetworkStats {
        NetworkStats {
            thread: thread.to_owned(),
            udp,
            transports: self.transports.load(Ordering::Relaxed),
            producers: self.producers.load(Ordering::Relaxed),
            consumers: self.consumers.load(Ordering::Relaxed),
            fan_outs: self.fan_outs.load(Ordering::Relaxed),
            packets_in: self.packets_in.get(),
            bytes_in: self.bytes_in.get(),
            packets_out: self.packets_out.get(),
            bytes_out: self.bytes_out.get(),
            send_errors: self.send_errors.get(),
            media_packets_in: self.media_packets_in.get(),
            media_packets_forwarded: self.media_packets_forwarded.get(),
            media_packets_untranslatable: self.media_packets_untranslatable.get(),
            keyframe_requests: self.keyframe_requests.get(),
            datagrams_malformed: self.datagrams_malformed.get(),
            datagrams_unknown_source: self.datagrams_unknown_source.get(),
            stun_unknown_user: self.stun_unknown_user.get(),
        }
    }
}

/// The state of the whole SFU: what `GET /stats` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SfuStats {
    /// Sessions that are open or being opened.
    pub sessions: usize,
    /// Rooms in which somebody publishes.
    pub rooms: usize,
    /// One entry for each network thread.
    pub network: Vec<NetworkStats>,
    /// One entry for each worker that lives, with all its objects.
    pub workers: Vec<WorkerStats>,
    /// One entry for each thread.
    pub threads: Vec<ThreadReport>,
}

/// What one network thread has counted since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkStats {
    /// The thread's name.
    pub thread: String,
    /// The address of its socket.
    pub udp: SocketAddr,
    /// Transports that live on it now.
    pub transports: usize,
    /// Producers whose media arrives on it.
    pub producers: usize,
    /// Consumers whose media goes out on it.
    pub consumers: usize,
    /// Producers that have consumers on it, wherever their media arrives.
    pub fan_outs: usize,
    /// Datagrams received, strangers' included.
    pub packets_in: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes_in: u64,
    /// Datagrams handed to the operating system.
    pub packets_out: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes_out: u64,
    /// Datagrams that the operating system refused to send, lack of buffer space included.
    pub send_errors: u64,
    /// RTP packets received from publishers.
    pub media_packets_in: u64,
    /// RTP packets handed to consumers' transports, retransmissions not included.
    pub media_packets_forwarded: u64,
    /// RTP packets that a consumer could not be sent, for want of a codec in common.
    pub media_packets_untranslatable: u64,
    /// Key-frame requests sent to publishers.
    pub keyframe_requests: u64,
    /// Datagrams that are no STUN, DTLS, RTP or RTCP.
    pub datagrams_malformed: u64,
    /// DTLS, RTP and RTCP from addresses that belong to no session.
    pub datagrams_unknown_source: u64,
    /// STUN messages for user fragments that belong to no session.
    pub stun_unknown_user: u64,
}

/// A room: what `GET /rooms/{room}` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoomInfo {
    /// The room's name.
    pub room: RoomName,
    /// Who publishes, oldest first.
    pub publishers: Vec<PublisherInfo>,
    /// How many sessions view a publisher of the room.
    pub viewers: usize,
}

/// A publisher in a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PublisherInfo {
    /// Names the publisher in `/whep/{room}/{publisher}`.
    pub id: PublisherId,
    /// What the publisher calls itself.
    pub name: Option<DisplayName>,
    /// What the publisher sends.
    pub tracks: Vec<TrackInfo>,
    /// How many sessions view this publisher.
    pub viewers: usize,
    /// Seconds since the publisher came.
    pub age_seconds: f64,
}
