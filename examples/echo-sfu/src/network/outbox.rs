//! What the handling of transports leaves to be done by their thread.

use std::net::SocketAddr;

use socket_server::SendBatch;

use super::channels::DataOutbox;
use crate::objects::{ProducerId, TransportId};
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::BitRate;
use crate::rtp::rtcp::Rtcp;

/// An address of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validated {
    /// It has this one, too.
    Another(SocketAddr),
    /// It has left all others.
    Only(SocketAddr),
}

/// What is left to be done. The memory is used again.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) datagrams: SendBatch,
    /// Those that there was no room for.
    pub(super) datagrams_dropped: usize,
    pub(super) packets: Vec<(ProducerId, MediaPacket)>,
    /// What clients say about what they are sent.
    pub(super) reports: Vec<(TransportId, Rtcp)>,
    /// What the downlinks of clients seem to carry, if that limits anything.
    pub(super) downlinks: Vec<(TransportId, Option<BitRate>)>,
    /// Transports that are not any more what was told of them.
    pub(super) observed: Vec<TransportId>,
    /// Transports with sockets of their own on which something waits to be sent.
    pub(super) touched: Vec<TransportId>,
    pub(super) data: DataOutbox,
    /// Addresses that ICE has validated, in this order.
    pub(super) validated: Vec<(TransportId, Validated)>,
    /// Transports whose clients can be sent media from now on.
    pub(super) connected: Vec<TransportId>,
    /// Transports that have ended.
    pub(super) ended: Vec<TransportId>,
    /// Where RTCP is read and written.
    pub(super) plain: Vec<u8>,
    pub(super) encrypted: Vec<u8>,
}
