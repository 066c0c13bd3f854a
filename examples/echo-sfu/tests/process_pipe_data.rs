//! Data on pipes between processes: conformance items 45 and 46.

mod linked;
mod plain_rtp;
#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use echo_sfu::objects::{
    CloseReason, DataConsumer, DataConsumerEvent, DataConsumerOptions, DataMessage, DataProducer,
    DataProducerEvent, DataProducerOptions, DataReliability, DirectTransport, RemotePipe,
    RemotePipeEvent,
};
use linked::{accept, another_process, connect, linked, listen, other_end};
use plain_rtp::{Place, place};
use rtc_client::Client;
use serde::{Deserialize, Serialize};
use str0m::channel::ChannelConfig;
use str0m::format::Codec;
use str0m::media::Direction;
use support::http;
use support::process::Process;
use support::server::Server;
use support::wait::wait_for;

fn direct(place: &Place) -> DirectTransport {
    place.router.create_direct_transport().wait().unwrap()
}

/// A data producer that is piped to here, and what is said about it.
#[track_caller]
fn produced_data(place: &Place, pipe: &mut RemotePipe) -> (DataProducer, String) {
    let (id, label) = wait_for("a data producer is piped", || {
        match pipe.events().try_next() {
            Some(RemotePipeEvent::ProducedData { producer, label }) => {
                Ok((producer, label.to_string()))
            }
            other => Err(other),
        }
    });
    (place.router.data_producer(id).wait().unwrap(), label)
}

fn consume(place: &Place, producer: &DataProducer, sub_channels: &[u16]) -> DataConsumer {
    let options = DataConsumerOptions::new().sub_channels(sub_channels);
    direct(place)
        .consume_data(producer.id(), options)
        .wait()
        .unwrap()
}

/// What the other process says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// What was told of the data producers: by the pipe, and by themselves.
    labels: Vec<String>,
    /// Texts, and how many bytes those have that are none.
    messages: Vec<String>,
    events: Vec<String>,
}

