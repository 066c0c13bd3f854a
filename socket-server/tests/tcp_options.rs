//! Options of TCP sockets and listeners (+), and how connections to nobody end.

mod worlds;

use std::io::ErrorKind;
use std::time::Duration;

use socket_server::{Dscp, KeepAlive, ListenOptions, TcpOptions, TcpSocket};

use worlds::tcp::{Event, Peer, accept_all, connect, listen, pair, pair_as, socket};
use worlds::{World, between_virtual_hosts, in_every_world};

const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(7),
    interval: Duration::from_secs(3),
    count: 4,
};
const USER_TIMEOUT: Duration = Duration::from_millis(12_345);

fn dscp(bits: u8) -> Dscp {
    Dscp::new(bits).unwrap()
}

/// What a socket says of itself, but for the buffers.
#[derive(Debug, PartialEq)]
struct Settings {
    nodelay: bool,
    dscp: Dscp,
    keep_alive: Option<KeepAlive>,
    user_timeout: Option<Duration>,
}

impl Settings {
    fn of(socket: &TcpSocket) -> Self {
        Self {
            nodelay: socket.nodelay().unwrap(),
            dscp: socket.dscp().unwrap(),
            keep_alive: socket.keep_alive().unwrap(),
            user_timeout: socket.user_timeout().unwrap(),
        }
    }

    fn default() -> Self {
        Self {
            nodelay: false,
            dscp: Dscp::default(),
            keep_alive: None,
            user_timeout: None,
        }
    }

    /// Others than the defaults.
    fn chosen() -> Self {
        Self {
            nodelay: true,
            dscp: dscp(46),
            keep_alive: Some(KEEP_ALIVE),
            user_timeout: Some(USER_TIMEOUT),
        }
    }

    fn options(&self) -> TcpOptions {
        TcpOptions::new()
            .nodelay(self.nodelay)
            .dscp(self.dscp)
            .keep_alive(self.keep_alive)
            .user_timeout(self.user_timeout)
    }

    fn apply(&self, socket: &TcpSocket) {
        socket.set_nodelay(self.nodelay).unwrap();
        socket.set_dscp(self.dscp).unwrap();
        socket.set_keep_alive(self.keep_alive).unwrap();
        socket.set_user_timeout(self.user_timeout).unwrap();
    }
}

#[test]
fn options_are_kept_until_there_is_a_connection_and_are_its_own_then() {
    in_every_world(|world| {
        let listener = listen(world);
        let _accepted = accept_all(&listener);
        // Asked for when the socket is made, and later, before it connects.
        let made = world
            .server()
            .tcp_socket(&Settings::chosen().options())
            .unwrap();
        let set = socket(world);
        assert_eq!(Settings::default(), Settings::of(&set));
        Settings::chosen().apply(&set);
        for client in [made, set] {
            assert_eq!(Settings::chosen(), Settings::of(&client));
            let client = Peer::new(client);
            for _ in 0..2 {
                client.socket.connect(listener.local_addr()).unwrap();
                assert_eq!(Settings::chosen(), Settings::of(&client.socket));
                world.wait_until("it is connected", || {
                    client.socket.state() == socket_server::TcpState::Connected
                });
                assert_eq!(Settings::chosen(), Settings::of(&client.socket));
                // The next connection is made with them, too.
                client.socket.close();
                assert_eq!(Settings::chosen(), Settings::of(&client.socket));
            }
        }
    });
}

#[test]
fn options_of_a_connection_can_be_changed_and_changed_back() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        for peer in [&client, &server] {
            assert_eq!(Settings::default(), Settings::of(&peer.socket));
            Settings::chosen().apply(&peer.socket);
            assert_eq!(Settings::chosen(), Settings::of(&peer.socket));
            Settings::default().apply(&peer.socket);
            assert_eq!(Settings::default(), Settings::of(&peer.socket));
        }
        Settings::chosen().apply(&client.socket);
        client.socket.send(b"all the same").unwrap();
        world.wait_until("it arrives", || server.log.data() == b"all the same");
    });
}

#[test]
fn accepted_sockets_have_the_options_of_their_listener() {
    in_every_world(|world| {
        let accepted = Settings::chosen()
            .options()
            .half_open(true)
            .recv_buffer_bytes(30_000)
            .send_buffer_bytes(20_000);
        let (client, server) = pair_as(world, &TcpOptions::new(), &accepted, Peer::new);
        assert_eq!(Settings::chosen(), Settings::of(&server.socket));
        assert_eq!(Settings::default(), Settings::of(&client.socket));
        let (recv, send) = (
            server.socket.recv_buffer_bytes().unwrap(),
            server.socket.send_buffer_bytes().unwrap(),
        );
        if cfg!(target_os = "linux") || !world.is_physical() {
            assert_eq!((60_000, 40_000), (recv, send));
        }
        client.socket.finish().unwrap();
        world.wait_until("half of it goes on", || server.log.has(Event::Finished));
    });
}

