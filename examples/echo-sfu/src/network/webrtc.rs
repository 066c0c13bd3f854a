//! A WebRTC connection to one client: ICE, DTLS and what comes in by str0m; what goes out by us.
//!
//! str0m's way out is made for one sender. A packet that goes to hundreds would be queued, stamped,
//! cached for retransmission and looked after by timers hundreds of times; here, only its header is
//! written and its payload encrypted for each. So str0m is told that it sends nothing, and RTCP about
//! what we send is read here.

mod ice;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_thread::DelayedTask;
use socket_server::Envelope;
use str0m::bwe::Bitrate;
use str0m::config::DtlsCert;
use str0m::format::PayloadParams;
use str0m::ice::StunMessage;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Rid};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{Extension, ExtensionMap, RtpPacket, VideoOrientation};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcError};

use super::Flow;
use super::channels::{Channels, DataEnd, STR0M_BUFFER_BYTES};
use super::dtls_keys::{self, AgreedKeys};
use super::outbox::{Outbox, Validated};
use crate::ApiError;
use crate::ice::IceCredentials;
use crate::media::Media;
use crate::objects::{
    DataConsumerId, DataCounters, DataMessage, DataParameters, DtlsState, IceState,
    MAX_MESSAGE_BYTES, ProducerId, TransportId, TransportStatus,
};
use crate::rtp::packet::{AudioLevel, Extensions, MediaPacket};
use crate::rtp::rate::BitRate;
use crate::rtp::rtcp;
use crate::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::rtp::wire::ExtensionIds;
use crate::sdp::{self, Offer};

/// A client that has not been heard of for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// A client that has not connected after so long will not.
const CONNECT_LIMIT: Duration = Duration::from_secs(25);
/// What a client is told once there is no limit any more.
const NO_LIMIT: BitRate = BitRate(100_000_000);
/// Trickled by one client, all its fragments together: str0m keeps them all. An ICE-lite server hardly
/// needs any.
const MAX_REMOTE_CANDIDATES: usize = 64;
/// Ways by which a client's datagrams have come in, kept to answer by the same.
const MAX_PATHS: usize = 16;
/// Addresses at which one client is found, those that it has left included: str0m keeps them all. One
/// that goes on and on to others has to connect anew.
const MAX_FOUND: usize = 256;

/// The connection of one client. It lives on a network thread.
///
/// Whatever changes the state of str0m's [`Rtc`] is followed by a full drain of its output, here,
/// before anything else changes it.
#[derive(Debug)]
pub(crate) struct WebRtcTransport {
    id: TransportId,
    rtc: Rtc,
    /// Where str0m believes our datagrams come from and go to.
    candidates: Vec<SocketAddr>,
    /// By which of our addresses each of the client's reaches us. On a machine with several
    /// addresses, an answer from another one than was asked would be ignored.
    paths: Vec<(SocketAddr, IpAddr)>,
    /// Where ICE has found the client, as far as it was told.
    validated: Vec<SocketAddr>,
    /// How many have been, over all the time.
    found: usize,
    /// Whose STUN request was answered last; none that is not authentic is.
    answered: Option<SocketAddr>,
    /// Where the client wants its media sent.
    destination: Option<SocketAddr>,
    connected: bool,
    /// How it is, but for where the client is.
    progress: TransportStatus,
    /// How it was when that was told last.
    told: TransportStatus,
    opened_at: Instant,
    last_heard: Instant,
    /// What the client sends, by media line.
    produced: Vec<Produced>,
    /// There is none before the client is connected.
    outgoing: Option<Encryption>,
    /// How often ICE has started anew.
    restarts: u64,
    /// The client's credentials, and ours, that were agreed then.
    last_restart: Option<(IceCredentials, IceCredentials)>,
    /// The client has not yet said where it is since.
    is_restarting: bool,
    /// How many the client has trickled.
    remote_candidates: usize,
    /// What the client is to send at most.
    bitrate_limit: Option<BitRate>,
    channels: Channels,
    /// The pending wake-up for str0m's next deadline.
    pub(super) timer: Option<(Instant, DelayedTask)>,
}

