//! What a virtual network does to packets on their way: conformance item 38.

mod worlds;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket_server::{
    Delay, HostOptions, LinkOptions, Loss, LossReason, NetworkEvent, PacketFate, SendBatch,
    SocketServer, UdpHandler, UdpOptions, UdpSocket, VirtualNetwork,
};
use worlds::tcp::{Event, pair};
use worlds::udp::{collect, texts};
use worlds::{World, between_virtual_hosts, seed};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What happened to packets, in order.
fn observe(network: &VirtualNetwork) -> Rc<RefCell<Vec<NetworkEvent>>> {
    let events = Rc::<RefCell<Vec<_>>>::default();
    let note = events.clone();
    network.observe(move |event| note.borrow_mut().push(*event));
    events
}

#[test]
fn item_38_a_socket_bound_to_any_address_sends_from_the_one_that_fits() {
    between_virtual_hosts(|world| {
        let (place, other) = (world.place(), world.place().bind());
        let any = place.bind_at(SocketAddr::new(world.family.any(), 0));
        let port = any.local_addr().port();
        let (own, theirs) = (collect(&any), collect(&other));
        any.send_to(other.local_addr(), b"to another").unwrap();
        world.settle();
        let source = theirs.borrow()[0].source;
        assert_eq!(SocketAddr::new(place.ip, port), source);
        for ip in [place.ip, world.family.loopback()] {
            any.send_to(SocketAddr::new(ip, port), b"to myself")
                .unwrap();
            world.settle();
            let got = own.borrow_mut().remove(0);
            assert_eq!(
                (SocketAddr::new(ip, port), Some(ip)),
                (got.source, got.local_ip)
            );
        }
        // And is answered there.
        other.send_to(source, b"answer").unwrap();
        world.settle();
        assert_eq!(["answer"], *texts(&own));
    });
}

#[test]
fn item_38_the_loopback_address_is_another_one_on_every_host() {
    between_virtual_hosts(|world| {
        let (one, other) = (world.place(), world.place());
        let here = one.bind_at(SocketAddr::new(world.family.loopback(), 7000));
        let there = other.bind_at(SocketAddr::new(world.family.loopback(), 7000));
        let (own, theirs) = (collect(&here), collect(&there));
        one.bind().send_to(here.local_addr(), b"x").unwrap();
        world.settle();
        assert_eq!((1, 0), (own.borrow().len(), theirs.borrow().len()));
        // What is at the loopback address cannot send to the world.
        let outside = other.bind();
        assert!(here.send_to(outside.local_addr(), b"x").is_err());
    });
}

#[test]
fn item_38_a_datagram_to_nobody_is_lost_without_a_word() {
    between_virtual_hosts(|world| {
        let (place, other) = (world.place(), world.place());
        let events = observe(world.network());
        let socket = place.bind();
        socket
            .send_to(SocketAddr::new(other.ip, 9), b"no such port")
            .unwrap();
        let nowhere = if place.ip.is_ipv4() {
            "203.0.113.9:9"
        } else {
            "[2001:db8:9::9]:9"
        };
        let nowhere: SocketAddr = nowhere.parse().unwrap();
        socket.send_to(nowhere, b"no such host").unwrap();
        world.settle();
        let fates: Vec<_> = events.borrow().iter().map(|event| event.what).collect();
        let lost = |reason| fates.contains(&PacketFate::Lost(reason));
        assert!(
            lost(LossReason::NoSocket) && lost(LossReason::NoRoute),
            "{fates:?}"
        );
        assert_eq!(4, fates.len());
        let inbox = collect(&socket);
        socket.send_to(socket.local_addr(), b"still there").unwrap();
        world.settle();
        assert_eq!(1, inbox.borrow().len());
    });
}

/// Keeps its socket's buffer full.
struct Flood(SocketAddr);

impl Flood {
    fn send(&self, socket: &UdpSocket) {
        while socket.send_to(self.0, &[0; 1000]).is_ok() {}
    }
}

impl UdpHandler for Flood {
    fn on_readable(&mut self, _socket: &UdpSocket) {}

    fn on_writable(&mut self, socket: &UdpSocket) {
        self.send(socket);
    }
}

