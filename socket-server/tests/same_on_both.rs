//! Whatever is done to sockets, the virtual server does what the operating system does.
//!
//! Random operations are done on one virtual host, and for real over loopback, and what comes of
//! them is compared after each. `SOCKET_SEED` makes one run again, `SOCKET_CASES` makes it longer.

mod net_operations;
mod worlds;

use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener as PlainListener, UdpSocket as Plain};

use net_operations::{Operation, PORTS, Port, SLOTS, operation};
use socket_server::{
    Envelope, ListenOptions, RecvBatch, SendBatch, TcpListener, TcpOptions, UdpOptions, UdpSocket,
};
use worlds::random::Random;
use worlds::tcp::{accept_all, follow};
use worlds::{Family, Kind, Place, World, seed};

const OPERATIONS: usize = 40;
/// Of which a datagram is told apart from what strangers on this machine may send.
const TAG: &[u8] = b"same on both";

/// What an operation has come to, in words that are the same for both servers.
type Outcome = String;

/// The sockets of one of the servers.
struct Side {
    world: World,
    place: Place,
    ports: [u16; PORTS],
    udp: [Option<UdpSocket>; SLOTS],
    listeners: [Option<TcpListener>; SLOTS],
    batch: RecvBatch,
}

impl Side {
    fn new(world: World, ports: [u16; PORTS]) -> Self {
        Self {
            place: world.place(),
            world,
            ports,
            udp: Default::default(),
            listeners: Default::default(),
            batch: RecvBatch::new(),
        }
    }

    fn port(&self, port: Port, is_tcp: bool) -> u16 {
        match port {
            Port::Zero => 0,
            Port::Chosen(n) => self.ports[n],
            Port::Of(slot) if is_tcp => {
                let listener = self.listeners[slot].as_ref();
                listener.map_or(self.ports[0], |listener| listener.local_addr().port())
            }
            Port::Of(slot) => {
                let socket = self.udp[slot].as_ref();
                socket.map_or(self.ports[0], |socket| socket.local_addr().port())
            }
        }
    }

    /// All that are bound to one of the ports share it, and no others do. Of a mixture, Linux asks
    /// only whether the last one that was bound there shares it: an accident that is not imitated.
    fn is_shared(&self, port: u16) -> bool {
        port == self.ports[0]
    }

    /// An address to be bound to. A port that the system has given out may be in use by anybody at
    /// the other addresses, and is not asked for. Of one address in both its forms, which of the
    /// sockets that share a port is told apart from the others by Linux only by accident, too.
    fn address(&self, ip: &str, port: u16) -> SocketAddr {
        let (ip, is_shared) = (parse(ip), self.is_shared(port));
        let is_given_out = port != 0 && !self.ports.contains(&port);
        let port = if is_given_out { self.ports[1] } else { port };
        SocketAddr::new(if is_shared { ip.to_canonical() } else { ip }, port)
    }

    /// A port by what it is in the case, and not by its number.
    fn name(&self, port: u16) -> String {
        if let Some(n) = self.ports.iter().position(|own| *own == port) {
            return format!("chosen {n}");
        }
        let has = |socket: &Option<UdpSocket>| {
            socket
                .as_ref()
                .is_some_and(|socket| socket.local_addr().port() == port)
        };
        match self.udp.iter().position(has) {
            Some(slot) => format!("port of {slot}"),
            None => "some port".to_owned(),
        }
    }

    fn named(&self, address: SocketAddr) -> String {
        format!("{} {}", address.ip(), self.name(address.port()))
    }

    fn run(&mut self, operation: Operation) -> Outcome {
        let mut out = String::new();
        self.do_it(operation, &mut out).unwrap();
        out
    }

