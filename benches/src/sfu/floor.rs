//! What no SFU can do without: a packet is received, and for each viewer encrypted and sent.
//!
//! No ICE, no DTLS, no RTCP, nobody to be known; the same packets at the same times, and its sinks are
//! read as the load of the SFUs reads its sockets. Once with a call for each packet, and once with a
//! call for all packets of a frame to one viewer, which the kernel takes apart.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::arrivals::{self, Arrivals};
use super::measured::Measured;
use super::media::{Fared, Ledger, MARK_END, Mark, MediaPacket, Source, wall_clock};
use super::ready::Ready;
use super::{Case, LATE, LOOK_EVERY, Limits};
use crate::awake::Awake;
use crate::cpu_clock::CpuClock;
use crate::measures::Measures;
use crate::pin;
use crate::udp_option::segment;

/// How long it sleeps without looking whether it is to end.
const NAP: Duration = Duration::from_millis(100);
const MAX_PACKET_BYTES: usize = 2_048;

/// Whether packets leave one by one, or those of a frame together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    Each,
    Frame,
}

struct Viewer {
    address: SocketAddr,
    key: LessSafeKey,
    sent: u64,
}

impl Viewer {
    fn new(address: SocketAddr) -> Result<Self, String> {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|error| error.to_string())?;
        Ok(Self {
            address,
            key: LessSafeKey::new(key),
            sent: 0,
        })
    }

    /// Appends the packet as this viewer is to have it. The mark stays readable, as headers do.
    fn encrypt(&mut self, packet: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(packet);
        let (open, secret) = out[start..].split_at_mut(MARK_END);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.sent.to_be_bytes());
        self.sent += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*open), secret);
        out.extend_from_slice(tag.expect("a packet is not too long").as_ref());
    }
}

