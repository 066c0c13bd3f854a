//! A network thread: one UDP socket, and the transports that share it.
//!
//! It decides nothing. Who consumes what is decided on the worker threads, and reaches here as
//! orders. A packet is forwarded on the thread on which it arrived; if a consumer's transport lives on
//! another network thread, everything for that thread goes there in one post per turn, payloads
//! shared.

mod arriving;
mod channels;
mod consumer;
mod consumers;
mod data;
mod demux;
mod direct;
mod downlink;
mod dtls_keys;
#[cfg(feature = "openssl")]
mod dtls_openssl;
mod fan_out;
mod key_frames;
mod levels;
mod opening;
mod outbox;
mod pipe_talk;
mod pipes;
mod plain;
mod plain_transport;
mod pulse;
mod reception;
mod sharing;
mod source;
mod stats;
#[cfg(test)]
mod tests;
mod threads;
mod trace;
mod transport;
mod webrtc;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtc_thread::ThreadBound;
use socket_server::{RecvBatch, UdpHandler, UdpOptions, UdpSocket};
use str0m::config::DtlsCert;

use crate::media::NetworkIndex;
use crate::objects::{ConsumerId, ProducerId, TransportId};
use crate::stats::NetworkCounters;

use self::consumer::Consumer;
use self::data::Data;
use self::demux::Demux;
use self::fan_out::FanOut;
use self::levels::Levels;
use self::outbox::{Outbox, Validated};
use self::pipes::Pipes;
use self::source::Source;
use self::transport::Transport;

pub(crate) use self::arriving::PlainProduced;
pub(crate) use self::channels::{DataEnd, MAX_CHANNELS, OpenedChannel};
pub(crate) use self::consumers::{Accepted, Wanted};
pub(crate) use self::data::{DataOrigin, DataOut, WantedData};
pub(crate) use self::demux::Stranger;
pub(crate) use self::levels::LevelSum;
pub(crate) use self::opening::{Flow, OpenWebRtc, Opened};
pub(crate) use self::pipes::{ConnectPipe, ListenForPipes};
pub(crate) use self::plain::{OpenPlain, PlainAddresses, PlainLine};
pub(crate) use self::plain_transport::{PlainRemote, PortRange};
pub(crate) use self::source::Origin;
pub(crate) use self::threads::Place;
pub use self::threads::{NetworkError, NetworkOptions, NetworkThreads};

/// How often the silent are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often consumers' reports are looked after. Each transport has its turn every tenth time.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
const REPORT_TURNS: u64 = 10;
/// Receive calls per readiness, before other sockets and tasks get their turn.
const RECEIVES_PER_TURN: usize = 8;
/// What a transport may want to receive from us in one turn before it is its client's fault.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The transports of one network thread, as others reach it.
pub(crate) struct Network(Rc<RefCell<State>>);

struct State {
    index: NetworkIndex,
    socket: UdpSocket,
    announced: Vec<SocketAddr>,
    certificate: DtlsCert,
    counters: Arc<NetworkCounters>,
    /// All network threads, this one included, once they are there.
    peers: Vec<ThreadBound<Network>>,
    demux: Demux,
    /// In their order, since all of them are gone through at times: what that sends is to be in the
    /// same order every time.
    transports: BTreeMap<TransportId, Transport>,
    /// How many there have been.
    opened: u64,
    /// Producers whose media arrives here.
    sources: HashMap<ProducerId, Source>,
    /// Producers that have consumers here, wherever their media arrives.
    fan_outs: HashMap<ProducerId, FanOut>,
    consumers: HashMap<ConsumerId, Consumer>,
    /// Links to other processes.
    pipes: Pipes,
    data: Data,
    levels: Levels,
    outbox: Outbox,
    arrivals: RecvBatch,
    /// What the clock of senders' reports counts from.
    started: Instant,
    is_sweeping: bool,
    /// Which transports' reports are next; none while there is no transport.
    reporting: Option<u64>,
}

