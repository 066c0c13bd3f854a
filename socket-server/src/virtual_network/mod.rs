//! A network in memory.
//!
//! [`network`] has the whole: time, the events that are to come, and the way of a packet from link
//! to link. [`link`] says what a link does to packets, [`host`] what a host does with those that
//! reach it; the sockets are in [`udp`], [`stream`] and [`listener`], and the TCP that they speak in
//! [`tcp_connection`], without I/O.

mod host;
mod link;
mod listener;
mod network;
mod packet;
mod random;
mod server;
mod stream;
mod tcp_connection;
mod time;
mod topology;
mod udp;

pub use link::{Delay, LinkOptions, LinkStats, Loss, LossReason};
pub use network::VirtualNetwork;
pub use packet::{NetworkEvent, PacketFate};
pub use server::VirtualSocketServer;
pub use time::VirtualTime;
pub use topology::{HostOptions, LinkHandle, NatOptions, VirtualHost, VirtualNat};