#[test]
fn item_38_bandwidth_holds_to_a_twentieth() {
    between_virtual_hosts(|world| {
        let narrow = LinkOptions::new().bandwidth(64 * 1024).queue_bytes(1 << 20);
        let place = world.host(HostOptions::new("narrow").uplink(narrow));
        let (socket, other) = (place.bind(), world.place().bind());
        socket.set_send_buffer_bytes(10_000).unwrap();
        let (inbox, flood) = (collect(&other), Flood(other.local_addr()));
        flood.send(&socket);
        socket.set_handler(flood);
        world.pass(Duration::from_secs(5));
        let headers = if place.ip.is_ipv4() { 28 } else { 48 };
        let bytes = inbox.borrow().len() * (1000 + headers);
        let expected = 5 * 64 * 1024;
        assert!(
            bytes.abs_diff(expected) * 20 <= expected,
            "{bytes} of {expected}"
        );
        let lost = place.host.unwrap().uplink().stats().overflowed;
        assert_eq!(0, lost, "a send buffer that is full is no loss");
    });
}

/// Sends datagrams to another host, one each millisecond; returns how long each took, and which it
/// was, in the order in which they came.
fn send_many(world: &World, count: u32, links: LinkOptions) -> Vec<(Duration, u32)> {
    let name = format!("of {links:?}");
    let socket = world.host(HostOptions::new(name).uplink(links)).bind();
    let other = world.place().bind();
    other.set_recv_buffer_bytes(10 << 20).unwrap();
    let (inbox, mut sent) = (collect(&other), Vec::new());
    for n in 0..count {
        sent.push(world.now());
        socket
            .send_to(other.local_addr(), &n.to_be_bytes())
            .unwrap();
        world.pass(ms(1));
    }
    world.settle();
    let inbox = inbox.borrow();
    let delays = inbox.iter().map(|got| {
        let n = u32::from_be_bytes(got.data[..].try_into().unwrap());
        (got.arrived_at.unwrap() - sent[n as usize], n)
    });
    delays.collect()
}

#[test]
fn item_38_delays_have_the_mean_and_the_deviation_asked_for() {
    between_virtual_hosts(|world| {
        let normal = Delay::Normal {
            mean: ms(100),
            deviation: ms(15),
        };
        let delays = send_many(world, 3000, LinkOptions::new().delay(normal));
        let millis: Vec<_> = delays
            .iter()
            .map(|(delay, _)| delay.as_secs_f64() * 1000.0)
            .collect();
        assert_eq!(3000, millis.len());
        let mean = millis.iter().sum::<f64>() / 3000.0;
        let variance = millis
            .iter()
            .map(|delay| (delay - mean).powi(2))
            .sum::<f64>()
            / 3000.0;
        // Five standard errors.
        assert!((mean - 100.0).abs() < 1.5, "mean {mean}");
        assert!(
            (variance.sqrt() - 15.0).abs() < 1.0,
            "deviation {}",
            variance.sqrt()
        );
        assert!(
            !delays.is_sorted_by_key(|(_, n)| *n),
            "none overtook another"
        );
    });
}

#[test]
fn item_38_a_link_that_keeps_order_keeps_it_for_copies_too() {
    between_virtual_hosts(|world| {
        let links = LinkOptions::new()
            .delay(Delay::Uniform(ms(0), ms(50)))
            .duplicate(0.3)
            .keep_order();
        let delays = send_many(world, 500, links);
        assert!(delays.len() > 550);
        assert!(delays.is_sorted_by_key(|(_, n)| *n), "one overtook another");
    });
}

#[test]
fn item_38_held_back_packets_are_overtaken() {
    between_virtual_hosts(|world| {
        let links = LinkOptions::new()
            .delay(Delay::Constant(ms(5)))
            .reorder(0.1, ms(7));
        let delays = send_many(world, 1000, links);
        let late = delays.iter().filter(|(delay, _)| *delay == ms(12)).count();
        let on_time = delays.iter().filter(|(delay, _)| *delay == ms(5)).count();
        assert_eq!(1000, late + on_time);
        assert!((50..150).contains(&late), "{late} were held back");
        assert!(!delays.is_sorted_by_key(|(_, n)| *n));
    });
}