impl Network {
    /// Opens the socket. To be called on the network thread.
    pub(crate) fn new(
        index: NetworkIndex,
        bind: SocketAddr,
        announced: &[IpAddr],
        certificate: DtlsCert,
        counters: Arc<NetworkCounters>,
    ) -> io::Result<(Self, SocketAddr)> {
        let server = rtc_thread::socket_server()
            .ok_or_else(|| io::Error::other("not on a thread with sockets"))?;
        let options = UdpOptions::new(bind)
            .recv_buffer_bytes(SOCKET_BUFFER_BYTES)
            .send_buffer_bytes(SOCKET_BUFFER_BYTES);
        let socket = server.bind_udp(&options)?;
        let local = socket.local_addr();
        let announced = announced
            .iter()
            .map(|ip| SocketAddr::new(*ip, local.port()))
            .collect();
        let state = Rc::new(RefCell::new(State {
            index,
            socket,
            announced,
            certificate,
            counters,
            peers: Vec::new(),
            demux: Demux::default(),
            transports: BTreeMap::new(),
            opened: 0,
            sources: HashMap::new(),
            fan_outs: HashMap::new(),
            consumers: HashMap::new(),
            pipes: Pipes::default(),
            data: Data::default(),
            levels: Levels::default(),
            outbox: Outbox::default(),
            arrivals: RecvBatch::default(),
            started: rtc_thread::now(),
            is_sweeping: false,
            reporting: None,
        }));
        let handler = Receiver(Rc::downgrade(&state));
        state.borrow().socket.set_handler(handler);
        Ok((Self(state), local))
    }

    /// Tells the thread of all of them, itself included.
    pub(crate) fn connect(&mut self, peers: Vec<ThreadBound<Self>>) {
        self.0.borrow_mut().peers = peers;
    }

    /// Ends a transport with a goodbye.
    pub(crate) fn close_transport(&mut self, id: TransportId) {
        self.act(|state, now| {
            state.pipes.close(id);
            let State {
                transports, outbox, ..
            } = state;
            if let Some(transport) = transports.get_mut(&id) {
                transport.close(now, outbox);
                outbox.ended.push(id);
            }
        });
    }

    /// Ends all transports with a goodbye.
    pub(crate) fn close_all(&mut self) {
        let transports: Vec<_> = self.0.borrow().transports.keys().copied().collect();
        for id in transports {
            self.close_transport(id);
        }
    }

    /// Lets the media of a producer through, or not.
    pub(crate) fn set_producer_paused(&mut self, producer: ProducerId, paused: bool) {
        if let Some(source) = self.0.borrow_mut().sources.get_mut(&producer) {
            source.set_paused(paused);
        }
    }

    /// Takes nothing more of a producer.
    pub(crate) fn remove_producer(&mut self, producer: ProducerId) {
        self.act(|state, _| {
            let Some(source) = state.sources.remove(&producer) else {
                return;
            };
            state.forget_plain_producer(source.transport, producer);
            let transport = state.transports.get_mut(&source.transport);
            if let Some(direct) = transport.and_then(Transport::direct) {
                direct.forget_producer(producer);
            }
        });
    }

    fn advance(&mut self, id: TransportId) {
        self.act(|state, now| {
            state.with_transport(id, now, |transport, outbox| {
                if let Some(timer) = transport.timer() {
                    *timer = None;
                }
                transport.advance(now, outbox)
            });
        });
    }

    fn sweep(&mut self) {
        self.act(|state, now| {
            state.is_sweeping = false;
            state.sweep(now);
            state.sweep_later();
        });
    }

