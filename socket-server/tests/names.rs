//! Names of hosts, resolved and connected to: conformance item 27.

mod worlds;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{
    Firewall, FirewallRule, FirewallSocketServer, ListenOptions, PhysicalSocketServer, Resolution,
    SocketServer, TcpOptions, TcpState,
};

use worlds::tcp::{Event, Peer, accept_all, connect, listen, socket};
use worlds::{Family, Kind, World, in_every_world, in_physical_worlds, in_virtual_worlds};

/// What `resolve` has said, once it has.
type Answers = Rc<RefCell<Vec<io::Result<Vec<SocketAddr>>>>>;

fn resolve(world: &World, host: &str, port: u16) -> (Resolution, Answers) {
    let answers = Answers::default();
    let to = answers.clone();
    let done = Box::new(move |answer| to.borrow_mut().push(answer));
    let resolution = world.server().resolve(host, port, done).unwrap();
    (resolution, answers)
}

#[track_caller]
fn addresses_of(world: &World, host: &str) -> Vec<SocketAddr> {
    let (_resolution, answers) = resolve(world, host, 80);
    world.wait_until("it is resolved", || !answers.borrow().is_empty());
    let answer = answers.borrow_mut().remove(0);
    answer.unwrap()
}

/// A name that leads to the other server, over the family of the world.
fn name_of_other(world: &World) -> String {
    match (world.kind, world.family) {
        (Kind::Hosts, _) => "there".to_owned(),
        // Every system has it, but not every one in both families.
        (_, Family::V4) => "localhost".to_owned(),
        (_, Family::V6) => "::1".to_owned(),
    }
}

/// A name that nobody has, now or ever (RFC 6761).
const NOBODY: &str = "name.invalid";

#[test]
fn item_27_localhost_and_literal_addresses_are_resolved() {
    in_every_world(|world| {
        let addresses = addresses_of(world, "localhost");
        assert!(!addresses.is_empty());
        for address in addresses {
            assert!(address.ip().is_loopback(), "{address}");
            assert_eq!(80, address.port());
        }
        for literal in ["192.0.2.7", "2001:db8::7"] {
            let ip: IpAddr = literal.parse().unwrap();
            let expected = vec![SocketAddr::new(ip, 80)];
            assert_eq!(expected, addresses_of(world, literal));
        }
    });
}

#[test]
fn item_27_virtual_hosts_have_their_names_and_those_they_are_given() {
    in_virtual_worlds(|world| {
        let [host, _] = world.hosts();
        let ips = |name: &str| -> Vec<IpAddr> {
            let addresses = addresses_of(world, name);
            addresses.iter().map(SocketAddr::ip).collect()
        };
        assert_eq!(host.ips(), ips(&host.name()));
        let given: Vec<IpAddr> = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        world.network().set_name("given", given.clone());
        assert_eq!(given, ips("given"));
    });
}

#[test]
fn item_27_a_name_that_nobody_has_is_an_error() {
    in_every_world(|world| {
        let (_resolution, answers) = resolve(world, NOBODY, 80);
        assert!(
            answers.borrow().is_empty(),
            "nothing is called but in waits"
        );
        world.wait_until("it has failed", || !answers.borrow().is_empty());
        assert!(answers.borrow()[0].is_err());
        world.settle();
        assert_eq!(1, answers.borrow().len());
    });
}

#[test]
fn item_27_a_resolution_that_is_dropped_calls_nothing_and_lets_go() {
    in_every_world(|world| {
        for host in ["localhost", NOBODY] {
            let (resolution, answers) = resolve(world, host, 80);
            assert_eq!(2, Rc::strong_count(&answers));
            drop(resolution);
            assert_eq!(1, Rc::strong_count(&answers));
            // Others, asked later, are answered.
            assert!(!addresses_of(world, "localhost").is_empty());
            world.settle();
            assert!(answers.borrow().is_empty());
        }
    });
}

