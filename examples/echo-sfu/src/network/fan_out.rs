//! One producer, many consumers: where packets go, and what is heard of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use str0m::media::MediaKind;

use super::consumer::{Consumer, Forwarded};
use super::outbox::Outbox;
use super::source::Origin;
use super::transport::{Transport, Way};
use super::{Network, REPORT_INTERVAL, REPORT_TURNS, State};
use crate::media::NetworkIndex;
use crate::objects::{ConsumerId, ProducerId, Trace, TransportId};
use crate::rtp::history::PacketHistory;
use crate::rtp::outgoing::ReportBlockView;
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::BitRate;
use crate::rtp::rtcp::{Compound, NtpTime, ReportBlock, Rtcp, SenderInfo, round_trip_time};

/// As much RTCP as fits one datagram on any usual path, encrypted.
const MAX_COMPOUND: usize = 1_100;
/// Of what arrives, in one report: a link to another process may have hundreds.
const BLOCKS_AT_A_TIME: usize = 8;
/// All that a client is sent is of one clock, and so has one name.
const CNAME: &str = "echo-sfu";

/// What waits for longer is of no use in a conversation. Unlike the buffer of a socket, a queue between
/// threads has no end: so a thread that does not keep up leaves out what is old.
const TOO_LATE: Duration = Duration::from_millis(500);

/// A producer's consumers on one network thread.
#[derive(Debug)]
pub(super) struct FanOut {
    consumers: Vec<ConsumerId>,
    /// What they may ask for again, kept once for all.
    history: PacketHistory,
}

impl Network {
    /// Sends packets that arrived on another network thread to the consumers here.
    fn deliver(&mut self, packets: &[(ProducerId, MediaPacket)]) {
        self.act(|state, now| {
            let is_late = |(_, first): &(ProducerId, MediaPacket)| {
                now.saturating_duration_since(first.arrived_at) > TOO_LATE
            };
            if packets.first().is_some_and(is_late) {
                state.outbox.datagrams_dropped += packets.len();
            } else {
                state.deliver(now, packets);
            }
        });
    }

    /// Forwards the media of a producer that arrives here to a network thread, or no longer.
    fn set_destination(&mut self, producer: ProducerId, network: NetworkIndex, wanted: bool) {
        if let Some(source) = self.0.borrow_mut().sources.get_mut(&producer) {
            source.destinations.retain(|other| *other != network);
            if wanted {
                source.destinations.push(network);
            }
        }
    }

    fn report(&mut self) {
        self.act(|state, now| {
            let turn = state.reporting.take().unwrap_or(0);
            state.report(now, turn % REPORT_TURNS);
            state.report_from(turn + 1);
        });
    }
}

impl State {
    /// The first consumer here has the producer's media sent here; the posts are in order, so the
    /// last one is what counts.
    pub(super) fn join_fan_out(&mut self, consumer: ConsumerId, origin: Origin, is_video: bool) {
        let fan_out = self
            .fan_outs
            .entry(origin.producer)
            .or_insert_with(|| FanOut {
                consumers: Vec::new(),
                history: PacketHistory::new(is_video),
            });
        fan_out.consumers.push(consumer);
        if fan_out.consumers.len() == 1 {
            self.want_media(origin, true);
        }
    }

    pub(super) fn leave_fan_out(&mut self, consumer: ConsumerId, origin: Origin) {
        let Some(fan_out) = self.fan_outs.get_mut(&origin.producer) else {
            return;
        };
        fan_out.consumers.retain(|own| *own != consumer);
        if fan_out.consumers.is_empty() {
            self.fan_outs.remove(&origin.producer);
            self.want_media(origin, false);
        }
    }

    fn want_media(&self, origin: Origin, wanted: bool) {
        let (own, producer) = (self.index, origin.producer);
        if origin.network == own {
            return;
        }
        if let Some(peer) = self.peers.get(origin.network.0) {
            // Refused only while everything is shutting down.
            let _ = peer.post(move |network| network.set_destination(producer, own, wanted));
        }
    }

