//! Whole systems in virtual time: threads on hosts, and the network between them.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc_thread::{Simulation, Thread, ThreadBound, socket_server};
use socket_server::{
    Delay, HostOptions, LinkOptions, LinkStats, Loss, NatOptions, NatType, RecvBatch, UdpHandler,
    UdpOptions, UdpSocket,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// From one packet of audio to the next: the longest that Opus makes.
const FRAME: Duration = Duration::from_millis(60);
/// How often the address of the peer is asked for, until it is known.
const RETRY: Duration = Duration::from_millis(500);

/// One end of a call: it finds out where the peer is through a server that both can reach, as ICE
/// does with STUN, and then sends audio for as long as the call lasts.
struct Peer {
    socket: UdpSocket,
    rendezvous: SocketAddr,
    peer: Option<SocketAddr>,
    sent: u32,
    received: u32,
    batch: RecvBatch,
}

impl Peer {
    fn open(rendezvous: SocketAddr) -> Self {
        let server = socket_server().unwrap();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            socket: server.bind_udp(&UdpOptions::new(any)).unwrap(),
            rendezvous,
            peer: None,
            sent: 0,
            received: 0,
            batch: RecvBatch::new(),
        }
    }

    /// Asks for the peer, or sends a frame; returns when to do so next.
    fn tick(&mut self) -> Duration {
        match self.peer {
            None => {
                self.socket.send_to(self.rendezvous, b"who?").unwrap();
                RETRY
            }
            Some(peer) => {
                self.sent += 1;
                let mut frame = [0; 160];
                frame[..4].copy_from_slice(&self.sent.to_be_bytes());
                self.socket.send_to(peer, &frame).unwrap();
                FRAME
            }
        }
    }

    fn receive(&mut self) {
        while self.socket.recv(&mut self.batch).is_ok() {
            for datagram in self.batch.iter() {
                if datagram.source == self.rendezvous {
                    let text = std::str::from_utf8(datagram.data).unwrap();
                    self.peer = Some(text.parse().unwrap());
                } else {
                    self.received += 1;
                }
            }
        }
    }
}

/// Weak, because the peer has the socket, and the socket has this.
struct OnPeer(Weak<RefCell<Peer>>);

impl UdpHandler for OnPeer {
    fn on_readable(&mut self, _socket: &UdpSocket) {
        if let Some(peer) = self.0.upgrade() {
            peer.borrow_mut().receive();
        }
    }
}

/// Tells each of two clients where the other one is.
#[derive(Default)]
struct Rendezvous {
    clients: Vec<SocketAddr>,
    batch: RecvBatch,
}

impl UdpHandler for Rendezvous {
    fn on_readable(&mut self, socket: &UdpSocket) {
        while socket.recv(&mut self.batch).is_ok() {
            for datagram in self.batch.iter() {
                if !self.clients.contains(&datagram.source) {
                    self.clients.push(datagram.source);
                }
            }
        }
        if let [one, other] = self.clients[..] {
            socket.send_to(one, other.to_string().as_bytes()).unwrap();
            socket.send_to(other, one.to_string().as_bytes()).unwrap();
        }
    }
}

fn start_peer(thread: &Thread, rendezvous: SocketAddr) -> ThreadBound<Rc<RefCell<Peer>>> {
    let peer = thread.blocking_call(move || {
        let peer = Rc::new(RefCell::new(Peer::open(rendezvous)));
        peer.borrow()
            .socket
            .set_handler(OnPeer(Rc::downgrade(&peer)));
        ThreadBound::on_current(peer).unwrap()
    });
    let peer = peer.unwrap();
    fn tick(peer: &ThreadBound<Rc<RefCell<Peer>>>, after: Duration) {
        let again = peer.clone();
        let _ = peer.post_delayed(after, move |peer| {
            let next = peer.borrow_mut().tick();
            tick(&again, next);
        });
    }
    tick(&peer, Duration::ZERO);
    peer
}