/// What the client sends on a media line.
#[derive(Debug)]
struct Produced {
    mid: Mid,
    kind: MediaKind,
    producer: ProducerId,
    /// The encodings of simulcast, the smallest first; none if there is one only.
    layers: Vec<Rid>,
    /// Of each layer.
    numbers: Vec<Numbers>,
}

/// How what we send is encrypted, and what the client says about it.
#[derive(Debug)]
struct Encryption {
    sender: SrtpSender,
    reports: SrtpReceiver,
}

/// A media line on which the client will receive.
#[derive(Debug)]
pub(crate) struct ReceivingLine {
    pub(super) mid: Option<Mid>,
    pub(super) kind: MediaKind,
    /// In the order in which the client prefers them.
    pub(super) codecs: Vec<PayloadParams>,
    pub(super) ssrc: u32,
    pub(super) rtx: Option<u32>,
    pub(super) extensions: ExtensionIds,
}

/// What came of an offer.
#[derive(Debug)]
pub(crate) struct Negotiated {
    pub(super) transport: WebRtcTransport,
    pub(crate) answer: String,
    pub(super) ufrag: String,
    pub(super) produced: Vec<(ProducerId, Media)>,
    pub(super) receiving: Vec<ReceivingLine>,
}

impl WebRtcTransport {
    /// Answers an offer.
    pub(crate) fn negotiate(
        id: TransportId,
        offer: Offer,
        certificate: &DtlsCert,
        candidates: &[SocketAddr],
        now: Instant,
    ) -> Result<Negotiated, ApiError> {
        let mut rtc = Rtc::builder()
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_dtls_cert(certificate.clone())
            .set_crypto_provider(dtls_keys::provider())
            .set_sctp_max_message_size(MAX_MESSAGE_BYTES as u32)
            .set_sctp_max_buffered_amount(STR0M_BUFFER_BYTES)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_vp9(true)
            .enable_h264(true)
            .enable_av1(true)
            .build(now);
        for address in candidates {
            let candidate = Candidate::host(*address, "udp")
                .map_err(|error| ApiError::Internal(error.to_string()))?;
            rtc.add_local_candidate(candidate);
        }
        let answer = offer.answer(|offer| rtc.sdp_api().accept_offer(offer))?;
        let ufrag = rtc.direct_api().local_ice_credentials().ufrag;
        let mut transport = Self {
            id,
            rtc,
            candidates: candidates.to_vec(),
            paths: Vec::new(),
            validated: Vec::new(),
            found: 0,
            answered: None,
            destination: None,
            connected: false,
            progress: TransportStatus::default(),
            told: TransportStatus::default(),
            opened_at: now,
            last_heard: now,
            produced: Vec::new(),
            outgoing: None,
            restarts: 0,
            last_restart: None,
            is_restarting: false,
            remote_candidates: 0,
            bitrate_limit: None,
            channels: Channels::new(id),
            timer: None,
        };
        let (produced, receiving) = transport.take_media_lines(&answer);
        Ok(Negotiated {
            transport,
            answer,
            ufrag,
            produced,
            receiving,
        })
    }

    /// Learns which media lines came of the offer, and with which codecs. (str0m has events for
    /// that, but not before the client has connected.)
    fn take_media_lines(&mut self, answer: &str) -> (Vec<(ProducerId, Media)>, Vec<ReceivingLine>) {
        let (mut produced, mut receiving) = (Vec::new(), Vec::new());
        for line in sdp::media_lines(answer) {
            let mid = line.mid;
            let Some(media) = self.rtc.media(mid) else {
                continue;
            };
            let (kind, direction) = (media.kind(), media.direction());
            let extensions = extension_ids(media.remote_extmap());
            let mut accepted = media.remote_pts().to_vec();
            accepted.sort_by_key(|pt| line.rank(*pt));
            let config = self.rtc.codec_config();
            let codecs: Vec<_> = accepted
                .iter()
                .filter_map(|pt| config.find(|params| params.pt() == *pt).copied())
                .collect();
            if codecs.is_empty() {
                continue;
            }
            if direction.is_receiving() {
                let producer = ProducerId::next();
                let layers = line.layers.clone();
                let media = Media {
                    kind,
                    codecs: codecs.clone(),
                    layers: layers.len().max(1),
                };
                self.produced.push(Produced {
                    mid,
                    kind,
                    producer,
                    numbers: vec![Numbers::default(); layers.len().max(1)],
                    layers,
                });
                produced.push((producer, media));
            }
            if direction.is_sending()
                && let Some((ssrc, rtx)) = self.take_over(mid)
            {
                receiving.push(ReceivingLine {
                    mid: Some(mid),
                    kind,
                    codecs,
                    ssrc,
                    rtx,
                    extensions,
                });
            }
        }
        (produced, receiving)
    }

