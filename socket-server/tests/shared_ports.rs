//! Groups of sockets that share a port: conformance item 40, and more.

mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket as Plain};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket_server::{
    MaxWait, PhysicalSocketServer, ProcessIo, RecvBatch, SocketServer, UdpOptions, UdpSocket,
};
use worlds::ports::at_lasting_port;
use worlds::udp::{OnReadable, collect};
use worlds::{Family, PATIENCE, between_virtual_hosts, in_every_world};

const MEMBERS: usize = 4;
const FLOWS: usize = 200;
const DATAGRAMS: usize = 5;

/// Which member of the group has seen which source, and how often.
type Seen = BTreeMap<SocketAddr, BTreeMap<usize, usize>>;

#[track_caller]
fn assert_flows_stay(seen: &Seen) {
    assert_eq!(FLOWS, seen.len());
    for (source, by) in seen {
        assert_eq!(
            vec![DATAGRAMS],
            by.values().copied().collect::<Vec<_>>(),
            "of {source}"
        );
    }
    let members: BTreeSet<_> = seen.values().flat_map(BTreeMap::keys).collect();
    assert_eq!(MEMBERS, members.len(), "some had nothing to do");
}

fn shared(address: SocketAddr) -> UdpOptions {
    UdpOptions::new(address)
        .share_port(true)
        .recv_buffer_bytes(1 << 20)
}

/// Serves a socket on a thread of its own, until it is told to stop.
fn serve(
    member: usize,
    address: SocketAddr,
    ready: &mpsc::Sender<SocketAddr>,
    seen: &mpsc::Sender<(usize, SocketAddr)>,
    stop: &AtomicBool,
) {
    let server = PhysicalSocketServer::new().unwrap();
    let socket = server.bind_udp(&shared(address)).unwrap();
    let (note, mut batch) = (seen.clone(), RecvBatch::new());
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        while socket.recv(&mut batch).is_ok() {
            for datagram in batch.iter() {
                note.send((member, datagram.source)).unwrap();
            }
        }
    }));
    ready.send(socket.local_addr()).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let soon = Instant::now() + Duration::from_millis(5);
        server.wait(MaxWait::Until(soon), ProcessIo::Yes).unwrap();
    }
}

#[test]
fn item_40_threads_that_share_a_port_each_have_flows_of_their_own() {
    for family in [Family::V4, Family::V6] {
        let stop = AtomicBool::new(false);
        let (ready, is_ready) = mpsc::channel();
        let (note, noted) = mpsc::channel();
        thread::scope(|scope| {
            let any_port = SocketAddr::new(family.loopback(), 0);
            let start = |member, address| {
                let (ready, note, stop) = (ready.clone(), note.clone(), &stop);
                scope.spawn(move || serve(member, address, &ready, &note, stop));
                is_ready.recv_timeout(PATIENCE).unwrap()
            };
            let group = start(0, any_port);
            for member in 1..MEMBERS {
                assert_eq!(group, start(member, group));
            }
            let flows: Vec<_> = (0..FLOWS).map(|_| Plain::bind(any_port).unwrap()).collect();
            for _ in 0..DATAGRAMS {
                for flow in &flows {
                    flow.send_to(b"x", group).unwrap();
                }
            }
            let own: BTreeSet<_> = flows
                .iter()
                .map(|flow| flow.local_addr().unwrap())
                .collect();
            let mut seen = Seen::new();
            let mut count = 0;
            while count < FLOWS * DATAGRAMS {
                let (member, source) = noted.recv_timeout(PATIENCE).expect("all arrive");
                if own.contains(&source) {
                    *seen.entry(source).or_default().entry(member).or_default() += 1;
                    count += 1;
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert_flows_stay(&seen);
        });
    }
}

#[test]
fn item_40_servers_of_a_virtual_host_that_share_a_port_each_have_flows_of_their_own() {
    between_virtual_hosts(|world| {
        let (place, clients) = (world.place(), world.place());
        let host = place.host.clone().unwrap();
        let mut group = SocketAddr::new(place.ip, 0);
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            let member = world
                .on(host.clone())
                .server
                .bind_udp(&shared(group))
                .unwrap();
            group = member.local_addr();
            members.push((collect(&member), member));
        }
        let flows: Vec<_> = (0..FLOWS).map(|_| clients.bind()).collect();
        for _ in 0..DATAGRAMS {
            for flow in &flows {
                flow.send_to(group, b"x").unwrap();
            }
        }
        world.settle();
        let mut seen = Seen::new();
        for (member, (inbox, _)) in members.iter().enumerate() {
            for got in inbox.borrow().iter() {
                *seen
                    .entry(got.source)
                    .or_default()
                    .entry(member)
                    .or_default() += 1;
            }
        }
        assert_flows_stay(&seen);
    });
}

#[test]
fn item_40_a_port_is_shared_only_among_those_that_all_say_so() {
    in_every_world(|world| {
        let place = world.place();
        let bind = |options: &UdpOptions| place.server.bind_udp(options);
        let group = at_lasting_port(|port| bind(&shared(SocketAddr::new(place.ip, port))));
        let own = UdpOptions::new(group.local_addr());
        assert_eq!(ErrorKind::AddrInUse, bind(&own).unwrap_err().kind());
        let second = bind(&shared(group.local_addr())).unwrap();
        drop(group);
        assert!(bind(&own).is_err());
        drop(second);
        let alone = bind(&own).unwrap();
        for options in [own, shared(alone.local_addr())] {
            assert_eq!(ErrorKind::AddrInUse, bind(&options).unwrap_err().kind());
        }
    });
}

#[test]
fn item_40_what_is_left_of_a_group_takes_over() {
    in_every_world(|world| {
        let place = world.place();
        let address = SocketAddr::new(place.ip, 0);
        let first = place.server.bind_udp(&shared(address)).unwrap();
        let second = place.server.bind_udp(&shared(first.local_addr())).unwrap();
        let inbox = collect(&second);
        drop(first);
        let clients: Vec<_> = (0..20).map(|_| world.place().bind()).collect();
        for client in &clients {
            client.send_to(second.local_addr(), b"x").unwrap();
        }
        world.wait_until("all arrive", || inbox.borrow().len() == clients.len());
    });
}
