//! Transports of plain RTP, and of SRTP whose keys the application exchanges: for ffmpeg, GStreamer and
//! whatever else speaks RTP without WebRTC.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use super::address::RouterAddress;
use super::consumer::{Consumer, ConsumerEvent, ConsumerOptions};
use super::error::ObjectError;
use super::events::{CloseReason, EventSink, Events};
use super::id::{ConsumerId, ProducerId, TransportId};
use super::on_network::{ConsumerOnNetwork, ProducerOnNetwork, TransportOnNetwork};
use super::pipe::PipedTo;
use super::producer::{Producer, ProducerOptions, ProducerSource};
use super::replica::Versioned;
use super::router::{Router, RouterState};
use super::rtp_parameters::{
    CheckedCapabilities, CheckedStream, RtpCapabilities, RtpParameters, RtpParametersError,
};
use super::transport::{self, TransportEvent, TransportKind, TransportState};
use crate::Operation;
use crate::media::{LayerSsrcs, Media};
use crate::network::{
    OpenPlain, Origin, PlainAddresses, PlainLine, PlainProduced, PlainRemote, PortRange, Wanted,
};
use crate::operation::ReplyTo;
use crate::rtp::history::MAX_LAYERS;
use crate::rtp::srtp::{SrtpKey, SrtpProfile, SrtpReceiver, SrtpSender};

/// How many producers a plain transport may have: with three layers and RTX, no more streams than
/// [SRTP keeps account of](SrtpReceiver::of_many).
const MAX_PRODUCERS: usize = 512;
const MAX_CONSUMERS: usize = 1_000;

/// Which UDP port a transport has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlainPort {
    /// Whichever is free.
    #[default]
    Any,
    /// This one, or none.
    Fixed(u16),
    /// One of these. At most 1,000 of them are tried.
    Range(RangeInclusive<u16>),
}

/// What a plain transport is to be.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct PlainTransportOptions {
    ip: IpAddr,
    port: PlainPort,
    rtcp_mux: bool,
    comedia: bool,
    srtp: Option<SrtpProfile>,
    silence_limit: Option<Duration>,
}

impl Default for PlainTransportOptions {
    /// On the loopback address.
    fn default() -> Self {
        Self::new(Ipv4Addr::LOCALHOST.into())
    }
}

impl PlainTransportOptions {
    /// On this address of the machine: any port, RTCP on the same, without SRTP, to be
    /// [connected](PlainTransport::connect).
    pub const fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            port: PlainPort::Any,
            rtcp_mux: true,
            comedia: false,
            srtp: None,
            silence_limit: None,
        }
    }

    /// On such a port.
    pub fn port(mut self, port: PlainPort) -> Self {
        self.port = port;
        self
    }

    /// Whether RTCP shares the port; otherwise it has the next. ffmpeg wants two.
    pub const fn rtcp_mux(mut self, shared: bool) -> Self {
        self.rtcp_mux = shared;
        self
    }

    /// Whether the other end is wherever its first packet comes from. Without SRTP, anybody can be the
    /// first who knows the SSRC of a producer, or sends RTCP.
    pub const fn comedia(mut self, learns: bool) -> Self {
        self.comedia = learns;
        self
    }

    /// Whether everything is encrypted, and how.
    pub const fn srtp(mut self, profile: Option<SrtpProfile>) -> Self {
        self.srtp = profile;
        self
    }

    /// Closes it, as [`CloseReason::Disconnected`], when nothing has come from the other end for so
    /// long. Otherwise it stays until it is closed.
    pub const fn silence_limit(mut self, limit: Option<Duration>) -> Self {
        self.silence_limit = limit;
        self
    }

    fn ports(&self) -> Option<PortRange> {
        let (first, last) = match &self.port {
            PlainPort::Any => return None,
            PlainPort::Fixed(port) if self.rtcp_mux => (*port, *port),
            PlainPort::Fixed(port) => (*port, port.saturating_add(1)),
            PlainPort::Range(range) => (*range.start(), *range.end()),
        };
        let begin = random_u32() as u16;
        Some(PortRange { first, last, begin })
    }
}

