//! Conformance item 42, as far as it is about where network threads have their sockets.

#[allow(dead_code, reason = "each test uses its part of it")]
mod simulated;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use echo_sfu::{
    NetworkError, NetworkOptions, NetworkThreads, Sfu, SfuOptions, StartError, ThreadRole,
};
use rtc_thread::{Simulation, Thread};
use simulated::{Stage, connect, good_link, simulated_thread};
use str0m::media::Direction;

fn stage() -> Stage {
    Stage::new(Simulation::from_env("RTC_SEED"))
}

fn network_on(
    bind: SocketAddr,
    announced: Vec<IpAddr>,
) -> Result<(NetworkThreads, Thread), NetworkError> {
    let builder = Thread::builder().name("network");
    let thread = simulated_thread(ThreadRole::Network, builder).unwrap();
    let options = NetworkOptions { bind, announced };
    let networks = NetworkThreads::new([(&thread.handle(), options)])?;
    Ok((networks, thread))
}

#[test]
fn item_42_an_address_that_the_machine_does_not_have_is_refused() {
    let stage = stage();
    let elsewhere = SocketAddr::from(([203, 0, 113, 7], 5_000));
    let refused = network_on(elsewhere, Vec::new()).map(|_| ()).unwrap_err();
    let NetworkError::Udp { address, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(elsewhere, address);
    let options = SfuOptions {
        udp_bind: elsewhere.ip(),
        ..SfuOptions::default()
    };
    let refused = Sfu::start_on(options, simulated_thread).map(|_| ());
    assert!(
        matches!(refused, Err(StartError::Network(_))),
        "{refused:?}"
    );
    drop(stage);
}

#[test]
fn item_42_a_port_is_the_one_asked_for_and_refused_if_it_is_taken() {
    let stage = stage();
    let address = SocketAddr::new(stage.ip(), 40_000);
    let (networks, _thread) = network_on(address, vec![stage.ip()]).unwrap();
    assert_eq!(vec![address], networks.udp_addresses());
    let refused = network_on(address, Vec::new()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, NetworkError::Udp { .. }), "{refused:?}");
    let any = SocketAddr::new(stage.ip(), 0);
    let (networks, _other) = network_on(any, vec![stage.ip()]).unwrap();
    assert!(networks.udp_addresses()[0].port() > 1_023);
}

#[test]
fn item_42_network_threads_have_ports_in_a_row() {
    let stage = stage();
    let sfu = stage.sfu(|options| {
        options.udp_port = 40_000;
        options.network_threads = 3;
    });
    let ports = sfu
        .udp_addresses()
        .iter()
        .map(SocketAddr::port)
        .collect::<Vec<_>>();
    assert_eq!(vec![40_000, 40_001, 40_002], ports);
    sfu.shutdown().unwrap();
    // They are given back.
    let sfu = stage.sfu(|options| options.udp_port = 40_001);
    assert_eq!(40_001, sfu.udp_addresses()[0].port());
    for (port, threads, workers) in [(65_535, 2, 1), (0, 0, 1), (0, 1, 0)] {
        let options = SfuOptions {
            udp_bind: stage.ip(),
            udp_port: port,
            network_threads: threads,
            workers,
            ..SfuOptions::default()
        };
        let refused = Sfu::start_on(options, simulated_thread).map(|_| ());
        assert!(
            matches!(refused, Err(StartError::Options(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn item_42_network_threads_have_the_first_free_ports_of_a_range() {
    let stage = stage();
    let taken = SocketAddr::new(stage.ip(), 40_001);
    let (other, _thread) = network_on(taken, vec![stage.ip()]).unwrap();
    let range = |first, last, network_threads| {
        let options = SfuOptions {
            udp_bind: stage.ip(),
            udp_port: first,
            udp_last_port: Some(last),
            network_threads,
            ..SfuOptions::default()
        };
        Sfu::start_on(options, simulated_thread)
    };
    let sfu = range(40_000, 40_003, 3).unwrap();
    let ports = |sfu: &Sfu| {
        let addresses = sfu.udp_addresses();
        addresses.iter().map(SocketAddr::port).collect::<Vec<_>>()
    };
    assert_eq!(vec![40_000, 40_002, 40_003], ports(&sfu));
    // Nothing is left for another one, nor enough.
    for (first, last, threads) in [
        (40_000, 40_003, 1),
        (40_001, 40_004, 2),
        (40_001, 40_001, 1),
    ] {
        let refused = range(first, last, threads).map(|_| ()).unwrap_err();
        let StartError::Network(NetworkError::NoPort { ip, ports }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((stage.ip(), first..=last), (ip, ports));
    }
    for (first, last) in [(40_003, 40_000), (0, 40_000), (0, 0)] {
        let refused = range(first, last, 1).map(|_| ()).unwrap_err();
        let is_range = |error: &NetworkError| matches!(error, NetworkError::BadPortRange { .. });
        let StartError::Network(error) = &refused else {
            panic!("{refused:?}");
        };
        assert!(is_range(error), "{refused:?}");
    }
    // What a start that failed had opened is given back.
    let sfu_beside = range(40_004, 40_004, 1).unwrap();
    assert_eq!(vec![40_004], ports(&sfu_beside));
    sfu.shutdown().unwrap();
    other.close_all();
    let again = range(40_000, 65_535, 2).unwrap();
    assert_eq!(vec![40_000, 40_002], ports(&again));
    // An address that is not ours is no port that is taken.
    let builder = Thread::builder().name("network");
    let thread = simulated_thread(ThreadRole::Network, builder).unwrap();
    let elsewhere = NetworkThreads::in_port_range(
        [&thread.handle()],
        Ipv4Addr::new(203, 0, 113, 7).into(),
        1..=9,
        &[],
    );
    let refused = elsewhere.map(|_| ()).unwrap_err();
    assert!(matches!(refused, NetworkError::Udp { .. }), "{refused:?}");
}

#[test]
fn item_42_clients_are_told_the_announced_addresses() {
    let stage = stage();
    let outside = IpAddr::from(Ipv4Addr::new(203, 0, 113, 7));
    let sfu = stage.sfu(|options| options.announced = vec![stage.ip(), outside]);
    let signaling = sfu.signaling();
    let person = stage.person("client", good_link());
    let open = |offer| signaling.echo(offer);
    let (_, answer) = connect(&person, Direction::SendRecv, open).unwrap();
    for ip in [stage.ip(), outside] {
        let candidate = format!(" {ip} 5000 typ host");
        assert!(
            answer.sdp.contains(&candidate),
            "{candidate}: {}",
            answer.sdp
        );
    }
}
