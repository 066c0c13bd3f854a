//! The systems under test, as programs: started for each measurement, with all their threads on one
//! core.

pub(super) mod echo_sfu;
pub(super) mod janus;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::process::Pinned;
use super::signaling::Protocol;

/// A running server.
pub(super) struct Server {
    pub(super) process: Pinned,
    pub(super) protocol: Protocol,
    pub(super) http: SocketAddr,
}

/// The address of this machine that everything is sent from and to. What it sends to itself goes over
/// loopback in any case; but some, Janus among them, do not consider addresses that are called so.
pub(super) fn own_address() -> IpAddr {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let usable = addresses
        .iter()
        .find(|one| !one.is_loopback() && !one.is_link_local() && one.ip().is_ipv4());
    usable.map_or(Ipv4Addr::LOCALHOST.into(), |one| one.ip())
}
