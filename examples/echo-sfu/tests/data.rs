//! Data producers and consumers: conformance item 45, and 46 as far as it is about data; between
//! applications on real threads and on simulated ones, and with clients over real sockets.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
mod world;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use echo_sfu::objects::{
    CloseReason, DataConsumer, DataConsumerEvent, DataConsumerOptions, DataError, DataKind,
    DataMessage, DataProducer, DataProducerEvent, DataProducerOptions, DataReliability,
    DirectTransport, ObjectError, Purpose, TransportEvent, WebRtcTransport, Worker,
};
use echo_sfu::{Offer, OfferedFlow, RoomName, Sfu, SfuOptions, Signaling};
use rtc_client::{Client, Message};
use str0m::channel::{ChannelConfig, Reliability};
use str0m::format::Codec;
use str0m::media::Direction;
use world::{Here, World, in_every_world};

const USUAL: &[Codec] = &[Codec::Opus, Codec::Vp8];
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients, for those who have some.
trait Clients {
    /// A client with these channels, and its transport, connected.
    fn client(&self, purpose: Purpose, channels: &[&str]) -> (Client, WebRtcTransport);

    /// A client that sends, with these channels open.
    fn publisher(&self, channels: &[&str]) -> (Client, WebRtcTransport) {
        let (mut client, transport) = self.client(Purpose::Produce, channels);
        client.run_until("its channels are open", |client| {
            client.channels.len() == channels.len()
        });
        (client, transport)
    }

    /// A client that consumes all that another one produces.
    fn viewer(&self, publisher: &mut WebRtcTransport) -> (Client, WebRtcTransport) {
        let producers = publisher.producers().iter().map(|own| own.id()).collect();
        self.client(Purpose::Consume(producers), &["own"])
    }
}

impl Clients for Here {
    fn client(&self, purpose: Purpose, channels: &[&str]) -> (Client, WebRtcTransport) {
        let (direction, flow) = match purpose {
            Purpose::Produce => (Direction::SendOnly, OfferedFlow::ToUs),
            Purpose::Echo => (Direction::SendRecv, OfferedFlow::Both),
            _ => (Direction::RecvOnly, OfferedFlow::FromUs),
        };
        let channels: Vec<_> = channels.iter().map(|label| channel(label)).collect();
        let (mut client, offer, pending) = Client::offer_with_channels(direction, USUAL, &channels);
        let offer = Offer::parse(&offer, flow).unwrap();
        let transport = self.router.create_webrtc_transport(offer, purpose);
        let transport = transport.wait().unwrap();
        client.accept(pending, transport.answer());
        client.run_until("connected", |client| client.connected);
        (client, transport)
    }
}

fn channel(label: &str) -> ChannelConfig {
    ChannelConfig {
        label: label.to_owned(),
        ..ChannelConfig::default()
    }
}

fn produce(transport: &DirectTransport) -> DataProducer {
    let options = DataProducerOptions::new("chat");
    transport.produce_data(options).wait().unwrap()
}

fn consume(transport: &DirectTransport, producer: &DataProducer) -> DataConsumer {
    let options = DataConsumerOptions::new();
    transport
        .consume_data(producer.id(), options)
        .wait()
        .unwrap()
}

fn texts(consumer: &mut DataConsumer) -> Vec<String> {
    let messages = consumer.messages().unwrap().drain();
    messages
        .iter()
        .map(|own| own.as_text().unwrap().to_owned())
        .collect()
}

/// Lets clients go on until something is the case.
#[track_caller]
fn run_until<const N: usize>(
    what: &str,
    mut clients: [&mut Client; N],
    mut is_so: impl FnMut(&mut [&mut Client; N]) -> bool,
) {
    let start = Instant::now();
    while !is_so(&mut clients) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        clients.iter_mut().for_each(|client| client.turn());
    }
}

