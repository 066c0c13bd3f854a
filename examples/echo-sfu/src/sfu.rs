//! The SFU as a whole: its threads, from start to end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rtc_thread::{Builder, JoinError, PanicPolicy, PostError, SpawnError, Thread, ThreadBound};
use thiserror::Error;

use crate::network::{NetworkError, NetworkOptions, NetworkThreads};
use crate::objects::{ObjectError, PipeListener};
use crate::pipe_link::PipeSecret;
use crate::signaling::{Limits, Pipes, PlainHost, Signaling, State, Workers};

/// Options of an [`Sfu`].
#[derive(Debug, Clone)]
pub struct SfuOptions {
    /// How many threads decide who is sent what, each for its share of the rooms; at least 1.
    pub workers: usize,
    /// How many threads move packets; at least 1.
    pub network_threads: usize,
    /// The address that UDP sockets are bound to.
    pub udp_bind: IpAddr,
    /// The UDP port of the first network thread; each further one has the next. 0 takes any.
    pub udp_port: u16,
    /// If this is there, network threads have whichever ports are free from [`udp_port`](Self::udp_port)
    /// to this one, instead of ports in a row.
    pub udp_last_port: Option<u16>,
    /// The addresses that clients are told to send to. If empty: this machine's own.
    pub announced: Vec<IpAddr>,
    /// At most so many sessions at a time, those being opened included.
    pub max_sessions: usize,
    /// At most so many rooms at a time.
    pub max_rooms: usize,
    /// Whether plain RTP may be used. It is not authenticated: whoever reaches the API can have media
    /// sent anywhere, and whoever reaches a port can send media.
    pub plain_rtp: bool,
    /// Where other processes may pipe to here, if they may: what they publish is in the rooms here.
    pub pipe_listen: Option<SocketAddr>,
    /// Processes to which everything is piped that is published here.
    pub pipe_to: Vec<SocketAddr>,
    /// What those processes know, too. Needed for either.
    pub pipe_secret: Option<PipeSecret>,
}

impl Default for SfuOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            network_threads: 1,
            udp_bind: Ipv4Addr::UNSPECIFIED.into(),
            udp_port: 0,
            udp_last_port: None,
            announced: Vec::new(),
            max_sessions: 500,
            max_rooms: 100,
            plain_rtp: false,
            pipe_listen: None,
            pipe_to: Vec::new(),
            pipe_secret: None,
        }
    }
}

/// What a thread of an [`Sfu`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ThreadRole {
    /// It takes the application's calls.
    Signaling,
    /// It decides who is sent what.
    Worker,
    /// It moves packets, and so needs sockets.
    Network,
}

