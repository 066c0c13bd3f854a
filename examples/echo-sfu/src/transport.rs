//! A WebRTC connection to one client: ICE, DTLS, SRTP by str0m, and what is carried over it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rtc_thread::DelayedTask;
use socket_server::{Envelope, SendBatch};
use str0m::bwe::{Bitrate, BweKind};
use str0m::config::DtlsCert;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use crate::ApiError;
use crate::media::{Consumer, MediaPacket, NetworkIndex, SessionKey, Track, TrackId};
use crate::sdp::{self, Offer};

/// A client that has not been heard of for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// A client that has not connected after so long will not.
const CONNECT_LIMIT: Duration = Duration::from_secs(25);
/// What a client's downlink is taken to carry until it is known.
const INITIAL_DOWNLINK: Bitrate = Bitrate::kbps(2_500);
/// As much as one publisher's audio and video usually need. Where a downlink seems to carry less,
/// its estimate is probed for up to this.
const WANTED_DOWNLINK: Bitrate = Bitrate::kbps(5_000);
/// Ways by which a client's datagrams have come in, kept to answer by the same.
const MAX_PATHS: usize = 16;

/// The connection of one session. It lives on a network thread.
///
/// Whatever changes the state of str0m's [`Rtc`] is followed by a full drain of its output, here,
/// before anything else changes it.
#[derive(Debug)]
pub(crate) struct WebRtcTransport {
    key: SessionKey,
    rtc: Rtc,
    /// Where str0m believes our datagrams come from and go to.
    candidates: Vec<SocketAddr>,
    /// By which of our addresses each of the client's reaches us. On a machine with several
    /// addresses, an answer from another one than was asked would be ignored.
    paths: Vec<(SocketAddr, IpAddr)>,
    connected: bool,
    opened_at: Instant,
    last_heard: Instant,
    /// What the client sends, by media line.
    produced: Vec<Produced>,
    /// What the client receives.
    consumers: Vec<Consumer>,
    /// What the client is to send at most.
    bitrate_limit: Option<Bitrate>,
    /// The pending wake-up for str0m's next deadline.
    pub(crate) timer: Option<(Instant, DelayedTask)>,
}

/// A track that the client sends, and on which media line.
#[derive(Debug)]
struct Produced {
    mid: Mid,
    kind: MediaKind,
    track: TrackId,
}

/// What a transport's handling leaves to be done by its thread.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) datagrams: SendBatch,
    /// Those that there was no room for.
    pub(crate) datagrams_dropped: usize,
    pub(crate) packets: Vec<(TrackId, MediaPacket)>,
    pub(crate) keyframe_requests: Vec<(NetworkIndex, TrackId)>,
    /// What the downlinks of clients seem to carry.
    pub(crate) downlinks: Vec<(SessionKey, Bitrate)>,
    /// Addresses that ICE has validated.
    pub(crate) validated: Vec<(SessionKey, SocketAddr)>,
    /// Transports that have ended.
    pub(crate) ended: Vec<SessionKey>,
}

/// A media line on which the client will receive.
pub(crate) struct ReceivingLine {
    pub(crate) mid: Mid,
    pub(crate) kind: MediaKind,
    pub(crate) accepted: Vec<Pt>,
}

/// What came of an offer.
pub(crate) struct Negotiated {
    pub(crate) transport: WebRtcTransport,
    pub(crate) answer: String,
    pub(crate) ufrag: String,
    pub(crate) tracks: Vec<Track>,
    pub(crate) receiving: Vec<ReceivingLine>,
}

impl WebRtcTransport {
    /// Answers an offer.
    pub(crate) fn negotiate(
        key: SessionKey,
        offer: Offer,
        certificate: &DtlsCert,
        candidates: &[SocketAddr],
        now: Instant,
    ) -> Result<Negotiated, ApiError> {
        let config = Rtc::builder()
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_dtls_cert(certificate.clone())
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_vp9(true)
            .enable_h264(true)
            .enable_av1(true)
            .enable_bwe(Some(INITIAL_DOWNLINK));
        #[cfg(feature = "openssl")]
        let config = config.set_crypto_provider(crate::dtls_openssl::provider());
        let mut rtc = config.build(now);
        for address in candidates {
            let candidate = Candidate::host(*address, "udp")
                .map_err(|error| ApiError::Internal(error.to_string()))?;
            rtc.add_local_candidate(candidate);
        }
        let answer = offer.answer(|offer| rtc.sdp_api().accept_offer(offer))?;
        let ufrag = rtc.direct_api().local_ice_credentials().ufrag;
        let mut transport = Self {
            key,
            rtc,
            candidates: candidates.to_vec(),
            paths: Vec::new(),
            connected: false,
            opened_at: now,
            last_heard: now,
            produced: Vec::new(),
            consumers: Vec::new(),
            bitrate_limit: None,
            timer: None,
        };
        transport
            .rtc
            .bwe()
            .set_bitrate(Bitrate::ZERO, WANTED_DOWNLINK);
        let (tracks, receiving) = transport.take_media_lines(&answer);
        Ok(Negotiated {
            transport,
            answer,
            ufrag,
            tracks,
            receiving,
        })
    }