#[test]
fn buffers_are_of_the_size_that_was_asked_for() {
    in_every_world(|world| {
        let options = TcpOptions::new()
            .recv_buffer_bytes(30_000)
            .send_buffer_bytes(20_000);
        let client = world.server().tcp_socket(&options).unwrap();
        assert_eq!(30_000, client.recv_buffer_bytes().unwrap());
        client.set_recv_buffer_bytes(40_000).unwrap();
        assert_eq!(40_000, client.recv_buffer_bytes().unwrap());
        let listener = listen(world);
        client.connect(listener.local_addr()).unwrap();
        if cfg!(target_os = "linux") || !world.is_physical() {
            assert_eq!(80_000, client.recv_buffer_bytes().unwrap());
            assert_eq!(40_000, client.send_buffer_bytes().unwrap());
        }
        // The operating system can change them later, the virtual network cannot, and says so.
        let changed = client.set_send_buffer_bytes(50_000);
        if world.is_physical() {
            changed.unwrap();
            assert!(client.send_buffer_bytes().unwrap() >= 50_000);
        } else {
            assert_eq!(ErrorKind::Unsupported, changed.unwrap_err().kind());
            assert_eq!(40_000, client.send_buffer_bytes().unwrap());
        }
    });
}

#[test]
fn listeners_that_agree_share_a_port_and_its_connections() {
    in_every_world(|world| {
        let share = |address| ListenOptions::new(address).share_port(true);
        let server = world.other_server();
        let one = server.listen_tcp(&share(world.other_address())).unwrap();
        let address = one.local_addr();
        let other = server.listen_tcp(&share(address)).unwrap();
        let in_use = server.listen_tcp(&ListenOptions::new(address)).unwrap_err();
        assert_eq!(ErrorKind::AddrInUse, in_use.kind());
        let (at_one, at_other) = (accept_all(&one), accept_all(&other));
        let clients: Vec<_> = (0..64).map(|_| connect(world, address)).collect();
        world.wait_until("all are accepted", || {
            at_one.borrow().len() + at_other.borrow().len() == clients.len()
        });
        // By chance alone, once in more than 10^18 times.
        assert!(!at_one.borrow().is_empty() && !at_other.borrow().is_empty());
        drop(one);
        at_one.borrow_mut().clear();
        at_other.borrow_mut().clear();
        let late: Vec<_> = (0..16).map(|_| connect(world, address)).collect();
        world.wait_until("the other takes all", || {
            at_other.borrow().len() == late.len()
        });
    });
}

#[test]
fn a_port_is_not_shared_by_default() {
    in_every_world(|world| {
        let first = listen(world);
        let options = ListenOptions::new(first.local_addr());
        for options in [options.clone(), options.clone().share_port(true)] {
            let in_use = world.other_server().listen_tcp(&options).unwrap_err();
            assert_eq!(ErrorKind::AddrInUse, in_use.kind());
        }
        let address = first.local_addr();
        drop(first);
        let next = world.other_server().listen_tcp(&options).unwrap();
        assert_eq!(address, next.local_addr());
    });
}

/// Cuts both hosts apart, for good.
fn cut(world: &World) {
    for host in world.hosts() {
        host.uplink().set_up(false);
    }
}

#[test]
fn a_connection_to_nobody_ends_after_the_user_timeout() {
    between_virtual_hosts(|world| {
        let options = TcpOptions::new().user_timeout(USER_TIMEOUT);
        let (client, server) = pair_as(world, &options, &TcpOptions::new(), Peer::new);
        cut(world);
        world.pass(Duration::from_secs(1000));
        assert!(!client.log.is_closed(), "nothing was to be confirmed");
        let start = world.now();
        client.socket.send(b"hello?").unwrap();
        world.wait_until("it gives up", || client.log.is_closed());
        assert_eq!(USER_TIMEOUT, world.now() - start);
        let timed_out = Event::Closed(Some(ErrorKind::TimedOut));
        assert_eq!(vec![Event::Connected, timed_out], client.log.events());
        assert!(server.log.events().is_empty());
    });
}

#[test]
fn keep_alive_finds_out_that_nobody_is_there_any_more() {
    between_virtual_hosts(|world| {
        // Set from the start, and on a connection that there is.
        for from_start in [true, false] {
            for host in world.hosts() {
                host.uplink().set_up(true);
            }
            let options = TcpOptions::new().keep_alive(from_start.then_some(KEEP_ALIVE));
            let (client, server) = pair_as(world, &options, &TcpOptions::new(), Peer::new);
            client.socket.set_keep_alive(Some(KEEP_ALIVE)).unwrap();
            let data = server.log.received();
            world.pass(Duration::from_secs(3600));
            assert_eq!(
                vec![Event::Connected],
                client.log.events(),
                "it is answered"
            );
            assert_eq!(data, server.log.received());
            cut(world);
            let start = world.now();
            world.wait_until("it gives up", || client.log.is_closed());
            let timed_out = Event::Closed(Some(ErrorKind::TimedOut));
            assert_eq!(vec![Event::Connected, timed_out], client.log.events());
            let took = world.now() - start;
            let (interval, count) = (KEEP_ALIVE.interval, KEEP_ALIVE.count);
            assert!(took <= KEEP_ALIVE.idle + interval * count, "{took:?}");
            assert!(took >= interval * count, "{took:?}");
            // Nobody has told the other end, which does not ask.
            assert!(server.log.events().is_empty());
        }
    });
}

#[test]
fn a_connection_outlives_a_black_out_that_is_shorter_than_its_patience() {
    between_virtual_hosts(|world| {
        let options = TcpOptions::new().user_timeout(Duration::from_secs(60));
        let (client, server) = pair_as(world, &options, &options, Peer::new);
        for host in world.hosts() {
            host.uplink()
                .black_out(Duration::ZERO, Duration::from_secs(20));
        }
        client.socket.send(b"patience").unwrap();
        world.pass(Duration::from_secs(19));
        assert_eq!(0, server.log.received());
        world.wait_until("it arrives", || server.log.data() == b"patience");
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}
