//! Plain transports on their network thread: what is ordered of them, and what arrives.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use socket_server::{UdpHandler, UdpOptions, UdpSocket};
use str0m::format::PayloadParams;

use super::arriving::PlainProduced;
use super::outbox::Outbox;
use super::plain_transport::{PlainRemote, PlainTransport, Port, PortRange, open_ports};
use super::source::Source;
use super::transport::{Kind, Transport};
use super::webrtc::ReceivingLine;
use super::{Network, RECEIVES_PER_TURN, State, Wanted, canonical};
use crate::objects::{ConsumerId, ProducerId, RouterAddress, TransportId};
use crate::rtp::srtp::SrtpSender;
use crate::rtp::wire::ExtensionIds;

/// What a socket's buffers are to hold: a key frame of several streams.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// A plain transport to be opened.
pub(crate) struct OpenPlain {
    pub(crate) id: TransportId,
    pub(crate) owner: RouterAddress,
    pub(crate) ip: IpAddr,
    /// Any, if there is none.
    pub(crate) ports: Option<PortRange>,
    /// Whether RTCP has a port of its own.
    pub(crate) with_rtcp_port: bool,
    /// Whether the other end is wherever its first packet comes from.
    pub(crate) learns: bool,
    /// Closed, when it has heard nothing for so long.
    pub(crate) silence_limit: Option<Duration>,
    pub(crate) sender: Option<SrtpSender>,
    /// Who we are in reports about what arrives.
    pub(crate) ssrc: u32,
}

/// Where a plain transport receives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainAddresses {
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: Option<SocketAddr>,
}

/// How a consumer's packets go out, where the application has said so.
#[derive(Debug)]
pub(crate) struct PlainLine {
    pub(crate) ssrc: u32,
    pub(crate) rtx: Option<u32>,
    pub(crate) codecs: Vec<PayloadParams>,
    pub(crate) extensions: ExtensionIds,
    /// If it is this layer's alone.
    pub(crate) layer: Option<u8>,
    /// The consumer that the application knows, if it is another than this.
    pub(crate) reported_as: Option<ConsumerId>,
}

impl Network {
    /// Opens a plain transport. Returns where it receives.
    pub(crate) fn open_plain(&mut self, order: OpenPlain) -> io::Result<PlainAddresses> {
        let own = Rc::downgrade(&self.0);
        let mut outcome = Err(io::ErrorKind::Other.into());
        self.act(|state, now| outcome = state.open_plain(&own, order, now));
        outcome
    }

    /// Tells a plain transport where the other end is.
    pub(crate) fn connect_plain(&mut self, id: TransportId, remote: PlainRemote) {
        self.act(|state, now| {
            state.with_plain(id, now, |plain, outbox| {
                plain.connect(remote, outbox);
                None
            });
        });
    }

    /// Takes in what arrives under an SSRC, as a producer's.
    pub(crate) fn add_plain_producer(&mut self, transport: TransportId, produced: PlainProduced) {
        self.act(|state, now| {
            let (producer, layers) = (produced.producer, produced.layers.len());
            let found = state.with_plain(transport, now, |plain, _| {
                plain.add_producer(now, produced);
                None
            });
            if found {
                let source = Source::new(transport, layers);
                state.sources.insert(producer, source);
            }
        });
    }

    /// Sends what a consumer consumes.
    pub(crate) fn add_plain_consumer(
        &mut self,
        transport: TransportId,
        wanted: Wanted,
        line: PlainLine,
    ) {
        self.act(|state, now| {
            // Without its transport, it would never be removed.
            if !state.transports.contains_key(&transport) {
                return;
            }
            let (consumer, kind) = (wanted.consumer, wanted.media.kind);
            let (layer, reported_as) = (line.layer, line.reported_as);
            let line = ReceivingLine {
                mid: None,
                kind,
                codecs: line.codecs,
                ssrc: line.ssrc,
                rtx: line.rtx,
                extensions: line.extensions,
            };
            state.add_consumer(transport, wanted, line, now);
            if let Some(own) = state.consumers.get_mut(&consumer) {
                own.reported_as = reported_as;
                if let Some(layer) = layer {
                    own.stream.send_only(layer);
                }
            }
            state.ask_for_key_frame(now, consumer);
        });
    }
}

fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let server = rtc_thread::socket_server()
        .ok_or_else(|| io::Error::other("not on a thread with sockets"))?;
    let options = UdpOptions::new(address)
        .recv_buffer_bytes(SOCKET_BUFFER_BYTES)
        .send_buffer_bytes(SOCKET_BUFFER_BYTES);
    server.bind_udp(&options)
}