#[test]
fn item_27_a_resolution_may_be_dropped_in_its_answer_and_ask_another() {
    in_every_world(|world| {
        let kept = Rc::new(RefCell::new(None));
        let (own, server) = (kept.clone(), world.server());
        let done = Rc::new(RefCell::new(Vec::new()));
        let said = done.clone();
        let first = Box::new(move |_| {
            let last =
                Box::new(move |answer: io::Result<_>| said.borrow_mut().push(answer.is_ok()));
            let next = server.resolve("localhost", 1, last).unwrap();
            // The first one is dropped here.
            own.replace(Some(next));
        });
        let resolution = world.server().resolve("localhost", 1, first).unwrap();
        kept.replace(Some(resolution));
        world.wait_until("the second is answered", || !done.borrow().is_empty());
        assert_eq!(vec![true], *done.borrow());
        kept.replace(None);
    });
}

#[test]
fn item_27_more_names_than_threads_are_resolved_and_a_server_may_go_before_its_answers() {
    in_every_world(|world| {
        let all: Vec<_> = (0..50).map(|_| resolve(world, "localhost", 80)).collect();
        world.wait_until("all are answered", || {
            all.iter().all(|(_, answers)| answers.borrow().len() == 1)
        });
    });
    in_physical_worlds(|_| {
        let server = PhysicalSocketServer::new().unwrap();
        let done = Box::new(|_| panic!("nobody waits any more"));
        let resolution = server.resolve("localhost", 80, done).unwrap();
        drop(server);
        drop(resolution);
    });
}

#[test]
fn item_27_a_socket_connects_by_name() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let port = listener.local_addr().port();
        let client = connect(world, (&*name_of_other(world), port));
        assert_eq!(TcpState::Connecting, client.socket.state());
        assert!(client.socket.local_addr().is_err(), "nobody knows yet");
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        // A name may have led elsewhere first: so the port is there, and the event came once.
        assert_eq!(
            Some(port),
            client.socket.peer_addr().map(|peer| peer.port())
        );
        accepted.borrow()[0].socket.send(b"hello").unwrap();
        world.wait_until("it arrives", || client.log.data() == b"hello");
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}

#[test]
fn item_27_the_addresses_of_a_name_are_tried_until_one_answers() {
    in_virtual_worlds(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let good = listener.local_addr();
        let [_, other] = world.hosts();
        let (refusing, dead): (IpAddr, IpAddr) = match world.family {
            Family::V4 => (other.v6(), [203, 0, 113, 1].into()),
            Family::V6 => (other.v4(), [0x2001, 0xdb8, 9, 9, 9, 9, 9, 9].into()),
        };
        let network = world.network();
        network.set_name("slow", [dead, good.ip()]);
        network.set_name("refusing", [refusing, good.ip()]);
        network.set_name("both", [dead, refusing, good.ip(), dead]);
        for (n, name) in ["slow", "refusing", "both"].into_iter().enumerate() {
            let client = connect(world, (name, good.port()));
            world.wait_until("it is connected", || client.log.has(Event::Connected));
            world.wait_until("it is accepted", || accepted.borrow().len() == n + 1);
            world.settle();
            assert_eq!(vec![Event::Connected], client.log.events(), "{name}");
            assert_eq!(Some(good), client.socket.peer_addr());
        }
        network.set_name("none good", [dead, refusing]);
        let client = connect(world, ("none good", good.port()));
        world.wait_until("it fails", || client.log.is_closed());
        let refused = Event::Closed(Some(ErrorKind::ConnectionRefused));
        assert_eq!(vec![refused], client.log.events(), "why the last failed");
    });
}

#[test]
fn item_27_addresses_that_fail_at_once_are_passed_over_and_the_last_is_told() {
    in_every_world(|world| {
        // Bound to an address of the other family, no address of the name can be connected to, and
        // that is known without asking the network.
        let (own, name): (SocketAddr, _) = match world.family {
            Family::V4 => ("[::1]:0".parse().unwrap(), "127.0.0.1"),
            Family::V6 => ("127.0.0.1:0".parse().unwrap(), "::1"),
        };
        let options = TcpOptions::new().local(own);
        let client = Peer::new(world.server().tcp_socket(&options).unwrap());
        for round in 1..=2 {
            client.socket.connect((name, 80)).unwrap();
            world.wait_until("it is told", || client.log.events().len() == round);
            assert_eq!(TcpState::Closed, client.socket.state());
        }
        assert!(
            client
                .log
                .events()
                .iter()
                .all(|event| matches!(event, Event::Closed(Some(_))))
        );
    });
    in_virtual_worlds(|world| {
        // Here the first does not answer, and the last fails at once.
        let (dead, impossible): (IpAddr, IpAddr) = (
            [203, 0, 113, 1].into(),
            [0x2001, 0xdb8, 9, 9, 9, 9, 9, 9].into(),
        );
        world.network().set_name("hopeless", [dead, impossible]);
        let options = TcpOptions::new().local(SocketAddr::from(([0, 0, 0, 0], 0)));
        let client = Peer::new(world.server().tcp_socket(&options).unwrap());
        client.socket.connect(("hopeless", 80)).unwrap();
        world.wait_until("it is told", || client.log.is_closed());
        world.settle();
        assert_eq!(1, client.log.events().len());
    });
}