    fn do_it(&mut self, operation: Operation, out: &mut String) -> fmt::Result {
        match operation {
            Operation::Bind {
                slot,
                ip,
                port,
                only_v6,
            } => {
                let address = self.address(ip, self.port(port, false));
                let options = UdpOptions::new(address).only_v6(only_v6);
                let options = options.share_port(self.is_shared(address.port()));
                match self.place.server.bind_udp(&options) {
                    Ok(socket) => {
                        let local = socket.local_addr();
                        self.udp[slot] = Some(socket);
                        write!(out, "bound to {}", self.named(local))
                    }
                    Err(error) => write!(out, "{:?}", error.kind()),
                }
            }
            Operation::Drop { slot } => {
                self.udp[slot] = None;
                Ok(())
            }
            Operation::Send { slot, .. } if self.udp[slot].is_none() => write!(out, "no socket"),
            Operation::Send {
                slot,
                ip,
                port,
                size,
                count,
                from_ip,
                ecn,
                dscp,
            } => {
                let to = SocketAddr::new(parse(ip), self.port(port, false));
                let mut to = Envelope::to(to).ecn(ecn).dscp(dscp);
                if let Some(from_ip) = from_ip {
                    to = to.from_ip(parse(from_ip));
                }
                let mut data = vec![0; size];
                let tagged = TAG.len().min(size);
                data[..tagged].copy_from_slice(&TAG[..tagged]);
                let socket = self.udp[slot].as_ref().unwrap();
                let Some(count) = count else {
                    let sent = socket.send_to(to, &data).map_err(|error| error.kind());
                    return write!(out, "{sent:?}");
                };
                let mut batch = SendBatch::new();
                for n in 0..count {
                    // The last is shorter, as the last of a run may be.
                    let len = if n + 1 == count {
                        size.min(TAG.len())
                    } else {
                        size
                    };
                    batch.push(to, &data[..len]).unwrap();
                }
                let report = socket.send_batch(&mut batch);
                let error = report.last_error.map(|error| error.kind());
                write!(
                    out,
                    "{} sent, {} bytes, {} failed, {error:?}",
                    report.datagrams, report.bytes, report.failed
                )
            }
            Operation::Read { slot, buffer } => self.read(slot, buffer, out),
            Operation::Set {
                slot,
                dont_fragment,
                ecn,
                dscp,
            } => {
                let Some(socket) = &self.udp[slot] else {
                    return Ok(());
                };
                socket.set_ecn(ecn);
                let set = [
                    socket.set_dscp(dscp),
                    socket.set_dont_fragment(dont_fragment),
                ];
                write!(
                    out,
                    "{:?}",
                    set.map(|set| set.map_err(|error| error.kind()))
                )
            }
            Operation::Options { slot } => {
                let Some(socket) = &self.udp[slot] else {
                    return Ok(());
                };
                write!(
                    out,
                    "{:?} {:?} {:?} {:?}",
                    socket.only_v6().ok(),
                    socket.dont_fragment().ok(),
                    socket.ecn(),
                    socket.dscp()
                )
            }
            Operation::Listen {
                slot,
                ip,
                port,
                only_v6,
            } => {
                let address = self.address(ip, self.port(port, true));
                let options = ListenOptions::new(address);
                let options = options.only_v6(only_v6);
                let options = options.share_port(self.is_shared(address.port()));
                match self.place.server.listen_tcp(&options) {
                    Ok(listener) => {
                        write!(out, "listens at {}", listener.local_addr().ip())?;
                        self.listeners[slot] = Some(listener);
                        Ok(())
                    }
                    Err(error) => write!(out, "{:?}", error.kind()),
                }
            }
            Operation::Hush { slot } => {
                self.listeners[slot] = None;
                Ok(())
            }
            Operation::Connect { ip, slot, from_ip } => self.connect(ip, slot, from_ip, out),
        }
    }

