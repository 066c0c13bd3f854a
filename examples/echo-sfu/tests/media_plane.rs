//! What goes through the objects: conformance items 43, 44 and 46, as far as they are about media.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use echo_sfu::objects::{Purpose, Router, WebRtcTransport, Worker};
use echo_sfu::{NetworkOptions, NetworkThreads, Offer, OfferedFlow};
use rtc_client::Client;
use rtc_thread::{Precision, Repeat, RepeatingTask, Thread, process_all_queued};
use str0m::format::Codec;
use str0m::media::Direction;

const VP8: &[Codec] = &[Codec::Opus, Codec::Vp8];
const PATIENCE: Duration = Duration::from_secs(60);

/// What waits for twice as long on its way from one network thread to another is left out.
const LONG_PAUSE: Duration = Duration::from_millis(250);

/// A router, on threads of its own.
struct Place {
    router: Router,
    threads: Vec<Thread>,
}

fn place(network_threads: usize) -> Place {
    let mut threads: Vec<_> = (0..network_threads)
        .map(|index| {
            let builder = Thread::builder().name(format!("network-{index}"));
            builder.with_sockets().spawn().unwrap()
        })
        .collect();
    let handles: Vec<_> = threads.iter().map(Thread::handle).collect();
    let options = NetworkOptions {
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        announced: vec![Ipv4Addr::LOCALHOST.into()],
    };
    let places = handles.iter().map(|handle| (handle, options.clone()));
    let networks = NetworkThreads::new(places).unwrap();
    let deciding = Thread::builder().name("worker").spawn().unwrap();
    let worker = Worker::with_networks(&deciding.handle(), networks).unwrap();
    threads.push(deciding);
    Place {
        router: worker.create_router().wait().unwrap(),
        threads,
    }
}

/// Runs a test with two network threads. If the machine keeps one of them from its work for long, it
/// leaves out what has come too late, and what a viewer sees then says nothing: it is tried again.
fn with_two_network_threads(test: impl Fn(&Place)) {
    for tries_left in (0..10).rev() {
        let place = place(2);
        let longest_pause = place.watch_pauses();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&place)));
        match outcome {
            Err(_) if tries_left > 0 && *longest_pause.lock().unwrap() > LONG_PAUSE => {}
            Err(panic) => resume_unwind(panic),
            Ok(()) => return,
        }
    }
}

impl Place {
    /// Notes for how long one of the threads does not get to do anything.
    fn watch_pauses(&self) -> Arc<Mutex<Duration>> {
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        for thread in &self.threads {
            let (noted, mut last) = (longest.clone(), Instant::now());
            let look = move || {
                let pause = last.elapsed();
                last = Instant::now();
                let mut longest = noted.lock().unwrap();
                *longest = pause.max(*longest);
                Repeat::After(LONG_PAUSE / 10)
            };
            RepeatingTask::start(thread, Precision::High, look).unwrap();
        }
        longest
    }

    fn connect(
        &self,
        direction: Direction,
        layers: &[&str],
        purpose: Purpose,
    ) -> (Client, WebRtcTransport) {
        let flow = match direction {
            Direction::SendOnly => OfferedFlow::ToUs,
            _ => OfferedFlow::FromUs,
        };
        let (mut client, offer, pending) = Client::offer_layers(direction, VP8, layers);
        let offer = Offer::parse(&offer, flow).unwrap();
        let opened = self.router.create_webrtc_transport(offer, purpose);
        let transport = opened.wait().unwrap();
        client.accept(pending, transport.answer());
        client.run_until("connected", |client| client.connected);
        (client, transport)
    }
}

/// A client that sends pictures of one packet each, and knows which of them were key frames.
struct Camera {
    client: Client,
    transport: WebRtcTransport,
    layers: Vec<Layer>,
}

struct Layer {
    name: Option<&'static str>,
    /// What its payloads begin with, to be told apart.
    mark: u8,
    sent: u64,
    size: usize,
}

