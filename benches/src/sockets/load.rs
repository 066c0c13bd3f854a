//! Who sends to a forwarder, and where it sends to: one thread does both, in turns.
//!
//! **The source** sends a burst in one call, as a train that the kernel takes apart. So it is there at
//! once, whatever the forwarder: with a call for each packet a sleeping forwarder wakes at the first,
//! and then races with the source for how many it finds at a time. It is what a network card does
//! that coalesces (GRO) what came in a row: a forwarder that asks the kernel for trains gets one,
//! others get eight datagrams.
//!
//! **The sinks** are ordinary sockets with the usual buffers, which a burst fits. They are read between
//! bursts, by who sleeps meanwhile and looks at them on its own. So the forwarder's send does what a
//! send to this machine does, into a queue; it wakes nobody, which would cost more than the send; and
//! every packet is counted. The ways that were tried besides, and what they do to a send:
//!
//! - Sinks that nobody reads, so that the kernel drops at a full buffer: a send is cheaper by what
//!   queueing costs, and a loss of the forwarder could not be told from those.
//! - Sinks that would take a segmented send as one (`UDP_GRO`): cheaper, but only for systems that
//!   send so, as if every network card could segment. Here the kernel does it, on the sender's time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::udp_option::segment;

/// Packets that are sent at once: a frame of video.
pub(crate) const BURST: usize = 8;

/// Long enough for any system to forward a burst, under strace too; what has not come then is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Between looks at the sinks: a look takes the lock that the forwarder's send takes.
const LOOK_EVERY: Duration = Duration::from_micros(20);

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) struct Load {
    source: UdpSocket,
    sinks: Vec<UdpSocket>,
    /// A burst.
    packets: Vec<u8>,
}

impl Load {
    pub(crate) fn new(sinks: usize, packet_bytes: usize) -> Result<Self, String> {
        let sink = || {
            let socket = UdpSocket::bind(any_port())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let source = UdpSocket::bind(any_port()).map_err(text)?;
        segment(&source, packet_bytes)?;
        let sinks = (0..sinks).map(|_| sink()).collect::<io::Result<_>>();
        Ok(Self {
            source,
            sinks: sinks.map_err(text)?,
            packets: vec![7; BURST * packet_bytes],
        })
    }

    pub(crate) fn destinations(&self) -> Result<Vec<SocketAddr>, String> {
        let addresses = self.sinks.iter().map(UdpSocket::local_addr);
        addresses.collect::<io::Result<_>>().map_err(text)
    }

    /// Sends one burst, and returns how many packets have come out.
    pub(crate) fn burst(&mut self, forwarder: SocketAddr) -> Result<usize, String> {
        let sent = self.source.send_to(&self.packets, forwarder);
        sent.map_err(text)?;
        // Whatever the order in which a forwarder sends, this one's last packet is the last.
        let last = self.sinks.len() - 1;
        let give_up = Instant::now() + LOST_AFTER;
        let mut arrived = 0;
        while arrived < BURST && Instant::now() < give_up {
            std::thread::sleep(LOOK_EVERY);
            arrived += self.drain(last);
        }
        Ok(arrived + (0..last).map(|sink| self.drain(sink)).sum::<usize>())
    }

    fn drain(&mut self, sink: usize) -> usize {
        let mut arrived = 0;
        while self.sinks[sink].recv(&mut self.packets).is_ok() {
            arrived += 1;
        }
        arrived
    }
}

pub(crate) fn text(error: io::Error) -> String {
    error.to_string()
}
