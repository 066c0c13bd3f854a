//! A WebRTC client on a simulated thread: str0m over a virtual socket.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rtc_thread::{DelayedTask, ThreadBound, now, socket_server};
use socket_server::{RecvBatch, UdpHandler, UdpOptions, UdpSocket};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::Person;

/// One end of a connection to the SFU. It lives on the thread of its person, and is gone without a
/// goodbye when this is dropped.
pub(crate) struct Client(ThreadBound<Shared>);

type Shared = Rc<RefCell<Peer>>;

/// What a client has to show.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    /// Of its checks.
    pub(crate) answers: u64,
    /// Packets sent, of both kinds. Each has its number in its payload.
    pub(crate) sent: u64,
    pub(crate) key_frame_requests: u64,
    pub(crate) audio: u64,
    pub(crate) video: u64,
    /// The packets received, if the test wants them all.
    pub(crate) log: Option<Vec<Received>>,
}

/// A packet as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) is_video: bool,
    /// In the stream that the client receives.
    pub(crate) sequence: u64,
    /// What its publisher has numbered it.
    pub(crate) number: u64,
    pub(crate) is_key: bool,
    pub(crate) at: Instant,
}

pub(crate) struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    audio: Mid,
    video: Mid,
    pending: Option<SdpPendingOffer>,
    /// The next sequence numbers.
    sequences: [u64; 2],
    owes_key_frame: bool,
    /// Of so many packets, one is not sent, and cannot be had.
    skips_one_in: Option<u64>,
    timer: Option<(Instant, DelayedTask)>,
    /// The way back to here, until the client is gone.
    own: Option<ThreadBound<Shared>>,
    batch: RecvBatch,
    seen: Seen,
}

/// Weak, because the peer has the socket, and the socket has this.
struct OnPeer(Weak<RefCell<Peer>>);

impl UdpHandler for OnPeer {
    fn on_readable(&mut self, _socket: &UdpSocket) {
        if let Some(peer) = self.0.upgrade() {
            peer.borrow_mut().receive();
        }
    }
}

impl Client {
    /// Makes a client, and its offer.
    pub(crate) fn offer(person: &Person, direction: Direction) -> (Self, String) {
        let ip = person.ip;
        let made = person.thread.blocking_call(move || {
            let (peer, offer) = Peer::offer(ip, direction);
            let peer = Rc::new(RefCell::new(peer));
            let handler = OnPeer(Rc::downgrade(&peer));
            peer.borrow().socket.set_handler(handler);
            let own = ThreadBound::on_current(peer.clone()).unwrap();
            peer.borrow_mut().own = Some(own.clone());
            (Self(own), offer)
        });
        made.unwrap()
    }

    pub(crate) fn accept(&self, answer: &str) {
        let answer = answer.to_owned();
        self.with(move |peer| peer.accept(&answer));
    }

    /// Goes to another address, where nothing arrives that is sent to the one before, and makes an offer
    /// anew, with new ICE credentials.
    pub(crate) fn offer_elsewhere(&self) -> String {
        let offer = self.0.blocking_call(|peer| {
            let handler = OnPeer(Rc::downgrade(peer));
            peer.borrow_mut().offer_elsewhere(handler)
        });
        offer.unwrap()
    }

    /// Sends a packet on each media line now, and then every so often.
    pub(crate) fn send_every(&self, interval: Duration) {
        tick(&self.0, Duration::ZERO, interval);
    }

    /// Has one packet of so many missing in what is sent; or none.
    pub(crate) fn skip_one_in(&self, packets: Option<u64>) {
        self.with(|peer| peer.skips_one_in = packets);
    }

    /// Keeps all packets, to be looked at.
    pub(crate) fn keep_log(&self) {
        self.with(|peer| peer.seen.log = Some(Vec::new()));
    }

    /// Looks at what the client has seen.
    pub(crate) fn seen<R: Send>(&self, look: impl FnOnce(&Seen) -> R + Send) -> R {
        self.with(|peer| look(&peer.seen))
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.seen(|seen| seen.connected)
    }

    fn with<R: Send>(&self, act: impl FnOnce(&mut Peer) -> R + Send) -> R {
        self.0
            .blocking_call(|peer| act(&mut peer.borrow_mut()))
            .unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Or the simulation is over.
        let _ = self.0.post(|peer| peer.borrow_mut().own = None);
    }
}

fn tick(peer: &ThreadBound<Shared>, after: Duration, interval: Duration) {
    let again = peer.clone();
    let _ = peer.post_delayed(after, move |peer| {
        let mut peer = peer.borrow_mut();
        if peer.own.is_some() && !peer.seen.closed {
            if peer.seen.connected {
                peer.send();
            }
            tick(&again, interval, interval);
        }
    });
}