/// The other end of a plain transport.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct PlainConnectOptions {
    remote: Option<SocketAddr>,
    rtcp_remote: Option<SocketAddr>,
    srtp_key: Option<SrtpKey>,
}

impl PlainConnectOptions {
    /// It is there. If RTCP has a port of its own here, it has the next one there.
    pub fn to(remote: SocketAddr) -> Self {
        Self {
            remote: Some(remote),
            ..Self::default()
        }
    }

    /// It will be [learned](PlainTransportOptions::comedia) where it is; this is its key.
    pub fn with_key(key: SrtpKey) -> Self {
        Self {
            srtp_key: Some(key),
            ..Self::default()
        }
    }

    /// Where it receives RTCP.
    pub const fn rtcp(mut self, remote: SocketAddr) -> Self {
        self.rtcp_remote = Some(remote);
        self
    }

    /// What it encrypts with.
    pub fn srtp_key(mut self, key: SrtpKey) -> Self {
        self.srtp_key = Some(key);
        self
    }
}

/// Why a plain transport is not connected like that.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlainConnectError {
    /// It is connected already.
    #[error("the transport is connected already")]
    Again,
    /// There is nowhere to send to, and the transport does not learn it.
    #[error("the remote address is missing")]
    NoRemote,
    /// The transport learns the address from the first packet.
    #[error("the transport learns the remote address by itself")]
    LearnsRemote,
    /// Nobody can receive there, or not what is sent from here: an address of the other family, port 0.
    #[error("nothing can be sent to {0}")]
    BadRemote(SocketAddr),
    /// RTCP shares a port here.
    #[error("RTCP has no port of its own")]
    NoRtcpPort,
    /// The transport has SRTP, and the other end must have a key.
    #[error("the SRTP key is missing")]
    NoKey,
    /// The transport has no SRTP.
    #[error("the transport has no SRTP")]
    NoSrtp,
    /// The key is of another profile.
    #[error("the SRTP key is for {actual}, and not for {expected}")]
    WrongProfile {
        /// The transport's.
        expected: SrtpProfile,
        /// The key's.
        actual: SrtpProfile,
    },
}

/// A transport of plain RTP or SRTP, over a UDP port of its own. Dropping this closes nothing.
///
/// Without SRTP it is as safe as the network it is on: anybody who can send from the other end's
/// address can send media.
///
/// mediasoup: `PlainTransport`.
#[derive(Debug)]
pub struct PlainTransport {
    id: TransportId,
    router: RouterAddress,
    addresses: PlainAddresses,
    srtp_key: Option<SrtpKey>,
    events: Events<TransportEvent>,
}

/// A consumer on a plain transport, and what its stream looks like.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlainConsumer {
    /// The consumer.
    pub consumer: Consumer,
    /// What is sent: what the receiver must be told.
    pub parameters: RtpParameters,
}

impl Router {
    /// Creates a transport of plain RTP or SRTP.
    ///
    /// Fails with [`ObjectError::CannotBind`] if the address is not this machine's, or no such port is
    /// free; nothing is left behind then.
    ///
    /// mediasoup: `createPlainTransport`.
    pub fn create_plain_transport(
        &self,
        options: PlainTransportOptions,
    ) -> Operation<PlainTransport, ObjectError> {
        let address = self.address().clone();
        self.address().enqueue_with_reply(move |router, reply| {
            router.open_plain(address, options, reply);
        })
    }
}

impl PlainTransport {
    /// Its name.
    pub fn id(&self) -> TransportId {
        self.id
    }

    /// Where it receives: RTP, and RTCP unless that has a port of its own.
    pub fn local_address(&self) -> SocketAddr {
        self.addresses.rtp
    }

    /// Where it receives RTCP, if that has a port of its own.
    pub fn local_rtcp_address(&self) -> Option<SocketAddr> {
        self.addresses.rtcp
    }

