//! Ten thousand sockets that come and go: conformance item 40.

mod worlds;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use socket_server::{
    ListenHandler, ListenOptions, MaxWait, ProcessIo, RecvBatch, TcpHandler, TcpListener,
    TcpOptions, TcpSocket, UdpOptions, UdpSocket,
};
use worlds::udp::OnReadable;
use worlds::{Family, Kind, Place, World};

/// Ten thousand, unless the environment says that every instruction takes long.
static TOTAL: LazyLock<usize> = LazyLock::new(|| {
    let given = std::env::var("SOCKET_COUNT").ok();
    given.map_or(10_000, |count| {
        count.parse().expect("SOCKET_COUNT is a number")
    })
});

/// Descriptors are counted for the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[cfg(not(target_os = "linux"))]
fn open_descriptors() -> usize {
    0
}

/// How many sockets may be open at once: all, if the system lets us have so many.
#[cfg(target_os = "linux")]
fn at_once() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it may not be raised, it stays, and there are more waves.
    let _ = setrlimit(Resource::Nofile, raised);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    most.saturating_sub(open_descriptors() + 100).min(*TOTAL)
}

#[cfg(not(target_os = "linux"))]
fn at_once() -> usize {
    200
}

/// Sockets that know what is meant for them.
struct Crowd<'a> {
    world: &'a World,
    place: Place,
    sender: UdpSocket,
    batch: Rc<RefCell<RecvBatch>>,
    received: Rc<Cell<usize>>,
    /// How often a handler was called for nothing.
    strays: Rc<Cell<usize>>,
    last: Cell<u64>,
}

struct Member {
    number: u64,
    socket: UdpSocket,
    /// Nothing has been sent to it yet.
    is_quiet: Rc<Cell<bool>>,
}

impl<'a> Crowd<'a> {
    fn new(world: &'a World) -> Self {
        let mut place = world.place();
        // Where nobody sends to who has meant those that had the ports before: what they fill, is too
        // small for that. On Linux all of 127.0.0.0/8 is this machine.
        if cfg!(target_os = "linux") && place.ip == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let mut random = world.random();
            let mut byte = || 1 + random.below(250) as u8;
            place.ip = Ipv4Addr::new(127, byte(), byte(), byte()).into();
        }
        Self {
            place,
            // On a host of its own, where there is one.
            sender: world.place().bind(),
            world,
            batch: Rc::default(),
            received: Rc::default(),
            strays: Rc::default(),
            last: Cell::new(0),
        }
    }

    /// A socket that counts datagrams with its own number. One with another was on its way to
    /// somebody who had the port before.
    fn open(&self) -> Member {
        let address = SocketAddr::new(self.place.ip, 0);
        let options = UdpOptions::new(address).recv_buffer_bytes(5000);
        let socket = self.place.server.bind_udp(&options).unwrap();
        let number = self.last.get() + 1;
        self.last.set(number);
        let is_quiet = Rc::new(Cell::new(true));
        let (batch, received) = (self.batch.clone(), self.received.clone());
        let (strays, was_quiet) = (self.strays.clone(), is_quiet.clone());
        socket.set_handler(OnReadable(move |socket: &UdpSocket| {
            let (mut batch, mut has_read) = (batch.borrow_mut(), false);
            while socket.recv(&mut batch).is_ok() {
                has_read = true;
                let own = |data: &[u8]| data == number.to_be_bytes();
                let own = batch.iter().filter(|datagram| own(datagram.data)).count();
                received.set(received.get() + own);
            }
            if was_quiet.get() && !has_read {
                strays.set(strays.get() + 1);
            }
        }));
        Member {
            number,
            socket,
            is_quiet,
        }
    }

    fn send(&self, member: &Member) {
        member.is_quiet.set(false);
        let data = member.number.to_be_bytes();
        self.sender
            .send_to(member.socket.local_addr(), &data)
            .unwrap();
    }

    fn wait_for(&self, count: usize) {
        let received = &self.received;
        self.world
            .wait_until("all get what is theirs", || received.get() >= count);
        self.world.settle_soon(|| false);
        assert_eq!((count, 0), (received.replace(0), self.strays.get()));
    }
}

/// Opens so many sockets, and replaces every third of them again and again while all are sent to.
fn come_and_go(world: &World, count: usize) {
    let crowd = Crowd::new(world);
    let mut members: Vec<_> = (0..count).map(|_| crowd.open()).collect();
    members.iter().for_each(|member| crowd.send(member));
    crowd.wait_for(count);
    for round in 0..3 {
        members.iter().for_each(|member| crowd.send(member));
        if !world.is_physical() {
            // There, what has not arrived is for whoever has the port when it does.
            world.network().run_due();
        } else {
            // That the sockets are ready, is known, and nobody has been called.
            let before = crowd.received.get();
            crowd
                .place
                .server
                .wait(MaxWait::Poll, ProcessIo::No)
                .unwrap();
            assert_eq!(before, crowd.received.get());
        }
        // Closed with their datagram unread; others take their slots and descriptors.
        let replaced = members.iter_mut().skip(round).step_by(3);
        let replaced = replaced.map(|member| *member = crowd.open()).count();
        // Which are quiet, whatever was known of those that were there before.
        crowd.wait_for(count - replaced);
        members.iter().for_each(|member| crowd.send(member));
        crowd.wait_for(count);
    }
    let addresses = members.iter().map(|member| member.socket.local_addr());
    let addresses: Vec<_> = addresses.collect();
    drop(members);
    if !world.is_physical() {
        // Nothing is left that is in the way.
        let again: Vec<_> = addresses
            .iter()
            .map(|at| crowd.place.bind_at(*at))
            .collect();
        assert_eq!(count, again.len());
    }
}