/// What a call came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Of everything that happened to any packet.
    trace: u64,
    events: u64,
    sent: [u32; 2],
    received: [u32; 2],
    lossy: LinkStats,
}

fn call(seed: u64, duration: Duration) -> Outcome {
    let simulation = Simulation::new(seed);
    let network = simulation.network();
    let trace = Rc::new(RefCell::new((DefaultHasher::new(), 0)));
    let observed = trace.clone();
    network.observe(move |event| {
        let (hasher, count) = &mut *observed.borrow_mut();
        event.hash(hasher);
        *count += 1;
    });
    let server = network.add_host(HostOptions::new("rendezvous")).unwrap();
    let ms = Duration::from_millis;
    let lossy = LinkOptions::new()
        .delay(Delay::Normal {
            mean: ms(40),
            deviation: ms(8),
        })
        .loss(Loss::Bursty {
            to_bad: 0.005,
            to_good: 0.2,
            good: 0.001,
            bad: 0.5,
        })
        .duplicate(0.001)
        .bandwidth(50_000);
    let home = network
        .add_nat(NatOptions::new(NatType::PortRestricted))
        .unwrap();
    let office = network
        .add_nat(NatOptions::new(NatType::AddressRestricted))
        .unwrap();
    let alice = home
        .add_host(HostOptions::new("alice").links(lossy))
        .unwrap();
    let bob = office.add_host(HostOptions::new("bob")).unwrap();

    let meeting_point = SocketAddr::new(server.v4(), 3478);
    let main = simulation.thread_on(&server, "rendezvous").unwrap();
    let rendezvous = main.blocking_call(move || {
        let server = socket_server().unwrap();
        let socket = server.bind_udp(&UdpOptions::new(meeting_point)).unwrap();
        socket.set_handler(Rendezvous::default());
        ThreadBound::on_current(socket).unwrap()
    });
    let threads = [("alice", &alice), ("bob", &bob)]
        .map(|(name, host)| simulation.thread_on(host, name).unwrap());
    let peers = threads
        .each_ref()
        .map(|thread| start_peer(thread, meeting_point));
    simulation.run_for(duration);
    let count = |of: fn(&Peer) -> u32| {
        peers
            .each_ref()
            .map(|peer| peer.blocking_call(move |peer| of(&peer.borrow())).unwrap())
    };
    let outcome = Outcome {
        trace: trace.borrow().0.finish(),
        events: trace.borrow().1,
        sent: count(|peer| peer.sent),
        received: count(|peer| peer.received),
        lossy: alice.uplink().stats(),
    };
    drop((peers, rendezvous));
    outcome
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes; the test command runs it in a release build"
)]
fn a_day_long_call_through_a_lossy_link_and_two_nats_twice_gives_the_same_trace() {
    let seed = std::env::var("RTC_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("RTC_SEED={seed}");
    let first = call(seed, DAY);
    println!("{first:?}");
    // A frame each time, less what it took to find each other.
    for sent in first.sent {
        assert!((1_439_900..=1_440_000).contains(&sent), "{first:?}");
    }
    assert!(first.lossy.lost > 10_000, "{first:?}");
    assert!(first.received[1] > first.sent[0] / 100 * 95, "{first:?}");
    assert_eq!(first, call(seed, DAY));
}

#[test]
fn another_seed_is_another_run() {
    let minute = Duration::from_secs(60);
    assert_eq!(call(1, minute), call(1, minute));
    assert_ne!(call(1, minute).trace, call(2, minute).trace);
}

/// Notes what it sees: packets, and whatever is posted.
type Log = Arc<Mutex<Vec<&'static str>>>;

#[test]
fn a_task_and_a_packet_that_come_together_are_explored_in_both_orders() {
    let mut seen = BTreeSet::new();
    let explored = Simulation::explore(1000, |simulation| {
        let network = simulation.network();
        let host = network.add_host(HostOptions::new("host")).unwrap();
        let address = SocketAddr::new(host.v4(), 5000);
        let receiver = simulation.thread_on(&host, "receiver").unwrap();
        let sender = simulation.thread_on(&host, "sender").unwrap();
        let log = Log::default();
        let notes = log.clone();
        let socket = receiver.blocking_call(move || {
            let server = socket_server().unwrap();
            let socket = server.bind_udp(&UdpOptions::new(address)).unwrap();
            socket.set_handler(Noting(notes, RecvBatch::new()));
            ThreadBound::on_current(socket).unwrap()
        });
        let (notes, to) = (log.clone(), receiver.handle());
        sender
            .post(move || {
                let server = socket_server().unwrap();
                let any = SocketAddr::from(([0, 0, 0, 0], 0));
                let socket = server.bind_udp(&UdpOptions::new(any)).unwrap();
                socket.send_to(address, b"x").unwrap();
                to.post(move || notes.lock().unwrap().push("task")).unwrap();
            })
            .unwrap();
        simulation.run_until_idle();
        seen.insert(log.lock().unwrap().clone());
        drop(socket);
    });
    assert!(explored.is_complete, "{explored:?}");
    let expected = [vec!["packet", "task"], vec!["task", "packet"]];
    assert_eq!(BTreeSet::from(expected), seen);
}

struct Noting(Log, RecvBatch);

impl UdpHandler for Noting {
    fn on_readable(&mut self, socket: &UdpSocket) {
        while socket.recv(&mut self.1).is_ok() {
            for _ in self.1.iter() {
                self.0.lock().unwrap().push("packet");
            }
        }
    }
}

#[test]
fn threads_of_one_host_share_a_port_and_flows_stay_on_their_thread() {
    let simulation = Simulation::from_env("RTC_SEED");
    let network = simulation.network();
    let server = network.add_host(HostOptions::new("server")).unwrap();
    let address = SocketAddr::new(server.v4(), 5000);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            simulation
                .thread_on(&server, &format!("network {n}"))
                .unwrap()
        })
        .collect();
    let flows = Arc::new(Mutex::new(BTreeMap::new()));
    let mut sockets = Vec::new();
    for (number, thread) in threads.iter().enumerate() {
        let flows = flows.clone();
        let socket = thread.blocking_call(move || {
            let options = UdpOptions::new(address).share_port(true);
            let socket = socket_server().unwrap().bind_udp(&options).unwrap();
            socket.set_handler(Sorting {
                number,
                flows,
                batch: RecvBatch::new(),
            });
            ThreadBound::on_current(socket).unwrap()
        });
        sockets.push(socket.unwrap());
    }
    let client = network.add_host(HostOptions::new("client")).unwrap();
    let sender = simulation.thread_on(&client, "client").unwrap();
    let sent = sender.blocking_call(move || {
        let server = socket_server().unwrap();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let flows = (0..100).map(|_| server.bind_udp(&UdpOptions::new(any)).unwrap());
        let flows: Vec<_> = flows.collect();
        for socket in flows.iter().cycle().take(1000) {
            socket.send_to(address, b"x").unwrap();
        }
    });
    sent.unwrap();
    simulation.run_until_idle();
    let flows = flows.lock().unwrap();
    assert_eq!(100, flows.len());
    let used: BTreeSet<_> = flows.values().flatten().collect();
    assert_eq!(4, used.len(), "every thread has some");
    assert!(
        flows
            .values()
            .all(|threads: &BTreeSet<_>| threads.len() == 1)
    );
}

/// Notes which flow came to which thread.
struct Sorting {
    number: usize,
    flows: Arc<Mutex<BTreeMap<SocketAddr, BTreeSet<usize>>>>,
    batch: RecvBatch,
}

impl UdpHandler for Sorting {
    fn on_readable(&mut self, socket: &UdpSocket) {
        while socket.recv(&mut self.batch).is_ok() {
            for datagram in self.batch.iter() {
                let mut flows = self.flows.lock().unwrap();
                flows
                    .entry(datagram.source)
                    .or_default()
                    .insert(self.number);
            }
        }
    }
}
