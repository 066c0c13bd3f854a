//! A WebRTC client without a browser: str0m over a plain socket, driven by the test itself.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use str0m::bwe::BweKind;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::format::Codec;
use str0m::media::{
    Direction, KeyframeRequestKind, MediaKind, Mid, Rid, Simulcast, SimulcastLayer,
};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

/// A test that has not come to its end after so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One end of a connection to the SFU.
pub(crate) struct Client {
    rtc: Rtc,
    socket: UdpSocket,
    pub(crate) audio: Mid,
    pub(crate) video: Mid,
    pub(crate) connected: bool,
    pub(crate) closed: bool,
    pub(crate) received: Vec<RtpPacket>,
    pub(crate) keyframe_requests: Vec<KeyframeRequestKind>,
    /// Which layer the last of them was for, until somebody takes note.
    pub(crate) keyframe_wanted: Option<Option<Rid>>,
    /// Of so many media packets, one does not get through to the client. Which ones has no pattern, lest
    /// a packet and all that is sent again of it fall into it.
    pub(crate) loses_one_in: Option<u64>,
    /// The least that the SFU has asked the client to limit itself to.
    pub(crate) least_remb: Option<u64>,
    /// Data channels that are open.
    pub(crate) channels: Vec<(ChannelId, ChannelConfig)>,
    pub(crate) closed_channels: Vec<ChannelId>,
    pub(crate) messages: Vec<Message>,
    arrived: u64,
    sent: u64,
}

/// What has come on a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) label: String,
    pub(crate) is_binary: bool,
    pub(crate) data: Vec<u8>,
}

impl Client {
    /// Makes a client, and its offer.
    pub(crate) fn offer(direction: Direction, codecs: &[Codec]) -> (Self, String, SdpPendingOffer) {
        Self::offer_with(direction, codecs, &[], &[])
    }

    /// The same with video in several layers, named from the smallest on.
    pub(crate) fn offer_layers(
        direction: Direction,
        codecs: &[Codec],
        layers: &[&str],
    ) -> (Self, String, SdpPendingOffer) {
        Self::offer_with(direction, codecs, layers, &[])
    }

    /// A client that receives two videos.
    pub(crate) fn offer_two_videos(codecs: &[Codec]) -> (Self, String, SdpPendingOffer) {
        Self::offer_all(Direction::RecvOnly, codecs, (&[], 2), &[])
    }

    /// The same with data channels.
    pub(crate) fn offer_with_channels(
        direction: Direction,
        codecs: &[Codec],
        channels: &[ChannelConfig],
    ) -> (Self, String, SdpPendingOffer) {
        Self::offer_with(direction, codecs, &[], channels)
    }

    fn offer_with(
        direction: Direction,
        codecs: &[Codec],
        layers: &[&str],
        channels: &[ChannelConfig],
    ) -> (Self, String, SdpPendingOffer) {
        Self::offer_all(direction, codecs, (layers, 1), channels)
    }

    fn offer_all(
        direction: Direction,
        codecs: &[Codec],
        (layers, videos): (&[&str], usize),
        channels: &[ChannelConfig],
    ) -> (Self, String, SdpPendingOffer) {
        let socket = bind();
        let mut config = Rtc::builder().set_rtp_mode(true).clear_codecs();
        for codec in codecs {
            config = match codec {
                Codec::Opus => config.enable_opus(true, false),
                Codec::Vp8 => config.enable_vp8(true),
                Codec::Vp9 => config.enable_vp9(true),
                Codec::PCMU => config.enable_pcmu(true, false),
                other => panic!("the client does not know {other:?}"),
            };
        }
        let mut rtc = config.build(Instant::now());
        let candidate = Candidate::host(socket.local_addr().unwrap(), "udp").unwrap();
        rtc.add_local_candidate(candidate);
        let mut changes = rtc.sdp_api();
        let audio = changes.add_media(MediaKind::Audio, direction, None, None, None);
        let mut simulcast = Simulcast::new();
        for layer in layers {
            simulcast.add_send_layer(SimulcastLayer::new(layer));
        }
        let simulcast = (!layers.is_empty()).then_some(simulcast);
        let video = changes.add_media(MediaKind::Video, direction, None, None, simulcast);
        for _ in 1..videos {
            changes.add_media(MediaKind::Video, direction, None, None, None);
        }
        for config in channels {
            changes.add_channel_with_config(config.clone());
        }
        let (offer, pending) = changes.apply().unwrap();
        let client = Self {
            rtc,
            socket,
            audio,
            video,
            connected: false,
            closed: false,
            received: Vec::new(),
            keyframe_requests: Vec::new(),
            keyframe_wanted: None,
            loses_one_in: None,
            least_remb: None,
            channels: Vec::new(),
            closed_channels: Vec::new(),
            messages: Vec::new(),
            arrived: 0,
            sent: 0,
        };
        (client, offer.to_sdp_string(), pending)
    }

    pub(crate) fn accept(&mut self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    }

    /// Makes an offer anew, with new ICE credentials.
    pub(crate) fn offer_restart(&mut self) -> (String, SdpPendingOffer) {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().unwrap();
        (offer.to_sdp_string(), pending)
    }

    /// Goes to another address. Nothing that is sent to the one before arrives any more.
    pub(crate) fn move_elsewhere(&mut self) {
        let (left, socket) = (self.socket.local_addr().unwrap(), bind());
        let candidate = |address| Candidate::host(address, "udp").unwrap();
        let now_at = candidate(socket.local_addr().unwrap());
        self.rtc.direct_api().invalidate_candidate(&candidate(left));
        self.rtc.add_local_candidate(now_at);
        self.socket = socket;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends bytes as they are, from the client's own address.
    pub(crate) fn send_raw(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).unwrap();
    }