    /// Reads everything that has come to a socket.
    fn read(&mut self, slot: usize, buffer: Option<usize>, out: &mut String) -> fmt::Result {
        let Some(socket) = &self.udp[slot] else {
            return write!(out, "no socket");
        };
        if !self.is_shared(socket.local_addr().port()) {
            return self.read_one(slot, buffer, out);
        }
        // Which of those at one address a flow belongs to, is for the server to say.
        let mut lines = Vec::new();
        for slot in 0..SLOTS {
            let local = self.udp[slot].as_ref().map(UdpSocket::local_addr);
            if let Some(local) = local.filter(|local| self.is_shared(local.port())) {
                let mut read = String::new();
                self.read_one(slot, buffer, &mut read)?;
                lines.extend(
                    read.lines()
                        .map(|line| format!("\n    {}: {line}", local.ip())),
                );
            }
        }
        lines.sort();
        out.write_str(&lines.concat())
    }

    fn read_one(&mut self, slot: usize, buffer: Option<usize>, out: &mut String) -> fmt::Result {
        let Some(socket) = &self.udp[slot] else {
            return Ok(());
        };
        loop {
            let mut seen = Vec::new();
            let read = match buffer {
                None => socket.recv(&mut self.batch).map(|_| {
                    seen.extend(self.batch.iter().map(|got| {
                        let marks = format!("{:?} {:?}", got.ecn, got.dscp);
                        let len = got.data.len();
                        (len, len, got.source, got.local_ip, marks, is_ours(got.data))
                    }));
                }),
                Some(size) => {
                    let mut buffer = vec![0; size];
                    socket.recv_from(&mut buffer).map(|got| {
                        let marks = format!("{:?}", got.ecn);
                        let is_ours = is_ours(&buffer[..got.len]);
                        let (len, all) = (got.len, got.datagram_len);
                        seen.push((len, all, got.source, got.local_ip, marks, is_ours));
                    })
                }
            };
            for (len, all, source, local_ip, marks, is_ours) in seen {
                if is_ours {
                    let source = self.named(source);
                    write!(
                        out,
                        "\n    {len} of {all} from {source} at {local_ip:?}, {marks}"
                    )?;
                }
            }
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => write!(out, "\n    {:?}", error.kind())?,
            }
        }
    }

    /// Connects, sends something there and back, and closes.
    fn connect(
        &self,
        ip: &str,
        slot: usize,
        from_ip: Option<&str>,
        out: &mut String,
    ) -> fmt::Result {
        let Some(port) = self.listeners[slot]
            .as_ref()
            .map(|own| own.local_addr().port())
        else {
            return write!(out, "no listener");
        };
        let accepted: Vec<_> = self
            .listeners
            .iter()
            .map(|listener| listener.as_ref().map(accept_all))
            .collect();
        let mut options = TcpOptions::new();
        if let Some(from_ip) = from_ip {
            options = options.local(SocketAddr::new(parse(from_ip), 0));
        }
        let socket = self.place.server.tcp_socket(&options).unwrap();
        let told = follow(&socket);
        if let Err(error) = socket.connect(SocketAddr::new(parse(ip), port)) {
            return write!(out, "{:?} at once", error.kind());
        }
        let come = || {
            accepted
                .iter()
                .flatten()
                .any(|come| !come.borrow().is_empty())
        };
        self.world.wait_until("it is connected, or not", || {
            (told.is_connected() && come()) || told.is_closed()
        });
        let (connected, closed) = (told.is_connected(), told.closed());
        write!(out, "connected: {connected}, closed: {closed:?}")?;
        for (n, come) in accepted.iter().enumerate() {
            let Some(peer) = come.as_ref().and_then(|come| come.borrow_mut().pop()) else {
                continue;
            };
            // Those that share a port are one; which of them it is, is for the server to say.
            let local = self.listeners[n].as_ref().map(|own| own.local_addr().ip());
            let ends = [socket.local_addr().ok(), socket.peer_addr()];
            let peers = [peer.socket.local_addr().ok(), peer.socket.peer_addr()];
            let ips = [ends, peers].map(|ends| ends.map(|end| end.map(|end| end.ip())));
            write!(out, ", by {local:?}: {ips:?}")?;
            let heard = &peer.log;
            socket.send(b"question").unwrap();
            self.world
                .wait_until("it arrives", || heard.data() == b"question");
            peer.socket.send(b"answer").unwrap();
            self.world
                .wait_until("it is answered", || told.data() == b"answer");
            socket.close();
            self.world.wait_until("it is closed", || heard.is_closed());
            write!(out, ", ends with {:?}", heard.closed())?;
        }
        Ok(())
    }
}

