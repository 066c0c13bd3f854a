//! A client that sends pictures of one packet each, and what a viewer makes of them.

#![allow(dead_code, reason = "each test file uses its part of this")]

use echo_sfu::objects::{ProducerId, Purpose, Router, WebRtcTransport};
use echo_sfu::{Offer, OfferedFlow};
use str0m::format::Codec;
use str0m::media::Direction;

use crate::rtc_client::Client;

const CODECS: &[Codec] = &[Codec::Opus, Codec::Vp8];

/// A client that is connected to a router; its video in layers, if any are named.
pub(crate) fn connect(
    router: &Router,
    direction: Direction,
    layers: &[&str],
    purpose: Purpose,
) -> (Client, WebRtcTransport) {
    let flow = match direction {
        Direction::SendOnly => OfferedFlow::ToUs,
        _ => OfferedFlow::FromUs,
    };
    let (mut client, offer, pending) = Client::offer_layers(direction, CODECS, layers);
    let offer = Offer::parse(&offer, flow).unwrap();
    let opened = router.create_webrtc_transport(offer, purpose);
    let transport = opened.wait().unwrap();
    client.accept(pending, transport.answer());
    client.run_until("connected", |client| client.connected);
    (client, transport)
}

/// A client that sends pictures of one packet each, and knows which of them were key frames.
pub(crate) struct Camera {
    pub(crate) client: Client,
    pub(crate) transport: WebRtcTransport,
    pub(crate) layers: Vec<Layer>,
}

pub(crate) struct Layer {
    name: Option<&'static str>,
    /// What its payloads begin with, to be told apart.
    mark: u8,
    pub(crate) sent: u64,
    size: usize,
}

impl Camera {
    pub(crate) fn new(router: &Router, layers: &[&'static str], mark: u8) -> Self {
        let (client, transport) = connect(router, Direction::SendOnly, layers, Purpose::Produce);
        let mut names: Vec<_> = layers.iter().copied().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        let layers = names.into_iter().enumerate().map(|(at, name)| Layer {
            name,
            mark: mark + at as u8,
            sent: 0,
            size: 100 * (at + 1),
        });
        Self {
            client,
            transport,
            layers: layers.collect(),
        }
    }

    /// The second producer: the first is of the audio line.
    pub(crate) fn video(&mut self) -> ProducerId {
        self.transport.producers()[1].id()
    }

    /// A picture of each layer, a key frame where one was asked for, or is the first.
    pub(crate) fn send(&mut self) {
        let wanted = self.client.keyframe_wanted.take();
        for layer in &mut self.layers {
            let is_asked_for = wanted.is_some_and(|rid| rid.as_deref() == layer.name);
            let is_key_frame = layer.sent == 0 || is_asked_for;
            layer.sent += 1;
            let number = layer.sent as u16;
            let [high, low] = (number & 0x7fff).to_be_bytes();
            let mut payload = vec![0x90, 0x80, 0x80 | high, low, u8::from(!is_key_frame)];
            payload.push(layer.mark);
            payload.resize(layer.size, 0);
            self.client.send_video(layer.name, layer.sent, payload);
        }
        self.client.turn();
    }
}

/// A picture as a viewer got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) sequence: u64,
    pub(crate) id: u16,
    pub(crate) timestamp: u32,
    pub(crate) is_key_frame: bool,
    pub(crate) mark: u8,
}

pub(crate) fn pictures(viewer: &Client) -> Vec<Picture> {
    let video = viewer.received.iter().filter(|packet| {
        packet.header.ext_vals.mid == Some(viewer.video) && packet.payload.len() > 5
    });
    let mut pictures: Vec<_> = video
        .map(|packet| Picture {
            sequence: *packet.seq_no,
            id: u16::from_be_bytes([packet.payload[2] & 0x7f, packet.payload[3]]),
            timestamp: packet.header.timestamp,
            is_key_frame: packet.payload[4] & 1 == 0,
            mark: packet.payload[5],
        })
        .collect();
    pictures.sort_by_key(|picture| picture.sequence);
    pictures
}

/// What a decoder wants: nothing missing, and no jump that is not a key frame.
pub(crate) fn assert_continuous(pictures: &[Picture]) {
    assert!(pictures[0].is_key_frame, "{pictures:?}");
    for pair in pictures.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        assert_eq!(before.sequence + 1, after.sequence, "{before:?} {after:?}");
        assert_eq!((before.id + 1) & 0x7fff, after.id, "{before:?} {after:?}");
        assert!(
            after.timestamp.wrapping_sub(before.timestamp) < 1 << 31,
            "{before:?} {after:?}"
        );
        assert!(
            before.mark == after.mark || after.is_key_frame,
            "{before:?} {after:?}"
        );
    }
}

pub(crate) fn last_mark(viewer: &Client) -> Option<u8> {
    pictures(viewer).last().map(|picture| picture.mark)
}
