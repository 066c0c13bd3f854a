//! Transports to the application, which have no socket: what the application sends arrives on its
//! thread as if from the network, and what it is sent goes to mailboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::format::PayloadParams;

use super::consumer::Forwarded;
use super::source::Source;
use super::transport::{Kind, Transport, Way};
use super::webrtc::ReceivingLine;
use super::{Network, State, Wanted};
use crate::media::Media;
use crate::objects::{ConsumerId, MailboxWriter, ProducerId, RouterAddress, TransportId};
use crate::rtp::incoming::{IncomingOptions, IncomingStream};
use crate::rtp::packet::{Extensions, MediaPacket};
use crate::rtp::wire::{ExtensionIds, MalformedRtp, RtpView};

/// By which numbers the application knows header extensions, those that it sends and those that it is
/// sent.
const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: None,
    rid: None,
    repaired_rid: None,
    audio_level: Some(1),
    video_orientation: Some(2),
    absolute_send_time: None,
    absolute_capture_time: Some(3),
    transport_wide_cc: None,
};

/// A transport to the application.
#[derive(Debug, Default)]
pub(super) struct DirectTransport {
    incoming: HashMap<ProducerId, IncomingStream>,
    mailboxes: HashMap<ConsumerId, MailboxWriter<Vec<u8>>>,
}

/// Where a consumer's packets go.
pub(super) trait Outlet {
    /// Sends an RTP packet. False if there is no room for it.
    fn send(&mut self, header: &[u8], payload: &[u8], sequence: u64) -> bool;

    /// The time of the sender's clock.
    fn clock(&self) -> Duration;
}

impl Outlet for Way<'_> {
    fn send(&mut self, header: &[u8], payload: &[u8], sequence: u64) -> bool {
        self.send(header, payload, sequence)
    }

    fn clock(&self) -> Duration {
        self.clock
    }
}

/// The way to the application.
struct ToApplication<'a> {
    mailbox: &'a MailboxWriter<Vec<u8>>,
    clock: Duration,
}

impl Outlet for ToApplication<'_> {
    fn send(&mut self, header: &[u8], payload: &[u8], _sequence: u64) -> bool {
        let packet = [header, payload].concat();
        let bytes = packet.len();
        self.mailbox.put(packet, bytes)
    }

    fn clock(&self) -> Duration {
        self.clock
    }
}

impl DirectTransport {
    pub(super) fn produced(&self) -> impl Iterator<Item = ProducerId> {
        self.incoming.keys().copied()
    }

    pub(super) fn forget_producer(&mut self, producer: ProducerId) {
        self.incoming.remove(&producer);
    }

    pub(super) fn forget_consumer(&mut self, consumer: ConsumerId) {
        self.mailboxes.remove(&consumer);
    }

    /// Reads a packet of the application's. `None` if it came before.
    fn receive(
        &mut self,
        now: Instant,
        producer: ProducerId,
        packet: &[u8],
    ) -> Result<Option<MediaPacket>, MalformedRtp> {
        let Some(stream) = self.incoming.get_mut(&producer) else {
            return Ok(None);
        };
        let view = RtpView::parse(packet)?;
        let payload = view.without_padding(view.payload())?;
        let received = stream.receive(now, view.sequence(), view.timestamp(), packet.len());
        Ok(received.is_new.then(|| MediaPacket {
            payload_type: view.payload_type(),
            layer: 0,
            sequence: received.sequence,
            timestamp: view.timestamp(),
            marker: view.marker(),
            extensions: Extensions::read(&view, &EXTENSIONS),
            payload: payload.into(),
            arrived_at: now,
        }))
    }
}

impl Network {
    /// Makes a place for what the application sends and is sent.
    pub(crate) fn open_direct(&mut self, id: TransportId, owner: RouterAddress) {
        let mut state = self.0.borrow_mut();
        let transport = Transport::new(Kind::Direct(Box::default()), owner);
        state.add_transport(id, transport);
        state.count_objects();
    }

    /// Takes packets of the application's.
    pub(crate) fn add_direct_producer(
        &mut self,
        id: TransportId,
        producer: ProducerId,
        ssrc: u32,
        media: &Media,
    ) {
        let mut state = self.0.borrow_mut();
        let Some(own) = state.direct(id) else {
            return;
        };
        let clock_rate = |codec: &PayloadParams| codec.spec().clock_rate.get();
        let stream = IncomingStream::new(IncomingOptions {
            ssrc,
            clock_rate: media.codecs.first().map_or(90_000, clock_rate),
            is_video: media.kind.is_video(),
            nack: false,
            now: rtc_thread::now(),
        });
        own.incoming.insert(producer, stream);
        state.sources.insert(producer, Source::new(id, 1));
    }

    /// Gives the application what a producer sends.
    pub(crate) fn add_direct_consumer(
        &mut self,
        id: TransportId,
        wanted: Wanted,
        mailbox: MailboxWriter<Vec<u8>>,
    ) {
        self.act(|state, now| {
            let consumer = wanted.consumer;
            let Some(own) = state.direct(id) else {
                return;
            };
            own.mailboxes.insert(consumer, mailbox);
            let line = ReceivingLine {
                mid: None,
                kind: wanted.media.kind,
                codecs: wanted.media.codecs.clone(),
                // Not used twice, and the same when a simulation is run again.
                ssrc: consumer.number() as u32,
                rtx: None,
                extensions: EXTENSIONS,
            };
            state.add_consumer(id, wanted, line, now);
            state.ask_for_key_frame(now, consumer);
        });
    }

    /// Sends a packet of the application's.
    pub(crate) fn send_rtp(&mut self, id: TransportId, producer: ProducerId, packet: &Arc<[u8]>) {
        self.act(|state, now| {
            let received = state
                .direct(id)
                .map(|own| own.receive(now, producer, packet));
            if let Some(Ok(Some(packet))) = received {
                state.outbox.packets.push((producer, packet));
            }
        });
    }
}

impl State {
    fn direct(&mut self, id: TransportId) -> Option<&mut DirectTransport> {
        self.transports.get_mut(&id)?.direct()
    }

    /// Gives packets to the application, if it is who consumes them.
    pub(super) fn deliver_to_application<'a>(
        &mut self,
        now: Instant,
        id: ConsumerId,
        packets: impl Iterator<Item = &'a MediaPacket>,
    ) {
        let clock = self.sending_time(now);
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let transport = self.transports.get_mut(&consumer.transport);
        let own = transport.and_then(Transport::direct);
        let Some(mailbox) = own.and_then(|own| own.mailboxes.get(&id)) else {
            return;
        };
        let mut way = ToApplication { mailbox, clock };
        let mut forwarded = 0;
        for packet in packets {
            let outcome = consumer.forward(now, packet, &mut way);
            forwarded += usize::from(outcome == Forwarded::Sent);
        }
        self.counters.media_packets_forwarded.add(forwarded);
    }
}