    /// Learns which media lines came of the offer, and with which codecs. (str0m has events for
    /// that, but not before the client has connected.)
    fn take_media_lines(&mut self, answer: &str) -> (Vec<Track>, Vec<ReceivingLine>) {
        let (mut tracks, mut receiving) = (Vec::new(), Vec::new());
        for line in sdp::media_lines(answer) {
            let Some(media) = self.rtc.media(line.mid) else {
                continue;
            };
            let (kind, direction) = (media.kind(), media.direction());
            let mut accepted = media.remote_pts().to_vec();
            accepted.sort_by_key(|pt| line.rank(*pt));
            if accepted.is_empty() {
                continue;
            }
            if direction.is_receiving() {
                let config = self.rtc.codec_config();
                let codecs = accepted
                    .iter()
                    .filter_map(|pt| config.find(|params| params.pt() == *pt).copied())
                    .collect();
                let track = Track {
                    id: TrackId::next(),
                    kind,
                    codecs,
                };
                self.produced.push(Produced {
                    mid: line.mid,
                    kind,
                    track: track.id,
                });
                tracks.push(track);
            }
            if direction.is_sending() {
                receiving.push(ReceivingLine {
                    mid: line.mid,
                    kind,
                    accepted,
                });
            }
        }
        (tracks, receiving)
    }

    /// Pairs tracks with the media lines on which they are to be sent. Returns those paired; a kind
    /// for which there is no line left over is not sent.
    pub(crate) fn consume(
        &mut self,
        wanted: &[(Track, NetworkIndex)],
        receiving: Vec<ReceivingLine>,
    ) -> Result<Vec<TrackId>, ApiError> {
        let mut lines = receiving;
        let mut consumed = Vec::new();
        let mut refused = Vec::new();
        for (track, source) in wanted {
            let Some(at) = lines.iter().position(|line| line.kind == track.kind) else {
                continue;
            };
            let line = lines.remove(at);
            let config = self.rtc.codec_config();
            match Consumer::new(track, *source, line.mid, &line.accepted, config) {
                Some(consumer) => {
                    // What comes in paced goes out as it comes: another pacer would only delay it.
                    if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(line.mid, None) {
                        stream.set_unpaced(true);
                    }
                    consumed.push(track.id);
                    self.consumers.push(consumer);
                }
                None => refused.push(track.info().codec),
            }
        }
        if refused.is_empty() && !consumed.is_empty() {
            Ok(consumed)
        } else if refused.is_empty() {
            let reason = "the offer receives no kind of media that is published";
            Err(ApiError::NoCommonCodec(reason.to_owned()))
        } else {
            let reason = format!("the publisher sends {}", refused.join(" and "));
            Err(ApiError::NoCommonCodec(reason))
        }
    }

    pub(crate) fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    pub(crate) fn produced(&self) -> impl Iterator<Item = TrackId> {
        self.produced.iter().map(|produced| produced.track)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes in a datagram of the client's.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local_ip: Option<IpAddr>,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let destination = self.candidate_for(source, local_ip);
        let Ok(received) = Receive::new(Protocol::Udp, source, destination, datagram) else {
            // str0m's notion of malformed: there is nothing that it would do with it.
            return self.drain(now, outbox);
        };
        if let Some(local_ip) = local_ip {
            self.note_path(source, local_ip);
        }
        self.last_heard = now;
        let outcome = self.rtc.handle_input(Input::Receive(now, received));
        self.end_if_failed(outcome, outbox);
        self.drain(now, outbox)
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
    pub(crate) fn advance(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Instant> {
        let outcome = self.rtc.handle_input(Input::Timeout(now));
        self.end_if_failed(outcome, outbox);
        self.drain(now, outbox)
    }

    /// Sends the client packets of one track it consumes.
    pub(crate) fn send<'a>(
        &mut self,
        now: Instant,
        track: TrackId,
        packets: impl Iterator<Item = &'a MediaPacket>,
        outbox: &mut Outbox,
    ) -> (Sent, Option<Instant>) {
        let mut sent = Sent::default();
        let mut next = None;
        for at in 0..self.consumers.len() {
            if self.consumers[at].track != track {
                continue;
            }
            for packet in packets {
                let Some(write) = self.consumers[at].translate(packet) else {
                    sent.untranslatable += 1;
                    continue;
                };
                let mid = self.consumers[at].mid;
                next = self.write(now, mid, write, outbox);
                sent.forwarded += 1;
            }
            break;
        }
        (sent, next)
    }

    fn write(
        &mut self,
        now: Instant,
        mid: Mid,
        write: RtpWrite,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            stream.write_rtp(write);
        }
        self.advance(now, outbox)
    }