    /// Does something, and whatever follows from it.
    fn act(&mut self, act: impl FnOnce(&mut State, Instant)) {
        let mut state = self.0.borrow_mut();
        let now = rtc_thread::now();
        act(&mut state, now);
        state.settle(now);
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// The handler of the socket.
struct Receiver(Weak<RefCell<State>>);

impl UdpHandler for Receiver {
    fn on_readable(&mut self, _socket: &UdpSocket) {
        if let Some(state) = self.0.upgrade() {
            state.borrow_mut().receive();
        }
    }

    fn on_writable(&mut self, _socket: &UdpSocket) {
        if let Some(state) = self.0.upgrade() {
            state.borrow_mut().flush();
        }
    }
}

impl State {
    /// Reads what has arrived, a bounded amount of it, and forwards it.
    fn receive(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let now = rtc_thread::now();
        for _ in 0..RECEIVES_PER_TURN {
            match self.socket.recv(&mut arrivals) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    break;
                }
            }
            tracing::trace!("packets received");
            for datagram in arrivals.iter() {
                self.counters.packets_in.add(1);
                self.counters.bytes_in.add(datagram.data.len());
                let source = canonical(datagram.source);
                let local_ip = datagram.local_ip.map(|ip| ip.to_canonical());
                match self.demux.find(source, datagram.data) {
                    Ok(transport) => {
                        self.with_transport(transport, now, |transport, outbox| {
                            transport.packets_in += 1;
                            transport.bytes_in += datagram.data.len() as u64;
                            let transport = transport.webrtc()?;
                            transport.receive(now, source, local_ip, datagram.data, outbox)
                        });
                    }
                    Err(stranger) => self.counters.count_stranger(stranger),
                }
            }
        }
        self.arrivals = arrivals;
        self.settle(now);
    }

    fn add_transport(&mut self, id: TransportId, mut transport: Transport) {
        // Turns go round among those of this thread: ids count those of the whole process, others of a
        // simulation's included.
        transport.turn = self.opened % REPORT_TURNS;
        self.opened += 1;
        self.transports.insert(id, transport);
    }

    /// Uses a transport, and sees to its next deadline. False if there is no such transport.
    fn with_transport(
        &mut self,
        id: TransportId,
        now: Instant,
        use_it: impl FnOnce(&mut Transport, &mut Outbox) -> Option<Instant>,
    ) -> bool {
        let Some(transport) = self.transports.get_mut(&id) else {
            return false;
        };
        let outbox = &mut self.outbox;
        match catch_unwind(AssertUnwindSafe(|| use_it(transport, outbox))) {
            Ok(Some(deadline)) => self.arm(id, now, deadline),
            Ok(None) => {}
            Err(_) => {
                tracing::error!(transport = ?id, "a transport panicked, and ends");
                self.outbox.ended.push(id);
            }
        }
        true
    }

    /// Makes sure that the transport hears of time at its deadline. A timer that fires too early
    /// finds a later deadline and is set again; so the deadline may move back, as it does with
    /// nearly every packet, at no cost.
    fn arm(&mut self, id: TransportId, now: Instant, deadline: Instant) {
        let Some(armed) = self.transports.get_mut(&id).and_then(Transport::timer) else {
            return;
        };
        if let Some((due, timer)) = &*armed {
            if *due <= deadline {
                return;
            }
            timer.cancel();
        }
        let delay = deadline.saturating_duration_since(now);
        let Some(own) = self.peers.get(self.index.0) else {
            return;
        };
        // Refused only when the thread is quitting, and with it all its transports.
        let timer = own.post_delayed(delay, move |network| network.advance(id));
        *armed = timer.ok().map(|timer| (deadline, timer));
    }

    /// Does what the transports have left to be done, until nothing is left.
    fn settle(&mut self, now: Instant) {
        loop {
            for (transport, address) in std::mem::take(&mut self.outbox.validated) {
                match address {
                    Validated::Another(address) => self.demux.learn(transport, address),
                    Validated::Only(address) => self.demux.keep_only(transport, address),
                }
            }
            for id in std::mem::take(&mut self.outbox.connected) {
                self.transport_connected(now, id);
            }
            let packets = std::mem::take(&mut self.outbox.packets);
            let reports = std::mem::take(&mut self.outbox.reports);
            let ended = std::mem::take(&mut self.outbox.ended);
            let has_data = !self.outbox.data.is_empty();
            if packets.is_empty() && reports.is_empty() && ended.is_empty() && !has_data {
                break;
            }
            if has_data {
                self.heed_data(now);
            }
            self.forward(now, packets);
            for (transport, report) in reports {
                self.heed(now, transport, report);
            }
            for id in ended {
                self.end(id, now);
            }
        }
        for (id, downlink) in std::mem::take(&mut self.outbox.downlinks) {
            if let Some(transport) = self.transports.get(&id) {
                let owner = &transport.owner;
                owner.post(move |router| router.downlink_estimated(id, downlink));
            }
        }
        self.tell_statuses();
        self.count_objects();
        self.flush();
    }

