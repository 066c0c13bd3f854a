//! What goes through the objects: conformance items 43, 44 and 46, as far as they are about media.

mod camera;
#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camera::{Camera, assert_continuous, last_mark, pictures};
use echo_sfu::objects::{Purpose, Router, WebRtcTransport, Worker};
use echo_sfu::{NetworkOptions, NetworkThreads};
use rtc_client::Client;
use rtc_thread::{Precision, Repeat, RepeatingTask, Thread, process_all_queued};
use str0m::media::Direction;

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
        camera::connect(&self.router, direction, layers, purpose)
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

#[test]
fn item_44_what_a_viewer_loses_is_sent_again() {
    with_two_network_threads(|place| {
        let mut camera = Camera::new(&place.router, &[], 1);
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
        let mut camera = Camera::new(&place.router, &[], 1);
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
        let (mut one, mut other) = (
            Camera::new(&place.router, &[], 1),
            Camera::new(&place.router, &[], 2),
        );
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
        let mut camera = Camera::new(&place.router, &["q", "h", "f"], 1);
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
