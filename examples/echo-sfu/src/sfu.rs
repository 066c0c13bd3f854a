//! The SFU as a whole: its threads, from start to end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rtc_thread::{CallError, JoinError, PanicPolicy, PostError, SpawnError, Thread, ThreadBound};
use thiserror::Error;

use crate::media::NetworkIndex;
use crate::network::Network;
use crate::signaling::{Limits, NetworkThread, Signaling, State};
use crate::stats::NetworkCounters;
use crate::worker::Worker;

/// Options of an [`Sfu`].
#[derive(Debug, Clone)]
pub struct SfuOptions {
    /// How many threads move packets; at least 1.
    pub network_threads: usize,
    /// The address that UDP sockets are bound to.
    pub udp_bind: IpAddr,
    /// The UDP port of the first network thread; each further one has the next. 0 takes any.
    pub udp_port: u16,
    /// The addresses that clients are told to send to. If empty: this machine's own.
    pub announced: Vec<IpAddr>,
    /// At most so many sessions at a time, those being opened included.
    pub max_sessions: usize,
    /// At most so many rooms at a time.
    pub max_rooms: usize,
}

impl Default for SfuOptions {
    fn default() -> Self {
        Self {
            network_threads: 1,
            udp_bind: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 0,
            announced: Vec::new(),
            max_sessions: 500,
            max_rooms: 100,
        }
    }
}

/// Why an [`Sfu`] could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option has a value that makes no sense.
    #[error("{0}")]
    Options(&'static str),
    /// A UDP socket could not be opened.
    #[error("cannot open UDP socket {address}")]
    Udp {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate for DTLS could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] SpawnError),
    /// A thread ended while the others were being started.
    #[error("a thread ended before it was of use")]
    ThreadEnded,
}

impl From<PostError> for StartError {
    fn from(_: PostError) -> Self {
        Self::ThreadEnded
    }
}

impl From<CallError> for StartError {
    fn from(_: CallError) -> Self {
        Self::ThreadEnded
    }
}

/// A running SFU: one *signaling* thread that talks to the application, one *worker* thread that
/// decides, and *network* threads that move packets.
///
/// Dropping it ends it as [`shutdown`](Self::shutdown) does.
#[derive(Debug)]
pub struct Sfu {
    signaling: Signaling,
    networks: Vec<ThreadBound<Network>>,
    udp_addresses: Vec<SocketAddr>,
    /// In the order in which they are to end: first those who give others work.
    threads: Vec<Thread>,
}

