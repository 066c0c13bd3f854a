//! Which step runs on which thread: the API on *signaling*, the decision on *worker*, the packets
//! on *network*.
//!
//! Every step logs; a subscriber of the test's own notes the thread on which it hears each.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use echo_sfu::{Sfu, SfuOptions};
use rtc_client::Client;
use str0m::format::Codec;
use str0m::media::Direction;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The threads on which each message was logged.
type Steps = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

struct Recorder(Steps);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let target = event.metadata().target();
        if !target.starts_with("echo_sfu") {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let thread = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .to_owned();
        self.0
            .lock()
            .unwrap()
            .entry(message.0)
            .or_default()
            .insert(thread);
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[test]
fn the_api_is_on_signaling_decisions_on_worker_packets_on_network() {
    let steps = Steps::default();
    let subscriber = tracing_subscriber::registry().with(Recorder(steps.clone()));
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let sfu = Sfu::start(SfuOptions {
        udp_bind: Ipv4Addr::LOCALHOST.into(),
        ..SfuOptions::default()
    })
    .unwrap();
    let signaling = sfu.signaling();
    let (mut client, offer, pending) =
        Client::offer(Direction::SendRecv, &[Codec::Opus, Codec::Vp8]);
    let answer = signaling.echo(offer).wait().unwrap();
    client.accept(pending, &answer.sdp);
    client.run_until("connected", |client| client.connected);
    client.run_until("packets come back", |client| {
        client.exchange();
        client.received_on(client.video) > 0
    });
    signaling.close(answer.session).wait().unwrap();
    // Which a shutdown might forestall.
    client.run_until("the transport is closed", |_| {
        steps.lock().unwrap().contains_key("transport closed")
    });
    sfu.shutdown().unwrap();

    let steps = steps.lock().unwrap();
    let expected = [
        ("operation called", "signaling"),
        ("transport opened", "worker-0"),
        ("offer answered", "network-0"),
        ("consumer added", "network-0"),
        ("client connected", "network-0"),
        ("packets received", "network-0"),
        ("packets forwarded", "network-0"),
        ("session ended", "signaling"),
        ("transport closed", "worker-0"),
    ];
    for (step, thread) in expected {
        let only_there = BTreeSet::from([thread.to_owned()]);
        assert_eq!(Some(&only_there), steps.get(step), "{step}: {steps:#?}");
    }
}
