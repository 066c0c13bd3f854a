//! The network threads of a process, and who goes to which.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rtc_thread::{CallError, ThreadBound, ThreadHandle};
use str0m::config::DtlsCert;
use thiserror::Error;

use super::Network;
use super::pulse::Pulse;
use crate::media::NetworkIndex;
use crate::stats::{Gather, NetworkCounters, NetworkStats, ThreadReport};

/// Why network threads could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A UDP socket could not be opened.
    #[error("cannot open UDP socket {address}")]
    Udp {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A range of ports that ends before it begins, or begins with 0.
    #[error("there are no ports from {} to {}", ports.start(), ports.end())]
    BadPortRange {
        /// From the first to the last.
        ports: RangeInclusive<u16>,
    },
    /// Every port of a range is taken.
    #[error("no UDP port of {ip} is free from {} to {}", ports.start(), ports.end())]
    NoPort {
        /// The address that it was to be on.
        ip: IpAddr,
        /// From the first to the last.
        ports: RangeInclusive<u16>,
    },
    /// The certificate for DTLS could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// A thread ended meanwhile.
    #[error("a thread ended before it was of use: {0}")]
    ThreadEnded(#[from] CallError),
}

impl NetworkError {
    /// Whether another port might do.
    fn is_port_taken(&self) -> bool {
        matches!(self, Self::Udp { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// That of all threads: a client may be told of any of them.
fn certificate() -> Result<DtlsCert, NetworkError> {
    let made = str0m::crypto::from_feature_flags()
        .dtls_provider
        .generate_certificate();
    made.ok_or_else(|| NetworkError::Certificate("the crypto library made none".to_owned()))
}

/// Where a network thread has its socket.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// The address and port that its socket is bound to.
    pub bind: SocketAddr,
    /// The addresses that clients are told to send to.
    pub announced: Vec<IpAddr>,
}

/// The network threads of a process: they move the packets of all workers' routers. Cheap to clone.
#[derive(Clone)]
pub struct NetworkThreads(Arc<[NetworkThread]>);

#[derive(Debug)]
struct NetworkThread {
    handle: ThreadHandle,
    network: ThreadBound<Network>,
    udp: SocketAddr,
    counters: Arc<NetworkCounters>,
    /// Transports that are here, or on their way.
    load: AtomicUsize,
    pulse: Arc<Pulse>,
}

impl NetworkThreads {
    /// Opens a socket on each of these threads, which have a socket server. Blocks until all are
    /// open.
    ///
    /// # Errors
    ///
    /// A socket cannot be opened, or a thread has quit.
    pub fn new<'a>(
        threads: impl IntoIterator<Item = (&'a ThreadHandle, NetworkOptions)>,
    ) -> Result<Self, NetworkError> {
        let certificate = certificate()?;
        let threads = threads.into_iter().enumerate();
        let open = |(index, (thread, options)): (usize, (&ThreadHandle, NetworkOptions))| {
            let NetworkOptions { bind, announced } = options;
            NetworkThread::open(NetworkIndex(index), thread, bind, &announced, &certificate)
        };
        Self::connected(threads.map(open).collect::<Result<_, _>>()?)
    }

    /// The same, with each socket at the first port of a range that is free, and not one of those
    /// before.
    ///
    /// mediasoup: `portRange`.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new); or there are no such ports, or too few that are free.
    pub fn in_port_range<'a>(
        threads: impl IntoIterator<Item = &'a ThreadHandle>,
        ip: IpAddr,
        ports: RangeInclusive<u16>,
        announced: &[IpAddr],
    ) -> Result<Self, NetworkError> {
        if ports.is_empty() || *ports.start() == 0 {
            return Err(NetworkError::BadPortRange { ports });
        }
        let certificate = certificate()?;
        let (mut opened, mut left) = (Vec::new(), ports.clone());
        for (index, thread) in threads.into_iter().enumerate() {
            let index = NetworkIndex(index);
            let own = loop {
                let Some(port) = left.next() else {
                    return Err(NetworkError::NoPort { ip, ports });
                };
                let bind = SocketAddr::new(ip, port);
                match NetworkThread::open(index, thread, bind, announced, &certificate) {
                    Err(error) if error.is_port_taken() => {}
                    outcome => break outcome?,
                }
            };
            opened.push(own);
        }
        Self::connected(opened)
    }

    fn connected(threads: Vec<NetworkThread>) -> Result<Self, NetworkError> {
        let peers: Vec<_> = threads.iter().map(|own| own.network.clone()).collect();
        for thread in &threads {
            let peers = peers.clone();
            let connect = move |network: &mut Network| network.connect(peers);
            thread.network.post(connect).map_err(|_| CallError::Quit)?;
        }
        Ok(Self(threads.into()))
    }

    /// The addresses of their sockets.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|thread| thread.udp).collect()
    }

    /// Ends all transports with a goodbye. Blocks until the goodbyes are sent.
    pub fn close_all(&self) {
        for thread in self.0.iter() {
            // A thread that has ended has closed its sockets already.
            let _ = thread.network.blocking_call(Network::close_all);
        }
    }

    /// Has every thread add what it knows of objects.
    pub(crate) fn gather(&self, gather: &Arc<Gather>) {
        for thread in self.0.iter() {
            let (gather, name) = (gather.clone(), thread.handle.name().to_owned());
            // A thread that has ended knows nothing any more.
            let _ = thread
                .network
                .post(move |network| gather.add_network(network.stats(&name)));
        }
    }

    pub(crate) fn reports(&self) -> impl Iterator<Item = ThreadReport> {
        self.0.iter().map(|own| ThreadReport::of(&own.handle))
    }

    /// One of them.
    pub(crate) fn at(&self, index: NetworkIndex) -> Option<&ThreadBound<Network>> {
        self.0.get(index.0).map(|thread| &thread.network)
    }

    pub(crate) fn stats(&self) -> Vec<NetworkStats> {
        let stats = |own: &NetworkThread| own.counters.snapshot(own.handle.name(), own.udp);
        self.0.iter().map(stats).collect()
    }

    /// Finds out how soon each thread gets to what it is given to do. To be called now and then,
    /// about twice a second.
    pub(crate) fn take_pulses(&self, now: Instant) {
        for thread in self.0.iter().filter(|thread| thread.pulse.ask(now)) {
            let pulse = thread.pulse.clone();
            // One that has ended never answers, and so counts as overloaded.
            let answer = move |_: &mut Network| pulse.answer(rtc_thread::now());
            let _ = thread.network.post(answer);
        }
    }

    /// Whether all threads have more to do than they can: each has got to what it was given, for two
    /// seconds now, only after more than 200 ms.
    pub(crate) fn are_overloaded(&self, now: Instant) -> bool {
        let is_overloaded = |thread: &NetworkThread| thread.pulse.is_overloaded(now);
        !self.0.is_empty() && self.0.iter().all(is_overloaded)
    }

    /// A place for a transport, on the least busy thread; none if there is no thread.
    pub(crate) fn place(&self) -> Option<Place> {
        let now = rtc_thread::now();
        let load = |index: &usize| {
            let thread = &self.0[*index];
            (
                thread.pulse.is_overloaded(now),
                thread.load.load(Ordering::Relaxed),
            )
        };
        let index = (0..self.0.len()).min_by_key(load)?;
        self.0[index].load.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            index: NetworkIndex(index),
            network: self.0[index].network.clone(),
            threads: self.clone(),
        })
    }
}

