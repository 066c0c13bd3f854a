//! The program, run as its users run it, and clients that know nothing of this workspace.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket_server::{
    Ecn, Envelope, MaxWait, PhysicalSocketServer, ProcessIo, RecvBatch, SendBatch, SocketServer,
    UdpHandler, UdpOptions,
};
use support::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_udp-echo");
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// The longest that IPv4 carries, and IPv6.
const LONGEST_V4: usize = 65_507;
const LONGEST_V6: usize = 65_527;
const CLIENTS: u8 = 10;
/// What has not come about after so long does not come at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Even on loopback a datagram is lost when a buffer is full.
const LOST_AFTER: Duration = Duration::from_millis(500);

fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    // A connected socket hears nobody but whom it asked.
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(LOST_AFTER)).unwrap();
    socket
}

/// Sends until the same comes back; what comes twice is passed over.
#[track_caller]
fn echo(socket: &UdpSocket, data: &[u8], buffer: &mut [u8]) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        socket.send(data).unwrap();
        loop {
            match socket.recv(buffer) {
                Ok(length) if buffer[..length] == *data => return,
                Ok(_) => {}
                // Or the process was stopped, and goes on.
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => panic!("{} bytes: {error}", data.len()),
            }
        }
    }
    panic!("{} bytes did not come back", data.len());
}

fn sizes(longest: usize) -> impl Iterator<Item = usize> {
    let small = 0..=64;
    let around_one_packet = 1_180..=1_210;
    let fragments = (1_400..longest).step_by(4_111);
    let longest = longest - 3..=longest;
    small
        .chain(around_one_packet)
        .chain(fragments)
        .chain(longest)
}

#[track_caller]
fn ten_clients_of_every_size(server: SocketAddr, longest: usize) {
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let socket = client(server);
                let mut buffer = vec![0; 1 << 16];
                for size in sizes(longest) {
                    // No two echoes of one client are alike.
                    let data: Vec<u8> = (0..size).map(|at| (at + size) as u8 ^ number).collect();
                    echo(&socket, &data, &mut buffer);
                }
            });
        }
    });
}

#[test]
fn ten_clients_get_back_what_they_send_of_every_size_over_ipv4() {
    let server = Server::start("0.0.0.0:0");
    ten_clients_of_every_size(server.at(V4), LONGEST_V4);
}

#[test]
fn ten_clients_get_back_what_they_send_of_every_size_over_ipv6() {
    let server = Server::start("[::1]:0");
    ten_clients_of_every_size(server.at(V6), LONGEST_V6);
}

#[test]
fn one_server_takes_both_families() {
    let server = Server::start("[::]:0");
    for ip in [V4, V6] {
        echo(&client(server.at(ip)), b"hello", &mut [0; 100]);
    }
}

/// On Linux all of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let server = Server::start(listen);
        for last in [1, 2, 77] {
            let asked = server.at(Ipv4Addr::new(127, 0, 0, last).into());
            echo(&client(asked), &[last], &mut [0; 100]);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_mark_of_congestion_comes_back() {
    struct Nothing;
    impl UdpHandler for Nothing {
        fn on_readable(&mut self, _socket: &socket_server::UdpSocket) {}
    }

    let server = Server::start("[::]:0");
    for ip in [V4, V6] {
        let io = PhysicalSocketServer::new().unwrap();
        let socket = io.bind_udp(&UdpOptions::new((ip, 0).into())).unwrap();
        socket.set_handler(Nothing);
        for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
            let mut leaving = SendBatch::new();
            leaving
                .push(Envelope::to(server.at(ip)).ecn(ecn), b"marked")
                .unwrap();
            assert_eq!(1, socket.send_batch(&mut leaving).datagrams);
            let mut arrived = RecvBatch::new();
            let deadline = Instant::now() + PATIENCE;
            while socket.recv(&mut arrived).is_err() {
                assert!(Instant::now() < deadline, "{ecn:?} did not come back");
                io.wait(MaxWait::Until(deadline), ProcessIo::Yes).unwrap();
            }
            let marks: Vec<_> = arrived.iter().map(|datagram| datagram.ecn).collect();
            assert_eq!(vec![ecn], marks);
        }
    }
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let taken = Server::start("127.0.0.1:0");
    let address = taken.at(V4).to_string();
    let output = Server::command(&address).output().unwrap();
    assert_eq!(Some(1), output.status.code());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains(&address), "{complaint}");
}

#[test]
fn values_that_make_no_sense_are_usage_errors() {
    let output = Server::command("nowhere").output().unwrap();
    assert_eq!(Some(2), output.status.code());
}