    /// The streams that the answer promises on a media line; from here on, ours to send. Under
    /// these SSRCs str0m must send nothing: it would encrypt with numbers that we use, too.
    fn take_over(&mut self, mid: Mid) -> Option<(u32, Option<u32>)> {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None)?;
        let (ssrc, rtx) = (stream.ssrc(), stream.rtx());
        api.remove_stream_tx(ssrc);
        Some((*ssrc, rtx.map(|rtx| *rtx)))
    }

    pub(super) fn produced(&self) -> impl Iterator<Item = ProducerId> {
        self.produced.iter().map(|produced| produced.producer)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(super) const fn remote(&self) -> Option<SocketAddr> {
        self.destination
    }

    /// How a datagram goes to the client, once it can go anywhere.
    pub(super) fn envelope(&self) -> Option<Envelope> {
        Some(self.envelope_to(self.destination?))
    }

    fn envelope_to(&self, destination: SocketAddr) -> Envelope {
        let path = self.paths.iter().find(|(source, _)| *source == destination);
        Envelope::to(destination).from_ip(path.map(|(_, local_ip)| *local_ip))
    }

    /// What encrypts for the client, once it is connected.
    pub(super) fn encryption(&mut self) -> Option<&mut SrtpSender> {
        Some(&mut self.outgoing.as_mut()?.sender)
    }

    /// Takes in a datagram of the client's.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local_ip: Option<IpAddr>,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        if is_rtcp(datagram) && self.receive_reports(datagram, outbox) && self.produced.is_empty() {
            self.last_heard = now;
            return None;
        }
        if self.found >= MAX_FOUND && is_stun(datagram) && !self.validated.contains(&source) {
            return None;
        }
        let destination = self.candidate_for(source, local_ip);
        let Ok(received) = Receive::new(Protocol::Udp, source, destination, datagram) else {
            // str0m's notion of malformed: there is nothing that it would do with it.
            return self.drain(now, outbox);
        };
        if let Some(local_ip) = local_ip {
            self.note_path(source, local_ip);
        }
        self.answered = None;
        let outcome = self.rtc.handle_input(Input::Receive(now, received));
        self.end_if_failed(outcome, outbox);
        let deadline = self.drain(now, outbox);
        // STUN that is not answered is not authentic: it may be another client's, who has come to the
        // same address after this one has gone.
        if !is_stun(datagram) || self.answered == Some(source) {
            self.last_heard = now;
        }
        if self.answered == Some(source) {
            self.is_checked(nominates(datagram).then_some(source), outbox);
        }
        if !self.connected && is_dtls(datagram) && self.validated.contains(&source) {
            self.progress.dtls = self.progress.dtls.max(DtlsState::Connecting);
        }
        self.note_status(outbox);
        deadline
    }

    /// Takes in what the client says about what we send it. False if it says that to somebody else,
    /// or not at all.
    fn receive_reports(&mut self, datagram: &[u8], outbox: &mut Outbox) -> bool {
        let Some(outgoing) = &mut self.outgoing else {
            return false;
        };
        outbox.plain.clear();
        if outgoing
            .reports
            .unprotect_rtcp(datagram, &mut outbox.plain)
            .is_err()
        {
            return false;
        }
        let reports = rtcp::read_compound(&outbox.plain);
        let id = self.id;
        outbox
            .reports
            .extend(reports.into_iter().map(|report| (id, report)));
        true
    }

    /// Which of the addresses we told the client about the datagram came to. Behind a NAT it is
    /// none that the machine has, and the first of the family stands for it.
    fn candidate_for(&self, source: SocketAddr, local_ip: Option<IpAddr>) -> SocketAddr {
        let exact = self
            .candidates
            .iter()
            .find(|candidate| Some(candidate.ip()) == local_ip);
        let same_family = || {
            self.candidates
                .iter()
                .find(|c| c.is_ipv4() == source.is_ipv4())
        };
        exact.or_else(same_family).copied().unwrap_or(source)
    }

    fn note_path(&mut self, source: SocketAddr, local_ip: IpAddr) {
        if let Some(path) = self.paths.iter_mut().find(|path| path.0 == source) {
            path.1 = local_ip;
        } else {
            if self.paths.len() == MAX_PATHS {
                self.paths.remove(0);
            }
            self.paths.push((source, local_ip));
        }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Instant> {
        let outcome = self.rtc.handle_input(Input::Timeout(now));
        self.end_if_failed(outcome, outbox);
        let deadline = self.drain(now, outbox);
        self.note_status(outbox);
        deadline
    }

    /// Asks the client for a key frame of something that it sends.
    pub(super) fn request_key_frame(
        &mut self,
        now: Instant,
        producer: ProducerId,
        layer: u8,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let produced = self.produced.iter().find(|own| own.producer == producer);
        if let Some(produced) = produced {
            let rid = produced.layers.get(usize::from(layer)).copied();
            let mut api = self.rtc.direct_api();
            if let Some(stream) = api.stream_rx_by_mid(produced.mid, rid) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        }
        self.advance(now, outbox)
    }

    /// Tells the client to send no more than so much, or that there is no limit any more; now and
    /// every time it is [reminded](Self::remind_of_bitrate_limit).
    pub(super) fn limit_bitrate(
        &mut self,
        now: Instant,
        limit: Option<BitRate>,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let no_limit = self.bitrate_limit.map(|_| NO_LIMIT);
        let limit = limit.or(no_limit);
        if limit == self.bitrate_limit {
            return None;
        }
        self.bitrate_limit = limit;
        self.remind_of_bitrate_limit(now, outbox)
    }

    /// Repeats the limit, since the message that told it may have been lost.
    pub(super) fn remind_of_bitrate_limit(
        &mut self,
        now: Instant,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        if let Some(limit) = self.bitrate_limit {
            // It is for the whole connection, and video is what can adapt to it.
            let video = self
                .produced
                .iter()
                .find(|produced| produced.kind == MediaKind::Video);
            if let Some(mid) = video.map(|produced| produced.mid) {
                let mut api = self.rtc.direct_api();
                let layers = video.map_or(&[][..], |produced| &produced.layers);
                if let Some(stream) = api.stream_rx_by_mid(mid, layers.first().copied()) {
                    stream.request_remb(Bitrate::bps(limit.0));
                }
            }
        }
        self.advance(now, outbox)
    }

    /// Takes in candidates that the client has trickled.
    pub(super) fn add_remote_candidates(
        &mut self,
        now: Instant,
        candidates: Vec<Candidate>,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let left = MAX_REMOTE_CANDIDATES.saturating_sub(self.remote_candidates);
        for candidate in candidates.into_iter().take(left) {
            self.remote_candidates += 1;
            self.rtc.add_remote_candidate(candidate);
        }
        self.advance(now, outbox)
    }

    /// What becomes of the data channels that the client opens.
    pub(super) const fn set_flow(&mut self, flow: Flow) {
        self.channels.set_flow(flow);
    }

    /// Opens a data channel to the client.
    pub(super) fn open_channel(
        &mut self,
        now: Instant,
        consumer: DataConsumerId,
        parameters: &DataParameters,
        counters: Arc<DataCounters>,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let rtc = &mut self.rtc;
        self.channels.open(rtc, consumer, parameters, counters);
        self.advance(now, outbox)
    }

    /// Sends messages on the data channel of a consumer.
    pub(super) fn send_data(
        &mut self,
        now: Instant,
        consumer: DataConsumerId,
        messages: &[&DataMessage],
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        for message in messages {
            self.channels.enqueue(consumer, message, &mut outbox.data);
        }
        self.advance(now, outbox)
    }

    pub(super) fn set_low_threshold(&mut self, consumer: DataConsumerId, threshold: usize) {
        self.channels.set_low_threshold(consumer, threshold);
    }

    /// A data channel is not used any more, at one end at least.
    pub(super) fn end_channel(
        &mut self,
        now: Instant,
        end: DataEnd,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        self.channels.end(&mut self.rtc, end);
        self.advance(now, outbox)
    }

    /// Says goodbye to the client: RTCP BYE and DTLS close_notify.
    pub(super) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        let outcome = self.rtc.close();
        self.end_if_failed(outcome, outbox);
        self.advance(now, outbox);
    }

    /// Whether the client has vanished, or never came.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let connect_limit_reached =
            !self.connected && now.duration_since(self.opened_at) >= CONNECT_LIMIT;
        let silence_limit_reached =
            self.connected && now.duration_since(self.last_heard) >= SILENCE_LIMIT;
        connect_limit_reached || silence_limit_reached
    }

    fn end_if_failed(&mut self, outcome: Result<(), RtcError>, outbox: &mut Outbox) {
        if let Err(error) = outcome {
            tracing::debug!(transport = ?self.id, %error, "transport failed");
            outbox.ended.push(self.id);
            self.rtc.disconnect();
        }
    }

    /// Takes out everything that str0m has to say. Returns when it wants to hear of time again.
    fn drain(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Instant> {
        // str0m may want to hear at once of the time it already knows, in order to release what was
        // just written. A deadline that stays in the past is for the timer, not for this loop.
        let mut reminders_left = 4;
        loop {
            let output = match self.rtc.poll_output() {
                Ok(output) => output,
                Err(error) => {
                    self.end_if_failed(Err(error), outbox);
                    return None;
                }
            };
            match output {
                Output::Timeout(_) if !self.rtc.is_alive() => {
                    outbox.ended.push(self.id);
                    return None;
                }
                Output::Timeout(at) if at <= now && reminders_left > 0 => {
                    reminders_left -= 1;
                    let outcome = self.rtc.handle_input(Input::Timeout(now));
                    self.end_if_failed(outcome, outbox);
                }
                Output::Timeout(at) => {
                    if !self.channels.pump(&mut self.rtc, &mut outbox.data) {
                        return Some(at);
                    }
                }
                Output::Transmit(transmit) => self.transmit(&transmit, outbox),
                Output::Event(event) => self.handle_event(event, outbox),
            }
        }
    }

    fn transmit(&mut self, transmit: &Transmit, outbox: &mut Outbox) {
        let is_stun = is_stun(&transmit.contents);
        let destination = match self.destination {
            // str0m keeps to a better path for as long as it is not dead, though the client has left it.
            Some(nominated) if !is_stun => nominated,
            _ => transmit.destination,
        };
        let envelope = self.envelope_to(destination);
        if outbox.datagrams.push(envelope, &transmit.contents).is_err() {
            outbox.datagrams_dropped += 1;
        }
        if is_stun {
            self.answered = Some(destination);
        } else {
            self.destination = Some(destination);
        }
        // str0m sends to nobody whose STUN it has not authenticated.
        if !self.validated.contains(&destination) {
            if self.validated.len() == MAX_PATHS {
                self.validated.remove(0);
            }
            self.validated.push(destination);
            self.found += 1;
            outbox
                .validated
                .push((self.id, Validated::Another(destination)));
        }
    }

    fn handle_event(&mut self, event: Event, outbox: &mut Outbox) {
        match event {
            Event::RtpPacket(packet) => self.take_packet(packet, outbox),
            Event::Connected => {
                tracing::debug!(transport = ?self.id, "client connected");
                self.connected = true;
                self.progress.dtls = DtlsState::Connected;
                self.outgoing = dtls_keys::take_agreed().map(|AgreedKeys { local, remote }| {
                    let (sender, reports) = (SrtpSender::new(&local), SrtpReceiver::new(&remote));
                    Encryption { sender, reports }
                });
                outbox.connected.push(self.id);
            }
            Event::ChannelOpen(id, _) => {
                self.channels.opened(&mut self.rtc, id, &mut outbox.data);
            }
            Event::ChannelData(data) => self.channels.received(data, &mut outbox.data),
            Event::ChannelClose(id) => self.channels.closed(id, &mut outbox.data),
            Event::IceConnectionStateChange(state) => {
                tracing::debug!(transport = ?self.id, ?state, "ICE state");
                // Being disconnected is often a pause only; what ends the transport is silence.
                if state == IceConnectionState::Disconnected {
                    self.progress.ice = IceState::Disconnected;
                }
            }
            Event::Closed => {
                tracing::debug!(transport = ?self.id, "client closed");
                outbox.ended.push(self.id);
            }
            _ => {}
        }
    }

    fn take_packet(&mut self, packet: RtpPacket, outbox: &mut Outbox) {
        let names = &packet.header.ext_vals;
        let (mut mid, mut rid) = (names.mid, names.rid.or(names.rid_repair));
        // They are in the first packets only, and in none that was sent again.
        if let Some(stream) = self.rtc.direct_api().stream_rx(&packet.header.ssrc) {
            mid = Some(stream.mid());
            rid = stream.rid().or(rid);
        }
        let mut produced = self.produced.iter_mut();
        let Some(produced) = produced.find(|own| Some(own.mid) == mid) else {
            return;
        };
        let layer = rid.and_then(|rid| produced.layers.iter().position(|own| *own == rid));
        let layer = layer.and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        let Some(numbers) = produced.numbers.get_mut(usize::from(layer)) else {
            return;
        };
        let ssrc = *packet.header.ssrc;
        let mut packet = media_packet(packet, layer);
        packet.sequence = numbers.continued(ssrc, packet.sequence);
        outbox.packets.push((produced.producer, packet));
    }
}

