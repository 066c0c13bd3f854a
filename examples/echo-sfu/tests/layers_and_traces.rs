//! What a client may be sent and may send, which of its consumers come first, and what there is to be
//! told of packets: conformance items 42 to 44, in real time.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use echo_sfu::objects::{
    BadBitrateBounds, BitrateBounds, ConsumerEvent, ConsumerTracing, ObjectError, ProducerEvent,
    ProducerId, ProducerOptions, ProducerTracing, Purpose, Router, Trace, WebRtcTransport, Worker,
};
use echo_sfu::{BitRate, NetworkOptions, NetworkThreads, Offer, OfferedFlow};
use rtc_client::Client;
use rtc_thread::Thread;
use str0m::format::Codec;
use str0m::media::Direction;

const VP8: &[Codec] = &[Codec::Opus, Codec::Vp8];
const LAYERS: &[&str] = &["q", "f"];
/// Of each layer's pictures, in bytes.
const SIZES: [usize; 2] = [20, 1_000];
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two pictures.
const PACE: Duration = Duration::from_millis(10);

fn router() -> (Router, [Thread; 2]) {
    let moving = Thread::builder().name("network").with_sockets();
    let moving = moving.spawn().unwrap();
    let options = NetworkOptions {
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        announced: vec![Ipv4Addr::LOCALHOST.into()],
    };
    let networks = NetworkThreads::new([(&moving.handle(), options)]).unwrap();
    let deciding = Thread::builder().name("worker").spawn().unwrap();
    let worker = Worker::with_networks(&deciding.handle(), networks).unwrap();
    let router = worker.create_router().wait().unwrap();
    (router, [deciding, moving])
}

/// A client that sends pictures of one packet each, in layers.
struct Camera {
    client: Client,
    transport: WebRtcTransport,
    layers: &'static [&'static str],
    sent: u64,
}

impl Camera {
    fn new(router: &Router, layers: &'static [&'static str]) -> Self {
        let (mut client, offer, pending) = Client::offer_layers(Direction::SendOnly, VP8, layers);
        let offer = Offer::parse(&offer, OfferedFlow::ToUs).unwrap();
        let transport = router.create_webrtc_transport(offer, Purpose::Produce);
        let transport = transport.wait().unwrap();
        client.accept(pending, transport.answer());
        client.run_until("connected", |client| client.connected);
        Self {
            client,
            transport,
            layers,
            sent: 0,
        }
    }

    /// The second producer: the first is of the audio line.
    fn video(&mut self) -> ProducerId {
        self.transport.producers()[1].id()
    }

    /// A key frame of each layer.
    fn send(&mut self) {
        self.sent += 1;
        let [high, low] = (self.sent as u16 & 0x7fff).to_be_bytes();
        let names = self.layers.iter().copied().map(Some);
        let names: Vec<_> = names
            .chain(self.layers.is_empty().then_some(None))
            .collect();
        for (name, size) in names.into_iter().zip(SIZES) {
            let mut payload = vec![0x90, 0x80, 0x80 | high, low, 0];
            payload.resize(size, 0);
            self.client.send_video(name, self.sent, payload);
        }
        self.client.turn();
    }
}

fn view(
    router: &Router,
    (mut client, offer, pending): (Client, String, str0m::change::SdpPendingOffer),
    wanted: Vec<ProducerId>,
) -> (Client, WebRtcTransport) {
    let offer = Offer::parse(&offer, OfferedFlow::FromUs).unwrap();
    let transport = router.create_webrtc_transport(offer, Purpose::Consume(wanted));
    let transport = transport.wait().unwrap();
    client.accept(pending, transport.answer());
    client.run_until("connected", |client| client.connected);
    (client, transport)
}

/// Which layer each of its consumers is sent, as their events tell.
#[derive(Default)]
struct Shown(Vec<Option<u8>>);

impl Shown {
    fn look(&mut self, transport: &mut WebRtcTransport) -> &[Option<u8>] {
        let consumers = transport.consumers();
        self.0.resize(consumers.len(), None);
        for (at, consumer) in consumers.iter_mut().enumerate() {
            for event in consumer.events().drain() {
                if let ConsumerEvent::LayerChanged(layer) = event {
                    self.0[at] = layer;
                }
            }
        }
        &self.0
    }
}

#[track_caller]
fn run_until(
    what: &str,
    cameras: &mut [Camera],
    viewer: &mut Client,
    mut is_so: impl FnMut() -> bool,
) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        cameras.iter_mut().for_each(Camera::send);
        viewer.turn();
        std::thread::sleep(PACE);
    }
}

fn at_most(max: u64) -> BitrateBounds {
    BitrateBounds::new(None, Some(BitRate(max))).unwrap()
}