    /// Goes on until something is the case.
    #[track_caller]
    pub(crate) fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            self.turn();
        }
    }

    /// One packet out for each media line, and whatever comes in.
    pub(crate) fn exchange(&mut self) {
        self.send(self.audio);
        self.send(self.video);
        self.turn();
    }

    /// Sends a packet whose payload tells its number.
    pub(crate) fn send(&mut self, mid: Mid) {
        self.sent += 1;
        let sent = self.sent;
        let pt = self.rtc.media(mid).unwrap().remote_pts()[0];
        let now = Instant::now();
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            let payload = [vec![0x90, 0x80, 0, 0], sent.to_be_bytes().to_vec()].concat();
            let sequence = SeqNo::from(sent);
            stream.write_rtp(RtpWrite::new(pt, sequence, sent as u32 * 960, now, payload));
        }
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }

    /// Sends a video packet, of a layer if there are any.
    pub(crate) fn send_video(&mut self, layer: Option<&str>, sequence: u64, payload: Vec<u8>) {
        let (video, now) = (self.video, Instant::now());
        let pt = self.rtc.media(video).unwrap().remote_pts()[0];
        let rid = layer.map(Rid::from);
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(video, rid) {
            let time = sequence as u32 * 3_000;
            let write = RtpWrite::new(pt, SeqNo::from(sequence), time, now, payload);
            stream.write_rtp(write.marker(true).nackable(true));
        }
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }

    /// Opens another data channel.
    pub(crate) fn open_channel(&mut self, config: ChannelConfig) {
        self.rtc.direct_api().create_data_channel(config);
    }

    pub(crate) fn channel(&self, label: &str) -> Option<&(ChannelId, ChannelConfig)> {
        self.channels.iter().find(|(_, own)| own.label == label)
    }

    /// Sends on an open data channel. False if there is no room.
    pub(crate) fn send_data(&mut self, label: &str, is_binary: bool, data: &[u8]) -> bool {
        let id = self.channel(label).unwrap().0;
        let written = self.rtc.channel(id).unwrap().write(is_binary, data);
        self.drain();
        written.unwrap()
    }

    pub(crate) fn close_channel(&mut self, label: &str) {
        let id = self.channel(label).unwrap().0;
        self.rtc.direct_api().close_data_channel(id);
        self.drain();
    }

    /// What has come on a channel, as text.
    pub(crate) fn texts_on(&self, label: &str) -> Vec<String> {
        let on_it = self.messages.iter().filter(|own| own.label == label);
        on_it
            .map(|own| String::from_utf8_lossy(&own.data).into_owned())
            .collect()
    }

    pub(crate) fn request_keyframe(&mut self) {
        let video = self.video;
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(video, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        self.drain();
    }

    pub(crate) fn received_on(&self, mid: Mid) -> usize {
        self.received
            .iter()
            .filter(|packet| packet.header.ext_vals.mid == Some(mid))
            .count()
    }

    /// Waits a little for datagrams and takes in all that are there. Were some left, a socket full
    /// of congestion probes would have no room for a goodbye.
    pub(crate) fn turn(&mut self) {
        self.socket.set_nonblocking(false).unwrap();
        let mut buffer = [0; 2000];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => self.receive(source, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The process was stopped, and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
            self.socket.set_nonblocking(true).unwrap();
        }
        self.rtc
            .handle_input(Input::Timeout(Instant::now()))
            .unwrap();
        self.drain();
    }

    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) {
        if self.loses(datagram[0]) {
            return;
        }
        let destination = self.socket.local_addr().unwrap();
        let received = Receive::new(Protocol::Udp, source, destination, datagram).unwrap();
        self.rtc
            .handle_input(Input::Receive(Instant::now(), received))
            .unwrap();
        self.drain();
    }

    fn loses(&mut self, first_byte: u8) -> bool {
        let is_media = (128..192).contains(&first_byte);
        self.arrived += u64::from(is_media);
        is_media
            && self
                .loses_one_in
                .is_some_and(|n| scrambled(self.arrived).is_multiple_of(n))
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => break,
                Output::Transmit(transmit) => {
                    self.socket
                        .send_to(&transmit.contents, transmit.destination)
                        .unwrap();
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                Output::Event(Event::KeyframeRequest(request)) => {
                    self.keyframe_wanted = Some(request.rid);
                    self.keyframe_requests.push(request.kind);
                }
                Output::Event(Event::EgressBitrateEstimate(BweKind::Remb { estimate, .. })) => {
                    let estimate = estimate.as_u64();
                    let least = self.least_remb.unwrap_or(estimate).min(estimate);
                    self.least_remb = Some(least);
                }
                Output::Event(Event::ChannelOpen(id, _)) => {
                    let config = self.rtc.channel(id).unwrap().config().unwrap().clone();
                    self.channels.push((id, config));
                }
                Output::Event(Event::ChannelData(data)) => {
                    let channel = self.channels.iter().find(|(id, _)| *id == data.id);
                    self.messages.push(Message {
                        label: channel.unwrap().1.label.clone(),
                        is_binary: data.binary,
                        data: data.data,
                    });
                }
                Output::Event(Event::ChannelClose(id)) => {
                    self.channels.retain(|(own, _)| *own != id);
                    self.closed_channels.push(id);
                }
                Output::Event(_) => {}
            }
        }
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Duration::from_millis(2);
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

fn scrambled(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32
}