impl Sfu {
    /// Opens the sockets and starts the threads. Blocks until all are ready.
    ///
    /// # Errors
    ///
    /// An option makes no sense, or the system refuses a socket or a thread.
    pub fn start(options: SfuOptions) -> Result<Self, StartError> {
        if options.network_threads == 0 {
            return Err(StartError::Options("at least one network thread is needed"));
        }
        let certificate = str0m::crypto::from_feature_flags()
            .dtls_provider
            .generate_certificate()
            .ok_or_else(|| StartError::Certificate("the crypto library made none".to_owned()))?;
        let announced = announced_addresses(&options);

        let mut network_threads = Vec::new();
        let mut networks = Vec::new();
        let mut descriptions = Vec::new();
        for index in 0..options.network_threads {
            let port = match options.udp_port {
                0 => 0,
                first => u16::try_from(usize::from(first) + index)
                    .map_err(|_| StartError::Options("there is no UDP port beyond 65535"))?,
            };
            let address = SocketAddr::new(options.udp_bind, port);
            // A fault in one session must not end the others; transports contain their own.
            let thread = Thread::builder()
                .name(format!("network-{index}"))
                .with_sockets()
                .panic_policy(PanicPolicy::Continue)
                .spawn()?;
            let counters = Arc::new(NetworkCounters::default());
            let (network, udp) = thread
                .blocking_call(|| {
                    let (announced, counters) = (&announced, counters.clone());
                    let certificate = certificate.clone();
                    let index = NetworkIndex(index);
                    let (network, udp) =
                        Network::new(index, address, announced, certificate, counters)?;
                    let network = ThreadBound::on_current(network)
                        .ok_or_else(|| io::Error::other("not on a thread of ours"))?;
                    Ok((network, udp))
                })?
                .map_err(|source| StartError::Udp { address, source })?;
            descriptions.push(NetworkThread {
                name: thread.name().to_owned(),
                udp,
                counters,
            });
            networks.push(network);
            network_threads.push(thread);
        }
        let udp_addresses = descriptions.iter().map(|thread| thread.udp).collect();

        let worker_thread = Thread::builder()
            .name("worker")
            .panic_policy(PanicPolicy::Continue)
            .spawn()?;
        let peers = networks.clone();
        let worker = ThreadBound::new(&worker_thread.handle(), move || Worker::new(peers))?;

        let signaling_thread = Thread::builder()
            .name("signaling")
            .panic_policy(PanicPolicy::Continue)
            .spawn()?;
        let limits = Limits {
            sessions: options.max_sessions,
            rooms: options.max_rooms,
        };
        let to_worker = worker.clone();
        let state = ThreadBound::new(&signaling_thread.handle(), move || {
            State::new(to_worker, descriptions, limits)
        })?;

        let to_signaling = state.clone();
        worker.post(move |worker| worker.connect(to_signaling))?;
        for network in &networks {
            let (peers, worker) = (networks.clone(), worker.clone());
            network.post(move |network| network.connect(peers, worker))?;
        }

        let mut threads = vec![signaling_thread, worker_thread];
        threads.append(&mut network_threads);
        Ok(Self {
            signaling: Signaling::new(state),
            networks,
            udp_addresses,
            threads,
        })
    }

    /// The way to the signaling thread.
    pub fn signaling(&self) -> Signaling {
        self.signaling.clone()
    }

    /// The addresses of the UDP sockets, one for each network thread.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.udp_addresses.clone()
    }

    /// Ends all sessions with a goodbye to their clients, then the threads. Blocks.
    ///
    /// Operations that have been called but not answered fail with
    /// [`ApiError::ShuttingDown`](crate::ApiError::ShuttingDown), and so do later ones.
    ///
    /// # Errors
    ///
    /// A thread ended by a panic. The others have ended well all the same, unless they are the
    /// reason.
    pub fn shutdown(mut self) -> Result<(), JoinError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), JoinError> {
        let mut outcome = Ok(());
        let mut threads = self.threads.drain(..);
        // Signaling and worker first, so that nothing new reaches the network threads.
        for thread in threads.by_ref().take(2) {
            outcome = outcome.and(thread.stop());
        }
        for network in &self.networks {
            // A thread that has ended has closed its sockets already.
            let _ = network.blocking_call(Network::close_all);
        }
        for thread in threads {
            outcome = outcome.and(thread.stop());
        }
        outcome
    }
}

impl Drop for Sfu {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the SFU did not end well");
        }
    }
}

fn announced_addresses(options: &SfuOptions) -> Vec<IpAddr> {
    if !options.announced.is_empty() {
        options.announced.clone()
    } else if !options.udp_bind.is_unspecified() {
        vec![options.udp_bind]
    } else {
        // The IPv6 wildcard accepts both families; the IPv4 one does not.
        let mut addresses = local_addresses();
        addresses.retain(|ip| ip.is_ipv4() || options.udp_bind.is_ipv6());
        addresses
    }
}

/// This machine's addresses that others can use, loopback ones first: a browser on this machine
/// finds those soonest. Just the IPv4 loopback address if the system does not tell.
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot find out this machine's addresses; see --announce");
        Vec::new()
    });
    let is_link_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let mut addresses: Vec<_> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| !is_link_local(ip))
        .collect();
    addresses.sort_by_key(|ip| !ip.is_loopback());
    addresses.dedup();
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    addresses
}
