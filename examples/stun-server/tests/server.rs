//! The program, run as its users run it, and coturn's client.

#[path = "../../udp-echo/tests/support/mod.rs"]
mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stun-server");
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const REQUEST: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes";

/// Finds the program, has it installed, or fails with the command that would.
fn turnutils_stunclient() -> PathBuf {
    let provide = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../echo-sfu/tests/support/provide-tool"
    );
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new("bash")
        .args([provide, "turnutils"])
        .env("CARGO_TARGET_DIR", scratch.parent().unwrap())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no turnutils: {complaint}");
    let said = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(said.lines().last().expect("the path of the tool"))
}

/// What coturn's client makes of the server's answer.
fn reflexive_address(server: SocketAddr) -> Option<SocketAddr> {
    let output = Command::new(turnutils_stunclient())
        .args(["-p", &server.port().to_string(), &server.ip().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let (_, after) = said.split_once("UDP reflexive addr: ")?;
    // It writes IPv6 addresses without brackets.
    let (ip, port) = after.lines().next()?.trim().rsplit_once(':')?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    // A connected socket hears nobody but whom it asked.
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket
}

/// A process that is stopped and goes on finds its reads interrupted, and those with a limit are not
/// taken up again by the kernel.
#[track_caller]
fn recv(client: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match client.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.unwrap(),
        }
    }
}

#[test]
fn coturn_learns_its_address_over_ipv4_and_ipv6() {
    for (listen, ips) in [
        ("0.0.0.0:0", &[V4][..]),
        ("[::1]:0", &[V6]),
        ("[::]:0", &[V4, V6]),
    ] {
        let server = Server::start(listen);
        for ip in ips {
            let address = reflexive_address(server.at(*ip));
            let address = address.unwrap_or_else(|| panic!("{listen}, {ip}: no address"));
            assert_eq!(*ip, address.ip());
            assert_ne!(0, address.port());
        }
    }
}

#[test]
fn a_client_learns_the_very_port_it_has() {
    let server = Server::start("[::]:0");
    for ip in [V4, V6] {
        let client = client(server.at(ip));
        client.send(&REQUEST).unwrap();
        let mut answer = [0; 200];
        let length = recv(&client, &mut answer);
        assert!(length <= 60, "{length}");
        // After the header and the attribute's start: family, then the port, disguised.
        let family = if ip.is_ipv4() { 1 } else { 2 };
        assert_eq!([0x00, 0x20, family], [answer[20], answer[21], answer[25]]);
        let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
        assert_eq!(client.local_addr().unwrap().port(), port);
    }
}

#[test]
fn what_is_malformed_is_passed_over_in_silence() {
    let server = Server::start("127.0.0.1:0");
    let client = client(server.at(V4));
    let mut long = REQUEST.to_vec();
    long.extend([0xff; 1_400]);
    let mut indication = REQUEST;
    indication[1] = 0x11;
    let mut no_cookie = REQUEST;
    no_cookie[4] = 0;
    let mut missing_rest = REQUEST;
    missing_rest[3] = 4;
    let bad: [&[u8]; 8] = [
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
        &REQUEST[..19],
        &long,
        &indication,
        &no_cookie,
        &missing_rest,
    ];
    for datagram in bad {
        client.send(datagram).unwrap();
    }
    // They are read in order: an answer to any of them would come before this one's.
    let mut good = REQUEST;
    good[19] = b'!';
    client.send(&good).unwrap();
    let mut answer = [0; 200];
    recv(&client, &mut answer);
    assert_eq!(good[4..], answer[4..20]);
}

/// On Linux all of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    let server = Server::start("[::]:0");
    let client = client(server.at(Ipv4Addr::new(127, 0, 0, 77).into()));
    client.send(&REQUEST).unwrap();
    assert_ne!(0, recv(&client, &mut [0; 200]));
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
