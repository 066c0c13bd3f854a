//! A network thread: one UDP socket, and the transports of all sessions that share it.
//!
//! It decides nothing. Where a track goes was decided on the worker thread, and reaches here as a
//! subscription. A packet is forwarded on the thread on which it arrived; if a subscriber lives on
//! another network thread, everything for that thread goes there in one post per turn, payloads
//! shared.

use std::cell::RefCell;
use std::collections::HashMap;
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
use str0m::Candidate;
use str0m::bwe::Bitrate;
use str0m::config::DtlsCert;

use crate::ApiError;
use crate::demux::Demux;
use crate::media::{MediaPacket, NetworkIndex, SessionKey, Track, TrackId};
use crate::operation::ReplyTo;
use crate::sdp::Offer;
use crate::stats::NetworkCounters;
use crate::transport::{Negotiated, Outbox, Sent, WebRtcTransport};
use crate::worker::Worker;

/// Key frames cost a publisher much, and one serves all viewers: requests that come faster wait.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// How often the silent are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Receive calls per readiness, before other sockets and tasks get their turn.
const RECEIVES_PER_TURN: usize = 8;
/// What a session may want to receive from us in one turn before it is its client's fault.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A session to be opened, as the worker wants it.
pub(crate) struct OpenSession {
    pub(crate) key: SessionKey,
    pub(crate) offer: Offer,
    /// What it is to be sent, of others; nothing for a session that echoes or publishes.
    pub(crate) wanted: Vec<(Track, NetworkIndex)>,
    pub(crate) role: TransportRole,
}

/// What a session's transport is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportRole {
    /// It is sent what it sends.
    Echo,
    /// It sends.
    Publish,
    /// It is sent what others send.
    View,
}

/// A session that has been opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) answer: String,
    /// What the client sends.
    pub(crate) produced: Vec<Track>,
    /// What the client is to be sent, once the worker subscribes it.
    pub(crate) consumed: Vec<TrackId>,
}

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
    worker: Option<ThreadBound<Worker>>,
    demux: Demux,
    transports: HashMap<SessionKey, WebRtcTransport>,
    sources: HashMap<TrackId, Source>,
    subscribers: HashMap<TrackId, Vec<SessionKey>>,
    outbox: Outbox,
    arrivals: RecvBatch,
    sweeping: bool,
}