impl Camera {
    fn new(place: &Place, layers: &[&'static str], mark: u8) -> Self {
        let (client, transport) = place.connect(Direction::SendOnly, layers, Purpose::Produce);
        let mut names: Vec<_> = layers.iter().copied().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        let layers = names.into_iter().enumerate().map(|(at, name)| Layer {
            name,
            mark: mark + at as u8,
            sent: 0,
            size: 100 * (at + 1),
        });
        Self {
            client,
            transport,
            layers: layers.collect(),
        }
    }

    /// The second producer: the first is of the audio line.
    fn video(&mut self) -> echo_sfu::objects::ProducerId {
        self.transport.producers()[1].id()
    }

    /// A picture of each layer, a key frame where one was asked for, or is the first.
    fn send(&mut self) {
        let wanted = self.client.keyframe_wanted.take();
        for layer in &mut self.layers {
            let is_asked_for = wanted.is_some_and(|rid| rid.as_deref() == layer.name);
            let is_key_frame = layer.sent == 0 || is_asked_for;
            layer.sent += 1;
            let number = layer.sent as u16;
            let [high, low] = (number & 0x7fff).to_be_bytes();
            let mut payload = vec![0x90, 0x80, 0x80 | high, low, u8::from(!is_key_frame)];
            payload.push(layer.mark);
            payload.resize(layer.size, 0);
            self.client.send_video(layer.name, layer.sent, payload);
        }
        self.client.turn();
    }
}

/// A picture as a viewer got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    sequence: u64,
    id: u16,
    timestamp: u32,
    is_key_frame: bool,
    mark: u8,
}

fn pictures(viewer: &Client) -> Vec<Picture> {
    let video = viewer.received.iter().filter(|packet| {
        packet.header.ext_vals.mid == Some(viewer.video) && packet.payload.len() > 5
    });
    let mut pictures: Vec<_> = video
        .map(|packet| Picture {
            sequence: *packet.seq_no,
            id: u16::from_be_bytes([packet.payload[2] & 0x7f, packet.payload[3]]),
            timestamp: packet.header.timestamp,
            is_key_frame: packet.payload[4] & 1 == 0,
            mark: packet.payload[5],
        })
        .collect();
    pictures.sort_by_key(|picture| picture.sequence);
    pictures
}

/// What a decoder wants: nothing missing, and no jump that is not a key frame.
fn assert_continuous(pictures: &[Picture]) {
    assert!(pictures[0].is_key_frame, "{pictures:?}");
    for pair in pictures.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        assert_eq!(before.sequence + 1, after.sequence, "{before:?} {after:?}");
        assert_eq!((before.id + 1) & 0x7fff, after.id, "{before:?} {after:?}");
        assert!(
            after.timestamp.wrapping_sub(before.timestamp) < 1 << 31,
            "{before:?} {after:?}"
        );
        assert!(
            before.mark == after.mark || after.is_key_frame,
            "{before:?} {after:?}"
        );
    }
}

#[track_caller]
fn run(
    what: &str,
    cameras: &mut [&mut Camera],
    viewer: &mut Client,
    is_so: impl Fn(&Client) -> bool,
) {
    let start = Instant::now();
    while !is_so(viewer) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        for camera in &mut *cameras {
            camera.send();
        }
        viewer.turn();
    }
}

fn last_mark(viewer: &Client) -> Option<u8> {
    pictures(viewer).last().map(|picture| picture.mark)
}

#[test]
fn item_44_what_a_viewer_loses_is_sent_again() {
    with_two_network_threads(|place| {
        let mut camera = Camera::new(place, &[], 1);
        let wanted = Purpose::Consume(vec![camera.video()]);
        let (mut viewer, _transport) = place.connect(Direction::RecvOnly, &[], wanted);
        viewer.loses_one_in = Some(10);
        run(
            "pictures arrive",
            &mut [&mut camera],
            &mut viewer,
            |viewer| viewer.received.len() >= 300,
        );
        viewer.loses_one_in = None;
        let sent = camera.layers[0].sent;
        viewer.run_until("all of them have arrived", |viewer| {
            let pictures = pictures(viewer);
            let first = pictures[0].sequence;
            pictures.last().unwrap().sequence - first + 1 == pictures.len() as u64
                && pictures.len() as u64 + 5 >= sent.min(300)
        });
        assert_continuous(&pictures(&viewer));
    });
}