/// Whatever becomes of packets, the books balance.
#[test]
fn item_38_every_packet_that_is_sent_and_every_copy_arrives_or_is_lost() {
    between_virtual_hosts(|world| {
        let bad = LinkOptions::new()
            .delay(Delay::Uniform(ms(5), ms(30)))
            .loss(Loss::Random(0.1))
            .duplicate(0.1)
            .reorder(0.1, ms(10))
            .bandwidth(200_000)
            .queue_bytes(10_000);
        let events = observe(world.network());
        let places: Vec<_> = (0..3)
            .map(|n| world.host(HostOptions::new(format!("bad {n}")).links(bad.clone())))
            .collect();
        let sockets: Vec<_> = places.iter().map(|place| place.bind()).collect();
        let inboxes: Vec<_> = sockets.iter().map(collect).collect();
        let host = |n: usize| places[n].host.clone().unwrap();
        host(0).uplink().black_out(ms(100), ms(100));
        for round in 0..300 {
            for (n, socket) in sockets.iter().enumerate() {
                let to = sockets[(n + 1 + round % 2) % 3].local_addr();
                socket.send_to(to, &vec![1; round * 3]).unwrap();
            }
            world.pass(ms(3));
        }
        world.settle();
        let events = events.borrow();
        let mut fates = BTreeMap::new();
        let mut copies: BTreeMap<u64, i64> = BTreeMap::new();
        for event in events.iter() {
            *fates.entry(format!("{:?}", event.what)).or_insert(0_u64) += 1;
            *copies.entry(event.packet).or_default() += match event.what {
                PacketFate::Sent => 1,
                _ => -1,
            };
        }
        let count = |fate: &str| fates.get(fate).copied().unwrap_or(0);
        let links = (0..3).flat_map(|n| [host(n).uplink(), host(n).downlink()]);
        let stats: Vec<_> = links.map(|link| link.stats()).collect();
        let sum = |of: fn(&socket_server::LinkStats) -> u64| stats.iter().map(of).sum::<u64>();
        let duplicated = sum(|stats| stats.duplicated);
        assert_eq!(900, count("Sent"));
        let arrived: usize = inboxes.iter().map(|inbox| inbox.borrow().len()).sum();
        assert_eq!(arrived as u64, count("Arrived"));
        assert_eq!(sum(|stats| stats.lost), count("Lost(Chance)"));
        assert_eq!(sum(|stats| stats.overflowed), count("Lost(Overflow)"));
        assert_eq!(sum(|stats| stats.blacked_out), count("Lost(BlackOut)"));
        let ends = events.len() as u64 - count("Sent");
        assert_eq!(900 + duplicated, ends, "{fates:?}");
        for kind in ["Lost(Chance)", "Lost(Overflow)", "Lost(BlackOut)"] {
            assert!(count(kind) > 0, "{fates:?}");
        }
        assert!(duplicated > 0);
        // No packet ends more often than there were copies of it, and each at least once.
        assert!(copies.values().all(|left| *left <= 0));
        assert_eq!(-(duplicated as i64), copies.values().sum::<i64>());
    });
}

#[test]
fn item_38_nothing_passes_during_a_black_out() {
    between_virtual_hosts(|world| {
        let place = world.place();
        let (socket, other) = (place.bind(), world.place().bind());
        let inbox = collect(&other);
        let uplink = place.host.as_ref().unwrap().uplink();
        uplink.black_out(ms(1000), ms(500));
        for n in 0..30_u8 {
            socket.send_to(other.local_addr(), &[n]).unwrap();
            world.pass(ms(100));
        }
        let seen: Vec<_> = inbox.borrow().iter().map(|got| got.data[0]).collect();
        assert_eq!((0..10).chain(15..30).collect::<Vec<_>>(), seen);
        assert_eq!(5, uplink.stats().blacked_out);
        uplink.set_up(false);
        socket.send_to(other.local_addr(), b"x").unwrap();
        uplink.set_up(true);
        socket.send_to(other.local_addr(), b"y").unwrap();
        world.settle();
        assert_eq!(26, inbox.borrow().len());
    });
}

#[test]
fn item_38_a_link_between_two_hosts_concerns_only_them_and_one_direction() {
    between_virtual_hosts(|world| {
        let places = [world.place(), world.place(), world.place()];
        let sockets: Vec<_> = places.iter().map(|place| place.bind()).collect();
        let inboxes: Vec<_> = sockets.iter().map(collect).collect();
        let host = |n: usize| places[n].host.as_ref().unwrap();
        let cut = world.network().link_between(host(0), host(1));
        cut.set_up(false);
        for from in &sockets {
            for to in &sockets {
                from.send_to(to.local_addr(), b"x").unwrap();
            }
        }
        world.settle();
        let counts: Vec<_> = inboxes.iter().map(|inbox| inbox.borrow().len()).collect();
        assert_eq!(vec![3, 2, 3], counts);
        let from_cut = |got: &worlds::udp::Got| got.source == sockets[0].local_addr();
        assert!(!inboxes[1].borrow().iter().any(from_cut));
        assert_eq!(1, cut.stats().blacked_out);
        cut.set_up(true);
        cut.set_options(LinkOptions::new().delay(Delay::Constant(ms(70))));
        let before = world.now();
        sockets[0].send_to(sockets[1].local_addr(), b"x").unwrap();
        world.settle();
        assert_eq!(Some(before + ms(70)), inboxes[1].borrow()[2].arrived_at);
    });
}

