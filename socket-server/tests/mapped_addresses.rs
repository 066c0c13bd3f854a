//! Who reaches whom between IPv4, IPv6, and IPv4 in its IPv6-mapped form: conformance item 38.
//!
//! The operating system's rules are the right ones: whatever it does over loopback, a virtual host
//! has to do.

mod worlds;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use socket_server::{Envelope, ListenOptions, TcpOptions, UdpOptions, UdpSocket};
use worlds::tcp::{accept_all, follow};
use worlds::udp::collect;
use worlds::{Family, Kind, Place, World};

/// Where sockets are bound, and whether they keep out of IPv4.
const BOUND: [(&str, bool); 10] = [
    ("127.0.0.1", false),
    ("127.0.0.2", false),
    ("0.0.0.0", false),
    ("::1", false),
    ("::1", true),
    ("::", false),
    ("::", true),
    ("::ffff:127.0.0.1", false),
    ("::ffff:127.0.0.1", true),
    ("::ffff:0.0.0.0", false),
];
/// Where they send to.
const DESTINATIONS: [&str; 8] = [
    "127.0.0.1",
    "127.0.0.2",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:127.0.0.2",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs it on both servers, and compares what it says, line by line. What others on this machine do
/// may be in the way for real, and a machine that
/// is slow: what is different, has to be so again, however long one waits.
#[track_caller]
fn assert_same_on_both(test: impl Fn(&World) -> Vec<String>) {
    let imitated = test(&World::new(Kind::Hosts, Family::V4));
    let differences = |is_patient: bool| {
        let world = World::new(Kind::Physical, Family::V4);
        if is_patient {
            world.be_patient();
        }
        let real = test(&world);
        assert_eq!(real.len(), imitated.len());
        let lines = real.iter().zip(&imitated);
        let different = lines.filter(|(real, imitated)| real != imitated);
        let said = different.map(|(real, imitated)| format!("{real}\n  virtual: {imitated}\n"));
        said.collect::<String>()
    };
    if !differences(false).is_empty() {
        let different = differences(true);
        assert!(different.is_empty(), "\n{different}");
    }
}

/// A socket of this server, or what is said instead.
fn open(place: &Place, (at, only_v6): (&str, bool)) -> Result<UdpSocket, ErrorKind> {
    let options = UdpOptions::new(SocketAddr::new(ip(at), 0)).only_v6(only_v6);
    let opened = place.server.bind_udp(&options);
    opened.map_err(|error| error.kind())
}

#[test]
fn item_38_datagrams_between_the_families_go_the_operating_systems_way() {
    assert_same_on_both(|world| {
        let (mut lines, place) = (Vec::new(), world.place());
        for receiver_at in BOUND {
            let receiver = match open(&place, receiver_at) {
                Ok(receiver) => receiver,
                Err(error) => {
                    lines.push(format!("bind to {receiver_at:?}: {error:?}"));
                    continue;
                }
            };
            assert_eq!(ip(receiver_at.0), receiver.local_addr().ip());
            let inbox = collect(&receiver);
            for sender_at in BOUND {
                let Ok(sender) = open(&place, sender_at) else {
                    continue;
                };
                for destination in DESTINATIONS {
                    let to = SocketAddr::new(ip(destination), receiver.local_addr().port());
                    let sent = sender.send_to(to, b"x").map_err(|error| error.kind());
                    world.settle_soon(|| !inbox.borrow().is_empty());
                    let got = inbox.borrow_mut().pop();
                    if let Some(got) = &got {
                        assert_eq!(sender.local_addr().port(), got.source.port());
                    }
                    let got = got.map(|got| (got.source.ip(), got.local_ip));
                    lines.push(format!(
                        "{receiver_at:?} <- {destination} <- {sender_at:?}: {sent:?} {got:?}"
                    ));
                }
            }
        }
        lines
    });
}

#[test]
fn item_38_a_source_address_of_ones_own_choice_has_to_fit() {
    const SOURCES: [&str; 8] = [
        "127.0.0.1",
        "127.0.0.5",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        // Nobody's.
        "203.0.113.1",
        "2001:db8:77::1",
    ];
    assert_same_on_both(|world| {
        let (mut lines, place) = (Vec::new(), world.place());
        let receivers = [("0.0.0.0", false), ("::", true)].map(|at| open(&place, at).unwrap());
        let inboxes = receivers.each_ref().map(collect);
        for sender_at in BOUND {
            let Ok(sender) = open(&place, sender_at) else {
                continue;
            };
            for source in SOURCES {
                for destination in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
                    let is_v4 = ip(destination).to_canonical().is_ipv4();
                    let (port, inbox) = match is_v4 {
                        true => (receivers[0].local_addr().port(), &inboxes[0]),
                        false => (receivers[1].local_addr().port(), &inboxes[1]),
                    };
                    let to = Envelope::to(SocketAddr::new(ip(destination), port));
                    let sent = sender.send_to(to.from_ip(ip(source)), b"x");
                    let sent = sent.map_err(|error| error.kind());
                    world.settle_soon(|| !inbox.borrow().is_empty());
                    let got = inbox.borrow_mut().pop().map(|got| got.source.ip());
                    lines.push(format!(
                        "{sender_at:?} from {source} to {destination}: {sent:?} {got:?}"
                    ));
                }
            }
        }
        lines
    });
}

#[test]
fn item_38_connections_between_the_families_come_about_as_in_the_operating_system() {
    assert_same_on_both(|world| {
        let (mut lines, place) = (Vec::new(), world.place());
        for (at, only_v6) in BOUND {
            // A port at which nobody else listens, in whichever family.
            let everywhere = ListenOptions::new(SocketAddr::new(ip("::"), 0));
            let probe = place.server.listen_tcp(&everywhere).unwrap();
            let port = probe.local_addr().port();
            drop(probe);
            let options = ListenOptions::new(SocketAddr::new(ip(at), port)).only_v6(only_v6);
            let listener = match place.server.listen_tcp(&options) {
                Ok(listener) => listener,
                Err(error) => {
                    lines.push(format!("listen at {at} {only_v6}: {:?}", error.kind()));
                    continue;
                }
            };
            let accepted = accept_all(&listener);
            for from in [
                None,
                Some("127.0.0.1"),
                Some("::1"),
                Some("0.0.0.0"),
                Some("::"),
            ] {
                for destination in DESTINATIONS {
                    let mut options = TcpOptions::new();
                    if let Some(from) = from {
                        options = options.local(SocketAddr::new(ip(from), 0));
                    }
                    let socket = place.server.tcp_socket(&options).unwrap();
                    let told = follow(&socket);
                    let to = SocketAddr::new(ip(destination), listener.local_addr().port());
                    let outcome = match socket.connect(to) {
                        Err(error) => format!("{:?} at once", error.kind()),
                        Ok(()) => {
                            world.wait_until("it is connected, or refused", || {
                                told.is_closed()
                                    || (told.is_connected() && !accepted.borrow().is_empty())
                            });
                            let ends = accepted.borrow_mut().pop().map(|peer| {
                                let local = peer.socket.local_addr().unwrap().ip();
                                (peer.socket.peer_addr().unwrap().ip(), local)
                            });
                            let own = socket.local_addr().map(|local| local.ip()).ok();
                            let peer = socket.peer_addr().map(|peer| peer.ip());
                            let closed = told.closed();
                            format!("{closed:?}, {own:?} to {peer:?}, accepted {ends:?}")
                        }
                    };
                    lines.push(format!(
                        "{at} {only_v6} <- {destination} <- {from:?}: {outcome}"
                    ));
                }
            }
        }
        lines
    });
}
