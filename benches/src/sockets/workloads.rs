//! What the forwarders are made to do.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::forwarders::Forwarder;
use super::load::{BURST, Load, any_port, text};
use crate::awake::Awake;
use crate::measures::{Measures, PAUSE, histogram, percentiles};
use crate::{allocations, pin, syscalls};

/// Bursts before anything is measured: what grows has grown, what is learned is learned.
const WARM_UP: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Forward {
        sinks: usize,
        packet_bytes: usize,
    },
    IdlePing,
    Allocations,
    /// Under `strace`, which is what counts; see [`syscalls`].
    SystemCalls,
    /// Only starts, to see whether it can be.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Pings, or bursts where they are counted.
    pub(crate) samples: u32,
    /// Pings end after this time in any case, bursts go on as long.
    pub(crate) time: Duration,
}

/// How system calls are marked and named, and to how many sinks their packets go.
pub(crate) const FANS: [(usize, syscalls::Section); 3] = [
    (1, ("1 to 1", "1 → 1")),
    (10, ("1 in, 10 out", "1 → 10")),
    (100, ("1 in, 100 out", "1 → 100")),
];

/// Starts a forwarder to these destinations.
pub(crate) type Start = fn(&[SocketAddr]) -> Result<Forwarder, String>;

/// Measures one system, on a fresh thread.
pub(crate) fn run(workload: Workload, limits: &Limits, start: Start) -> Result<Measures, String> {
    pin::to(0);
    match workload {
        Workload::Forward {
            sinks,
            packet_bytes,
        } => forward(start, sinks, packet_bytes, limits),
        Workload::IdlePing => idle_ping(start, limits),
        Workload::Allocations => count_allocations(start, limits),
        Workload::SystemCalls => {
            for (sinks, (mark, _)) in FANS {
                system_calls(start, sinks, mark, limits)?;
            }
            Ok(Measures::default())
        }
        Workload::Nothing => start(&[any_port()]).map(|_| Measures::default()),
    }
}

/// A forwarder, and what it is to forward; warm.
fn set_up(start: Start, sinks: usize, packet_bytes: usize) -> Result<(Forwarder, Load), String> {
    let mut load = Load::new(sinks, packet_bytes)?;
    let forwarder = start(&load.destinations()?)?;
    for _ in 0..WARM_UP {
        burst(&mut load, &forwarder)?;
    }
    Ok((forwarder, load))
}

/// One burst, and a pause in which the forwarder goes to sleep. Returns the packets that came out.
fn burst(load: &mut Load, forwarder: &Forwarder) -> Result<usize, String> {
    let arrived = load.burst(forwarder.address)?;
    std::thread::sleep(PAUSE);
    Ok(arrived)
}

/// What a packet that leaves costs the forwarder's thread, its share of receiving and of waking up
/// included. On this machine the kernel also puts it into the queue of its receiver in that time.
fn forward(
    start: Start,
    sinks: usize,
    packet_bytes: usize,
    limits: &Limits,
) -> Result<Measures, String> {
    let _awake = Awake::core(1);
    let (forwarder, mut load) = set_up(start, sinks, packet_bytes)?;
    let clock = forwarder.thread.clock;
    let (mut expected, mut arrived) = (0, 0);
    let (used, end) = (clock.now()?, Instant::now() + limits.time);
    while Instant::now() < end {
        expected += BURST * sinks;
        arrived += burst(&mut load, &forwarder)?;
    }
    let used = (clock.now()? - used).as_secs_f64();
    if arrived == 0 {
        return Err("nothing came out".into());
    }
    let packets = arrived as f64;
    Ok([
        (NS_PER_PACKET, used * 1e9 / packets),
        ("k packets/s per core", packets / used / 1e3),
        ("lost %", (1.0 - packets / expected as f64) * 100.0),
    ]
    .into())
}

pub(crate) const NS_PER_PACKET: &str = "CPU ns per packet";

/// A forwarder that sends to who asks.
fn idle_ping(start: Start, limits: &Limits) -> Result<Measures, String> {
    let asker = UdpSocket::bind(any_port()).map_err(text)?;
    asker
        .set_read_timeout(Some(Duration::from_millis(100)))
        .map_err(text)?;
    let forwarder = start(&[asker.local_addr().map_err(text)?])?;
    let clock = forwarder.thread.clock;
    let (mut round_trips, mut used) = (histogram(), clock.now()?);
    let mut packet = [0; 200];
    let end = Instant::now() + limits.time;
    for n in 0..limits.samples + WARM_UP {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        asker.send_to(&packet, forwarder.address).map_err(text)?;
        asker.recv(&mut packet).map_err(text)?;
        let now = Instant::now();
        if n < WARM_UP {
            used = clock.now()?;
        } else {
            round_trips.saturating_record((now - start).as_nanos() as u64);
        }
        if now > end {
            break;
        }
    }
    std::thread::sleep(PAUSE);
    let used = (clock.now()? - used).as_nanos() as f64;
    let [p50, p99] = percentiles(&round_trips);
    Ok([
        p50,
        p99,
        ("CPU ns per ping", used / round_trips.len() as f64),
    ]
    .into())
}

fn count_allocations(start: Start, limits: &Limits) -> Result<Measures, String> {
    let (forwarder, mut load) = set_up(start, 10, 1_200)?;
    let (mut packets, mut failed) = (0, Ok(()));
    let all = allocations::during(|| {
        for _ in 0..limits.samples {
            match burst(&mut load, &forwarder) {
                Ok(arrived) => packets += arrived,
                Err(error) => failed = Err(error),
            }
        }
    });
    failed?;
    Ok([("per packet", all as f64 / packets as f64)].into())
}

fn system_calls(
    start: Start,
    sinks: usize,
    mark: &'static str,
    limits: &Limits,
) -> Result<(), String> {
    let (forwarder, mut load) = set_up(start, sinks, 1_200)?;
    syscalls::mark_thread(mark, forwarder.thread.id);
    for _ in 0..limits.samples {
        burst(&mut load, &forwarder)?;
    }
    syscalls::mark("");
    Ok(())
}