    /// Sends what has arrived here to whoever consumes it, here and elsewhere.
    pub(super) fn forward(&mut self, now: Instant, mut packets: Vec<(ProducerId, MediaPacket)>) {
        if packets.is_empty() {
            return;
        }
        self.counters.media_packets_in.add(packets.len());
        // Those of one producer in a row, in their order.
        packets.sort_by_key(|(of, _)| *of);
        let mut elsewhere: BTreeMap<NetworkIndex, Vec<(ProducerId, MediaPacket)>> = BTreeMap::new();
        let mut traced = Vec::new();
        packets.retain(|(producer, packet)| {
            let Some(source) = self.sources.get_mut(producer) else {
                return false;
            };
            source.reception.receive(packet.layer, packet.sequence);
            if let Some(tracer) = &mut source.tracer {
                tracer.see(packet);
                traced.push(*producer);
            }
            if let Some(packets) = source.packets.get_mut(usize::from(packet.layer)) {
                *packets += 1;
            }
            source.bytes += packet.payload.len() as u64;
            if source.paused {
                return false;
            }
            self.levels.note(*producer, packet.extensions.audio_level);
            for destination in &source.destinations {
                let batch = elsewhere.entry(*destination).or_default();
                batch.push((*producer, packet.clone()));
            }
            true
        });
        for (destination, batch) in elsewhere {
            if let Some(peer) = self.peers.get(destination.0) {
                // Refused only while everything is shutting down.
                let _ = peer.post(move |network| network.deliver(&batch));
            }
        }
        traced.dedup();
        for producer in traced {
            self.tell_traces(producer);
        }
        self.deliver(now, &packets);
    }

    /// Goes through the consumers one after another, not through the packets: so the datagrams for
    /// one client come in a row, and can leave in one system call.
    fn deliver(&mut self, now: Instant, packets: &[(ProducerId, MediaPacket)]) {
        tracing::trace!(packets = packets.len(), "packets forwarded");
        for of_producer in packets.chunk_by(|(one, _), (other, _)| one == other) {
            let producer = of_producer[0].0;
            let Some(fan_out) = self.fan_outs.get_mut(&producer) else {
                continue;
            };
            for (_, packet) in of_producer {
                fan_out.history.push(packet);
            }
            let consumers = std::mem::take(&mut fan_out.consumers);
            for id in &consumers {
                self.deliver_to(now, *id, of_producer.iter().map(|(_, packet)| packet));
                self.ask_for_key_frame(now, *id);
            }
            if let Some(fan_out) = self.fan_outs.get_mut(&producer) {
                fan_out.consumers = consumers;
            }
        }
    }

