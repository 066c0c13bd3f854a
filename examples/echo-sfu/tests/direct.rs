//! Media that an application sends and is sent itself: conformance item 42, as far as it is about
//! direct transports.

#[allow(dead_code, reason = "each test uses its part of it")]
mod rtc_client;
mod world;

use std::time::{Duration, Instant};

use echo_sfu::objects::{
    Consumer, ConsumerOptions, DirectTransport, ObjectError, Producer, ProducerEvent,
    ProducerOptions, Purpose, RtpSource, Worker,
};
use echo_sfu::{Offer, OfferedFlow};
use rtc_client::Client;
use str0m::format::{Codec, CodecConfig, PayloadParams};
use str0m::media::{Direction, MediaKind};
use world::{World, in_every_world};

const SSRC: u32 = 77;

fn codec(codec: Codec) -> Vec<PayloadParams> {
    let mut config = CodecConfig::empty();
    match codec {
        Codec::Opus => config.enable_opus(true, false),
        _ => config.enable_vp8(true),
    }
    config.params().to_vec()
}

fn audio() -> RtpSource {
    RtpSource::new(MediaKind::Audio, codec(Codec::Opus), SSRC)
}

fn video() -> RtpSource {
    RtpSource::new(MediaKind::Video, codec(Codec::Vp8), SSRC)
}

/// A packet of Opus with an audio level, or of VP8.
fn packet(codecs: &[PayloadParams], sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, *codecs[0].pt()];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 960).to_be_bytes());
    packet.extend(SSRC.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 1, 0x10, 0x80 | 30, 0, 0]);
    packet.extend(payload);
    packet
}

fn produce(transport: &DirectTransport, source: RtpSource) -> Producer {
    transport.produce_rtp(source).wait().unwrap()
}

fn consume(transport: &DirectTransport, producer: &Producer) -> Consumer {
    let consumer = transport.consume(producer.id(), ConsumerOptions::new());
    consumer.wait().unwrap()
}

/// What came, without headers.
fn payloads(consumer: &mut Consumer) -> Vec<Vec<u8>> {
    let packets = consumer.packets().unwrap().drain();
    packets.iter().map(|own| own[20..].to_vec()).collect()
}

/// Packets that have waited for so long on their way from one network thread to another are left out.
const TOO_LATE: Duration = Duration::from_millis(500);

/// Runs a test in each world; for real once more whenever the machine took so long for it that packets
/// may have been left out, which it tells by `false`.
fn in_every_world_in_time(test: impl Fn(&World) -> bool) {
    in_every_world(|world| {
        let is_in_time = (0..100).any(|_| test(world));
        assert!(is_in_time, "it never gets on");
    });
}

#[test]
fn item_42_packets_of_an_application_reach_applications_renumbered_with_their_level() {
    in_every_world_in_time(|world| {
        let here = world.here();
        // On both network threads.
        let (near, far) = (here.direct(), here.direct());
        let producer = produce(&near, audio());
        let mut consumers = [consume(&near, &producer), consume(&far, &producer)];
        world.settle();
        let codecs = codec(Codec::Opus);
        let start = Instant::now();
        for number in 0..10_u16 {
            let sent = packet(&codecs, 60_000 + number, &[number as u8; 20]);
            drop(producer.send_rtp(sent));
        }
        // Once more what came before.
        let sent = packet(&codecs, 60_003, &[3; 20]);
        producer.send_rtp(sent).wait().unwrap();
        world.settle();
        if start.elapsed() >= TOO_LATE {
            here.stop();
            return false;
        }
        for consumer in &mut consumers {
            let ssrc = consumer.id().to_string().parse::<u32>().unwrap();
            let packets = consumer.packets().unwrap().drain();
            assert_eq!(10, packets.len());
            for (number, packet) in packets.iter().enumerate() {
                assert_eq!(*codecs[0].pt(), packet[1] & 0x7f);
                let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                assert_eq!(number, usize::from(sequence));
                assert_eq!(ssrc.to_be_bytes(), packet[8..12]);
                assert_eq!([0x10, 0x80 | 30], packet[16..18]);
                assert_eq!([number as u8; 20], packet[20..]);
            }
        }
        here.stop();
        true
    });
}

#[test]
fn item_42_pausing_and_closing_take_effect_in_the_order_of_the_calls() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let producer = produce(&transport, audio());
        let mut consumer = consume(&transport, &producer);
        world.settle();
        let codecs = codec(Codec::Opus);
        let send = |number: u8| {
            let sent = packet(&codecs, number.into(), &[number; 4]);
            drop(producer.send_rtp(sent));
        };
        send(1);
        drop(producer.pause());
        send(2);
        drop(producer.resume());
        send(3);
        drop(consumer.pause());
        send(4);
        drop(consumer.resume());
        send(5);
        world.settle();
        let seen = [1, 3, 5].map(|number| vec![number; 4]);
        assert_eq!(seen.to_vec(), payloads(&mut consumer));
        producer.close().wait().unwrap();
        let gone = ObjectError::ProducerClosed(producer.id());
        let sent = packet(&codecs, 6, &[6]);
        assert_eq!(Err(gone), producer.send_rtp(sent).wait());
        here.stop();
    });
}