    /// What it encrypts with, if it does: the other end must be told, by a way that nobody else reads.
    ///
    /// mediasoup: `srtpParameters`.
    pub fn srtp_key(&self) -> Option<&SrtpKey> {
        self.srtp_key.as_ref()
    }

    /// Says where the other end is, and what it encrypts with. Once only.
    ///
    /// Fails with [`ObjectError::Connect`].
    pub fn connect(&self, options: PlainConnectOptions) -> Operation<(), ObjectError> {
        let id = self.id;
        self.router
            .enqueue(move |router| router.connect_plain(id, options))
    }

    /// Creates a producer of what arrives under an SSRC.
    ///
    /// Fails with [`ObjectError::Rtp`] if the codec is not supported, the SSRC is missing or another
    /// producer's, or anything else makes no sense.
    pub fn produce(
        &self,
        parameters: RtpParameters,
        options: ProducerOptions,
    ) -> Operation<Producer, ObjectError> {
        let (id, address) = (self.id, self.router.clone());
        self.router
            .enqueue(move |router| router.produce_plain(id, &parameters, options, address))
    }

    /// Creates a consumer of a producer of the same router, as the other end can receive it.
    ///
    /// Fails with [`ObjectError::NoCommonCodec`] if it cannot.
    pub fn consume(
        &self,
        producer: ProducerId,
        capabilities: RtpCapabilities,
        options: ConsumerOptions,
    ) -> Operation<PlainConsumer, ObjectError> {
        let (id, address) = (self.id, self.router.clone());
        self.router.enqueue(move |router| {
            router.consume_plain(id, producer, &capabilities, options, address)
        })
    }

    /// Closes it, its ports, and all producers and consumers on it.
    pub fn close(&self) -> Operation<(), ObjectError> {
        transport::close(&self.router, self.id)
    }

    /// What it tells.
    pub fn events(&mut self) -> &mut Events<TransportEvent> {
        &mut self.events
    }
}

/// A plain transport as its router knows it.
#[derive(Debug)]
pub(super) struct PlainState {
    pub(super) on_network: TransportOnNetwork,
    comedia: bool,
    srtp: Option<SrtpProfile>,
    is_ipv4: bool,
    has_rtcp_port: bool,
    is_connected: bool,
    /// Of what arrives, by SSRC.
    arriving: HashMap<u32, ProducerId>,
    /// How many producers that are.
    producers: usize,
    consumers: Vec<ConsumerId>,
    /// Counted up from anywhere: with SRTP, no two streams of a key may have the same.
    next_ssrc: u32,
}

impl PlainState {
    fn new(on_network: TransportOnNetwork, options: &PlainTransportOptions) -> Self {
        Self {
            on_network,
            comedia: options.comedia,
            srtp: options.srtp,
            is_ipv4: options.ip.is_ipv4(),
            has_rtcp_port: !options.rtcp_mux,
            is_connected: false,
            arriving: HashMap::new(),
            producers: 0,
            consumers: Vec::new(),
            next_ssrc: random_u32(),
        }
    }

    /// What carries the media of a pipe to another process: it is connected by its link.
    pub(super) fn of_pipe(on_network: TransportOnNetwork) -> Self {
        let mut plain = Self::new(on_network, &PlainTransportOptions::default());
        plain.is_connected = true;
        plain
    }

    pub(super) fn forget_producer(&mut self, id: ProducerId) {
        let before = self.arriving.len();
        self.arriving.retain(|_, producer| *producer != id);
        self.producers -= usize::from(self.arriving.len() < before);
    }

    pub(super) fn forget_consumer(&mut self, id: ConsumerId) {
        self.consumers.retain(|consumer| *consumer != id);
    }

    fn take_ssrc(&mut self) -> u32 {
        let taken = self.next_ssrc;
        self.next_ssrc = taken.wrapping_add(1);
        taken
    }