impl Peer {
    fn offer(ip: IpAddr, direction: Direction) -> (Self, String) {
        let options = UdpOptions::new(SocketAddr::new(ip, 0));
        let socket = socket_server().unwrap().bind_udp(&options).unwrap();
        let address = socket.local_addr();
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now());
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let mut changes = rtc.sdp_api();
        let audio = changes.add_media(MediaKind::Audio, direction, None, None, None);
        let video = changes.add_media(MediaKind::Video, direction, None, None, None);
        let (offer, pending) = changes.apply().unwrap();
        let peer = Self {
            rtc,
            socket,
            address,
            audio,
            video,
            pending: Some(pending),
            sequences: [1; 2],
            owes_key_frame: true,
            skips_one_in: None,
            timer: None,
            own: None,
            batch: RecvBatch::new(),
            seen: Seen::default(),
        };
        (peer, offer.to_sdp_string())
    }

    fn offer_elsewhere(&mut self, handler: OnPeer) -> String {
        let options = UdpOptions::new(SocketAddr::new(self.address.ip(), 0));
        self.socket = socket_server().unwrap().bind_udp(&options).unwrap();
        self.socket.set_handler(handler);
        let candidate = |address| Candidate::host(address, "udp").unwrap();
        let left = candidate(self.address);
        self.rtc.direct_api().invalidate_candidate(&left);
        self.address = self.socket.local_addr();
        self.rtc.add_local_candidate(candidate(self.address));
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    fn accept(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        let pending = self.pending.take().unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
        self.time_passes();
    }

    fn receive(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        while self.socket.recv(&mut batch).is_ok() {
            for datagram in batch.iter() {
                let (source, data) = (datagram.source, datagram.data);
                // RFC 8489: a binding success response.
                self.seen.answers += u64::from(data.starts_with(&[1, 1]));
                let Ok(received) = Receive::new(Protocol::Udp, source, self.address, data) else {
                    continue;
                };
                let input = Input::Receive(now(), received);
                self.take_in(input);
                self.drain();
            }
        }
        self.batch = batch;
    }

    fn take_in(&mut self, input: Input<'_>) {
        if self.rtc.handle_input(input).is_err() {
            self.fail();
        }
    }

    /// The SFU has given up a session before it was connected, of which a client hears nothing.
    fn fail(&mut self) {
        self.seen.closed = true;
        self.rtc.disconnect();
    }

    fn time_passes(&mut self) {
        self.take_in(Input::Timeout(now()));
        self.drain();
    }

    /// Sends a packet of audio, and a frame of video: a key frame if one was asked for.
    fn send(&mut self) {
        let is_key = std::mem::take(&mut self.owes_key_frame);
        for (kind, mid) in [self.audio, self.video].into_iter().enumerate() {
            self.seen.sent += 1;
            let number = self.seen.sent;
            let Some(pt) = self.rtc.media(mid).map(|media| media.remote_pts()[0]) else {
                continue;
            };
            let mut api = self.rtc.direct_api();
            let Some(stream) = api.stream_tx_by_mid(mid, None) else {
                continue;
            };
            let sequence = self.sequences[kind];
            self.sequences[kind] += 1;
            if self
                .skips_one_in
                .is_some_and(|n| sequence.is_multiple_of(n))
            {
                continue;
            }
            // VP8's descriptor with a picture ID of 15 bits, and the first byte of the frame.
            let picture = (number as u16 | 0x8000).to_be_bytes();
            let tag = if is_key { 0x10 } else { 0x11 };
            let descriptor = [0x90, 0x80, picture[0], picture[1], tag];
            let payload = [&descriptor[..], &number.to_be_bytes()].concat();
            let write = RtpWrite::new(
                pt,
                SeqNo::from(sequence),
                number as u32 * 960,
                now(),
                payload,
            );
            stream.write_rtp(write.marker(true).nackable(true));
        }
        self.time_passes();
    }

    fn drain(&mut self) {
        // str0m may have something to say about the time that it knows already.
        let mut reminders_left = 4;
        loop {
            let Ok(output) = self.rtc.poll_output() else {
                return self.fail();
            };
            match output {
                Output::Timeout(at) if at <= now() && reminders_left > 0 => {
                    reminders_left -= 1;
                    self.take_in(Input::Timeout(now()));
                }
                Output::Timeout(at) => break self.wake_at(at),
                Output::Transmit(transmit) => {
                    // A full link loses it.
                    let _ = self
                        .socket
                        .send_to(transmit.destination, &transmit.contents);
                }
                Output::Event(Event::Connected) => self.seen.connected = true,
                Output::Event(Event::Closed) => self.seen.closed = true,
                Output::Event(Event::RtpPacket(packet)) => self.note(&packet),
                Output::Event(Event::KeyframeRequest(_)) => {
                    self.seen.key_frame_requests += 1;
                    self.owes_key_frame = true;
                }
                Output::Event(_) => {}
            }
        }
    }

    fn note(&mut self, packet: &RtpPacket) {
        let stream = self.rtc.direct_api();
        let mid = packet.header.ext_vals.mid;
        let mid = mid.or_else(|| mid_of(stream, packet));
        let is_video = mid == Some(self.video);
        match is_video {
            true => self.seen.video += 1,
            false => self.seen.audio += 1,
        }
        if let Some(log) = &mut self.seen.log {
            log.push(Received {
                is_video,
                sequence: *packet.seq_no,
                number: u64::from_be_bytes(packet.payload[5..13].try_into().unwrap()),
                is_key: packet.payload[4] & 1 == 0,
                at: now(),
            });
        }
    }

    /// A timer that fires too early is set again; so the deadline may move back at no cost.
    fn wake_at(&mut self, deadline: Instant) {
        if !self.rtc.is_alive() {
            return;
        }
        if let Some((due, timer)) = &self.timer {
            if *due <= deadline {
                return;
            }
            timer.cancel();
        }
        let Some(own) = &self.own else {
            return;
        };
        let delay = deadline.saturating_duration_since(now());
        // What is due at once comes a little later, or no time would pass.
        let delay = delay.max(Duration::from_millis(1));
        let timer = own.post_delayed(delay, |peer| {
            let mut peer = peer.borrow_mut();
            peer.timer = None;
            if peer.own.is_some() {
                peer.time_passes();
            }
        });
        self.timer = timer.ok().map(|timer| (deadline, timer));
    }
}

fn mid_of(mut api: str0m::change::DirectApi<'_>, packet: &RtpPacket) -> Option<Mid> {
    api.stream_rx(&packet.header.ssrc)
        .map(|stream| stream.mid())
}