#[test]
fn item_42_what_a_client_is_sent_keeps_to_its_bounds() {
    let (router, _threads) = router();
    let mut cameras = [Camera::new(&router, LAYERS)];
    let wanted = vec![cameras[0].video()];
    let offer = Client::offer(Direction::RecvOnly, VP8);
    let (mut viewer, mut transport) = view(&router, offer, wanted);
    let mut shown = Shown::default();
    for (bounds, layer) in [
        (BitrateBounds::default(), 1),
        (at_most(1), 0),
        (at_most(100_000_000), 1),
        (at_most(1), 0),
        (BitrateBounds::default(), 1),
    ] {
        transport.set_outgoing_bitrate(bounds).wait().unwrap();
        run_until("the layer is sent", &mut cameras, &mut viewer, || {
            shown.look(&mut transport) == [Some(layer)]
        });
    }
    let (min, max) = (BitRate(2), BitRate(1));
    let refused = BitrateBounds::new(Some(min), Some(max));
    assert_eq!(Err(BadBitrateBounds { min, max }), refused);
    transport.close().wait().unwrap();
    let closed = transport.set_outgoing_bitrate(at_most(1)).wait();
    assert_eq!(Err(ObjectError::TransportClosed(transport.id())), closed);
}

#[test]
fn item_42_a_client_is_told_what_it_may_send() {
    let (router, _threads) = router();
    let mut camera = Camera::new(&router, &[]);
    let transport = &camera.transport;
    let allowed = transport.set_max_incoming_bitrate(Some(BitRate(200_000)));
    allowed.wait().unwrap();
    let start = Instant::now();
    while camera.client.least_remb.is_none() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for a limit");
        camera.send();
    }
    let told = camera.client.least_remb.take().unwrap();
    assert!((190_000..=200_000).contains(&told), "{told}");
    // A viewer that can be sent less makes it less, and one that can be sent more does not make it more.
    let wanted = vec![camera.video()];
    let offer = Client::offer(Direction::RecvOnly, VP8);
    let (mut viewer, viewing) = view(&router, offer, wanted);
    for (bounds, range) in [
        (at_most(100_000), 95_000..=100_000),
        (at_most(300_000), 190_000..=200_000),
    ] {
        viewing.set_outgoing_bitrate(bounds).wait().unwrap();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {range:?}");
            camera.client.least_remb = None;
            camera.send();
            viewer.turn();
            let told = camera.client.least_remb;
            if told.is_some_and(|told| range.contains(&told)) {
                break;
            }
        }
    }
}

#[test]
fn item_42_a_client_is_told_less_when_who_could_be_sent_more_leaves() {
    let (router, _threads) = router();
    let mut cameras = [Camera::new(&router, &[]), Camera::new(&router, &[])];
    let wanted = cameras.each_mut().map(Camera::video);
    let offer = || Client::offer(Direction::RecvOnly, VP8);
    let (mut slow, mut bounded) = view(&router, offer(), vec![wanted[0]]);
    let bounds = at_most(100_000);
    bounded.set_outgoing_bitrate(bounds).wait().unwrap();
    let (_fast, unbounded) = view(&router, offer(), vec![wanted[0]]);
    unbounded.close().wait().unwrap();
    let mut wait_until_told = |camera: &mut Camera| {
        let start = Instant::now();
        camera.client.least_remb = None;
        while camera.client.least_remb.is_none_or(|told| told > 100_000) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for a limit");
            camera.send();
            slow.turn();
        }
    };
    wait_until_told(&mut cameras[0]);
    // So it is with somebody else, whom it is sent from now on.
    let consumer = &bounded.consumers()[0];
    consumer.switch_to(wanted[1]).wait().unwrap();
    wait_until_told(&mut cameras[1]);
}

#[test]
fn item_44_a_consumer_of_a_higher_priority_keeps_its_layer() {
    let (router, _threads) = router();
    let mut cameras = [Camera::new(&router, LAYERS), Camera::new(&router, LAYERS)];
    let wanted = cameras.iter_mut().map(Camera::video).collect();
    let (mut viewer, mut transport) = view(&router, Client::offer_two_videos(VP8), wanted);
    assert_eq!(2, transport.consumers().len());
    let mut shown = Shown::default();
    run_until("both are whole", &mut cameras, &mut viewer, || {
        shown.look(&mut transport) == [Some(1); 2]
    });
    let priority = |priority| NonZeroU8::new(priority).unwrap();
    for favoured in [0, 1, 0] {
        for (at, consumer) in transport.consumers().iter().enumerate() {
            let of_it = priority(if at == favoured { 255 } else { 7 });
            consumer.set_priority(of_it).wait().unwrap();
            assert_eq!(of_it, consumer.status().wait().unwrap().priority);
        }
        // One and a half times what the larger layer takes, at the pace there is.
        let (mut since, mut sent) = (Instant::now(), cameras[0].sent);
        let mut layers = [Some(1); 2];
        layers[1 - favoured] = Some(0);
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {layers:?}");
            run_until("a while", &mut cameras, &mut viewer, || {
                since.elapsed() > Duration::from_millis(500)
            });
            if shown.look(&mut transport) == layers {
                break;
            }
            let pictures = (cameras[0].sent - sent) as f64 / since.elapsed().as_secs_f64();
            (since, sent) = (Instant::now(), cameras[0].sent);
            let rate = pictures * SIZES[1] as f64 * 8.0 * 1.5;
            let bounds = at_most(rate as u64);
            transport.set_outgoing_bitrate(bounds).wait().unwrap();
        }
    }
    transport
        .set_outgoing_bitrate(BitrateBounds::default())
        .wait()
        .unwrap();
    run_until("both are whole again", &mut cameras, &mut viewer, || {
        shown.look(&mut transport) == [Some(1); 2]
    });
}