    fn connect(&mut self, options: PlainConnectOptions) -> Result<PlainRemote, PlainConnectError> {
        use PlainConnectError as E;
        let PlainConnectOptions {
            remote,
            rtcp_remote,
            srtp_key,
        } = options;
        if self.is_connected {
            return Err(E::Again);
        }
        match (remote.or(rtcp_remote), self.comedia) {
            (Some(_), true) => return Err(E::LearnsRemote),
            (None, false) => return Err(E::NoRemote),
            (None, true) if srtp_key.is_none() && self.srtp.is_none() => {
                return Err(E::LearnsRemote);
            }
            _ => {}
        }
        if remote.is_none() && !self.comedia {
            return Err(E::NoRemote);
        }
        if rtcp_remote.is_some() && !self.has_rtcp_port {
            return Err(E::NoRtcpPort);
        }
        let next = |remote: SocketAddr| {
            let port = remote.port().checked_add(1)?;
            Some(SocketAddr::new(remote.ip(), port))
        };
        let rtcp_remote = match self.has_rtcp_port {
            true => rtcp_remote.or(remote.and_then(next)),
            false => None,
        };
        for remote in [remote, rtcp_remote].into_iter().flatten() {
            let ip = remote.ip();
            if remote.port() == 0 || ip.is_unspecified() || ip.is_ipv4() != self.is_ipv4 {
                return Err(E::BadRemote(remote));
            }
        }
        let receiver = match (self.srtp, srtp_key) {
            (None, None) => None,
            (None, Some(_)) => return Err(E::NoSrtp),
            (Some(_), None) => return Err(E::NoKey),
            (Some(expected), Some(key)) if key.profile() != expected => {
                let actual = key.profile();
                return Err(E::WrongProfile { expected, actual });
            }
            (Some(_), Some(key)) => Some(Box::new(SrtpReceiver::of_many(&key))),
        };
        self.is_connected = true;
        Ok(PlainRemote {
            rtp: remote,
            rtcp: rtcp_remote,
            receiver,
        })
    }

    /// Takes up a stream that is to arrive.
    fn add_producer(&mut self, id: ProducerId, stream: &CheckedStream) -> Result<(), ObjectError> {
        if self.producers >= MAX_PRODUCERS {
            return Err(ObjectError::TooMany(MAX_PRODUCERS));
        }
        let ssrcs: Vec<u32> = stream.layers.iter().flat_map(LayerSsrcs::all).collect();
        let taken = |ssrc: &&u32| self.arriving.contains_key(*ssrc);
        if let Some(ssrc) = ssrcs.iter().find(taken) {
            return Err(RtpParametersError::DuplicateSsrc(*ssrc).into());
        }
        self.producers += 1;
        self.arriving
            .extend(ssrcs.into_iter().map(|ssrc| (ssrc, id)));
        Ok(())
    }
}

/// Who waits for a plain transport to be open.
struct Opening {
    address: RouterAddress,
    ip: IpAddr,
    srtp_key: Option<SrtpKey>,
    events: Events<TransportEvent>,
    reply: ReplyTo<PlainTransport, ObjectError>,
}