/// The name of what a transport tells to be new.
#[track_caller]
fn wait_for_event<T>(
    what: &str,
    transport: &mut WebRtcTransport,
    clients: &mut [&mut Client],
    pick: impl Fn(TransportEvent) -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = transport.events().try_next().and_then(&pick) {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        clients.iter_mut().for_each(|client| client.turn());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn new_producer(event: TransportEvent) -> Option<echo_sfu::objects::DataProducerId> {
    match event {
        TransportEvent::NewDataProducer(id) => Some(id),
        _ => None,
    }
}

fn new_consumer(event: TransportEvent) -> Option<echo_sfu::objects::DataConsumerId> {
    match event {
        TransportEvent::NewDataConsumer(id) => Some(id),
        _ => None,
    }
}

#[test]
fn item_45_what_an_application_sends_reaches_applications_in_order_and_kind() {
    in_every_world(|world| {
        let here = world.here();
        // Each on another network thread.
        let transports = [here.direct(), here.direct(), here.direct()];
        let producer = produce(&transports[0]);
        let mut consumers = transports.each_ref().map(|own| consume(own, &producer));
        drop(producer.send("one"));
        drop(producer.send(vec![0, 255]));
        drop(producer.send(""));
        producer.send("last").wait().unwrap();
        world.settle();
        let expected = [
            DataMessage::text("one"),
            DataMessage::binary(vec![0, 255]),
            DataMessage::text(""),
            DataMessage::text("last"),
        ];
        for consumer in &mut consumers {
            assert_eq!("chat", consumer.parameters().label);
            let messages = consumer.messages().unwrap().drain();
            assert_eq!(expected.to_vec(), messages);
            assert_eq!(DataKind::Binary, messages[1].kind());
            let status = consumer.status().wait().unwrap();
            assert_eq!((4, 9, 0), (status.messages, status.bytes, status.dropped));
        }
        let status = producer.status().wait().unwrap();
        assert_eq!((4, 9, 3), (status.messages, status.bytes, status.consumers));
        here.stop();
    });
}

#[test]
fn item_45_contradictory_parameters_are_refused() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let refused = |options| transport.produce_data(options).wait().unwrap_err();
        let options = DataProducerOptions::new("chat").max_retransmits(3);
        let second = Duration::from_secs(1);
        assert_eq!(
            ObjectError::Data(DataError::BothLimits),
            refused(options.clone().max_lifetime(second))
        );
        assert_eq!(
            ObjectError::Data(DataError::OrderedButLimited),
            refused(options.clone().ordered(true))
        );
        let producer = transport.produce_data(options).wait().unwrap();
        let parameters = producer.parameters();
        assert_eq!(DataReliability::MaxRetransmits(3), parameters.reliability);
        assert!(!parameters.ordered);
        here.stop();
    });
}

#[test]
fn item_45_messages_that_are_too_large_are_refused_and_what_overflows_is_counted() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let producer = produce(&transport);
        let mut consumer = consume(&transport, &producer);
        let too_large = producer.send(vec![0; (256 << 10) + 1]).wait();
        let reason = DataError::MessageTooLarge((256 << 10) + 1);
        assert_eq!(Err(ObjectError::Data(reason)), too_large);
        let too_many: Vec<u16> = (0..257).collect();
        let refused = consumer.set_sub_channels(&too_many).wait();
        let reason = DataError::TooManySubChannels(257);
        assert_eq!(Err(ObjectError::Data(reason)), refused);
        let largest = DataMessage::binary(vec![7; 256 << 10]);
        for _ in 0..40 {
            producer.send(largest.clone()).wait().unwrap();
        }
        world.settle();
        let mailbox = consumer.messages().unwrap();
        assert_eq!((8, mailbox.drain().len()), (mailbox.overflowed(), 32));
        let status = consumer.status().wait().unwrap();
        assert_eq!((32, 8), (status.messages, status.dropped));
        here.stop();
    });
}