    /// Forgets a transport, and tells its owner.
    fn end(&mut self, id: TransportId, now: Instant) {
        let Some(mut transport) = self.transports.remove(&id) else {
            return;
        };
        if let Some((_, timer)) = transport.timer().and_then(Option::take) {
            timer.cancel();
        }
        self.demux.remove(id);
        self.pipes.close(id);
        for producer in transport.produced() {
            self.sources.remove(&producer);
        }
        for consumer in transport.consumers {
            self.remove_consumer(consumer);
        }
        self.end_data(id, now);
        transport
            .owner
            .post(move |router| router.transport_ended(id));
    }

    /// Hands the datagrams to the system. What does not fit its buffer waits for `on_writable`.
    fn flush(&mut self) {
        for transport in std::mem::take(&mut self.outbox.touched) {
            self.flush_plain(transport);
        }
        let dropped = std::mem::take(&mut self.outbox.datagrams_dropped);
        self.counters.send_errors.add(dropped);
        let datagrams = &mut self.outbox.datagrams;
        if datagrams.is_empty() {
            return;
        }
        let report = self.socket.send_batch(datagrams);
        self.counters.packets_out.add(report.datagrams);
        self.counters.bytes_out.add(report.bytes);
        self.counters.send_errors.add(report.failed);
        if let Some(error) = report.last_error {
            tracing::debug!(%error, failed = report.failed, "sending failed");
        }
    }

    fn count_objects(&self) {
        let counts = [
            (&self.counters.transports, self.transports.len()),
            (&self.counters.producers, self.sources.len()),
            (&self.counters.consumers, self.consumers.len()),
            (&self.counters.fan_outs, self.fan_outs.len()),
        ];
        for (counter, count) in counts {
            counter.store(count, Ordering::Relaxed);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let transports: Vec<_> = self.transports.keys().copied().collect();
        for id in transports {
            let is_silent = |transport: &Transport| transport.is_silent(now);
            if self.transports.get(&id).is_some_and(is_silent) {
                tracing::info!(transport = ?id, "the client has vanished");
                self.outbox.ended.push(id);
                continue;
            }
            if self.is_worn_link(id) {
                self.break_link(id, "its keys are to be replaced");
                continue;
            }
            self.with_webrtc(id, now, |transport, outbox| {
                transport.remind_of_bitrate_limit(now, outbox)
            });
        }
    }

    /// Whether a link should be made anew, with other keys: hundreds of tracks use them up in weeks.
    fn is_worn_link(&mut self, id: TransportId) -> bool {
        let transport = self.transports.get_mut(&id);
        let plain = transport.and_then(Transport::plain);
        plain.is_some_and(|own| own.has_worn_key()) && self.pipes.link(id).is_some()
    }

    /// Looks for the silent again in a while, if there is anybody.
    fn sweep_later(&mut self) {
        if self.is_sweeping || self.transports.is_empty() {
            return;
        }
        if let Some(own) = self.peers.get(self.index.0) {
            self.is_sweeping = own.post_delayed(SWEEP_INTERVAL, Network::sweep).is_ok();
        }
    }
}

/// An IPv4 client of a dual-stack socket has an IPv6 address; ICE knows it by the other.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The fuzzer's way to what is private to here.
#[cfg(fuzzing)]
pub(crate) mod for_fuzzing {
    pub(crate) use super::demux::Demux;
    pub(crate) use super::webrtc::WebRtcTransport;
}