impl Default for NetworkThreads {
    /// None at all: for objects whose media stays with the application.
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl fmt::Debug for NetworkThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NetworkThreads")
            .field(&self.udp_addresses())
            .finish()
    }
}

impl NetworkThread {
    fn open(
        index: NetworkIndex,
        thread: &ThreadHandle,
        bind: SocketAddr,
        announced: &[IpAddr],
        certificate: &DtlsCert,
    ) -> Result<Self, NetworkError> {
        let counters = Arc::new(NetworkCounters::default());
        let opened = thread.blocking_call(|| {
            let (certificate, counters) = (certificate.clone(), counters.clone());
            let (network, udp) = Network::new(index, bind, announced, certificate, counters)?;
            let network = ThreadBound::on_current(network)
                .ok_or_else(|| io::Error::other("not on a thread of ours"))?;
            Ok((network, udp))
        })?;
        let (network, udp) = opened.map_err(|source| NetworkError::Udp {
            address: bind,
            source,
        })?;
        Ok(Self {
            handle: thread.clone(),
            network,
            udp,
            counters,
            load: AtomicUsize::new(0),
            pulse: Arc::default(),
        })
    }
}

/// A transport's place on a network thread, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) index: NetworkIndex,
    pub(crate) network: ThreadBound<Network>,
    threads: NetworkThreads,
}

impl Place {
    /// Another place on the same thread.
    pub(crate) fn beside(&self) -> Self {
        let load = &self.threads.0[self.index.0].load;
        load.fetch_add(1, Ordering::Relaxed);
        Self {
            index: self.index,
            network: self.network.clone(),
            threads: self.threads.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.threads.0[self.index.0]
            .load
            .fetch_sub(1, Ordering::Relaxed);
    }
}