impl RouterState {
    fn open_plain(
        &mut self,
        address: RouterAddress,
        options: PlainTransportOptions,
        reply: ReplyTo<PlainTransport, ObjectError>,
    ) {
        let id = TransportId::next();
        let (sink, events) = EventSink::new();
        let Some(place) = self.networks().place() else {
            return reply.send(Err(ObjectError::NoNetwork));
        };
        let network = place.network.clone();
        let mut plain = PlainState::new(TransportOnNetwork { id, place }, &options);
        let ssrc = plain.take_ssrc();
        let state = TransportState {
            kind: TransportKind::Plain(Box::new(plain)),
            events: sink,
        };
        if let Err(error) = self.add_transport(id, state) {
            return reply.send(Err(error));
        }
        let srtp_key = options.srtp.map(SrtpKey::random);
        let sender = srtp_key.as_ref().map(SrtpSender::new);
        let opening = Opening {
            address: address.clone(),
            ip: options.ip,
            srtp_key,
            events,
            reply,
        };
        let owner = address.clone();
        let order = OpenPlain {
            id,
            owner: address,
            ip: options.ip,
            ports: options.ports(),
            with_rtcp_port: !options.rtcp_mux,
            learns: options.comedia,
            silence_limit: options.silence_limit,
            sender,
            ssrc,
        };
        let posted = network.post(move |network| {
            let outcome = network.open_plain(order);
            // If this is dropped, so is the reply, which settles.
            let _ = owner
                .worker
                .clone()
                .post(move |state| match state.router(owner.id) {
                    Ok(router) => router.plain_opened(id, opening, outcome),
                    Err(error) => opening.reply.send(Err(error)),
                });
        });
        if posted.is_err() {
            let _ = self.close_transport(id, CloseReason::Refused);
        }
    }

    fn plain_opened(
        &mut self,
        id: TransportId,
        opening: Opening,
        outcome: std::io::Result<PlainAddresses>,
    ) {
        let Opening {
            address,
            ip,
            srtp_key,
            events,
            reply,
        } = opening;
        let outcome = outcome.map_err(|error| ObjectError::CannotBind {
            ip,
            reason: error.to_string(),
        });
        let outcome = match outcome {
            Ok(_) if self.plain(id).is_err() => Err(ObjectError::TransportClosed(id)),
            Ok(addresses) => Ok(PlainTransport {
                id,
                router: address,
                addresses,
                srtp_key,
                events,
            }),
            Err(error) => {
                let _ = self.close_transport(id, CloseReason::Refused);
                Err(error)
            }
        };
        reply.send(outcome);
    }

    fn connect_plain(
        &mut self,
        id: TransportId,
        options: PlainConnectOptions,
    ) -> Result<(), ObjectError> {
        let plain = self.plain(id)?;
        let remote = plain.connect(options)?;
        let on_network = &plain.on_network;
        on_network.post(move |network| network.connect_plain(id, remote));
        Ok(())
    }

    fn produce_plain(
        &mut self,
        transport: TransportId,
        parameters: &RtpParameters,
        options: ProducerOptions,
        address: RouterAddress,
    ) -> Result<Producer, ObjectError> {
        let id = ProducerId::next();
        let (on_network, media) = self.add_arriving(id, transport, parameters.check()?)?;
        let source = ProducerSource::Network(on_network, media);
        let (sink, events) = EventSink::new();
        let produced = self.produce(id, transport, options, source, sink);
        if let (Err(_), Ok(plain)) = (&produced, self.plain(transport)) {
            plain.forget_producer(id);
        }
        produced?;
        Ok(Producer::new(id, address, events))
    }

    /// Has a stream taken in that is to be a producer's.
    pub(super) fn add_arriving(
        &mut self,
        id: ProducerId,
        transport: TransportId,
        stream: CheckedStream,
    ) -> Result<(ProducerOnNetwork, Media), ObjectError> {
        let plain = self.plain(transport)?;
        plain.add_producer(id, &stream)?;
        let CheckedStream {
            media,
            layers,
            extensions,
        } = stream;
        let produced = PlainProduced {
            producer: id,
            media: media.clone(),
            layers,
            extensions,
        };
        let on_network = &plain.on_network;
        on_network.post(move |network| network.add_plain_producer(transport, produced));
        // Only now: from here on it is told there whether it is paused, and that it is gone.
        let place = &on_network.place;
        let origin = Origin {
            network: place.index,
            producer: id,
        };
        Ok((ProducerOnNetwork::new(place.network.clone(), origin), media))
    }

