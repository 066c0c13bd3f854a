//! The clients of one system, all in one process on one core: real ICE, DTLS and SRTP.
//!
//! Every client is a whole one. It could be tempting to let most of them count datagrams only, so that
//! one core is enough for hundreds; but then the system under test would not be sent the receiver
//! reports and the transport-wide feedback of every client, several thousand messages per second, and
//! nobody would notice a packet that cannot be decrypted. As it is, a packet costs this process about
//! as much as it costs the system, and the report says how busy it was: near 100 %, what is lost may
//! have been lost here. Below, it is not in a hurry: when a packet came is told by the kernel, and a
//! socket has room for many frames.
//!
//! What is not real: nobody is far away. There is no loss, no jitter and no limit on the way, no
//! client decodes anything, and none of them adapts what it sends.

mod crowd;
mod peer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use self::crowd::Crowd;
pub(crate) use self::peer::Peer;
use super::LATE;
use super::measured::{Clients, Measured};
use super::media::seconds;
use super::process::{ProcessClock, resident_kib};
use super::signaling::{Endpoint, Protocol};

/// Threads that join viewers, as requests are waited for.
const JOINERS: usize = 4;
/// How soon the next viewer comes: fast, but no stampede, which would measure this process.
const JOIN_EVERY: Duration = Duration::from_millis(10);
/// For all of them, after the last one has come.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// What to load, and how.
#[derive(Debug, clap::Args)]
pub struct Load {
    /// How clients join.
    #[arg(long)]
    pub(super) protocol: Protocol,
    /// Where they ask to.
    #[arg(long)]
    pub(super) http: SocketAddr,
    /// The address of this machine that clients are to have.
    #[arg(long)]
    pub(super) clients: IpAddr,
    /// The system's.
    #[arg(long)]
    pub(super) process: u32,
    /// With one publisher each.
    #[arg(long)]
    pub(super) rooms: usize,
    /// In each room.
    #[arg(long)]
    pub(super) viewers: usize,
    /// Between the last viewer's coming and the measurement.
    #[arg(long)]
    pub(super) settle_ms: u64,
    /// How long it measures.
    #[arg(long)]
    pub(super) measure_ms: u64,
}

impl Load {
    /// As the options of a program.
    pub(super) fn arguments(&self) -> Vec<String> {
        let protocol = match self.protocol {
            Protocol::Whip => "whip",
            Protocol::Janus => "janus",
        };
        vec![
            format!("--protocol={protocol}"),
            format!("--http={}", self.http),
            format!("--clients={}", self.clients),
            format!("--process={}", self.process),
            format!("--rooms={}", self.rooms),
            format!("--viewers={}", self.viewers),
            format!("--settle-ms={}", self.settle_ms),
            format!("--measure-ms={}", self.measure_ms),
        ]
    }

    /// Joins all clients, measures, and tells what came of it.
    pub(super) fn run(&self) -> Result<Measured, String> {
        let endpoint = Endpoint {
            http: self.http,
            clients: self.clients,
        };
        let mut crowd = Crowd::new(self.rooms)?;
        let mut signaling = self.protocol.open(endpoint)?;
        for room in 0..self.rooms {
            crowd.add_publisher(signaling.publish(room)?)?;
        }
        let give_up = Instant::now() + JOIN_PATIENCE;
        crowd.run_until(|crowd| crowd.all_publish() || Instant::now() > give_up)?;
        if !crowd.all_publish() {
            return Err("a publisher does not connect".into());
        }
        crowd.run_for(Duration::from_millis(300))?;
        let memory = resident_kib(self.process)?;

        let viewers = self.rooms * self.viewers;
        self.join_viewers(&mut crowd, endpoint)?;
        crowd.run_for(Duration::from_millis(self.settle_ms))?;

        let system = ProcessClock::of(self.process)?;
        let own = ProcessClock::of(std::process::id())?;
        let started = (Instant::now(), system.now()?, own.now()?);
        crowd.start_counting();
        crowd.run_for(Duration::from_millis(self.measure_ms))?;
        let expected = crowd.stop_counting() * self.viewers as u64;
        let wall = started.0.elapsed().as_secs_f64();
        let used = (system.now()? - started.1).as_secs_f64();
        let own_used = (own.now()? - started.2).as_secs_f64();
        let memory = resident_kib(self.process)? - memory;
        crowd.run_for(LATE)?;

        if crowd.foreign > 0 {
            return Err(format!(
                "{} packets are not as they were sent",
                crowd.foreign
            ));
        }
        Ok(Measured {
            wall,
            cpu: used,
            expected: expected as f64,
            arrived: crowd.fared.arrived as f64,
            latency: crowd.fared.quantiles(),
            clients: Some(Clients {
                repaired: crowd.repaired as f64,
                cpu: own_used,
                join: [0.5, 0.99].map(|quantile| seconds(&crowd.joins, quantile)),
                kib_per_viewer: memory / viewers as f64,
            }),
        })
    }

    fn join_viewers(&self, crowd: &mut Crowd, endpoint: Endpoint) -> Result<(), String> {
        let viewers = self.rooms * self.viewers;
        let joined = self.start_joiners(viewers, endpoint);
        let give_up = Instant::now() + JOIN_EVERY * viewers as u32 + JOIN_PATIENCE;
        let mut failed = None;
        crowd.run_until(|crowd| {
            while let Ok((asked, outcome)) = joined.try_recv() {
                let added = outcome.and_then(|peer| crowd.add_viewer(peer, asked));
                failed = failed.take().or(added.err());
            }
            failed.is_some() || crowd.viewing == viewers || Instant::now() > give_up
        })?;
        // Those whom an overloaded system leaves waiting have lost everything, and are counted so.
        match failed {
            Some(error) => Err(error),
            None if crowd.viewing == 0 => Err("no viewer was sent anything".into()),
            None => Ok(()),
        }
    }

    /// Viewers come one after another, each with the moment in which it asked.
    fn start_joiners(
        &self,
        viewers: usize,
        endpoint: Endpoint,
    ) -> Receiver<(Instant, Result<Peer, String>)> {
        let (sender, receiver) = channel();
        let (next, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let (protocol, rooms) = (self.protocol, self.rooms);
        for _ in 0..JOINERS {
            let (sender, next) = (sender.clone(), next.clone());
            std::thread::spawn(move || {
                let mut signaling = protocol.open(endpoint);
                loop {
                    let viewer = next.fetch_add(1, Ordering::Relaxed);
                    if viewer >= viewers {
                        break;
                    }
                    let due = start + JOIN_EVERY * viewer as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let asked = Instant::now();
                    let outcome = match &mut signaling {
                        Ok(signaling) => signaling.view(viewer % rooms),
                        Err(error) => Err(error.clone()),
                    };
                    if sender.send((asked, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        receiver
    }
}