#[test]
fn item_45_who_is_paused_gets_nothing_and_nothing_is_kept() {
    in_every_world(|world| {
        let here = world.here();
        let (near, far) = (here.direct(), here.direct());
        let mut producer = produce(&near);
        let mut consumers = [consume(&near, &producer), consume(&far, &producer)];
        // None of it is awaited: the order of the calls is what counts.
        drop(producer.send("one"));
        drop(consumers[1].pause());
        drop(producer.send("two"));
        drop(consumers[1].resume());
        drop(producer.pause());
        drop(producer.send("three"));
        drop(producer.resume());
        producer.send("four").wait().unwrap();
        world.settle();
        assert_eq!(vec!["one", "two", "four"], texts(&mut consumers[0]));
        // A message comes to another network thread by a way of its own, and may come before or after
        // what the consumer is told; but in order.
        let seen = texts(&mut consumers[1]);
        assert_eq!(Some("four"), seen.last().map(String::as_str));
        assert!(!seen.contains(&"three".to_owned()), "{seen:?}");
        use DataProducerEvent::{Paused, Resumed};
        assert_eq!(vec![Paused, Resumed], producer.events().drain());
        for consumer in &mut consumers {
            use DataConsumerEvent::{ProducerPaused, ProducerResumed};
            let events = consumer.events().drain();
            assert_eq!(vec![ProducerPaused, ProducerResumed], events);
        }
        consumers[1].pause().wait().unwrap();
        world.settle();
        producer.send("five").wait().unwrap();
        world.settle();
        consumers[1].resume().wait().unwrap();
        world.settle();
        producer.send("six").wait().unwrap();
        world.settle();
        assert_eq!(vec!["six"], texts(&mut consumers[1]));
        let options = DataConsumerOptions::new().paused(true);
        let paused = near.consume_data(producer.id(), options).wait().unwrap();
        assert!(paused.status().wait().unwrap().paused);
        here.stop();
    });
}

#[test]
fn item_45_sub_channels_are_for_those_who_have_chosen_them() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let producer = produce(&transport);
        let options = DataConsumerOptions::new().sub_channels(&[11, 666]);
        let mut one = transport
            .consume_data(producer.id(), options)
            .wait()
            .unwrap();
        let options = DataConsumerOptions::new().sub_channels(&[12, 666]);
        let mut two = transport
            .consume_data(producer.id(), options)
            .wait()
            .unwrap();
        let mut none = consume(&transport, &producer);
        let send = |text: &str, on: &[u16]| {
            let message = DataMessage::text(text).on_sub_channels(on);
            drop(producer.send(message));
        };
        send("both", &[]);
        send("one", &[11]);
        send("two", &[12, 13]);
        send("again both", &[666]);
        send("nobody", &[99]);
        drop(one.add_sub_channel(99));
        drop(one.remove_sub_channel(666));
        send("one by now", &[99]);
        send("no longer one", &[666]);
        drop(two.set_sub_channels(&[1]));
        send("last", &[1, 11]);
        world.settle();
        let seen = ["both", "one", "again both", "one by now", "last"];
        assert_eq!(seen.to_vec(), texts(&mut one));
        let seen = ["both", "two", "again both", "no longer one", "last"];
        assert_eq!(seen.to_vec(), texts(&mut two));
        assert_eq!(vec!["both"], texts(&mut none));
        let status = one.status().wait().unwrap();
        assert_eq!(vec![11, 99], status.sub_channels);
        here.stop();
    });
}

