//! Who sends to a forwarder, and where it sends to: one thread does both, in turns.
//!
//! All packets come from one place in bursts, one system call each, as they come from a network card
//! for a sender that is not on this machine: nothing has coalesced them.
//!
//! The sinks are ordinary sockets with the usual buffers, which a burst fits. They are read between
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

/// Packets that are sent at once: a frame of video.
pub(crate) const BURST: u32 = 8;

/// Long enough for any system to forward a burst; what has not come then is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// Between looks at the sinks. Shorter than the forwarder takes to be asleep again.
const LOOK_EVERY: Duration = Duration::from_micros(20);

pub(crate) struct Load {
    source: UdpSocket,
    sinks: Vec<UdpSocket>,
    packet: Vec<u8>,
}

pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Load {
    pub(crate) fn new(sinks: usize, packet_bytes: usize) -> io::Result<Self> {
        let sink = || {
            let socket = UdpSocket::bind(any_port())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            source: UdpSocket::bind(any_port())?,
            sinks: (0..sinks).map(|_| sink()).collect::<io::Result<_>>()?,
            packet: vec![7; packet_bytes],
        })
    }

    pub(crate) fn destinations(&self) -> io::Result<Vec<SocketAddr>> {
        self.sinks.iter().map(UdpSocket::local_addr).collect()
    }

    /// Sends one burst, and returns how many packets have come out.
    pub(crate) fn burst(&mut self, forwarder: SocketAddr) -> io::Result<u32> {
        for _ in 0..BURST {
            self.source.send_to(&self.packet, forwarder)?;
        }
        // Whatever the order in which a forwarder sends, this one's last packet is the last.
        let last = self.sinks.len() - 1;
        let give_up = Instant::now() + LOST_AFTER;
        let mut arrived = 0;
        while arrived < BURST && Instant::now() < give_up {
            std::thread::sleep(LOOK_EVERY);
            arrived += self.drain(last);
        }
        Ok(arrived + (0..last).map(|sink| self.drain(sink)).sum::<u32>())
    }

    fn drain(&mut self, sink: usize) -> u32 {
        let mut arrived = 0;
        while self.sinks[sink].recv(&mut self.packet).is_ok() {
            arrived += 1;
        }
        arrived
    }
}