#[test]
fn item_27_a_firewall_is_asked_for_every_address_of_a_name() {
    in_every_world(|world| {
        let firewall = Rc::new(Firewall::new());
        firewall.add(FirewallRule::deny());
        let server = FirewallSocketServer::new(world.server(), firewall);
        let client = Peer::new(server.tcp_socket(&TcpOptions::new()).unwrap());
        client.socket.connect(("localhost", 80)).unwrap();
        world.wait_until("it is told", || client.log.is_closed());
        let blocked = Event::Closed(Some(ErrorKind::HostUnreachable));
        assert_eq!(vec![blocked], client.log.events());
    });
}

#[test]
fn item_27_a_name_that_nobody_has_closes_with_an_error() {
    in_every_world(|world| {
        let client = connect(world, (NOBODY, 80));
        assert_eq!(TcpState::Connecting, client.socket.state());
        world.wait_until("it has failed", || client.log.is_closed());
        assert_eq!(TcpState::Closed, client.socket.state());
        world.settle();
        let events = client.log.events();
        assert!(matches!(events[..], [Event::Closed(Some(_))]), "{events:?}");
        // And it can be connected again.
        let listener = listen(world);
        client.socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is connected", || client.log.has(Event::Connected));
    });
}

#[test]
fn item_27_a_socket_that_is_closed_or_dropped_while_its_name_is_resolved_calls_nothing() {
    in_every_world(|world| {
        for name in [NOBODY, &name_of_other(world)] {
            let listener = listen(world);
            let accepted = accept_all(&listener);
            let port = listener.local_addr().port();
            let closed = connect(world, (name, port));
            closed.socket.close();
            let dropped = connect(world, (name, port));
            let log = dropped.log.clone();
            drop(dropped);
            // This one is closed, and has another target when the answer to the first comes.
            let again = connect(world, (name, port));
            again.socket.close();
            let elsewhere = listen(world);
            again.socket.connect(elsewhere.local_addr()).unwrap();
            // By then the names have been answered, too.
            assert!(!addresses_of(world, "localhost").is_empty());
            let (_resolution, answers) = resolve(world, name, port);
            world.wait_until("it is answered", || !answers.borrow().is_empty());
            world.settle();
            assert!(closed.log.events().is_empty());
            assert!(log.events().is_empty());
            assert_eq!(vec![Event::Connected], again.log.events());
            assert_eq!(Some(elsewhere.local_addr()), again.socket.peer_addr());
            assert!(accepted.borrow().is_empty());
        }
    });
}

#[test]
fn item_27_who_sets_a_handler_late_hears_that_the_name_was_wrong() {
    in_every_world(|world| {
        let client = socket(world);
        client.connect((NOBODY, 80)).unwrap();
        world.wait_until("it has failed", || client.state() == TcpState::Closed);
        let client = Peer::new(client);
        world.wait_until("it is told", || client.log.is_closed());
    });
}

#[test]
fn item_27_a_firewall_that_changes_its_mind_leaves_no_trace() {
    in_every_world(|world| {
        let firewall = Rc::new(Firewall::new());
        firewall.add(FirewallRule::deny());
        let server = FirewallSocketServer::new(world.server(), firewall.clone());
        let client = Peer::new(server.tcp_socket(&TcpOptions::new()).unwrap());
        let other = world.other_server();
        let listener = other
            .listen_tcp(&ListenOptions::new(world.other_address()))
            .unwrap();
        let blocked = client.socket.connect(listener.local_addr()).unwrap_err();
        assert_eq!(ErrorKind::HostUnreachable, blocked.kind());
        firewall.clear();
        client.socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        if !world.is_physical() {
            world.pass(Duration::from_secs(1));
        }
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}