#[test]
fn item_44_pausing_and_resuming_leaves_no_gap_and_begins_with_a_key_frame() {
    with_two_network_threads(|place| {
        let mut camera = Camera::new(place, &[], 1);
        let wanted = Purpose::Consume(vec![camera.video()]);
        let (mut viewer, mut transport) = place.connect(Direction::RecvOnly, &[], wanted);
        let count = |viewer: &Client| pictures(viewer).len();
        for round in 0..4 {
            let before = count(&viewer);
            run(
                "pictures arrive",
                &mut [&mut camera],
                &mut viewer,
                |viewer| count(viewer) > before + 20,
            );
            let (producer, consumer) =
                (&camera.transport.producers()[1], &transport.consumers()[0]);
            if round % 2 == 0 {
                producer.pause().wait().unwrap();
            } else {
                consumer.pause().wait().unwrap();
            }
            // What was under way has been sent by then, and is read.
            (0..4).for_each(|_| process_all_queued().unwrap());
            for _ in 0..20 {
                viewer.turn();
            }
            let paused_at = count(&viewer);
            for _ in 0..20 {
                camera.send();
                viewer.turn();
            }
            assert_eq!(
                paused_at,
                count(&viewer),
                "nothing comes while it is paused"
            );
            let (producer, consumer) =
                (&camera.transport.producers()[1], &transport.consumers()[0]);
            if round % 2 == 0 {
                producer.resume().wait().unwrap();
            } else {
                consumer.resume().wait().unwrap();
            }
            run("it goes on", &mut [&mut camera], &mut viewer, |viewer| {
                count(viewer) > paused_at + 5
            });
            let pictures = pictures(&viewer);
            assert!(pictures[paused_at].is_key_frame);
            assert_continuous(&pictures);
        }
    });
}

#[test]
fn item_44_a_consumer_that_switches_goes_on_as_one_stream() {
    with_two_network_threads(|place| {
        let (mut one, mut other) = (Camera::new(place, &[], 1), Camera::new(place, &[], 2));
        let wanted = Purpose::Consume(vec![one.video()]);
        let (mut viewer, mut transport) = place.connect(Direction::RecvOnly, &[], wanted);
        // The other one has been there for a while.
        (0..50).for_each(|_| other.send());
        for (producer, mark) in [(one.video(), 1), (other.video(), 2), (one.video(), 1)] {
            let consumer = &transport.consumers()[0];
            consumer.switch_to(producer).wait().unwrap();
            let cameras = &mut [&mut one, &mut other];
            run("its pictures arrive", cameras, &mut viewer, |viewer| {
                last_mark(viewer) == Some(mark)
            });
            let before = pictures(&viewer).len();
            let cameras = &mut [&mut one, &mut other];
            run("and go on", cameras, &mut viewer, |viewer| {
                pictures(viewer).len() > before + 20
            });
        }
        assert_continuous(&pictures(&viewer));
        // It is the new producer's now, and ends with it, not with the other.
        other.transport.close().wait().unwrap();
        let status = transport.consumers()[0].status().wait().unwrap();
        assert_eq!(one.video(), status.producer);
        one.transport.close().wait().unwrap();
        assert!(transport.consumers()[0].status().wait().is_err());
    });
}

#[test]
fn item_44_the_preferred_layer_is_what_is_sent() {
    with_two_network_threads(|place| {
        let mut camera = Camera::new(place, &["q", "h", "f"], 1);
        let wanted = Purpose::Consume(vec![camera.video()]);
        let (mut viewer, mut transport) = place.connect(Direction::RecvOnly, &[], wanted);
        for (preferred, mark) in [(None, 3), (Some(0), 1), (Some(1), 2), (None, 3)] {
            let consumer = &transport.consumers()[0];
            consumer.set_preferred_layer(preferred).wait().unwrap();
            let cameras = &mut [&mut camera];
            run("the layer arrives", cameras, &mut viewer, |viewer| {
                last_mark(viewer) == Some(mark)
            });
        }
        assert_continuous(&pictures(&viewer));
    });
}