/// The thread that forwards; it ends when this is dropped.
struct Forwarder {
    address: SocketAddr,
    clock: CpuClock,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    fn start(ip: IpAddr, mut viewers: Vec<Viewer>, sends: Sends) -> Result<Self, String> {
        let open = || {
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_read_timeout(Some(NAP))?;
            Ok::<_, std::io::Error>((socket.local_addr()?, socket))
        };
        let (address, socket) = open().map_err(|error| error.to_string())?;
        let quit = Arc::new(AtomicBool::new(false));
        let (started, wait) = sync_channel(1);
        let thread = std::thread::spawn({
            let quit = quit.clone();
            move || {
                pin::to(1);
                let clock = CpuClock::of_this_thread();
                started.send(clock).expect("the starter waits");
                let (mut arrivals, mut out) = (Arrivals::new(), Vec::new());
                let mut first = [0; MAX_PACKET_BYTES];
                while !quit.load(Ordering::Relaxed) {
                    let Ok((bytes, _)) = socket.recv_from(&mut first) else {
                        continue;
                    };
                    let rest = arrivals.receive(&socket);
                    let rest = rest.iter().map(|arrival| arrival.data);
                    let packets: Vec<_> = std::iter::once(&first[..bytes]).chain(rest).collect();
                    for viewer in &mut viewers {
                        forward(&socket, viewer, &packets, sends, &mut out);
                    }
                }
            }
        });
        let clock = wait.recv().map_err(|error| error.to_string())??;
        Ok(Self {
            address,
            clock,
            quit,
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// What cannot be sent is lost, as datagrams are.
fn forward(
    socket: &UdpSocket,
    viewer: &mut Viewer,
    packets: &[&[u8]],
    sends: Sends,
    out: &mut Vec<u8>,
) {
    let mut left = packets;
    while let Some(first) = left.first() {
        let run = match sends {
            Sends::Each => 1,
            Sends::Frame => left
                .iter()
                .take_while(|packet| packet.len() == first.len())
                .count(),
        };
        out.clear();
        for packet in &left[..run] {
            viewer.encrypt(packet, out);
        }
        if run == 1 || segment(socket, out.len() / run).is_ok() {
            let _ = socket.send_to(out, viewer.address);
        }
        left = &left[run..];
    }
}

/// Who sends to the forwarder, and where it sends to.
struct Load {
    publisher: UdpSocket,
    source: Source,
    sinks: Vec<UdpSocket>,
    ready: Ready,
    arrivals: Arrivals,
    ledger: Ledger,
    fared: Fared,
}

impl Load {
    fn new(ip: IpAddr, viewers: usize) -> Result<Self, String> {
        let sink = || {
            let socket = UdpSocket::bind((ip, 0))?;
            arrivals::prepare(&socket)?;
            Ok::<_, std::io::Error>(socket)
        };
        let sinks = (0..viewers).map(|_| sink()).collect::<Result<Vec<_>, _>>();
        let (sinks, ready) = (sinks.map_err(|error| error.to_string())?, Ready::new()?);
        for (at, sink) in sinks.iter().enumerate() {
            ready.add(sink, at)?;
        }
        let publisher = UdpSocket::bind((ip, 0)).map_err(|error| error.to_string())?;
        Ok(Self {
            publisher,
            source: Source::new(0, 1, wall_clock()),
            sinks,
            ready,
            arrivals: Arrivals::new(),
            ledger: Ledger::default(),
            fared: Fared::default(),
        })
    }

    fn run_for(&mut self, time: Duration, forwarder: SocketAddr) -> Result<(), String> {
        let end = Instant::now() + time;
        let (mut packets, mut ready) = (Vec::new(), Vec::new());
        while Instant::now() < end {
            self.source.take(wall_clock(), &mut packets);
            if let Some(first) = packets.first() {
                if packets.len() > 1 {
                    segment(&self.publisher, first.payload.len())?;
                }
                self.publish(&packets, forwarder);
            }
            self.ready.look(&mut ready);
            for at in &ready {
                loop {
                    let received = self.arrivals.receive(&self.sinks[*at]);
                    for arrival in received.iter() {
                        let mark = Mark::read(arrival.data);
                        let latency = mark.and_then(|mark| self.ledger.latency(mark, arrival.at));
                        if let Some(latency) = latency {
                            self.fared.note(latency);
                        }
                    }
                    if !received.may_be_more() {
                        break;
                    }
                }
            }
            let until_due = self.source.due().saturating_sub(wall_clock());
            std::thread::sleep(until_due.min(LOOK_EVERY));
        }
        Ok(())
    }

    /// As encrypted packets are noted, so are these: shortly before they leave.
    fn publish(&mut self, packets: &[MediaPacket], forwarder: SocketAddr) {
        let payloads: Vec<_> = packets.iter().map(|packet| &packet.payload[..]).collect();
        let train = payloads.concat();
        let sent_at = wall_clock();
        for packet in packets {
            self.ledger.sent(packet.kind, packet.number, sent_at);
        }
        let _ = self.publisher.send_to(&train, forwarder);
    }
}

/// Measures the forwarder with this many viewers of one publisher.
pub(super) fn run(
    case: Case,
    ip: IpAddr,
    sends: Sends,
    limits: &Limits,
) -> Result<Measures, String> {
    pin::to(0);
    let _awake = Awake::core(1);
    let mut load = Load::new(ip, case.viewers)?;
    let viewers = load.sinks.iter().map(|sink| {
        let address = sink.local_addr().map_err(|error| error.to_string())?;
        Viewer::new(address)
    });
    let forwarder = Forwarder::start(ip, viewers.collect::<Result<_, _>>()?, sends)?;
    load.run_for(limits.settle, forwarder.address)?;
    let (used, started) = (forwarder.clock.now()?, Instant::now());
    load.ledger.start(&load.source);
    load.run_for(limits.measure, forwarder.address)?;
    let sent = load.ledger.stop(&load.source);
    let (used, wall) = (forwarder.clock.now()? - used, started.elapsed());
    load.run_for(LATE, forwarder.address)?;
    let measured = Measured {
        wall: wall.as_secs_f64(),
        cpu: used.as_secs_f64(),
        expected: (sent * case.viewers as u64) as f64,
        arrived: load.fared.arrived as f64,
        latency: load.fared.quantiles(),
        clients: None,
    };
    measured.measures(case)
}