/// Sequence numbers that only grow, whatever becomes of the SSRC.
#[derive(Debug, Clone, Default)]
struct Numbers {
    ssrc: Option<u32>,
    shift: u64,
    newest: u64,
}

impl Numbers {
    /// A source that starts anew, under another SSRC, goes on far above all its numbers before: so
    /// whoever follows it starts anew, too.
    fn continued(&mut self, ssrc: u32, sequence: u64) -> u64 {
        let before = self.ssrc.replace(ssrc);
        if before.is_some_and(|before| before != ssrc) {
            self.shift = self.newest + (1 << 16);
        }
        let sequence = sequence + self.shift;
        self.newest = self.newest.max(sequence);
        sequence
    }
}

fn media_packet(packet: RtpPacket, layer: u8) -> MediaPacket {
    let (header, values) = (&packet.header, &packet.header.ext_vals);
    let audio_level = values.audio_level.map(|level| AudioLevel {
        below_full_db: level.unsigned_abs().min(127),
        is_speech: values.voice_activity.unwrap_or(false),
    });
    MediaPacket {
        payload_type: *header.payload_type,
        layer,
        sequence: *packet.seq_no,
        timestamp: header.timestamp,
        marker: header.marker,
        extensions: Extensions {
            audio_level,
            video_orientation: values.video_orientation.map(orientation_byte),
            absolute_capture_time: None,
        },
        payload: packet.payload,
        arrived_at: packet.timestamp,
    }
}

