//! How clients join, at the systems that are compared.

mod janus;
mod whip;

use std::net::{IpAddr, SocketAddr};

pub(crate) use self::janus::Janus;
pub(crate) use self::whip::Whip;
use super::load::Peer;

/// Which system, to the process that loads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// WHIP and WHEP.
    Whip,
    /// The video rooms of Janus.
    Janus,
}

/// Where a system takes requests, and where its clients are to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) http: SocketAddr,
    pub(crate) clients: IpAddr,
}

/// The signaling of one system; each thread that uses it has its own.
pub(crate) trait Signaling {
    /// Makes a room, and a client that publishes in it.
    fn publish(&mut self, room: usize) -> Result<Peer, String>;
    /// A client that views what is published in a room.
    fn view(&mut self, room: usize) -> Result<Peer, String>;
}

impl Protocol {
    pub(crate) fn open(self, endpoint: Endpoint) -> Result<Box<dyn Signaling>, String> {
        Ok(match self {
            Self::Whip => Box::new(Whip::new(endpoint)),
            Self::Janus => Box::new(Janus::open(endpoint)?),
        })
    }
}
