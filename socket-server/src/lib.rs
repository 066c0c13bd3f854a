//! The wait point of a real-time-communication thread.
//!
//! A thread of an RTC stack has two kinds of work: what other threads post to it, and what arrives at
//! its sockets. It must be able to sleep until *either* comes, or until a moment it has in mind, and
//! that takes one place to wait in. libwebrtc calls that place a `SocketServer`; this crate is it,
//! without the tasks, which are the business of the crate `rtc-thread`.
//!
//! ```
//! use std::net::{SocketAddr, UdpSocket as Client};
//!
//! use socket_server::{
//!     MaxWait, PhysicalSocketServer, ProcessIo, RecvBatch, SocketServer, UdpHandler, UdpOptions,
//!     UdpSocket,
//! };
//!
//! /// Sends everything back.
//! struct Echo(RecvBatch);
//!
//! impl UdpHandler for Echo {
//!     fn on_readable(&mut self, socket: &UdpSocket) {
//!         // Once is enough: as long as there is more, this is called again.
//!         if socket.recv(&mut self.0).is_ok() {
//!             for datagram in self.0.iter() {
//!                 // A datagram that there is no room for is lost, as datagrams are.
//!                 let _ = socket.send_to(datagram.source, datagram.data);
//!             }
//!         }
//!     }
//! }
//!
//! let server = PhysicalSocketServer::new()?;
//! let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
//! let socket = server.bind_udp(&UdpOptions::new(any_port))?;
//! socket.set_handler(Echo(RecvBatch::new()));
//!
//! let client = Client::bind(any_port)?;
//! client.send_to(b"hello", socket.local_addr())?;
//!
//! // What a thread does all day.
//! server.wait(MaxWait::Forever, ProcessIo::Yes)?;
//!
//! let mut buffer = [0; 100];
//! let (length, _) = client.recv_from(&mut buffer)?;
//! assert_eq!(b"hello", &buffer[..length]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The parts
//!
//! | here | what it is | libwebrtc |
//! |---|---|---|
//! | [`SocketServer`] | what a thread waits in, and where its sockets come from | `SocketServer` |
//! | [`NullSocketServer`] | one without sockets: it parks | `NullSocketServer` |
//! | [`PhysicalSocketServer`] | one of the operating system's sockets, on mio | `PhysicalSocketServer` |
//! | [`VirtualSocketServer`], [`VirtualNetwork`] | the same sockets on hosts in memory, in virtual time | `VirtualSocketServer` |
//! | [`FirewallSocketServer`], [`NatSocketServer`] | what may stand between any of these and the network | the same |
//! | [`WakeHandle`], [`Wake`] | ends a wait from another thread | `WakeUp` |
//! | [`UdpSocket`], [`UdpOptions`], [`UdpHandler`] | datagrams, and who is called when there are some | `AsyncUDPSocket` |
//! | [`RecvBatch`], [`Datagram`], [`Packet`] | what has arrived, many at a time, and what is kept of it | `ReceivedIpPacket`, one at a time |
//! | [`SendBatch`], [`Envelope`], [`SendReport`] | what is to leave, many at a time, and how it is marked | `AsyncSocketPacketOptions` |
//! | [`TcpSocket`], [`TcpListener`], [`TcpHandler`], [`ListenHandler`] | connections | `Socket` of type `SOCK_STREAM` |
//! | [`Resolution`] | a name on its way to be addresses | `AsyncDnsResolver` |
//! | [`Signal`], [`SignalHandler`] | signals, as events of the loop | `SetPosixSignalHandler`, until 2020 |
//! | [`NetworkBinder`] | chooses a network for each socket | `NetworkBinderInterface` |
//!
//! # Guarantees
//!
//! Each is stated in full at the item that gives it, and tested by name in `tests/`, on the physical
//! and on the virtual server wherever both can.
//!
//! - **Wake-ups** are sticky, coalesce, and are never lost.
//! - **Deadlines** are never early; on Linux they are exact to some tens of microseconds.
//! - **Readiness** is level-like: a handler that leaves data behind is called again, and sockets take
//!   turns.
//! - **Events** reach the socket that they were for, or nobody.
//! - **Handlers** run without a lock or a borrow being held, and may do anything but wait.
//! - **Errors** of a UDP socket are reported, and never close it. A TCP socket hears of its end once,
//!   after everything that had arrived was read.
//! - **Cost.** Receiving and sending allocate nothing once the batches have grown; segmentation and
//!   coalescing by the kernel (GSO, GRO) are used where it has them. What is handed to another thread
//!   is not copied.
//! - **Simulation.** A virtual network does the same again from the same seed, to the last packet.
//!
//! # Platforms
//!
//! Linux first. Elsewhere it works as mio and [quinn-udp] do: deadlines are rounded up to a
//! millisecond, what the system does not tell of a datagram is `None`, and an option that it lacks
//! is an error.
//!
//! `unsafe` is in one module, for Linux: the system calls that receive and send datagrams with all
//! that the kernel has to say of them. No crate has them as they are needed; the module says why.
//!
//! [quinn-udp]: https://crates.io/crates/quinn-udp

#![deny(unsafe_code)]

mod address;
mod arrival_clock;
mod dscp;
mod ecn;
mod envelope;
mod firewall;
mod handler_slot;
mod nat;
mod nat_server;
mod null;
mod packet;
mod physical;
mod recv_batch;
mod registry;
mod resolution;
mod send_batch;
mod server;
mod signal;
mod tcp;
mod tcp_listener;
mod tcp_options;
mod udp;
mod udp_options;
mod virtual_network;
mod wake;

pub use dscp::Dscp;
pub use ecn::Ecn;
pub use envelope::Envelope;
pub use firewall::{Direction, Firewall, FirewallRule, FirewallSocketServer, Protocol};
pub use nat::NatType;
pub use nat_server::NatSocketServer;
pub use null::NullSocketServer;
pub use packet::Packet;
pub use physical::{NetworkBinder, NetworkBinding, PhysicalSocketServer};
pub use recv_batch::{Datagram, RecvBatch};
pub use resolution::{OnResolved, Resolution};
pub use send_batch::{BatchFull, SendBatch, SendReport};
pub use server::{MaxWait, ProcessIo, SocketServer};
pub use signal::{Signal, SignalHandler};
pub use tcp::{TcpHandler, TcpSocket, TcpState, TcpTarget};
pub use tcp_listener::{ListenHandler, TcpListener};
pub use tcp_options::{KeepAlive, ListenOptions, TcpOptions};
pub use udp::{ReceivedDatagram, UdpHandler, UdpSocket};
pub use udp_options::UdpOptions;
pub use virtual_network::{
    Delay, HostOptions, LinkHandle, LinkOptions, LinkStats, Loss, LossReason, NatOptions,
    NetworkEvent, PacketFate, VirtualHost, VirtualNat, VirtualNetwork, VirtualSocketServer,
    VirtualTime,
};
pub use wake::{Wake, WakeHandle};