/// As `urn:3gpp:video-orientation` writes it.
const fn orientation_byte(orientation: VideoOrientation) -> u8 {
    match orientation {
        VideoOrientation::Deg0 => 0,
        VideoOrientation::Deg90 => 1,
        VideoOrientation::Deg180 => 2,
        VideoOrientation::Deg270 => 3,
    }
}

fn extension_ids(negotiated: &ExtensionMap) -> ExtensionIds {
    let id = |extension| negotiated.id_of(extension);
    ExtensionIds {
        mid: id(Extension::RtpMid),
        audio_level: id(Extension::AudioLevel),
        video_orientation: id(Extension::VideoOrientation),
        absolute_send_time: id(Extension::AbsoluteSendTime),
        absolute_capture_time: id(Extension::AbsoluteCaptureTime),
        ..ExtensionIds::default()
    }
}

/// RFC 5761, section 4: by the second byte.
pub(super) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

/// RFC 7983.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// RFC 7983.
fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

/// Whether it is a STUN request that says: send here.
fn nominates(datagram: &[u8]) -> bool {
    is_stun(datagram)
        && StunMessage::parse(datagram)
            .is_ok_and(|message| message.is_binding_request() && message.use_candidate())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_though_a_source_starts_anew() {
        let mut numbers = Numbers::default();
        assert_eq!(70_000, numbers.continued(1, 70_000));
        assert_eq!(69_999, numbers.continued(1, 69_999));
        assert_eq!(70_000 + 65_536 + 5, numbers.continued(2, 5));
        assert_eq!(70_000 + 65_536 + 6, numbers.continued(2, 6));
    }
}
