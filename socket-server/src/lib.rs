//! Server.
#![forbid(unsafe_code)]
mod deadline;
mod ecn;
mod null;
mod physical;
mod recv_batch;
mod registry;
mod send_batch;
mod server;
mod udp;
mod wake;

pub use ecn::Ecn;
pub use null::NullSocketServer;
pub use physical::PhysicalSocketServer;
pub use recv_batch::{Datagram, RecvBatch};
pub use send_batch::{BatchFull, SendBatch, SendReport};
pub use server::{MaxWait, ProcessIo, SocketServer};
pub use udp::{UdpHandler, UdpOptions, UdpSocket};
pub use wake::{Wake, WakeHandle};