fn listen_to_what_is_piped_from(to: SocketAddr) {
    let (place, mut pipe) = connect(to);
    let mut seen = Seen::default();
    let mut producers: Vec<DataProducer> = Vec::new();
    let mut consumers: Vec<DataConsumer> = Vec::new();
    loop {
        let mut is_over = false;
        for event in pipe.events().drain() {
            match event {
                RemotePipeEvent::ProducedData { producer, label } => {
                    let producer = place.router.data_producer(producer).wait().unwrap();
                    consumers.push(consume(&place, &producer, &[7]));
                    let parameters = producer.parameters();
                    seen.labels.push(format!("{label}: {parameters:?}"));
                    producers.push(producer);
                }
                RemotePipeEvent::Closed(_) => is_over = true,
                other => panic!("{other:?}"),
            }
        }
        for consumer in &mut consumers {
            let messages = consumer.messages().unwrap().drain();
            seen.messages.extend(messages.iter().map(|message| {
                let bytes = message.payload().len();
                message.as_text().map_or(bytes.to_string(), str::to_owned)
            }));
        }
        for producer in &mut producers {
            let events = producer.events().drain();
            let events = events.iter().map(|event| format!("{event:?}"));
            seen.events.extend(events);
        }
        println!("{}", serde_json::to_string(&seen).unwrap());
        if is_over {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn wait_until(other: &Process, what: &str, is_so: impl Fn(&Seen) -> bool) -> Seen {
    wait_for(what, || {
        let lines = other.output();
        let mut said = lines.iter().rev();
        let seen = said.find_map(|line| serde_json::from_str::<Seen>(line).ok());
        seen.clone().filter(&is_so).ok_or(seen)
    })
}

#[test]
fn item_46_data_crosses_with_what_it_promises_and_is_paused_resumed_and_closed() {
    if let Some(to) = other_end() {
        return listen_to_what_is_piped_from(to);
    }
    let place = place(2);
    let mut listener = listen(&place);
    let mut other = another_process(
        "item_46_data_crosses_with_what_it_promises_and_is_paused_resumed_and_closed",
        listener.local_address(),
    );
    let pipe = accept(&place, &mut listener);
    let transport = direct(&place);
    let options = DataProducerOptions::new("chat").protocol("words");
    let chat = transport.produce_data(options).wait().unwrap();
    let options = DataProducerOptions::new("place").max_retransmits(3);
    let whereabouts = transport.produce_data(options).wait().unwrap();
    let piped = pipe.pipe_data(chat.id(), "one").wait().unwrap();
    pipe.pipe_data(whereabouts.id(), "other").wait().unwrap();
    let again = pipe.pipe_data(chat.id(), "again").wait().unwrap();
    assert_eq!(piped.id(), again.id());
    let told = |label: &str, own: &DataProducer| format!("{label}: {:?}", own.parameters());
    let labels = vec![told("one", &chat), told("other", &whereabouts)];
    assert_eq!(
        DataReliability::MaxRetransmits(3),
        whereabouts.parameters().reliability
    );
    wait_until(&other, "both are there", |seen| seen.labels == labels);

    let send = |message: DataMessage| chat.send(message).wait().unwrap();
    send("to all".into());
    send(DataMessage::text("to some").on_sub_channels(&[7, 8]));
    send(DataMessage::text("to others").on_sub_channels(&[8]));
    send(DataMessage::binary(vec![0; 256 << 10]));
    send("".into());
    whereabouts.send("here").wait().unwrap();
    let large = (256 << 10).to_string();
    let of_chat = ["to all", "to some", &large, ""];
    let seen = wait_until(&other, "messages arrive", |seen| seen.messages.len() == 5);
    let in_order: Vec<_> = seen.messages.iter().filter(|own| *own != "here").collect();
    assert_eq!(of_chat.as_slice(), in_order);

    // Paused here, nothing arrives there, and what is sent meanwhile is lost.
    // As soon as it goes on, so do they.
    drop(chat.pause());
    drop(chat.send("while it is paused"));
    drop(chat.resume());
    send("at last".into());
    wait_until(&other, "it was paused there, and goes on", |seen| {
        seen.events == ["Paused", "Resumed"]
    });
    let seen = wait_until(&other, "a message arrives", |seen| seen.messages.len() > 5);
    assert_eq!(Some("at last"), seen.messages.last().map(String::as_str));

    // Closed here, it is closed there; and the rest with the pipe.
    chat.close().wait().unwrap();
    let closed = "Closed(ProducerClosed)";
    wait_until(&other, "it is closed there", |seen| {
        seen.events.last().is_some_and(|event| event == closed)
    });
    pipe.close().wait().unwrap();
    assert!(other.wait().success());
}

#[test]
fn item_46_what_was_sent_before_closing_arrives_on_whatever_threads() {
    const MESSAGES: usize = 50;
    let (near, far) = (place(2), place(2));
    let mut listener = listen(&far);
    let to = listener.local_address();
    let link = near.router.connect_pipe(to, linked::secret());
    let near_pipe = link.wait().unwrap();
    let mut far_pipe = accept(&far, &mut listener);
    for round in 0..40 {
        // Each transport is on the next thread.
        let transports = [direct(&near), direct(&near)];
        for transport in &transports {
            let chat = transport.produce_data(DataProducerOptions::new("chat"));
            let chat = chat.wait().unwrap();
            near_pipe.pipe_data(chat.id(), "").wait().unwrap();
            let (there, _) = produced_data(&far, &mut far_pipe);
            let consumers = [&there, &there].map(|there| consume(&far, there, &[]));
            // Who has heard something is known where messages arrive, and misses nothing from then on.
            wait_for("the consumers are known there", || {
                drop(chat.send("is anybody there?"));
                let here = consumers.each_ref().map(|own| {
                    let status = own.status().wait().unwrap();
                    status.messages
                });
                (!here.contains(&0)).then_some(()).ok_or(here)
            });
            for at in 0..MESSAGES {
                drop(chat.send(at.to_string().as_str()));
            }
            drop(chat.close());
            for mut consumer in consumers {
                let mut heard = 0;
                wait_for(&format!("all of round {round}"), || {
                    let messages = consumer.messages().unwrap().drain();
                    let counted = messages.iter().filter_map(|own| own.as_text());
                    heard += counted.filter(|own| own.parse::<usize>().is_ok()).count();
                    (heard == MESSAGES).then_some(()).ok_or(heard)
                });
            }
        }
    }
}

#[test]
fn item_46_closing_data_at_the_far_end_closes_what_feeds_it() {
    let mut world = linked();
    let options = DataProducerOptions::new("chat").paused(true);
    let chat = direct(&world.near).produce_data(options).wait().unwrap();
    let piped = world.near_pipe.pipe_data(chat.id(), "");
    let mut piped = piped.wait().unwrap();
    let (there, _) = produced_data(&world.far, &mut world.far_pipe);
    assert!(there.status().wait().unwrap().paused);
    there.close().wait().unwrap();
    let closed = wait_for("what feeds it is closed", || {
        piped.events().try_next().ok_or("nothing")
    });
    assert_eq!(DataConsumerEvent::Closed(CloseReason::FarEndClosed), closed);
    assert!(chat.status().wait().is_ok());
    // Piped again, it is another pipe, which ends with the link.
    let piped = world.near_pipe.pipe_data(chat.id(), "");
    let mut piped = piped.wait().unwrap();
    let (mut there, _) = produced_data(&world.far, &mut world.far_pipe);
    world.far_pipe.close().wait().unwrap();
    let closed = wait_for("the data producer is closed", || {
        there.events().try_next().ok_or("nothing")
    });
    let by_transport = DataProducerEvent::Closed(CloseReason::TransportClosed);
    assert_eq!(by_transport, closed);
    wait_for("what feeds it is closed", || {
        piped.events().try_next().ok_or("nothing")
    });
}

#[test]
fn item_46_a_link_takes_so_many_data_producers_and_refuses_the_next() {
    let mut world = linked();
    let transport = direct(&world.near);
    let mut consumers: Vec<_> = (0..513)
        .map(|_| {
            let producer = transport.produce_data(DataProducerOptions::new(""));
            let piped = world.near_pipe.pipe_data(producer.wait().unwrap().id(), "");
            piped.wait().unwrap()
        })
        .collect();
    let mut last = consumers.pop().unwrap();
    let refused = wait_for("the last one is refused", || {
        last.events().try_next().ok_or("nothing")
    });
    assert_eq!(DataConsumerEvent::Closed(CloseReason::FarEndFull), refused);
    for consumer in &mut consumers {
        produced_data(&world.far, &mut world.far_pipe);
        assert_eq!(None, consumer.events().try_next());
    }
}

#[test]
fn item_45_when_the_other_process_stands_still_what_was_promised_is_closed_and_the_rest_is_lost() {
    const TEST: &str = "item_45_when_the_other_process_stands_still_what_was_promised_is_closed_and_the_rest_is_lost";
    if let Some(to) = other_end() {
        return listen_to_what_is_piped_from(to);
    }
    let place = place(1);
    let mut listener = listen(&place);
    let mut other = another_process(TEST, listener.local_address());
    let pipe = accept(&place, &mut listener);
    let transport = direct(&place);
    let produce = |options: DataProducerOptions| {
        let producer = transport.produce_data(options).wait().unwrap();
        let piped = pipe.pipe_data(producer.id(), "").wait().unwrap();
        (producer, piped)
    };
    let (promised, mut reliable) = produce(DataProducerOptions::new("all of it"));
    let (any, unreliable) = produce(DataProducerOptions::new("some").max_retransmits(0));
    wait_until(&other, "both are there", |seen| seen.labels.len() == 2);
    other.stop();
    let message = DataMessage::binary(vec![1; 200 << 10]);
    let closed = wait_for("too much waits", || {
        for _ in 0..4 {
            any.send(message.clone()).wait().unwrap();
            promised.send(message.clone()).wait().unwrap();
        }
        reliable.events().try_next().ok_or("nothing")
    });
    assert_eq!(
        DataConsumerEvent::Closed(CloseReason::Undeliverable),
        closed
    );
    let status = unreliable.status().wait().unwrap();
    assert!(status.dropped > 0 && status.messages > 0, "{status:?}");
    other.go_on();
    wait_until(&other, "it is told why", |seen| {
        seen.events == ["Closed(Undeliverable)"]
    });
    wait_for("nothing waits", || {
        let waiting = unreliable.status().wait().unwrap().buffered_amount;
        (waiting == 0).then_some(()).ok_or(waiting)
    });
    any.send("it goes on").wait().unwrap();
    wait_until(&other, "the other goes on", |seen| {
        seen.messages
            .last()
            .is_some_and(|last| last == "it goes on")
    });
    pipe.close().wait().unwrap();
    assert!(other.wait().success());
}

/// A client of a server, by WHIP or WHEP, with such a data channel.
fn client_of(server: &Server, direction: Direction, path: &str, channel: &str) -> Client {
    let channel = ChannelConfig {
        label: channel.to_owned(),
        ..ChannelConfig::default()
    };
    let codecs = [Codec::Opus, Codec::Vp8];
    let (mut client, offer, pending) = Client::offer_with_channels(direction, &codecs, &[channel]);
    let sdp = [("Content-Type", "application/sdp")];
    let answer = http::request(server.address(), "POST", path, &sdp, &offer).unwrap();
    assert_eq!(201, answer.status, "{answer:?}");
    client.accept(pending, &answer.body);
    client.run_until("connected", |client| client.connected);
    client
}

#[test]
fn item_46_who_views_at_another_server_reads_what_a_publisher_says() {
    let [far, near] = Server::start_linked("data-pipe-secret");
    let mut publisher = client_of(&near, Direction::SendOnly, "/whip/hall", "chat");
    far.wait_for_room("hall", "it is seen from afar", |room| {
        room.publishers.len() == 1
    });
    publisher.run_until("its channel is open", |own| own.channel("chat").is_some());
    let mut early = client_of(&far, Direction::RecvOnly, "/whep/hall", "own");
    let mut reads = |what: &str, viewer: &mut Client, text: &str| {
        viewer.run_until("the channel is there", |viewer| {
            publisher.turn();
            viewer.channel("chat").is_some()
        });
        viewer.run_until(what, |viewer| {
            publisher.send_data("chat", false, text.as_bytes());
            publisher.turn();
            viewer.texts_on("chat").iter().any(|heard| heard == text)
        });
    };
    reads("who came before", &mut early, "hello");
    let mut late = client_of(&far, Direction::RecvOnly, "/whep/hall", "own");
    reads("who came after", &mut late, "welcome");
}
