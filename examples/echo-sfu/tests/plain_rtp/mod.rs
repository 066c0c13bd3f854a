//! Somebody who speaks RTP and nothing else: a socket, and packets made by hand.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use echo_sfu::objects::{MediaKind, Router, RtpCodec, RtpParameters, Worker};
use echo_sfu::{NetworkOptions, NetworkThreads};
use rtc_thread::Thread;

/// A test that has not come to its end after so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The threads of an SFU, and a router on them.
pub(crate) struct Place {
    pub(crate) router: Router,
    pub(crate) worker: Worker,
    pub(crate) networks: NetworkThreads,
    _worker: Thread,
    _moving: Vec<Thread>,
}

pub(crate) fn place(network_threads: usize) -> Place {
    let moving: Vec<_> = (0..network_threads)
        .map(|_| {
            let thread = Thread::builder().name("network").with_sockets().spawn();
            thread.unwrap()
        })
        .collect();
    let handles: Vec<_> = moving.iter().map(Thread::handle).collect();
    let options = NetworkOptions {
        bind: "127.0.0.1:0".parse().unwrap(),
        announced: vec!["127.0.0.1".parse().unwrap()],
    };
    let places = handles.iter().map(|thread| (thread, options.clone()));
    let networks = NetworkThreads::new(places).unwrap();
    let thread = Thread::builder().name("worker").spawn().unwrap();
    let worker = Worker::with_networks(&thread.handle(), networks.clone()).unwrap();
    Place {
        router: worker.create_router().wait().unwrap(),
        worker,
        networks,
        _worker: thread,
        _moving: moving,
    }
}

/// A stream of VP8 without RTX.
pub(crate) fn vp8(ssrc: u32) -> RtpParameters {
    RtpParameters {
        kind: MediaKind::Video,
        codecs: vec![RtpCodec::vp8(96)],
        ssrc: Some(ssrc),
        rtx_ssrc: None,
        extensions: Vec::new(),
    }
}

/// A stream of Opus.
pub(crate) fn opus(ssrc: u32) -> RtpParameters {
    RtpParameters {
        kind: MediaKind::Audio,
        codecs: vec![RtpCodec::opus(111)],
        ..vp8(ssrc)
    }
}

/// Where a packet has the first byte of VP8's frame header.
const FRAME_TAG: usize = 15;

/// The other end of a plain transport.
pub(crate) struct Speaker {
    pub(crate) socket: UdpSocket,
    ssrc: u32,
    sequence: u16,
}

impl Speaker {
    pub(crate) fn new(ssrc: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Some(Duration::from_millis(10));
        socket.set_read_timeout(timeout).unwrap();
        Self {
            socket,
            ssrc,
            sequence: 100,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends a packet that is a key frame, and returns its number.
    pub(crate) fn send(&mut self, to: SocketAddr) -> u16 {
        let sequence = self.sequence;
        self.sequence += 1;
        self.socket.send_to(&self.packet(sequence), to).unwrap();
        sequence
    }

    /// Sends a packet of a frame that needs those before.
    pub(crate) fn send_more(&mut self, to: SocketAddr) {
        let mut packet = self.packet(self.sequence);
        packet[FRAME_TAG] |= 1;
        self.sequence += 1;
        self.socket.send_to(&packet, to).unwrap();
    }

    /// Pretends to have sent a packet.
    pub(crate) fn lose(&mut self) -> u16 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// A key frame of VP8 whose last two bytes are its number.
    pub(crate) fn packet(&self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0x80 | 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 3000).to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([0x90, 0x80, 1, 0, 0]);
        packet.extend(sequence.to_be_bytes());
        packet
    }

    /// What comes next, within a moment.
    pub(crate) fn hear(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2000];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(buffer[..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
            // The process was stopped, and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The first of what comes that is it, doing something before each look.
    #[track_caller]
    pub(crate) fn hear_until<T>(
        &mut self,
        what: &str,
        mut meanwhile: impl FnMut(&mut Self),
        mut find: impl FnMut(&[u8]) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            meanwhile(self);
            if let Some(found) = self.hear().and_then(|heard| find(&heard)) {
                return found;
            }
        }
    }
}

/// Sender, payload type and number of an RTP packet, and the number in its payload.
pub(crate) fn rtp(datagram: &[u8]) -> Option<(u32, u8, u16, u16)> {
    let is_rtcp = (192..=223).contains(&datagram[1]);
    let number = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
    let ssrc = u32::from_be_bytes(datagram[8..12].try_into().unwrap());
    (!is_rtcp).then(|| {
        (
            ssrc,
            datagram[1] & 127,
            number(2),
            number(datagram.len() - 2),
        )
    })
}

/// The packets of a compound: type, format or count, and what follows the header.
pub(crate) fn rtcp(datagram: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let mut packets = Vec::new();
    let mut rest = datagram;
    while rest.len() >= 4 && (192..=223).contains(&rest[1]) {
        let length = 4 * (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1);
        packets.push((rest[1], rest[0] & 31, rest[4..length].to_vec()));
        rest = &rest[length..];
    }
    packets
}

/// The payload of feedback of such a type and format about a stream, if it is in a compound.
pub(crate) fn feedback(datagram: &[u8], kind: (u8, u8), media: u32) -> Option<Vec<u8>> {
    let is_it = |(number, format, body): &(u8, u8, Vec<u8>)| {
        (*number, *format) == kind && body[4..8] == media.to_be_bytes()
    };
    let found = rtcp(datagram).into_iter().find(is_it);
    found.map(|(_, _, body)| body[8..].to_vec())
}

/// Transport feedback: packets are missing.
pub(crate) const NACK: (u8, u8) = (205, 1);
/// Payload feedback: a key frame is wanted.
pub(crate) const PLI: (u8, u8) = (206, 1);

/// Feedback as it is sent: a report about nothing, and it.
pub(crate) fn say_feedback((number, format): (u8, u8), media: u32, payload: &[u8]) -> Vec<u8> {
    let mut said = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
    said.extend([0x80 | format, number, 0, 2 + (payload.len() / 4) as u8]);
    said.extend(9_u32.to_be_bytes());
    said.extend(media.to_be_bytes());
    said.extend(payload);
    said
}
