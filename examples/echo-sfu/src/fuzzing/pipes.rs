//! The other end of a pipe between processes: a stranger, and a process that has the secret and has
//! lost its mind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rtc_thread::Thread;

use crate::objects::{
    DataProducer, DataProducerOptions, MediaKind, PipeListener, PipeListenerEvent,
    PlainTransportOptions, Producer, ProducerOptions, Router, RtpCodec, RtpParameters, Worker,
};
use crate::pipe_link::{Heard, LinkError, Message, PipeSecret, Protocol, Role};
use crate::{NetworkOptions, NetworkThreads};

/// Longer than anything takes, and shorter than what the fuzzer calls a fault.
const PATIENCE: Duration = Duration::from_secs(4);
/// More than a stranger may have us remember: a first message, and what was read with it.
const STRANGERS_BYTES: usize = 2_048;
/// As the network delivers it.
const PIECE: usize = 512;

/// What comes of bytes of somebody who has not the secret: no more than that keys are agreed on.
pub fn hear_stranger(bytes: &[u8]) -> bool {
    let mut protocol = Protocol::new(Role::Listens, secret()).expect("random numbers");
    let mut heard = Vec::new();
    for piece in bytes.chunks(PIECE) {
        if protocol.hear(piece, &mut heard).is_err() {
            break;
        }
        assert!(protocol.kept() <= STRANGERS_BYTES, "a stranger is kept");
    }
    let is_nothing = |heard: &Heard| matches!(heard, Heard::Keys { .. });
    assert!(heard.len() <= 1 && heard.iter().all(is_nothing));
    !heard.is_empty()
}

/// How many messages are understood of what somebody says who has the secret.
pub fn hear_member(bodies: &[&[u8]]) -> usize {
    let mut member = Protocol::new(Role::Connects, secret()).expect("random numbers");
    let mut own = Protocol::new(Role::Listens, secret()).expect("random numbers");
    let mut heard = Vec::new();
    let mut hear = |member: &mut Protocol, own: &mut Protocol| -> Result<(), LinkError> {
        let bytes = std::mem::take(&mut member.outgoing);
        bytes
            .chunks(PIECE)
            .try_for_each(|piece| own.hear(piece, &mut heard))
    };
    let _ = hear(&mut member, &mut own);
    let hello = std::mem::take(&mut own.outgoing);
    let greeted = member.hear(&hello, &mut Vec::new());
    assert_eq!(Ok(()), greeted);
    for body in bodies {
        if member.say_body(body).is_err() || hear(&mut member, &mut own).is_err() {
            break;
        }
    }
    for (at, heard) in heard.iter().enumerate() {
        match heard {
            Heard::Keys { .. } => assert_eq!(0, at),
            Heard::Ready { .. } => assert_eq!(1, at),
            Heard::Message { message, .. } => {
                assert!(at > 1);
                let said = serde_json::to_vec(message).expect("what is read can be said");
                let again: Message = serde_json::from_slice(&said).expect("and read again");
                assert_eq!(*message, again);
            }
            Heard::Data { .. } => assert!(at > 1),
        }
    }
    heard.len()
}

/// Has a router hear all of that from another process, to which a producer and a data producer are
/// piped meanwhile; both are called something there. The router is there afterwards.
pub fn link_with(bodies: &[&[u8]]) {
    static HERE: OnceLock<Mutex<Here>> = OnceLock::new();
    let here = HERE.get_or_init(|| Mutex::new(Here::new()));
    here.lock().expect("no panic before").link_with(bodies);
}

struct Here {
    router: Router,
    listener: PipeListener,
    producer: Producer,
    data: DataProducer,
    /// In the order in which they are to be dropped.
    _threads: [Thread; 2],
}

impl Here {
    fn new() -> Self {
        let moving = Thread::builder().with_sockets().spawn().expect("a thread");
        let deciding = Thread::builder().spawn().expect("a thread");
        let options = NetworkOptions {
            bind: local(),
            announced: vec![Ipv4Addr::LOCALHOST.into()],
        };
        let networks = NetworkThreads::new([(&moving.handle(), options)]).expect("a socket");
        let worker = Worker::with_networks(&deciding.handle(), networks).expect("a worker");
        let router = worker.create_router().wait().expect("a router");
        let listener = router.listen_for_pipes(local(), secret());
        let plain = router.create_plain_transport(PlainTransportOptions::default());
        let direct = router
            .create_direct_transport()
            .wait()
            .expect("a transport");
        let parameters = RtpParameters {
            kind: MediaKind::Video,
            codecs: vec![RtpCodec::vp8(96)],
            ssrc: Some(1),
            rtx_ssrc: None,
            extensions: Vec::new(),
        };
        let plain = plain.wait().expect("a transport");
        let producer = plain.produce(parameters, ProducerOptions::new());
        let data = direct.produce_data(DataProducerOptions::new("data"));
        Self {
            listener: listener.wait().expect("a port"),
            producer: producer.wait().expect("a producer"),
            data: data.wait().expect("a data producer"),
            router,
            _threads: [deciding, moving],
        }
    }

    fn link_with(&mut self, bodies: &[&[u8]]) {
        let mut stream = TcpStream::connect(self.listener.local_address()).expect("a listener");
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut protocol = Protocol::new(Role::Connects, secret()).expect("random numbers");
        let mut heard = Vec::new();
        while heard.is_empty() && converse(&mut stream, &mut protocol, &mut heard) {}
        let ready = Message::Ready { udp_port: 9 };
        protocol.say(&ready).expect("a short message");
        while heard.len() < 2 && converse(&mut stream, &mut protocol, &mut heard) {}
        assert!(heard.len() >= 2, "the link was not agreed on: {heard:?}");
        let deadline = Instant::now() + PATIENCE;
        let connected = loop {
            assert!(Instant::now() < deadline, "nobody has connected");
            match self.listener.events().try_next() {
                Some(PipeListenerEvent::Connected(id)) => break id,
                Some(PipeListenerEvent::Closed(_)) => panic!("nobody listens"),
                None => std::thread::yield_now(),
            }
        };
        if let Ok(pipe) = self.router.remote_pipe(connected).wait() {
            drop(pipe.pipe(self.producer.id(), "media"));
            drop(pipe.pipe_data(self.data.id(), "data"));
        }
        for body in bodies {
            if protocol.say_body(body).is_err() {
                break;
            }
        }
        drop(self.data.send("to whoever listens"));
        // The other end may have had enough.
        let _ = stream.write_all(&protocol.outgoing);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        self.producer
            .status()
            .wait()
            .expect("the producer is there");
        self.data
            .status()
            .wait()
            .expect("the data producer is there");
    }
}

/// Sends what there is to say, and hears what comes. False if nothing will.
fn converse(stream: &mut TcpStream, protocol: &mut Protocol, heard: &mut Vec<Heard>) -> bool {
    let said = std::mem::take(&mut protocol.outgoing);
    let mut buffer = [0; 4_096];
    stream.write_all(&said).is_ok()
        && match stream.read(&mut buffer) {
            Ok(count) if count > 0 => protocol.hear(&buffer[..count], heard).is_ok(),
            _ => false,
        }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn secret() -> PipeSecret {
    PipeSecret::new(b"known to the fuzzer").expect("long enough")
}
