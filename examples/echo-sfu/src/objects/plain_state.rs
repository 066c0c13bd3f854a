//! A transport of plain RTP as its router knows it: what is agreed with the other end, and what is on it.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::error::ObjectError;
use super::id::{ConsumerId, ProducerId};
use super::on_network::TransportOnNetwork;
use super::plain_transport::{PlainConnectError, PlainConnectOptions, PlainTransportOptions};
use super::rtp_parameters::{CheckedStream, RtpParametersError};
use crate::media::LayerSsrcs;
use crate::network::PlainRemote;
use crate::rtp::srtp::{SrtpProfile, SrtpReceiver};

/// How many producers a plain transport may have: with three layers and RTX, no more streams than
/// [SRTP keeps account of](SrtpReceiver::of_many).
const MAX_PRODUCERS: usize = 512;

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
    pub(super) consumers: Vec<ConsumerId>,
    /// Counted up from anywhere: with SRTP, no two streams of a key may have the same.
    next_ssrc: u32,
}

impl PlainState {
    pub(super) fn new(on_network: TransportOnNetwork, options: &PlainTransportOptions) -> Self {
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

    pub(super) fn take_ssrc(&mut self) -> u32 {
        let taken = self.next_ssrc;
        self.next_ssrc = taken.wrapping_add(1);
        taken
    }

    pub(super) fn connect(
        &mut self,
        options: PlainConnectOptions,
    ) -> Result<PlainRemote, PlainConnectError> {
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
    pub(super) fn add_producer(
        &mut self,
        id: ProducerId,
        stream: &CheckedStream,
    ) -> Result<(), ObjectError> {
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

pub(super) fn random_u32() -> u32 {
    // What is chosen so must not collide, but need not be a secret.
    getrandom::u32().unwrap_or(0x5eed)
}