fn traces_of(transport: &mut WebRtcTransport) -> Vec<Trace> {
    let events = transport.producers()[1].events().drain();
    let traces = events.into_iter().filter_map(|event| match event {
        ProducerEvent::Trace(trace) => Some(trace),
        _ => None,
    });
    traces.collect()
}

#[test]
fn items_43_and_44_what_is_traced_is_told_and_nothing_else_is() {
    let (router, _threads) = router();
    let mut cameras = [Camera::new(&router, &[])];
    let wanted = vec![cameras[0].video()];
    let offer = Client::offer(Direction::RecvOnly, VP8);
    let (mut viewer, mut transport) = view(&router, offer, wanted);
    let pictures = |cameras: &mut [Camera], viewer: &mut Client| {
        let sent = viewer.received.len() + 30;
        let start = Instant::now();
        while viewer.received.len() < sent {
            assert!(start.elapsed() < PATIENCE, "waited in vain");
            cameras[0].send();
            viewer.turn();
        }
    };
    pictures(&mut cameras, &mut viewer);
    assert!(traces_of(&mut cameras[0].transport).is_empty());
    let everything = ProducerTracing {
        rtp: true,
        key_frames: true,
        key_frame_requests: true,
    };
    let producer = &cameras[0].transport.producers()[1];
    producer.trace(everything).wait().unwrap();
    let consumer = &transport.consumers()[0];
    let requests = ConsumerTracing {
        nacks: true,
        key_frame_requests: true,
    };
    consumer.trace(requests).wait().unwrap();
    viewer.loses_one_in = Some(5);
    let (mut heard, mut traces) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let is_nack = |trace: &Trace| matches!(trace, Trace::Nack { packets: 1.. });
    // A request may wait for a while before it is passed on.
    while !(heard.iter().any(is_nack)
        && [&heard, &traces]
            .iter()
            .all(|own| own.contains(&Trace::Pli)))
    {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {heard:?}");
        cameras[0].send();
        viewer.request_keyframe();
        viewer.turn();
        let events = transport.consumers()[0].events().drain();
        heard.extend(events.into_iter().filter_map(|event| match event {
            ConsumerEvent::Trace(trace) => Some(trace),
            _ => None,
        }));
        traces.extend(traces_of(&mut cameras[0].transport));
    }
    let mut packets = traces.iter().filter_map(|trace| match trace {
        Trace::Rtp {
            layer: 0,
            sequence,
            bytes,
            ..
        } => Some((*sequence, *bytes)),
        _ => None,
    });
    let (first, bytes) = packets.next().unwrap();
    assert_eq!(SIZES[0], bytes);
    assert!(packets.all(|(number, bytes)| number > first && bytes == SIZES[0]));
    // Each of the pictures is a key frame.
    let key_frames = traces
        .iter()
        .filter(|trace| matches!(trace, Trace::KeyFrame { .. }));
    let packets = traces
        .iter()
        .filter(|trace| matches!(trace, Trace::Rtp { .. }));
    assert_eq!(packets.count(), key_frames.count());
    // And no more.
    let producer = &cameras[0].transport.producers()[1];
    producer.trace(ProducerTracing::default()).wait().unwrap();
    pictures(&mut cameras, &mut viewer);
    traces_of(&mut cameras[0].transport);
    pictures(&mut cameras, &mut viewer);
    assert!(traces_of(&mut cameras[0].transport).is_empty());
    // What sends nothing here has nothing to be traced.
    let direct = router.create_direct_transport().wait().unwrap();
    let silent = direct.produce(ProducerOptions::new()).wait().unwrap();
    let refused = silent.trace(everything).wait();
    assert_eq!(Err(ObjectError::NoMedia(silent.id())), refused);
}