/// A busy minute in a bad network; returns all that happened.
fn history(seed: u64) -> Vec<String> {
    let network = VirtualNetwork::new(seed);
    let events = observe(&network);
    let bad = LinkOptions::new()
        .delay(Delay::Uniform(ms(1), ms(40)))
        .loss(Loss::Random(0.05))
        .duplicate(0.05);
    let servers: Vec<_> = (0..3)
        .map(|n| network.add_host(HostOptions::new(format!("{n}")).links(bad.clone())))
        .map(|host| host.unwrap().server())
        .collect();
    let sockets: Vec<_> = servers
        .iter()
        .map(|server| {
            let address = SocketAddr::new(server.host().v4(), 5000);
            server.bind_udp(&UdpOptions::new(address)).unwrap()
        })
        .collect();
    for round in 0..100_usize {
        let mut batch = SendBatch::new();
        for n in 1..3 {
            let to = sockets[(round + n) % 3].local_addr();
            batch.push(to, &vec![0; round]).unwrap();
        }
        sockets[round % 3].send_batch(&mut batch);
        network.advance();
    }
    while network.advance() {}
    events.borrow().iter().map(ToString::to_string).collect()
}

#[test]
fn item_38_the_same_seed_is_the_same_history_and_another_seed_another() {
    let seed = seed();
    let first = history(seed);
    assert!(first.len() > 400);
    assert_eq!(first, history(seed));
    assert_ne!(first, history(seed + 1));
}

#[test]
fn item_38_hosts_are_found_by_name() {
    between_virtual_hosts(|world| {
        let (place, bob) = (world.place(), world.host(HostOptions::new("bob")));
        let host = bob.host.as_ref().unwrap();
        let extra: std::net::IpAddr = "192.0.2.1".parse().unwrap();
        world.network().set_name("service", [extra]);
        let find = |name: &str| {
            let found = Rc::new(RefCell::new(None));
            let note = found.clone();
            let done = Box::new(move |addresses| *note.borrow_mut() = Some(addresses));
            let _resolution = place.server.resolve(name, 80, done).unwrap();
            world.wait_until("there is an answer", || found.borrow().is_some());
            let found = found.take().unwrap();
            found.map_err(|error: std::io::Error| error.kind())
        };
        let at = |ips: &[std::net::IpAddr]| -> Result<Vec<_>, std::io::ErrorKind> {
            Ok(ips.iter().map(|ip| SocketAddr::new(*ip, 80)).collect())
        };
        assert_eq!(at(&host.ips()), find("bob"));
        assert_eq!(at(&[extra]), find("service"));
        assert_eq!(at(&[extra]), find("192.0.2.1"));
        assert_eq!(2, find("localhost").unwrap().len());
        assert_eq!(Err(std::io::ErrorKind::NotFound), find("nobody"));
        // Who does not wait for it any more hears nothing.
        let done = Box::new(|_| panic!("nobody asked"));
        drop(place.server.resolve("bob", 80, done).unwrap());
        world.settle();
    });
}

#[test]
fn item_38_tcp_recovers_from_a_host_that_could_not_send() {
    between_virtual_hosts(|world| {
        let (here, there) = pair(world);
        let [host, _] = world.hosts();
        host.set_sending_blocked(true);
        let mut sent = 0;
        while let Ok(more) = here.socket.send(&[7; 10_000]) {
            sent += more;
        }
        assert!(sent > 0);
        world.pass(Duration::from_secs(5));
        assert_eq!(
            (0, 0),
            (there.log.received(), here.log.count(Event::Writable))
        );
        host.set_sending_blocked(false);
        world.wait_until("all arrives", || there.log.received() == sent);
        world.wait_until("there is room", || here.log.count(Event::Writable) == 1);
        here.socket.send(b"!").unwrap();
        world.wait_until("it goes on", || there.log.received() == sent + 1);
    });
}

#[test]
fn item_38_tcp_connects_sends_and_closes_and_a_closed_port_refuses() {
    between_virtual_hosts(|world| {
        let (here, there) = pair(world);
        here.socket.send(b"hello").unwrap();
        world.wait_until("it arrives", || there.log.data() == b"hello");
        assert_eq!(here.socket.local_addr().ok(), there.socket.peer_addr());
        there.socket.close();
        world.wait_until("it is closed", || here.log.closed() == Some(None));
        let to = SocketAddr::new(world.other_address().ip(), 9);
        here.socket.connect(to).unwrap();
        world.wait_until("it is refused", || here.log.closed().flatten().is_some());
        let refused = here.log.closed().flatten();
        assert_eq!(Some(std::io::ErrorKind::ConnectionRefused), refused);
    });
}