/// The handler of a plain transport's socket.
struct Receiver {
    network: Weak<RefCell<State>>,
    id: TransportId,
    port: Port,
}

impl UdpHandler for Receiver {
    fn on_readable(&mut self, _socket: &UdpSocket) {
        if let Some(state) = self.network.upgrade() {
            state.borrow_mut().receive_plain(self.id, self.port);
        }
    }

    fn on_writable(&mut self, _socket: &UdpSocket) {
        if let Some(state) = self.network.upgrade() {
            state.borrow_mut().flush_plain(self.id);
        }
    }
}

impl State {
    pub(super) fn open_plain(
        &mut self,
        own: &Weak<RefCell<Self>>,
        order: OpenPlain,
        now: Instant,
    ) -> io::Result<PlainAddresses> {
        let OpenPlain {
            id,
            owner,
            ip,
            ports,
            with_rtcp_port,
            learns,
            silence_limit,
            sender,
            ssrc,
        } = order;
        let (rtp, rtcp) = open_ports(ports, with_rtcp_port, |port| {
            open_socket(SocketAddr::new(ip, port))
        })?;
        let addresses = PlainAddresses {
            rtp: rtp.socket.local_addr(),
            rtcp: rtcp.as_ref().map(|own| own.socket.local_addr()),
        };
        for (port, channel) in [(Port::Rtp, Some(&rtp)), (Port::Rtcp, rtcp.as_ref())] {
            if let Some(channel) = channel {
                let network = own.clone();
                channel.socket.set_handler(Receiver { network, id, port });
            }
        }
        let silence = silence_limit.map(|limit| (limit, now));
        let transport = PlainTransport::new(id, (rtp, rtcp), learns, silence, sender, ssrc);
        let transport = Transport::new(Kind::Plain(Box::new(transport)), owner);
        self.add_transport(id, transport);
        self.count_objects();
        self.sweep_later();
        self.report_later();
        tracing::debug!(transport = ?id, rtp = %addresses.rtp, "plain transport opened");
        Ok(addresses)
    }

    /// Reads what has arrived for a plain transport, a bounded amount of it, and forwards it.
    fn receive_plain(&mut self, id: TransportId, port: Port) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let now = rtc_thread::now();
        for _ in 0..RECEIVES_PER_TURN {
            let transport = self.transports.get_mut(&id).and_then(Transport::plain);
            let Some(channel) = transport.and_then(|plain| plain.channel(port)) else {
                break;
            };
            match channel.socket.recv(&mut arrivals) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    break;
                }
            }
            for datagram in arrivals.iter() {
                self.counters.packets_in.add(1);
                self.counters.bytes_in.add(datagram.data.len());
                let source = canonical(datagram.source);
                let local_ip = datagram.local_ip.map(|ip| ip.to_canonical());
                let mut stranger = None;
                if let Some(transport) = self.transports.get_mut(&id) {
                    transport.packets_in += 1;
                    transport.bytes_in += datagram.data.len() as u64;
                }
                self.with_plain(id, now, |plain, outbox| {
                    let taken = plain.receive(now, port, source, local_ip, datagram.data, outbox);
                    taken.unwrap_or_else(|who| {
                        stranger = Some(who);
                        None
                    })
                });
                if let Some(stranger) = stranger {
                    self.counters.count_stranger(stranger);
                }
            }
        }
        self.arrivals = arrivals;
        self.settle(now);
    }

    /// Hands to the system what waits on a plain transport.
    pub(super) fn flush_plain(&mut self, id: TransportId) {
        let transport = self.transports.get_mut(&id);
        if let Some(plain) = transport.and_then(Transport::plain) {
            plain.flush(&self.counters);
        }
    }

    /// Takes nothing more of a producer, if it arrives on a plain transport.
    pub(super) fn forget_plain_producer(&mut self, transport: TransportId, producer: ProducerId) {
        let transport = self.transports.get_mut(&transport);
        if let Some(plain) = transport.and_then(Transport::plain) {
            plain.remove_producer(producer);
        }
    }

    /// Uses a plain transport. False if there is no such transport.
    pub(super) fn with_plain(
        &mut self,
        id: TransportId,
        now: Instant,
        use_it: impl FnOnce(&mut PlainTransport, &mut Outbox) -> Option<Instant>,
    ) -> bool {
        let mut found = false;
        self.with_transport(id, now, |transport, outbox| {
            let transport = transport.plain()?;
            found = true;
            use_it(transport, outbox)
        });
        found
    }
}