#[test]
fn item_45_closing_reaches_what_depends_with_the_event_of_each_level() {
    in_every_world(|world| {
        let here = world.here();
        let last_of = |producer: &mut DataProducer| producer.events().drain().pop();
        let last_by = |consumer: &mut DataConsumer| consumer.events().drain().pop();
        let (near, far) = (here.direct(), here.direct());

        let mut producer = produce(&near);
        let mut consumer = consume(&far, &producer);
        producer.close().wait().unwrap();
        let gone = ObjectError::DataProducerClosed(producer.id());
        assert_eq!(Err(gone.clone()), producer.send("more").wait());
        assert_eq!(Err(gone.clone()), producer.pause().wait());
        let refused = far.consume_data(producer.id(), DataConsumerOptions::new());
        assert_eq!(gone, refused.wait().unwrap_err());
        let closed = DataConsumerEvent::Closed(CloseReason::ProducerClosed);
        assert_eq!(Some(closed), last_by(&mut consumer));
        let gone = ObjectError::DataConsumerClosed(consumer.id());
        assert_eq!(Err(gone), consumer.pause().wait());
        let closed = DataProducerEvent::Closed(CloseReason::Called);
        assert_eq!(Some(closed), last_of(&mut producer));

        let mut other = produce(&near);
        assert!(other.id() > producer.id());
        let mut consumer = consume(&far, &other);
        far.close().wait().unwrap();
        let closed = DataConsumerEvent::Closed(CloseReason::TransportClosed);
        assert_eq!(Some(closed), last_by(&mut consumer));
        assert_eq!(0, other.status().wait().unwrap().consumers);
        let mut consumer = consume(&near, &other);
        near.close().wait().unwrap();
        let closed = DataProducerEvent::Closed(CloseReason::TransportClosed);
        assert_eq!(Some(closed), last_of(&mut other));
        let closed = DataConsumerEvent::Closed(CloseReason::TransportClosed);
        assert_eq!(Some(closed), last_by(&mut consumer));

        let transport = here.direct();
        let mut producer = produce(&transport);
        let mut consumer = consume(&transport, &producer);
        here.router.close().wait().unwrap();
        let reason = CloseReason::RouterClosed;
        assert_eq!(
            Some(DataProducerEvent::Closed(reason)),
            last_of(&mut producer)
        );
        assert_eq!(
            Some(DataConsumerEvent::Closed(reason)),
            last_by(&mut consumer)
        );

        let router = here.worker.create_router().wait().unwrap();
        let transport = router.create_direct_transport().wait().unwrap();
        let mut producer = produce(&transport);
        let mut consumer = consume(&transport, &producer);
        here.worker.close().wait().unwrap();
        let reason = CloseReason::WorkerClosed;
        assert_eq!(
            Some(DataProducerEvent::Closed(reason)),
            last_of(&mut producer)
        );
        assert_eq!(
            Some(DataConsumerEvent::Closed(reason)),
            last_by(&mut consumer)
        );
        here.stop();
    });
}

#[test]
fn item_45_without_network_threads_there_is_no_data() {
    in_every_world(|world| {
        let thread = world.thread("worker");
        let worker = Worker::new(&thread).unwrap();
        let router = worker.create_router().wait().unwrap();
        let transport = router.create_direct_transport().wait().unwrap();
        let refused = transport.produce_data(DataProducerOptions::new("chat"));
        assert_eq!(ObjectError::NoNetwork, refused.wait().unwrap_err());
        thread.stop().unwrap();
    });
}

#[test]
fn item_46_data_is_piped_and_pause_resume_and_close_reach_the_far_side() {
    in_every_world(|world| {
        let here = world.here();
        let other_thread = world.thread("other worker");
        let other = Worker::with_networks(&other_thread, here.networks.clone()).unwrap();
        let far = other.create_router().wait().unwrap();
        let near = here.direct();
        let options = DataProducerOptions::new("chat").paused(true);
        let producer = near.produce_data(options).wait().unwrap();
        let mut piped = here.router.pipe_data(producer.id(), &far).wait().unwrap();
        let status = piped.producer.status().wait().unwrap();
        assert!(status.paused);
        assert_eq!("chat", piped.producer.parameters().label);
        let again = here.router.pipe_data(producer.id(), &far).wait().unwrap();
        assert_eq!(again.producer.id(), piped.producer.id());
        assert_eq!(again.consumer.id(), piped.consumer.id());
        let refused = piped.producer.send("not mine").wait();
        let reason = ObjectError::Data(DataError::NotTheApplications);
        assert_eq!(Err(reason), refused);

        let transport = far.create_direct_transport().wait().unwrap();
        let mut consumer = consume(&transport, &piped.producer);
        assert!(consumer.producer_was_paused());
        world.settle();
        drop(producer.send("paused"));
        drop(producer.resume());
        world.settle();
        assert_eq!(
            vec![DataConsumerEvent::ProducerResumed],
            consumer.events().drain()
        );
        producer.send("resumed").wait().unwrap();
        world.settle();
        assert_eq!(vec!["resumed"], texts(&mut consumer));

        drop(producer.close());
        world.settle();
        let reason = CloseReason::ProducerClosed;
        assert_eq!(
            Some(DataProducerEvent::Closed(reason)),
            piped.producer.events().drain().pop()
        );
        assert_eq!(
            Some(DataConsumerEvent::Closed(reason)),
            consumer.events().drain().pop()
        );
        other_thread.stop().unwrap();
        here.stop();
    });
}