#[test]
fn item_42_a_key_frame_is_asked_of_the_application() {
    in_every_world_in_time(|world| {
        let here = world.here();
        let (near, far) = (here.direct(), here.direct());
        let mut producer = produce(&near, video());
        let mut consumer = consume(&far, &producer);
        world.settle();
        assert_eq!(
            vec![ProducerEvent::KeyFrameRequested],
            producer.events().drain()
        );
        // A VP8 frame that is none, then one that is.
        let codecs = codec(Codec::Vp8);
        let start = Instant::now();
        drop(producer.send_rtp(packet(&codecs, 1, &[0x10, 1, 0, 0])));
        producer
            .send_rtp(packet(&codecs, 2, &[0x10, 0, 0, 0]))
            .wait()
            .unwrap();
        world.settle();
        let is_in_time = start.elapsed() < TOO_LATE;
        if is_in_time {
            assert_eq!(vec![vec![0x10, 0, 0, 0]], payloads(&mut consumer));
        }
        here.stop();
        is_in_time
    });
}

#[test]
fn item_42_what_is_no_packet_is_refused_and_so_is_who_may_not_send() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let producer = produce(&transport, audio());
        for bad in [vec![], vec![0; 20], vec![0x80; 11], vec![0x80; 1_401]] {
            assert_eq!(Err(ObjectError::BadPacket), producer.send_rtp(bad).wait());
        }
        let no_codec = RtpSource::new(MediaKind::Audio, Vec::new(), 1);
        let refused = transport.produce_rtp(no_codec).wait();
        assert_eq!(ObjectError::NoCodec, refused.unwrap_err());
        let silent = transport.produce(ProducerOptions::new()).wait().unwrap();
        let sent = packet(&codec(Codec::Opus), 1, &[1]);
        let refused = silent.send_rtp(sent).wait();
        assert_eq!(Err(ObjectError::NoMedia(silent.id())), refused);
        let mut consumer = consume(&transport, &silent);
        assert!(consumer.packets().is_none());

        let thread = world.thread("worker without network");
        let worker = Worker::new(&thread).unwrap();
        let router = worker.create_router().wait().unwrap();
        let transport = router.create_direct_transport().wait().unwrap();
        let refused = transport.produce_rtp(audio()).wait();
        assert_eq!(ObjectError::NoNetwork, refused.unwrap_err());
        thread.stop().unwrap();
        here.stop();
    });
}

#[test]
fn item_42_what_overflows_is_counted_and_holds_up_nobody() {
    in_every_world(|world| {
        let here = world.here();
        let transport = here.direct();
        let producer = produce(&transport, audio());
        let mut slow = consume(&transport, &producer);
        let mut fast = consume(&transport, &producer);
        world.settle();
        let codecs = codec(Codec::Opus);
        let mut seen = 0;
        for number in 0..5_000_u16 {
            let sent = producer.send_rtp(packet(&codecs, number, &[1]));
            if number % 1_000 == 999 {
                sent.wait().unwrap();
                world.settle();
                seen += payloads(&mut fast).len();
            }
        }
        assert_eq!(5_000, seen);
        let packets = slow.packets().unwrap();
        assert_eq!((904, 4_096), (packets.overflowed(), packets.drain().len()));
        here.stop();
    });
}

#[test]
fn item_42_an_application_speaks_with_clients() {
    let here = World::Real.here();
    let transport = here.direct();
    let producer = produce(&transport, audio());
    let usual = [Codec::Opus, Codec::Vp8];
    let (mut viewer, offer, pending) = Client::offer(Direction::RecvOnly, &usual);
    let offer = Offer::parse(&offer, OfferedFlow::FromUs).unwrap();
    let purpose = Purpose::Consume(vec![producer.id()]);
    let viewed = here.router.create_webrtc_transport(offer, purpose);
    let viewed = viewed.wait().unwrap();
    viewer.accept(pending, viewed.answer());
    viewer.run_until("connected", |client| client.connected);
    let codecs = codec(Codec::Opus);
    let mut number = 0;
    viewer.run_until("what the application sends", |viewer| {
        number += 1;
        drop(producer.send_rtp(packet(&codecs, number, &[9; 30])));
        viewer.received.len() >= 10
    });
    assert_eq!([9; 30], viewer.received[0].payload[..]);

    let (mut publisher, offer, pending) = Client::offer(Direction::SendOnly, &usual);
    let offer = Offer::parse(&offer, OfferedFlow::ToUs).unwrap();
    let published = here.router.create_webrtc_transport(offer, Purpose::Produce);
    let mut published = published.wait().unwrap();
    publisher.accept(pending, published.answer());
    publisher.run_until("connected", |client| client.connected);
    let mut consumer = consume(&transport, &published.producers()[0]);
    publisher.run_until("what the client sends", |publisher| {
        publisher.exchange();
        std::thread::sleep(Duration::from_millis(1));
        let packet = consumer.packets().unwrap().try_next();
        let marks = [0x90, 0x80, 0, 0];
        packet.is_some_and(|packet| packet.windows(4).any(|own| own == marks))
    });
    here.stop();
}