/// A track that arrives here.
#[derive(Debug)]
struct Source {
    session: SessionKey,
    /// The network threads on which it has subscribers.
    destinations: Vec<NetworkIndex>,
    last_keyframe_request: Option<Instant>,
    keyframe_request_pending: bool,
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
            worker: None,
            demux: Demux::default(),
            transports: HashMap::new(),
            sources: HashMap::new(),
            subscribers: HashMap::new(),
            outbox: Outbox::default(),
            arrivals: RecvBatch::default(),
            sweeping: false,
        }));
        let handler = Receiver(Rc::downgrade(&state));
        state.borrow().socket.set_handler(handler);
        Ok((Self(state), local))
    }

    /// Tells the thread of the others.
    pub(crate) fn connect(&mut self, peers: Vec<ThreadBound<Self>>, worker: ThreadBound<Worker>) {
        let mut state = self.0.borrow_mut();
        state.peers = peers;
        state.worker = Some(worker);
    }

    /// Opens a session, and tells the worker how it went.
    pub(crate) fn open(&mut self, session: OpenSession) {
        let mut state = self.0.borrow_mut();
        let (key, index) = (session.key, state.index);
        let outcome = state.open(session);
        state.tell_worker(move |worker| worker.session_opened(key, index, outcome));
        state.settle(Instant::now());
    }

    /// Starts sending a track to a session of this thread that consumes it.
    pub(crate) fn subscribe(&mut self, track: TrackId, session: SessionKey) {
        let mut state = self.0.borrow_mut();
        tracing::debug!(?track, ?session, "track subscribed");
        let consumes = state.transports.get(&session).is_some_and(|transport| {
            transport
                .consumers()
                .iter()
                .any(|consumer| consumer.track == track)
        });
        if consumes {
            state.subscribers.entry(track).or_default().push(session);
        }
    }

    /// Starts forwarding a track that arrives here to a network thread.
    pub(crate) fn add_destination(&mut self, track: TrackId, destination: NetworkIndex) {
        let mut state = self.0.borrow_mut();
        if let Some(source) = state.sources.get_mut(&track)
            && !source.destinations.contains(&destination)
        {
            source.destinations.push(destination);
        }
    }

    /// Stops forwarding a track to a network thread that has no subscriber left.
    pub(crate) fn remove_destination(&mut self, track: TrackId, destination: NetworkIndex) {
        if let Some(source) = self.0.borrow_mut().sources.get_mut(&track) {
            source.destinations.retain(|other| *other != destination);
        }
    }

    /// Ends a session with a goodbye.
    pub(crate) fn close(&mut self, session: SessionKey) {
        let mut state = self.0.borrow_mut();
        let State {
            transports, outbox, ..
        } = &mut *state;
        if let Some(transport) = transports.get_mut(&session) {
            transport.close(Instant::now(), outbox);
            outbox.ended.push(session);
        }
        state.settle(Instant::now());
    }

    /// Ends all sessions with a goodbye.
    pub(crate) fn close_all(&mut self) {
        let sessions: Vec<_> = self.0.borrow().transports.keys().copied().collect();
        for session in sessions {
            self.close(session);
        }
    }

    /// Takes in candidates that a client has trickled.
    pub(crate) fn add_remote_candidates(
        &mut self,
        session: SessionKey,
        candidates: Vec<Candidate>,
        reply: ReplyTo<()>,
    ) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        let found = state.with_transport(session, now, |transport, outbox| {
            transport.add_remote_candidates(now, candidates, outbox)
        });
        reply.send(if found {
            Ok(())
        } else {
            Err(ApiError::UnknownSession)
        });
        state.settle(now);
    }

    /// Sends packets that arrived on another network thread to the subscribers here.
    fn deliver(&mut self, packets: &[(TrackId, MediaPacket)]) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        state.deliver(now, packets);
        state.settle(now);
    }

    /// Asks the client that sends a track for a key frame.
    fn request_keyframe(&mut self, track: TrackId) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        state.request_keyframe(now, track);
        state.settle(now);
    }

    /// Tells a client to send no more than so much.
    pub(crate) fn limit_bitrate(&mut self, session: SessionKey, limit: Bitrate) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        state.with_transport(session, now, |transport, outbox| {
            transport.limit_bitrate(now, limit, outbox)
        });
        state.settle(now);
    }

    fn send_pending_keyframe_request(&mut self, track: TrackId) {
        let mut state = self.0.borrow_mut();
        if let Some(source) = state.sources.get_mut(&track) {
            source.keyframe_request_pending = false;
        }
        let now = Instant::now();
        state.request_keyframe(now, track);
        state.settle(now);
    }

    fn advance(&mut self, session: SessionKey) {
        let mut state = self.0.borrow_mut();
        if let Some(transport) = state.transports.get_mut(&session) {
            transport.timer = None;
        }
        let now = Instant::now();
        state.with_transport(session, now, |transport, outbox| {
            transport.advance(now, outbox)
        });
        state.settle(now);
    }

    fn sweep(&mut self) {
        let mut state = self.0.borrow_mut();
        let now = Instant::now();
        let silent = state
            .transports
            .iter()
            .filter(|(_, transport)| transport.is_silent(now));
        let silent: Vec<_> = silent.map(|(key, _)| *key).collect();
        for session in silent {
            tracing::info!(?session, "the client has vanished");
            state.outbox.ended.push(session);
        }
        let limited: Vec<_> = state.transports.keys().copied().collect();
        for session in limited {
            state.with_transport(session, now, |transport, outbox| {
                transport.remind_of_bitrate_limit(now, outbox)
            });
        }
        state.sweeping = false;
        state.settle(now);
        state.sweep_later();
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
    fn open(&mut self, session: OpenSession) -> Result<Opened, ApiError> {
        let now = Instant::now();
        let OpenSession {
            key,
            offer,
            wanted,
            role,
        } = session;
        // str0m's own advice: a panic in it is a fault of it, to be contained to one peer.
        let negotiated = catch_unwind(AssertUnwindSafe(|| {
            WebRtcTransport::negotiate(key, offer, &self.certificate, &self.announced, now)
        }));
        let Negotiated {
            mut transport,
            answer,
            ufrag,
            tracks,
            receiving,
        } = negotiated.unwrap_or_else(|_| {
            let reason = "the SDP could not be processed";
            Err(ApiError::BadOffer(reason.to_owned()))
        })?;
        if role != TransportRole::View && tracks.is_empty() {
            let reason = "none of the offered codecs is Opus, VP8, VP9, H.264 or AV1";
            return Err(ApiError::NoCommonCodec(reason.to_owned()));
        }
        let consumed = match role {
            TransportRole::Publish => Vec::new(),
            TransportRole::View => transport.consume(&wanted, receiving)?,
            TransportRole::Echo => {
                let own = tracks.iter().map(|track| (track.clone(), self.index));
                transport.consume(&own.collect::<Vec<_>>(), receiving)?
            }
        };
        for track in &tracks {
            let source = Source {
                session: key,
                destinations: Vec::new(),
                last_keyframe_request: None,
                keyframe_request_pending: false,
            };
            self.sources.insert(track.id, source);
        }
        tracing::debug!(session = ?key, "offer answered");
        self.demux.insert(key, ufrag);
        self.transports.insert(key, transport);
        self.count_sessions();
        self.sweep_later();
        Ok(Opened {
            answer,
            produced: tracks,
            consumed,
        })
    }

    /// Reads what has arrived, a bounded amount of it, and forwards it.
    fn receive(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let now = Instant::now();
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
                    Ok(session) => {
                        self.with_transport(session, now, |transport, outbox| {
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

    /// Uses a transport, and sees to its next deadline. False if there is no such transport.
    fn with_transport(
        &mut self,
        session: SessionKey,
        now: Instant,
        use_it: impl FnOnce(&mut WebRtcTransport, &mut Outbox) -> Option<Instant>,
    ) -> bool {
        let Some(transport) = self.transports.get_mut(&session) else {
            return false;
        };
        let outbox = &mut self.outbox;
        match catch_unwind(AssertUnwindSafe(|| use_it(transport, outbox))) {
            Ok(Some(deadline)) => self.arm(session, now, deadline),
            Ok(None) => {}
            Err(_) => {
                tracing::error!(?session, "a transport panicked; its session ends");
                self.outbox.ended.push(session);
            }
        }
        true
    }

    /// Makes sure that the transport hears of time at its deadline. A timer that fires too early
    /// finds a later deadline and is set again; so the deadline may move back, as it does with
    /// nearly every packet, at no cost.
    fn arm(&mut self, session: SessionKey, now: Instant, deadline: Instant) {
        let Some(transport) = self.transports.get_mut(&session) else {
            return;
        };
        if let Some((due, timer)) = &transport.timer {
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
        let timer = own.post_delayed(delay, move |network| network.advance(session));
        transport.timer = timer.ok().map(|timer| (deadline, timer));
    }

    /// Does what the transports have left to be done, until nothing is left.
    fn settle(&mut self, now: Instant) {
        loop {
            for (session, address) in std::mem::take(&mut self.outbox.validated) {
                self.demux.learn(session, address);
            }
            for (session, downlink) in std::mem::take(&mut self.outbox.downlinks) {
                self.tell_worker(move |worker| worker.downlink_estimated(session, downlink));
            }
            let packets = std::mem::take(&mut self.outbox.packets);
            let requests = std::mem::take(&mut self.outbox.keyframe_requests);
            let ended = std::mem::take(&mut self.outbox.ended);
            if packets.is_empty() && requests.is_empty() && ended.is_empty() {
                break;
            }
            self.forward(now, packets);
            for (source, track) in requests {
                if source == self.index {
                    self.request_keyframe(now, track);
                } else if let Some(peer) = self.peers.get(source.0) {
                    // A thread that has quit has no publisher to ask.
                    let _ = peer.post(move |network| network.request_keyframe(track));
                }
            }
            for session in ended {
                self.end(session);
            }
        }
        self.flush();
    }

    fn forward(&mut self, now: Instant, packets: Vec<(TrackId, MediaPacket)>) {
        if packets.is_empty() {
            return;
        }
        self.counters.media_packets_in.add(packets.len());
        let mut elsewhere: HashMap<NetworkIndex, Vec<(TrackId, MediaPacket)>> = HashMap::new();
        for (track, packet) in &packets {
            let destinations = self.sources.get(track).map(|source| &source.destinations);
            for destination in destinations.into_iter().flatten() {
                if *destination != self.index {
                    let batch = elsewhere.entry(*destination).or_default();
                    batch.push((*track, packet.clone()));
                }
            }
        }
        for (destination, batch) in elsewhere {
            if let Some(peer) = self.peers.get(destination.0) {
                // Refused only while everything is shutting down.
                let _ = peer.post(move |network| network.deliver(&batch));
            }
        }
        self.deliver(now, &packets);
    }

    /// Goes through the subscribers one after another, not through the packets: so the datagrams
    /// for one client come in a row, and can leave in one system call.
    fn deliver(&mut self, now: Instant, packets: &[(TrackId, MediaPacket)]) {
        tracing::trace!(packets = packets.len(), "packets forwarded");
        let mut tracks: Vec<TrackId> = packets.iter().map(|(track, _)| *track).collect();
        tracks.sort_unstable();
        tracks.dedup();
        for track in tracks {
            // Taken out while the transports are used; nothing they do changes it.
            let Some(subscribers) = self.subscribers.remove(&track) else {
                continue;
            };
            for session in &subscribers {
                let of_track = packets
                    .iter()
                    .filter(|(of, _)| *of == track)
                    .map(|(_, p)| p);
                let mut fared = Sent::default();
                self.with_transport(*session, now, |transport, outbox| {
                    if !transport.is_connected() {
                        return None;
                    }
                    let (sent, deadline) = transport.send(now, track, of_track, outbox);
                    fared = sent;
                    deadline
                });
                self.counters.media_packets_forwarded.add(fared.forwarded);
                self.counters
                    .media_packets_untranslatable
                    .add(fared.untranslatable);
            }
            self.subscribers.insert(track, subscribers);
        }
    }

    fn request_keyframe(&mut self, now: Instant, track: TrackId) {
        let Some(source) = self.sources.get_mut(&track) else {
            return;
        };
        if source.keyframe_request_pending {
            return;
        }
        let not_before = source
            .last_keyframe_request
            .map(|last| last + KEYFRAME_INTERVAL);
        if let Some(not_before) = not_before.filter(|not_before| *not_before > now) {
            if let Some(own) = self.peers.get(self.index.0) {
                let delay = not_before - now;
                source.keyframe_request_pending = own
                    .post_delayed(delay, move |network| {
                        network.send_pending_keyframe_request(track);
                    })
                    .is_ok();
            }
            return;
        }
        source.last_keyframe_request = Some(now);
        let session = source.session;
        self.counters.keyframe_requests.add(1);
        self.with_transport(session, now, |transport, outbox| {
            transport.request_keyframe(now, track, outbox)
        });
    }

    /// Forgets a session, and tells the worker.
    fn end(&mut self, session: SessionKey) {
        let Some(transport) = self.transports.remove(&session) else {
            return;
        };
        if let Some((_, timer)) = &transport.timer {
            timer.cancel();
        }
        self.demux.remove(session);
        for track in transport.produced() {
            self.sources.remove(&track);
        }
        for consumer in transport.consumers() {
            if let Some(subscribers) = self.subscribers.get_mut(&consumer.track) {
                subscribers.retain(|other| *other != session);
                if subscribers.is_empty() {
                    self.subscribers.remove(&consumer.track);
                }
            }
        }
        self.count_sessions();
        self.tell_worker(move |worker| worker.session_ended(session));
    }

    /// Hands the datagrams to the system. What does not fit its buffer waits for `on_writable`.
    fn flush(&mut self) {
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

    fn tell_worker(&self, message: impl FnOnce(&mut Worker) + Send + 'static) {
        if let Some(worker) = &self.worker {
            // Refused only while everything is shutting down.
            let _ = worker.post(message);
        }
    }

    fn count_sessions(&self) {
        self.counters
            .sessions
            .store(self.transports.len(), Ordering::Relaxed);
    }

    /// Looks for the silent again in a while, if there is anybody.
    fn sweep_later(&mut self) {
        if self.sweeping || self.transports.is_empty() {
            return;
        }
        if let Some(own) = self.peers.get(self.index.0) {
            self.sweeping = own.post_delayed(SWEEP_INTERVAL, Network::sweep).is_ok();
        }
    }
}

/// An IPv4 client of a dual-stack socket has an IPv6 address; ICE knows it by the other.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