#[test]
fn item_46_closing_the_far_end_of_piped_data_closes_the_near_one() {
    in_every_world(|world| {
        let here = world.here();
        let far = here.worker.create_router().wait().unwrap();
        let near = here.direct();
        let producer = produce(&near);
        let mut piped = here.router.pipe_data(producer.id(), &far).wait().unwrap();
        far.close().wait().unwrap();
        world.settle();
        let closed = DataConsumerEvent::Closed(CloseReason::FarEndClosed);
        assert_eq!(vec![closed], piped.consumer.events().drain());
        assert_eq!(0, producer.status().wait().unwrap().consumers);
        let refused = here.router.pipe_data(producer.id(), &here.router).wait();
        assert_eq!(ObjectError::SameRouter, refused.unwrap_err());
        here.stop();
    });
}

#[test]
fn item_45_what_a_client_sends_reaches_who_consumes_it_on_a_channel_of_the_same_kind() {
    let here = World::Real.here();
    let (mut publisher, mut published) = here.client(Purpose::Produce, &["chat"]);
    let fast = ChannelConfig {
        label: "fast".to_owned(),
        ordered: false,
        reliability: Reliability::MaxRetransmits { retransmits: 2 },
        negotiated: None,
        protocol: "game".to_owned(),
    };
    let (mut viewer, mut viewed) = here.viewer(&mut published);
    // One channel is there before the viewer, the other comes after.
    publisher.open_channel(fast.clone());
    run_until(
        "both are open at both ends",
        [&mut publisher, &mut viewer],
        |[p, v]| {
            p.channels.len() == 2 && v.channel("chat").is_some() && v.channel("fast").is_some()
        },
    );
    assert_eq!(fast, viewer.channel("fast").unwrap().1);
    assert_eq!(channel("chat"), viewer.channel("chat").unwrap().1);
    let id = wait_for_event("a producer", &mut published, &mut [], new_producer);
    let producer = here.router.data_producer(id).wait().unwrap();
    let id = wait_for_event("a consumer", &mut viewed, &mut [], new_consumer);
    let mut consumer = here.router.data_consumer(id).wait().unwrap();
    assert_eq!(producer.id(), consumer.producer());
    assert_eq!("chat", producer.parameters().label);

    let large = vec![3; 64 << 10];
    assert!(publisher.send_data("chat", false, "text".as_bytes()));
    assert!(publisher.send_data("chat", true, &large));
    assert!(publisher.send_data("fast", true, &[9]));
    run_until("all arrives", [&mut publisher, &mut viewer], |[_, v]| {
        v.messages.len() == 3
    });
    let message = |label: &str, is_binary, data| Message {
        label: label.to_owned(),
        is_binary,
        data,
    };
    viewer
        .messages
        .sort_by(|one, other| one.label.cmp(&other.label));
    let expected = vec![
        message("chat", false, b"text".to_vec()),
        message("chat", true, large),
        message("fast", true, vec![9]),
    ];
    assert_eq!(expected, viewer.messages);
    let status = producer.status().wait().unwrap();
    assert_eq!(
        (2, 65_540, 1),
        (status.messages, status.bytes, status.consumers)
    );

    // What a viewer sends goes nowhere, and costs it nothing.
    run_until(
        "its own is open",
        [&mut viewer, &mut publisher],
        |[v, _]| v.channel("own").is_some(),
    );
    assert!(viewer.send_data("own", false, b"hello?"));

    publisher.close_channel("chat");
    run_until(
        "it closes at the viewer",
        [&mut publisher, &mut viewer],
        |[_, v]| v.channel("chat").is_none(),
    );
    assert_eq!(
        vec![DataConsumerEvent::Closed(CloseReason::ProducerClosed)],
        consumer.events().drain()
    );
    let gone = ObjectError::DataProducerClosed(producer.id());
    assert_eq!(gone, producer.status().wait().unwrap_err());
    assert!(publisher.messages.is_empty() && viewer.channel("own").is_some());
    here.stop();
}

