//! What cannot be seen from outside: a fault in a transport ends that one only.

use std::time::Duration;

use rtc_thread::Simulation;
use socket_server::HostOptions;
use str0m::Rtc;
use str0m::media::{Direction, MediaKind};

use super::{Network, NetworkOptions, NetworkThreads};
use crate::objects::{CloseReason, Purpose, Router, TransportEvent, WebRtcTransport, Worker};
use crate::sdp::{Offer, OfferedFlow};

fn open(router: &Router) -> WebRtcTransport {
    let mut rtc = Rtc::builder().build(rtc_thread::now());
    let mut changes = rtc.sdp_api();
    changes.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
    let (offer, _pending) = changes.apply().unwrap();
    let offer = Offer::parse(&offer.to_sdp_string(), OfferedFlow::Both).unwrap();
    let opened = router.create_webrtc_transport(offer, Purpose::Echo);
    opened.wait().unwrap()
}

#[test]
fn item_41_a_panic_in_a_transport_ends_that_transport_and_no_other() {
    let simulation = Simulation::from_env("RTC_SEED");
    let host = HostOptions::new("server");
    let host = simulation.network().add_host(host).unwrap();
    let moving = simulation.thread_on(&host, "network").unwrap();
    let deciding = simulation.thread("worker").unwrap();
    let options = NetworkOptions {
        bind: (host.v4(), 5_000).into(),
        announced: vec![host.v4()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), options)]).unwrap();
    let worker = Worker::with_networks(&deciding, networks.clone()).unwrap();
    let router = worker.create_router().wait().unwrap();
    let mut transports = [0, 1, 2].map(|_| open(&router));
    let broken = transports[1].id();
    let panic_in_it = move |network: &mut Network| {
        network.act(|state, now| {
            state.with_webrtc(broken, now, |_, _| panic!("on purpose"));
        });
    };
    networks.place().unwrap().network.post(panic_in_it).unwrap();
    simulation.run_for(Duration::from_secs(1));
    let events = transports
        .each_mut()
        .map(|transport| transport.events().drain());
    let ended = vec![TransportEvent::Closed(CloseReason::Disconnected)];
    assert_eq!([Vec::new(), ended, Vec::new()], events);
    let stats = &networks.stats()[0];
    assert_eq!(
        (2, 2, 2),
        (stats.transports, stats.producers, stats.consumers)
    );
    let status = worker.status().wait().unwrap();
    assert_eq!(
        (2, 2, 2),
        (status.transports, status.producers, status.consumers)
    );
}