#[test]
fn item_40_ten_thousand_udp_sockets_come_and_go_on_the_physical_server() {
    let _alone = alone();
    let (before, at_once) = (open_descriptors(), at_once());
    let mut opened = 0;
    while opened < *TOTAL {
        come_and_go(&World::new(Kind::Physical, Family::V4), at_once);
        opened += at_once * 2;
    }
    come_and_go(&World::new(Kind::Physical, Family::V6), at_once.min(500));
    assert_eq!(before, open_descriptors(), "descriptors leaked");
}

#[test]
fn item_40_ten_thousand_udp_sockets_come_and_go_on_a_virtual_host() {
    let _alone = alone();
    // More than half of the ports that it gives out.
    come_and_go(&World::new(Kind::Hosts, Family::V4), *TOTAL);
    come_and_go(&World::new(Kind::Hosts, Family::V6), 500);
}

/// Sends its number when it is connected, and expects it back.
struct Caller {
    number: u64,
    answers: Rc<Cell<usize>>,
}

impl TcpHandler for Caller {
    fn on_connected(&mut self, socket: &TcpSocket) {
        assert_eq!(8, socket.send(&self.number.to_be_bytes()).unwrap());
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        let mut buffer = [0; 100];
        while let Ok(received @ 1..) = socket.recv(&mut buffer) {
            assert_eq!(self.number.to_be_bytes(), buffer[..received]);
            self.answers.set(self.answers.get() + 1);
        }
    }
}

/// The connections that were accepted, by the address of their peer.
type Accepted = Rc<RefCell<HashMap<SocketAddr, TcpSocket>>>;

struct Echo(Accepted);

fn echo(socket: &TcpSocket) {
    let mut buffer = [0; 100];
    while let Ok(received @ 1..) = socket.recv(&mut buffer) {
        // A caller that has gone meanwhile is none of its business.
        let _ = socket.send(&buffer[..received]);
    }
}

impl TcpHandler for Echo {
    fn on_readable(&mut self, socket: &TcpSocket) {
        echo(socket);
    }

    fn on_closed(&mut self, socket: &TcpSocket, _error: Option<std::io::Error>) {
        if let Some(peer) = socket.peer_addr() {
            self.0.borrow_mut().remove(&peer);
        }
    }
}

struct EchoAll(Accepted);

impl ListenHandler for EchoAll {
    fn on_incoming(&mut self, listener: &TcpListener) {
        while let Ok(socket) = listener.accept() {
            socket.set_handler(Echo(self.0.clone()));
            echo(&socket);
            // One that has gone already has no address, and nobody to keep it for.
            if let Some(peer) = socket.peer_addr() {
                self.0.borrow_mut().insert(peer, socket);
            }
        }
    }
}

/// Makes so many connections, of which a third is given up under way and made again.
fn call_and_hang_up(world: &World, count: usize) {
    let (clients, place) = (world.place(), world.place());
    let options = ListenOptions::new(SocketAddr::new(place.ip, 0)).backlog(4096);
    let listener = place.server.listen_tcp(&options).unwrap();
    let accepted = Accepted::default();
    listener.set_handler(EchoAll(accepted.clone()));
    let (answers, mut last) = (Rc::new(Cell::new(0)), 0_u64);
    let mut call = || {
        last += 1;
        let socket = clients.server.tcp_socket(&TcpOptions::new()).unwrap();
        socket.set_handler(Caller {
            number: last,
            answers: answers.clone(),
        });
        socket.connect(listener.local_addr()).unwrap();
        socket
    };
    let mut callers: Vec<_> = (0..count).map(|_| call()).collect();
    let given_up = callers.iter_mut().step_by(3);
    for caller in given_up {
        *caller = call();
    }
    world.wait_until("all are answered", || answers.get() >= count);
    // What was given up may have been answered before; nobody else's answer came to anybody.
    drop(callers);
    world.wait_until("all have hung up", || accepted.borrow().is_empty());
}

#[test]
fn item_40_ten_thousand_tcp_sockets_come_and_go_on_the_physical_server() {
    let _alone = alone();
    let (before, at_once) = (open_descriptors(), at_once());
    // Each has two ends; not all at once, because ports that were in use rest for a while.
    let count = (at_once / 3).min(1000);
    let mut opened = 0;
    while opened < *TOTAL {
        call_and_hang_up(&World::new(Kind::Physical, Family::V4), count);
        opened += count * 2;
    }
    call_and_hang_up(&World::new(Kind::Physical, Family::V6), count.min(200));
    assert_eq!(before, open_descriptors(), "descriptors leaked");
}

#[test]
fn item_40_ten_thousand_tcp_sockets_come_and_go_on_virtual_hosts() {
    let _alone = alone();
    call_and_hang_up(&World::new(Kind::Hosts, Family::V4), *TOTAL / 2);
    call_and_hang_up(&World::new(Kind::Hosts, Family::V6), 200);
}