    fn deliver_to<'a>(
        &mut self,
        now: Instant,
        consumer: ConsumerId,
        packets: impl Iterator<Item = &'a MediaPacket>,
    ) {
        let clock = self.sending_time(now);
        let id = consumer;
        let Some((consumer, mut way)) = self.on_its_way(id, clock) else {
            return self.deliver_to_application(now, id, packets);
        };
        let (mut forwarded, mut dropped) = (0, 0);
        for packet in packets {
            match consumer.forward(now, packet, &mut way) {
                Forwarded::Sent => forwarded += 1,
                Forwarded::NoRoom => dropped += 1,
                Forwarded::NotForIt => {}
            }
        }
        self.counters.media_packets_forwarded.add(forwarded);
        self.outbox.datagrams_dropped += dropped;
    }

    /// A consumer whose client can be sent something, and how.
    fn on_its_way(
        &mut self,
        consumer: ConsumerId,
        clock: Duration,
    ) -> Option<(&mut Consumer, Way<'_>)> {
        let consumer = self.consumers.get_mut(&consumer)?;
        let transport = self.transports.get_mut(&consumer.transport)?;
        let Outbox {
            datagrams, touched, ..
        } = &mut self.outbox;
        let way = transport.way(datagrams, touched, clock)?;
        Some((consumer, way))
    }

    /// A client can be sent media from now on. Whoever comes late has nothing to decode before the
    /// next key frame.
    pub(super) fn transport_connected(&mut self, now: Instant, id: TransportId) {
        let Some(transport) = self.transports.get(&id) else {
            return;
        };
        for consumer in transport.consumers.clone() {
            self.ask_for_key_frame(now, consumer);
        }
    }

    /// Does what a client's report calls for.
    pub(super) fn heed(&mut self, now: Instant, transport: TransportId, report: Rtcp) {
        match report {
            Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } => {
                self.heed_blocks(now, transport, &blocks);
            }
            Rtcp::Nack { media, lost, .. } => self.resend(now, transport, media, &lost),
            Rtcp::Pli { media, .. } => {
                self.heed_key_frame_request(now, transport, media, Trace::Pli);
            }
            Rtcp::Fir { requests, .. } => {
                for request in requests {
                    self.heed_key_frame_request(now, transport, request.media, Trace::Fir);
                }
            }
            Rtcp::Remb { bitrate_bps, .. } => {
                let sent = self.sent_to(now, transport);
                if let Some(own) = self.transports.get_mut(&transport) {
                    own.downlink.client_says(now, BitRate(bitrate_bps), sent);
                    self.use_downlink(now, transport);
                }
            }
            Rtcp::Bye { .. } => {}
        }
    }

    fn find_consumer(&self, transport: TransportId, ssrc: u32) -> Option<ConsumerId> {
        self.transports.get(&transport)?.consumer_of(ssrc)
    }

    fn heed_blocks(&mut self, now: Instant, transport: TransportId, blocks: &[ReportBlock]) {
        let arrived = self.clock(now);
        let mut is_about_us = false;
        for block in blocks {
            let consumer = self.find_consumer(transport, block.ssrc);
            let Some(consumer) = consumer.and_then(|id| self.consumers.get_mut(&id)) else {
                continue;
            };
            consumer.stream.on_report_block(ReportBlockView {
                fraction_lost: block.fraction_lost,
                cumulative_lost: block.cumulative_lost,
                jitter: block.jitter,
                round_trip: round_trip_time(block, arrived),
            });
            is_about_us = true;
        }
        let own = self.transports.get_mut(&transport);
        let Some(own) = own.filter(|_| is_about_us) else {
            return;
        };
        // Of the others' connections nobody wants to know; and there may be hundreds of streams, each
        // with reports of its own.
        if own.webrtc().is_none() {
            return;
        }
        // A report may be about one stream of several: so what each was last said to lose counts, as
        // much as it takes of the connection.
        let (mut sent, mut lost) = (0, 0.0);
        for id in &own.consumers {
            if let Some(consumer) = self.consumers.get_mut(id) {
                let BitRate(rate) = consumer.stream.bitrate(now);
                sent += rate;
                lost += rate as f64 * consumer.stream.fraction_lost();
            }
        }
        if sent > 0 {
            let loss = lost / sent as f64;
            own.downlink.loss_reported(now, loss, BitRate(sent));
            self.use_downlink(now, transport);
        }
    }

    fn heed_key_frame_request(
        &mut self,
        now: Instant,
        transport: TransportId,
        ssrc: u32,
        trace: Trace,
    ) {
        let Some(id) = self.find_consumer(transport, ssrc) else {
            return;
        };
        if let Some(consumer) = self.consumers.get(&id)
            && consumer.kind == MediaKind::Video
        {
            self.trace_consumer(id, |tracing| tracing.key_frame_requests, trace);
            let layer = consumer.stream.layer_asked_for();
            let origin = consumer.origin;
            self.request_key_frame_at(now, origin, layer);
        }
    }

    fn resend(&mut self, now: Instant, transport: TransportId, ssrc: u32, lost: &[u16]) {
        let clock = self.sending_time(now);
        let Some(id) = self.find_consumer(transport, ssrc) else {
            return;
        };
        let packets = lost.len();
        self.trace_consumer(id, |tracing| tracing.nacks, Trace::Nack { packets });
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let wanted = consumer.stream.resend(now, lost).collect::<Vec<_>>();
        let producer = consumer.origin.producer;
        let Some(fan_out) = self.fan_outs.remove(&producer) else {
            return;
        };
        let mut dropped = 0;
        if let Some((consumer, mut way)) = self.on_its_way(id, clock) {
            for resend in &wanted {
                let packet = fan_out.history.get(resend.layer, resend.source_sequence);
                if packet.is_some_and(|packet| !consumer.resend(resend, packet, &mut way)) {
                    dropped += 1;
                }
            }
        }
        self.outbox.datagrams_dropped += dropped;
        self.fan_outs.insert(producer, fan_out);
    }

    /// How much a client is sent at present.
    fn sent_to(&mut self, now: Instant, transport: TransportId) -> BitRate {
        let consumers = self.transports.get(&transport).map(|own| &own.consumers);
        let mut sent = 0;
        for consumer in consumers.into_iter().flatten() {
            if let Some(consumer) = self.consumers.get_mut(consumer) {
                sent += consumer.stream.bitrate(now).0;
            }
        }
        BitRate(sent)
    }

    /// Divides what a client's connection carries among what it is sent, and makes it known, if it has
    /// changed.
    pub(super) fn use_downlink(&mut self, now: Instant, id: TransportId) {
        let Some(transport) = self.transports.get_mut(&id) else {
            return;
        };
        let estimate = transport.downlink.estimate(now);
        if estimate == transport.known_downlink {
            return;
        }
        transport.known_downlink = estimate;
        self.outbox.downlinks.push((id, estimate));
        self.share_out(id);
    }

    /// Tells clients about what they are sent, each transport in its turn.
    fn report(&mut self, now: Instant, turn: u64) {
        if turn == 0 {
            for fan_out in self.fan_outs.values_mut() {
                fan_out.history.forget_old(now);
            }
        }
        let (clock, time) = (self.clock(now), self.sending_time(now));
        let Self {
            transports,
            consumers,
            sources,
            outbox,
            ..
        } = self;
        let (mut waiting, mut limited) = (Vec::new(), Vec::new());
        for (id, transport) in transports {
            if transport.turn != turn {
                continue;
            }
            if transport.known_downlink.is_some() {
                // What streams need changes, too.
                limited.push(*id);
            }
            for producer in transport.produced() {
                let Some(source) = sources.get_mut(&producer) else {
                    continue;
                };
                for (layer, score) in source.score_news() {
                    let owner = &transport.owner;
                    owner.post(move |router| router.producer_scored(producer, layer, score));
                }
            }
            let mut plain = std::mem::take(&mut outbox.plain);
            let mut compound = Compound::new(&mut plain);
            for at in 0..transport.consumers.len() {
                let id = &transport.consumers[at];
                let Some(consumer) = consumers.get_mut(id) else {
                    continue;
                };
                // A request may have been lost, and nothing may come that would remind of it.
                if consumer.stream.wanted_key_frame().is_some() {
                    waiting.push(*id);
                }
                let news = consumer.reported_as.is_none().then(|| consumer.news());
                for event in news.into_iter().flatten() {
                    let id = *id;
                    let owner = &transport.owner;
                    owner.post(move |router| router.consumer_observed(id, event));
                }
                if let Some(info) = consumer.stream.sender_info(now) {
                    let sent = SenderInfo {
                        ntp: clock,
                        rtp: info.rtp_timestamp,
                        packets: info.packets,
                        octets: info.octets,
                    };
                    compound
                        .sender_report(info.ssrc, sent, &[])
                        .cname(info.ssrc, CNAME);
                    if compound.len() > MAX_COMPOUND {
                        send_reports(transport, &plain, time, outbox);
                        compound = Compound::new(&mut plain);
                    }
                }
            }
            if let Some((ssrc, blocks)) = transport.reception(now) {
                for some in blocks.chunks(BLOCKS_AT_A_TIME) {
                    compound.receiver_report(ssrc, some);
                    if compound.len() > MAX_COMPOUND {
                        send_reports(transport, &plain, time, outbox);
                        compound = Compound::new(&mut plain);
                    }
                }
                compound.receiver_report(ssrc, &[]).cname(ssrc, CNAME);
            }
            send_reports(transport, &plain, time, outbox);
            outbox.plain = plain;
        }
        for id in limited {
            self.share_out(id);
        }
        for id in waiting {
            self.ask_for_key_frame(now, id);
        }
    }

    /// Starts with the reports, if there is anybody and they have not started.
    pub(super) fn report_later(&mut self) {
        if self.reporting.is_none() {
            self.report_from(0);
        }
    }

    fn report_from(&mut self, turn: u64) {
        if self.transports.is_empty() {
            return;
        }
        if let Some(own) = self.peers.get(self.index.0)
            && own.post_delayed(REPORT_INTERVAL, Network::report).is_ok()
        {
            self.reporting = Some(turn);
        }
    }

    /// The time that senders' reports and stamps on packets are in. Nobody is told that it is a time of
    /// day.
    fn clock(&self, now: Instant) -> NtpTime {
        NtpTime::since_unix_epoch(self.sending_time(now))
    }

    pub(super) fn sending_time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

fn send_reports(transport: &mut Transport, plain: &[u8], time: Duration, outbox: &mut Outbox) {
    let Outbox {
        datagrams,
        encrypted,
        datagrams_dropped,
        touched,
        ..
    } = outbox;
    if !plain.is_empty()
        && let Some(way) = transport.reporting_way(datagrams, touched, time)
        && !way.send_compound(plain, encrypted)
    {
        *datagrams_dropped += 1;
    }
}