#[test]
fn item_45_closing_at_our_end_closes_the_channel_and_the_other_way_round() {
    let here = World::Real.here();
    let (mut publisher, mut published) = here.publisher(&["chat"]);
    let id = wait_for_event(
        "a producer",
        &mut published,
        &mut [&mut publisher],
        new_producer,
    );
    let mut producer = here.router.data_producer(id).wait().unwrap();
    let (mut viewer, mut viewed) = here.viewer(&mut published);
    let both = [&mut publisher, &mut viewer];
    run_until("it is open", both, |[_, v]| v.channel("chat").is_some());
    let id = wait_for_event("a consumer", &mut viewed, &mut [], new_consumer);
    let mut consumer = here.router.data_consumer(id).wait().unwrap();
    viewer.close_channel("chat");
    viewer.run_until("the consumer is told", |_| {
        let closed = DataConsumerEvent::Closed(CloseReason::ChannelClosed);
        consumer.events().try_next() == Some(closed)
    });
    // Asked for by the application this time.
    let options = DataConsumerOptions::new();
    let again = viewed.consume_data(producer.id(), options).wait().unwrap();
    viewer.run_until("it is open again", |v| v.channel("chat").is_some());
    again.close().wait().unwrap();
    viewer.run_until("it is closed", |v| v.channel("chat").is_none());
    producer.close().wait().unwrap();
    publisher.run_until("the producer's is closed", |p| p.channel("chat").is_none());
    let closed = DataProducerEvent::Closed(CloseReason::Called);
    assert_eq!(vec![closed], producer.events().drain());
    here.stop();
}

#[test]
fn item_45_an_echo_comes_back_on_the_same_channel() {
    let here = World::Real.here();
    let (mut client, mut transport) = here.client(Purpose::Echo, &["echo"]);
    client.run_until("it is open", |client| client.channel("echo").is_some());
    client.send_data("echo", false, b"hello");
    client.run_until("it comes back", |client| !client.messages.is_empty());
    assert_eq!(vec!["hello"], client.texts_on("echo"));
    let id = wait_for_event("a consumer", &mut transport, &mut [], new_consumer);
    let consumer = here.router.data_consumer(id).wait().unwrap();
    consumer.pause().wait().unwrap();
    World::Real.settle();
    client.send_data("echo", false, b"unheard");
    (0..20).for_each(|_| client.turn());
    consumer.resume().wait().unwrap();
    World::Real.settle();
    client.send_data("echo", false, b"again");
    client.run_until("it comes back", |client| client.messages.len() > 1);
    assert_eq!(vec!["hello", "again"], client.texts_on("echo"));
    here.stop();
}

#[test]
fn item_45_the_largest_message_passes_and_a_client_has_no_more_channels_than_it_may() {
    let here = World::Real.here();
    let labels: Vec<_> = (0..129).map(|n| n.to_string()).collect();
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let (mut client, _transport) = here.client(Purpose::Echo, &labels);
    client.run_until("one too many is closed", |client| {
        !client.closed_channels.is_empty() && client.channels.len() == 128
    });
    let label = client.channels[0].1.label.clone();
    let large: Vec<u8> = (0..100 << 10).map(|n| n as u8).collect();
    client.run_until("there is room", |client| {
        client.send_data(&label, true, &large)
    });
    client.run_until("it comes back", |client| !client.messages.is_empty());
    assert_eq!(large, client.messages[0].data);
    here.stop();
}