    /// Asks the client for a key frame of a track it sends.
    pub(crate) fn request_keyframe(
        &mut self,
        now: Instant,
        track: TrackId,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        let produced = self
            .produced
            .iter()
            .find(|produced| produced.track == track);
        if let Some(mid) = produced.map(|produced| produced.mid)
            && let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None)
        {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        self.advance(now, outbox)
    }

    /// Tells the client to send no more than so much, now and every time it is
    /// [reminded](Self::remind_of_bitrate_limit).
    pub(crate) fn limit_bitrate(
        &mut self,
        now: Instant,
        limit: Bitrate,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        self.bitrate_limit = Some(limit);
        self.remind_of_bitrate_limit(now, outbox)
    }

    /// Repeats the limit, since the message that told it may have been lost.
    pub(crate) fn remind_of_bitrate_limit(
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
            if let Some(mid) = video.map(|produced| produced.mid)
                && let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None)
            {
                stream.request_remb(limit);
            }
        }
        self.advance(now, outbox)
    }

    /// Takes in candidates that the client has trickled.
    pub(crate) fn add_remote_candidates(
        &mut self,
        now: Instant,
        candidates: Vec<Candidate>,
        outbox: &mut Outbox,
    ) -> Option<Instant> {
        for candidate in candidates {
            self.rtc.add_remote_candidate(candidate);
        }
        self.advance(now, outbox)
    }

    /// Says goodbye to the client: RTCP BYE and DTLS close_notify.
    pub(crate) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        let outcome = self.rtc.close();
        self.end_if_failed(outcome, outbox);
        self.advance(now, outbox);
    }

    /// Whether the client has vanished, or never came.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        let connect_limit_reached =
            !self.connected && now.duration_since(self.opened_at) >= CONNECT_LIMIT;
        let silence_limit_reached =
            self.connected && now.duration_since(self.last_heard) >= SILENCE_LIMIT;
        connect_limit_reached || silence_limit_reached
    }

    fn end_if_failed(&mut self, outcome: Result<(), RtcError>, outbox: &mut Outbox) {
        if let Err(error) = outcome {
            tracing::debug!(session = ?self.key, %error, "transport failed");
            outbox.ended.push(self.key);
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
                    outbox.ended.push(self.key);
                    return None;
                }
                Output::Timeout(at) if at <= now && reminders_left > 0 => {
                    reminders_left -= 1;
                    let outcome = self.rtc.handle_input(Input::Timeout(now));
                    self.end_if_failed(outcome, outbox);
                }
                Output::Timeout(at) => return Some(at),
                Output::Transmit(transmit) => {
                    let destination = transmit.destination;
                    let path = self.paths.iter().find(|(source, _)| *source == destination);
                    let source_ip = path.map(|(_, local_ip)| *local_ip);
                    let contents = &transmit.contents;
                    if outbox
                        .datagrams
                        .push(Envelope::to(destination).from_ip(source_ip), contents)
                        .is_err()
                    {
                        outbox.datagrams_dropped += 1;
                    }
                    // str0m sends to nobody whose STUN it has not authenticated.
                    outbox.validated.push((self.key, destination));
                }
                Output::Event(event) => self.handle_event(event, outbox),
            }
        }
    }

    fn handle_event(&mut self, event: Event, outbox: &mut Outbox) {
        match event {
            Event::RtpPacket(packet) => {
                let mid = packet.header.ext_vals.mid;
                let ssrc = packet.header.ssrc;
                let mid = mid.or_else(|| Some(self.rtc.direct_api().stream_rx(&ssrc)?.mid()));
                let produced = self.produced.iter().find(|own| Some(own.mid) == mid);
                if let Some(produced) = produced {
                    outbox.packets.push((produced.track, packet.into()));
                }
            }
            Event::KeyframeRequest(request) => {
                let consumer = self.consumers.iter().find(|own| own.mid == request.mid);
                if let Some(consumer) = consumer {
                    outbox
                        .keyframe_requests
                        .push((consumer.source, consumer.track));
                }
            }
            Event::EgressBitrateEstimate(BweKind::Twcc {
                estimate,
                can_probe: true,
            }) => outbox.downlinks.push((self.key, estimate)),
            Event::Connected => {
                tracing::debug!(session = ?self.key, "client connected");
                self.connected = true;
                // Whoever comes late has nothing to decode before the next key frame.
                let video = self
                    .consumers
                    .iter()
                    .filter(|own| own.kind == MediaKind::Video);
                outbox
                    .keyframe_requests
                    .extend(video.map(|own| (own.source, own.track)));
            }
            Event::IceConnectionStateChange(state) => {
                tracing::debug!(session = ?self.key, ?state, "ICE state");
                // Being disconnected is often a pause only; what ends the session is silence.
            }
            Event::Closed => {
                tracing::debug!(session = ?self.key, "client closed");
                outbox.ended.push(self.key);
            }
            _ => {}
        }
    }
}

/// How packets fared.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) forwarded: usize,
    pub(crate) untranslatable: usize,
}
