//! What travels through a virtual network, and what is seen of it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::link::LossReason;
use super::tcp_connection::Segment;
use crate::ecn::Ecn;
use crate::firewall::Protocol;

/// Bytes of the IP and UDP headers of a datagram to this address.
pub(super) const fn udp_headers(destination: SocketAddr) -> usize {
    match destination {
        SocketAddr::V4(_) => 28,
        SocketAddr::V6(_) => 48,
    }
}

/// A packet on its way. Its addresses are never IPv4-mapped.
#[derive(Debug, Clone)]
pub(super) struct NetPacket {
    pub(super) id: u64,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: Payload,
    /// The TOS or traffic-class byte.
    pub(super) tos: u8,
    pub(super) may_fragment: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Payload {
    Datagram(Rc<[u8]>),
    Segment(Rc<Segment>),
}

impl NetPacket {
    pub(super) fn protocol(&self) -> Protocol {
        match self.payload {
            Payload::Datagram(_) => Protocol::Udp,
            Payload::Segment(_) => Protocol::Tcp,
        }
    }

    /// What it takes on a link.
    pub(super) fn wire_bytes(&self) -> usize {
        match &self.payload {
            Payload::Datagram(data) => data.len() + udp_headers(self.destination),
            Payload::Segment(segment) => segment.wire_bytes(),
        }
    }

    /// Notes that there is congestion, if the sender can deal with that; otherwise it is as it was.
    pub(super) fn mark_congestion(&mut self) {
        if Ecn::from_bits(self.tos).is_some() {
            self.tos |= Ecn::bits(Some(Ecn::Ce));
        }
    }
}

/// Something that happened to a packet, as an observer of a
/// [`VirtualNetwork`](super::VirtualNetwork) sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NetworkEvent {
    /// When, since the start of virtual time.
    pub at: Duration,
    /// Which packet; a number that no other packet of the network has. Copies have the number of the
    /// original.
    pub packet: u64,
    /// Of which protocol.
    pub protocol: Protocol,
    /// Where it comes from, as seen at this place.
    pub source: SocketAddr,
    /// Where it goes, as seen at this place.
    pub destination: SocketAddr,
    /// How long it is, headers included.
    pub bytes: usize,
    /// What happened.
    pub what: PacketFate,
}

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketFate {
    /// A host sent it.
    Sent,
    /// It reached the host that it was for.
    Arrived,
    /// It was lost.
    Lost(LossReason),
}

impl fmt::Display for NetworkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.9} #{} {:?} {} > {}, {} bytes: {:?}",
            self.at.as_secs_f64(),
            self.packet,
            self.protocol,
            self.source,
            self.destination,
            self.bytes,
            self.what
        )
    }
}