    fn consume_plain(
        &mut self,
        transport: TransportId,
        producer: ProducerId,
        capabilities: &RtpCapabilities,
        options: ConsumerOptions,
        address: RouterAddress,
    ) -> Result<PlainConsumer, ObjectError> {
        let accepted = capabilities.check()?;
        let id = ConsumerId::next();
        let ordered = self.consume_plain_as(id, transport, producer, &accepted, options, None)?;
        let (began_with, events) = (ordered.paused.state, ordered.events);
        Ok(PlainConsumer {
            consumer: Consumer::new(id, producer, address, began_with, events),
            parameters: ordered.parameters,
        })
    }

    pub(super) fn consume_plain_as(
        &mut self,
        id: ConsumerId,
        transport: TransportId,
        producer: ProducerId,
        accepted: &CheckedCapabilities,
        options: ConsumerOptions,
        piped_to: Option<PipedTo>,
    ) -> Result<OrderedConsumer, ObjectError> {
        let source = self.producer(producer)?.media();
        let source = source.ok_or(ObjectError::NoMedia(producer))?;
        let plain = self.plain(transport)?;
        if plain.consumers.len() >= MAX_CONSUMERS {
            return Err(ObjectError::TooMany(MAX_CONSUMERS));
        }
        let (ssrc, rtx) = (plain.take_ssrc(), plain.take_ssrc());
        let parameters = accepted.of_consumer(&source.media, ssrc, Some(rtx));
        if parameters.codecs.is_empty() {
            return Err(ObjectError::NoCommonCodec(producer));
        }
        // Another process chooses among the layers for itself, and so is sent each of them.
        let layers = match piped_to {
            Some(_) => source.media.layers.min(MAX_LAYERS),
            None => 1,
        };
        let (sink, events) = EventSink::new();
        let paused = self.add_consumer(id, transport, producer, options, piped_to, sink)?;
        let active = self.consumer(id)?.is_active();
        self.put_on_network(transport, id, active);
        self.note_accepted(id, accepted.codecs.as_slice().into());
        let plain = self.plain(transport)?;
        plain.consumers.push(id);
        let (mut upper_layers, mut upper_on_network) = (Vec::new(), Vec::new());
        for layer in 0..layers {
            let (consumer, ssrcs) = match layer {
                0 => {
                    let rtx_ssrc = parameters.rtx_ssrc;
                    (id, LayerSsrcs { ssrc, rtx_ssrc })
                }
                _ => {
                    let (ssrc, rtx) = (plain.take_ssrc(), plain.take_ssrc());
                    let rtx_ssrc = parameters.rtx_ssrc.map(|_| rtx);
                    (ConsumerId::next(), LayerSsrcs { ssrc, rtx_ssrc })
                }
            };
            let wanted = Wanted {
                consumer,
                origin: source.origin,
                media: source.media.clone(),
                active,
            };
            let line = PlainLine {
                ssrc: ssrcs.ssrc,
                rtx: ssrcs.rtx_ssrc,
                codecs: accepted.codecs.clone(),
                extensions: accepted.extensions,
                layer: (layers > 1).then_some(layer as u8),
            };
            plain
                .on_network
                .post(move |network| network.add_plain_consumer(transport, wanted, line));
            if consumer != id {
                let network = plain.on_network.place.network.clone();
                upper_on_network.push(ConsumerOnNetwork::new(network, consumer, active));
                upper_layers.push(ssrcs);
            }
        }
        self.consumer(id)?.upper_layers = upper_on_network;
        Ok(OrderedConsumer {
            parameters,
            upper_layers,
            paused,
            events,
        })
    }
}

/// A consumer that has been ordered, and what is to be known of it.
pub(super) struct OrderedConsumer {
    /// Of its one stream, or of that of the smallest layer.
    pub(super) parameters: RtpParameters,
    /// What those of the others have for themselves.
    pub(super) upper_layers: Vec<LayerSsrcs>,
    pub(super) paused: Versioned<bool>,
    pub(super) events: Events<ConsumerEvent>,
}

fn random_u32() -> u32 {
    // What is chosen so must not collide, but need not be a secret.
    getrandom::u32().unwrap_or(0x5eed)
}