#[test]
fn item_45_a_client_that_takes_nothing_loses_messages_or_its_reliable_channel() {
    let here = World::Real.here();
    let transport = here.direct();
    let reliable = produce(&transport);
    let options = DataProducerOptions::new("fast").max_retransmits(0);
    let unreliable = transport.produce_data(options).wait().unwrap();
    let (mut client, viewed) = here.client(Purpose::Consume(Vec::new()), &["own"]);
    let consume = |id| {
        viewed
            .consume_data(id, DataConsumerOptions::new())
            .wait()
            .unwrap()
    };
    let mut of_reliable = consume(reliable.id());
    let mut of_unreliable = consume(unreliable.id());
    client.run_until("both are open", |client| client.channels.len() == 3);
    // str0m has no empty messages; what comes after one is not held up by it.
    drop(reliable.send(""));
    reliable.send("after").wait().unwrap();
    client.run_until("what comes after it", |client| {
        client.texts_on("chat") == ["after"]
    });

    of_unreliable
        .set_buffered_amount_low_threshold(1_000)
        .wait()
        .unwrap();
    let message = DataMessage::binary(vec![0; 128 << 10]);
    for _ in 0..40 {
        reliable.send(message.clone()).wait().unwrap();
        unreliable.send(message.clone()).wait().unwrap();
    }
    World::Real.settle();
    let status = of_unreliable.status().wait().unwrap();
    assert!(
        status.dropped > 10 && status.buffered_amount > 512 << 10,
        "{status:?}"
    );
    client.run_until("the reliable channel is closed", |_| {
        let closed = DataConsumerEvent::Closed(CloseReason::Undeliverable);
        of_reliable.events().try_next() == Some(closed)
    });
    client.run_until("all that is left has been sent", |_| {
        let event = of_unreliable.events().try_next();
        matches!(event, Some(DataConsumerEvent::BufferedAmountLow(..=1_000)))
    });
    assert!(of_unreliable.status().wait().unwrap().buffered_amount <= 1_000);
    here.stop();
}

#[test]
fn item_45_a_client_without_a_line_for_data_has_none() {
    let here = World::Real.here();
    let transport = here.direct();
    let producer = produce(&transport);
    let (_publisher, mut published) = here.publisher(&[]);
    let producers = published.producers().iter().map(|own| own.id()).collect();
    let (_viewer, viewed) = here.client(Purpose::Consume(producers), &[]);
    let refused = viewed.consume_data(producer.id(), DataConsumerOptions::new());
    let reason = ObjectError::NoDataChannels(viewed.id());
    assert_eq!(reason, refused.wait().unwrap_err());
    here.stop();
}

fn session(signaling: &Signaling, direction: Direction, label: &str) -> Client {
    let room: RoomName = "lobby".parse().unwrap();
    let (mut client, offer, pending) =
        Client::offer_with_channels(direction, USUAL, &[channel(label)]);
    let answer = match direction {
        Direction::SendOnly => signaling.publish(room, None, offer),
        _ => signaling.view(room, None, offer),
    };
    client.accept(pending, &answer.wait().unwrap().sdp);
    client.run_until("connected", |client| client.connected);
    client
}

#[test]
fn item_45_a_publishers_data_reaches_the_viewers_of_its_room() {
    let sfu = Sfu::start(SfuOptions {
        udp_bind: Ipv4Addr::LOCALHOST.into(),
        network_threads: 2,
        ..SfuOptions::default()
    });
    let sfu = sfu.unwrap();
    let signaling = sfu.signaling();
    let mut publisher = session(&signaling, Direction::SendOnly, "chat");
    let mut viewers = [(); 3].map(|()| session(&signaling, Direction::RecvOnly, "own"));
    let [one, two, three] = &mut viewers;
    run_until(
        "all are open",
        [&mut publisher, one, two, three],
        |clients| clients.iter().all(|own| own.channel("chat").is_some()),
    );
    publisher.send_data("chat", false, "good evening".as_bytes());
    let [one, two, three] = &mut viewers;
    run_until(
        "all hear it",
        [&mut publisher, one, two, three],
        |[_, viewers @ ..]| {
            viewers
                .iter()
                .all(|own| own.texts_on("chat") == ["good evening"])
        },
    );
    sfu.shutdown().unwrap();
}