fn parse(ip: &str) -> IpAddr {
    ip.parse().unwrap()
}

/// Whether this test has sent it. Nothing says so of what is too short, or cut off.
fn is_ours(data: &[u8]) -> bool {
    let tagged = TAG.len().min(data.len());
    data[..tagged] == TAG[..tagged]
}

/// Ports that are free, and that the system gives to nobody by itself.
fn free_ports(random: &mut Random) -> [u16; PORTS] {
    let is_free = |port: u16| {
        ["0.0.0.0", "::"].into_iter().all(|ip| {
            let address = SocketAddr::new(parse(ip), port);
            Plain::bind(address).is_ok() && PlainListener::bind(address).is_ok()
        })
    };
    let mut ports = [0; PORTS];
    for n in 0..PORTS {
        ports[n] = loop {
            let port = 10_000 + random.below(20_000) as u16;
            if !ports.contains(&port) && is_free(port) {
                break port;
            }
        };
    }
    ports
}

/// Does the same on both; says what was different, and what led to it. For real, what was sent has
/// come when the call returns, or with patience, when nothing has come for a while.
fn difference(seed: u64, is_patient: bool) -> Option<String> {
    let mut random = Random::new(seed);
    let operations = (0..OPERATIONS).map(|n| operation(&mut random, n < SLOTS));
    let operations: Vec<_> = operations.collect();
    let ports = free_ports(&mut Random::new(
        random.next() ^ u64::from(std::process::id()) << 20,
    ));
    let mut imitated = Side::new(World::with_seed(Kind::Hosts, Family::V4, seed), ports);
    let mut real = Side::new(World::new(Kind::Physical, Family::V4), ports);
    let mut history = String::new();
    for operation in operations {
        // How much a receive buffer holds, is not the same to the byte, and who of a group has got
        // something that is closed now, the server's choice: so there is nothing long, and nothing in
        // a group, that waits.
        let is_to_be_read = match operation {
            Operation::Send { size: 2000.., .. } => true,
            Operation::Send { port, .. } => real.is_shared(real.port(port, false)),
            _ => false,
        };
        let read_all = (0..SLOTS).map(|slot| Operation::Read { slot, buffer: None });
        let read_all = read_all.filter(|_| is_to_be_read);
        for operation in std::iter::once(operation).chain(read_all) {
            let outcomes = [real.run(operation), imitated.run(operation)];
            imitated.world.settle();
            if is_patient {
                real.world.settle();
            }
            let _ = writeln!(history, "{operation:?}\n  {}", outcomes[0]);
            if outcomes[0] != outcomes[1] {
                let _ = writeln!(history, "but virtual:\n  {}", outcomes[1]);
                return Some(history);
            }
        }
    }
    None
}

#[test]
fn whatever_is_done_to_sockets_the_virtual_server_does_what_the_operating_system_does() {
    let seed = seed();
    let cases = std::env::var("SOCKET_CASES").ok();
    let cases = cases.map_or(300, |cases| {
        cases.parse().expect("SOCKET_CASES is a number")
    });
    for seed in seed..seed + cases {
        // Somebody else on this machine may have been in the way, or the machine slow: what is different
        // because of the server, is so again, at other ports and however long one waits.
        if difference(seed, false).is_none() {
            continue;
        }
        let again: Option<Vec<_>> = (0..3).map(|_| difference(seed, true)).collect();
        if let Some([history, ..]) = again.as_deref() {
            panic!("SOCKET_SEED={seed}\n{history}");
        }
    }
}
