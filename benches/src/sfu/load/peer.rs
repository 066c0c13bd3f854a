//! One client: str0m over a socket of its own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::config::DtlsCert;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use crate::sfu::arrivals;
use crate::sfu::media::{Kind, MediaPacket};
use crate::udp_option::segment;

/// More than any client has at a time: a burst of video, or the messages of a handshake.
const MAX_TRAIN: usize = 64;

pub(crate) struct Peer {
    rtc: Rtc,
    pub(crate) socket: UdpSocket,
    address: SocketAddr,
    /// The media lines it offered, of video and of audio.
    lines: Option<[Mid; 2]>,
    pub(crate) connected: bool,
    outgoing: Train,
}

/// Datagrams that go to one destination; they leave together if they are of one size.
#[derive(Default)]
struct Train {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    destination: Option<SocketAddr>,
    /// What the socket takes trains apart into.
    segment: usize,
}

impl Peer {
    pub(crate) fn new(ip: IpAddr) -> Result<Self, String> {
        let open = || {
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            arrivals::prepare(&socket)?;
            Ok::<_, std::io::Error>((socket.local_addr()?, socket))
        };
        let (address, socket) = open().map_err(|error| format!("a client's socket: {error}"))?;
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .set_dtls_cert(certificate()?)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp").map_err(text)?);
        Ok(Self {
            rtc,
            socket,
            address,
            lines: None,
            connected: false,
            outgoing: Train::default(),
        })
    }

    pub(crate) fn offer(
        &mut self,
        direction: Direction,
    ) -> Result<(String, SdpPendingOffer), String> {
        let mut changes = self.rtc.sdp_api();
        let mut line = |kind| changes.add_media(kind, direction, None, None, None);
        let (audio, video) = (line(MediaKind::Audio), line(MediaKind::Video));
        self.lines = Some([video, audio]);
        let (offer, pending) = changes.apply().ok_or("there is nothing to offer")?;
        Ok((offer.to_sdp_string(), pending))
    }

    pub(crate) fn accept(&mut self, pending: SdpPendingOffer, answer: &str) -> Result<(), String> {
        let answer = SdpAnswer::from_sdp_string(answer).map_err(text)?;
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .map_err(text)
    }

    pub(crate) fn answer(&mut self, offer: &str) -> Result<String, String> {
        let offer = SdpOffer::from_sdp_string(offer).map_err(text)?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(text)?;
        Ok(answer.to_sdp_string())
    }

    /// Has a packet encrypted; it leaves with the next [`flush`](Self::flush). Every packet of a
    /// publisher goes through here: its events are of no interest meanwhile.
    pub(crate) fn write(&mut self, now: Instant, packet: MediaPacket) -> Result<(), RtcError> {
        let Some(lines) = self.lines else {
            return Ok(());
        };
        let mid = lines[packet.kind as usize];
        let pt = self
            .rtc
            .media(mid)
            .and_then(|media| media.remote_pts().first().copied());
        if let Some(pt) = pt
            && let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None)
        {
            let number = SeqNo::from(packet.number);
            let write = RtpWrite::new(pt, number, packet.timestamp, now, packet.payload);
            stream.write_rtp(
                write
                    .marker(packet.last)
                    .nackable(packet.kind == Kind::Video),
            );
        }
        self.advance(now, |_| {}).map(drop)
    }

    pub(crate) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        each_event: impl FnMut(Event),
    ) -> Result<Instant, RtcError> {
        // What it cannot read it does nothing with.
        if let Ok(received) = Receive::new(Protocol::Udp, source, self.address, datagram) {
            self.rtc.handle_input(Input::Receive(now, received))?;
        }
        self.drain(each_event)
    }

    pub(crate) fn advance(
        &mut self,
        now: Instant,
        each_event: impl FnMut(Event),
    ) -> Result<Instant, RtcError> {
        self.rtc.handle_input(Input::Timeout(now))?;
        self.drain(each_event)
    }

    /// Returns when it wants to hear of time again.
    fn drain(&mut self, mut each_event: impl FnMut(Event)) -> Result<Instant, RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => {
                    let (socket, train) = (&self.socket, &mut self.outgoing);
                    train.push(socket, transmit.destination, &transmit.contents);
                }
                Output::Event(event) => {
                    self.connected |= matches!(event, Event::Connected);
                    each_event(event);
                }
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        self.outgoing.leave(&self.socket);
    }
}

impl Train {
    fn push(&mut self, socket: &UdpSocket, destination: SocketAddr, datagram: &[u8]) {
        let other_size = self.sizes.first().is_some_and(|&size| {
            // Only the last may be shorter.
            datagram.len() > size || self.sizes.last().is_some_and(|&last| last < size)
        });
        let other_way = self.destination.is_some_and(|to| to != destination);
        if other_size || other_way || self.sizes.len() == MAX_TRAIN {
            self.leave(socket);
        }
        self.destination = Some(destination);
        self.sizes.push(datagram.len());
        self.bytes.extend_from_slice(datagram);
    }

    fn leave(&mut self, socket: &UdpSocket) {
        if let Some(destination) = self.destination.take() {
            let size = self.sizes[0];
            // A socket that has never sent a train does not segment.
            let is_train = self.sizes.len() > 1;
            let segmented = if (is_train && self.segment != size)
                || (self.segment != 0 && size > self.segment)
            {
                self.segment = size;
                segment(socket, size)
            } else {
                Ok(())
            };
            // What cannot be sent is lost, as datagrams are, and is missed at the other end.
            if segmented.is_ok() {
                let _ = socket.send_to(&self.bytes, destination);
            }
        }
        self.bytes.clear();
        self.sizes.clear();
    }
}

/// All clients have the same one: it takes longer to make than a client has to wait.
fn certificate() -> Result<DtlsCert, String> {
    static CERTIFICATE: OnceLock<Option<DtlsCert>> = OnceLock::new();
    let make = || {
        str0m::crypto::from_feature_flags()
            .dtls_provider
            .generate_certificate()
    };
    let certificate = CERTIFICATE.get_or_init(make).clone();
    certificate.ok_or_else(|| "a certificate could not be made".to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