/// Why an [`Sfu`] could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option has a value that makes no sense.
    #[error("{0}")]
    Options(&'static str),
    /// The network threads could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Pipes could not be listened for.
    #[error(transparent)]
    Pipe(#[from] ObjectError),
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

/// A running SFU: one *signaling* thread that talks to the application, *worker* threads that decide,
/// and *network* threads that move packets.
///
/// Dropping it ends it as [`shutdown`](Self::shutdown) does.
#[derive(Debug)]
pub struct Sfu {
    signaling: Signaling,
    networks: NetworkThreads,
    pipe_address: Option<SocketAddr>,
    /// Signaling and workers: they give others work, and are to end first.
    deciding: Vec<Thread>,
    moving: Vec<Thread>,
}

impl Sfu {
    /// Opens the sockets and starts the threads. Blocks until all are ready.
    ///
    /// # Errors
    ///
    /// An option makes no sense, or the system refuses a socket or a thread.
    pub fn start(options: SfuOptions) -> Result<Self, StartError> {
        Self::start_on(options, |_, builder| builder.spawn())
    }

    /// Starts on threads that this function makes, such as those of an
    /// [`rtc_thread::Simulation`]; the builder has everything but that. It is called again for each
    /// worker that takes the place of one that has failed, then on the signaling thread.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_on(
        options: SfuOptions,
        mut make: impl FnMut(ThreadRole, Builder) -> Result<Thread, SpawnError> + Send + 'static,
    ) -> Result<Self, StartError> {
        if options.network_threads == 0 {
            return Err(StartError::Options("at least one network thread is needed"));
        }
        if options.workers == 0 {
            return Err(StartError::Options("at least one worker is needed"));
        }
        let announced = announced_addresses(&options);
        let places = places(&options, &announced)?;
        let mut moving = Vec::new();
        for index in 0..options.network_threads {
            // A fault in one transport must not end the others.
            let thread = Thread::builder()
                .name(format!("network-{index}"))
                .with_sockets()
                .panic_policy(PanicPolicy::Continue);
            moving.push(make(ThreadRole::Network, thread)?);
        }
        let handles: Vec<_> = moving.iter().map(Thread::handle).collect();
        let networks = match options.udp_last_port {
            None => NetworkThreads::new(handles.iter().zip(places)),
            Some(last) => {
                let ports = options.udp_port..=last;
                NetworkThreads::in_port_range(&handles, options.udp_bind, ports, &announced)
            }
        }?;

        let signaling = Thread::builder()
            .name("signaling")
            .panic_policy(PanicPolicy::Continue);
        let signaling = make(ThreadRole::Signaling, signaling)?;
        let signaling_handle = signaling.handle();
        let mut deciding = vec![signaling];
        let make = move |builder| make(ThreadRole::Worker, builder);
        let mut workers = Workers::new(Box::new(make), networks.clone());
        for _ in 0..options.workers {
            deciding.push(workers.start()?);
        }
        let limits = Limits {
            sessions: options.max_sessions,
            rooms: options.max_rooms,
        };
        let plain = options.plain_rtp.then(|| PlainHost {
            bind: options.udp_bind,
            announced: announced.clone(),
        });
        let (pipes, pipe_address) = make_pipes(&options, &workers)?;
        let to_networks = networks.clone();
        let state = ThreadBound::new(&signaling_handle, move || {
            State::new(workers, to_networks, limits, plain, pipes)
        })?;
        let own = state.clone();
        state.post(move |state| state.connect(own))?;
        Ok(Self {
            signaling: Signaling::new(state),
            networks,
            pipe_address,
            deciding,
            moving,
        })
    }

    /// The way to the signaling thread.
    pub fn signaling(&self) -> Signaling {
        self.signaling.clone()
    }

    /// The addresses of the UDP sockets, one for each network thread.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.networks.udp_addresses()
    }

    /// Where other processes may pipe to, if they may.
    pub fn pipe_address(&self) -> Option<SocketAddr> {
        self.pipe_address
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
        // First, so that nothing new reaches the network threads.
        for thread in self.deciding.drain(..) {
            outcome = outcome.and(thread.stop());
        }
        self.networks.close_all();
        for thread in self.moving.drain(..) {
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

/// Where each of the network threads is to be.
fn places(options: &SfuOptions, announced: &[IpAddr]) -> Result<Vec<NetworkOptions>, StartError> {
    let place = |index| {
        let port = match options.udp_port {
            0 => Ok(0),
            first => u16::try_from(usize::from(first) + index),
        };
        let port = port.map_err(|_| StartError::Options("there is no UDP port beyond 65535"))?;
        Ok(NetworkOptions {
            bind: SocketAddr::new(options.udp_bind, port),
            announced: announced.to_vec(),
        })
    };
    // In a range, each finds its own.
    let count = match options.udp_last_port {
        None => options.network_threads,
        Some(_) => 0,
    };
    (0..count).map(place).collect()
}

fn make_pipes(
    options: &SfuOptions,
    workers: &Workers,
) -> Result<(Option<Pipes>, Option<SocketAddr>), StartError> {
    if options.pipe_listen.is_none() && options.pipe_to.is_empty() {
        return Ok((None, None));
    }
    let secret = options.pipe_secret.clone();
    let secret = secret.ok_or(StartError::Options("pipes need a secret"))?;
    let worker = workers.all().next().ok_or(StartError::ThreadEnded)?;
    let hub = worker.create_router().wait()?;
    let listen = |bind| hub.listen_for_pipes(bind, secret.clone()).wait();
    let listener = options.pipe_listen.map(listen).transpose()?;
    let address = listener.as_ref().map(PipeListener::local_address);
    let to = options.pipe_to.iter();
    let to = to.map(|remote| (*remote, secret.clone())).collect();
    let listener = listener.map(|listener| (listener, secret));
    Ok((Some(Pipes::new(hub, listener, to)), address))
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
