//! What two processes say to each other about what is piped between them.
//!
//! Bytes in, bytes out: no socket and no thread. Both ends have the same secret. Each says hello with
//! random bytes; from both of these and the secret come keys for one direction and the other, of what
//! is said here and of the media, so that none of them crosses the wire and none is used twice. What
//! follows is messages, each sealed: only who has the key can read it, or make one, and in another
//! place in the order it is nothing. The first one says that who sends it is ready.
//!
//! ```text
//! hello:   "echo-sfu pipe 3\n" and 32 random bytes
//! message: length of the body (32 bits), body and tag by AES-256-GCM, whose nonce is the number
//! body:    JSON; or a message of a data channel, which begins with a byte of 0
//! ```

mod data_frame;
mod message;
mod secret;

pub(crate) use message::{Demand, FarEndReason, Message, PipedState};
pub use secret::{PipeSecret, PipeSecretTooShort};

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::objects::DataMessage;
use crate::rtp::srtp::SrtpKey;
use data_frame::MAX_DATA_FRAME;
use secret::Agreed;

const GREETING: &[u8; 16] = b"echo-sfu pipe 3\n";
const NONCE: usize = 32;
const HELLO: usize = GREETING.len() + NONCE;
const LENGTH: usize = 4;
const TAG: usize = 16;
/// The longest is one that creates a producer with many codecs.
const MAX_TEXT: usize = 64 * 1024;
/// The first message is short. Who has not shown that it has the secret has no more of our memory.
const MAX_FIRST: usize = 1_024;

/// Why nothing more of the other end is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It speaks something else, or another version of this.
    #[error("the other end does not speak this protocol")]
    OtherProtocol,
    /// It has not the secret, or somebody has changed what it said.
    #[error("the other end has another secret")]
    NotAuthentic,
    /// It is longer than anything there is to say.
    #[error("a message is too long")]
    TooLong,
    /// It has the secret, and talks nonsense.
    #[error("a message is not understood")]
    NotUnderstood,
    /// The first thing to say is that one is ready, and that only once.
    #[error("a message comes before its time, or again")]
    OutOfOrder,
    /// Our own words come back.
    #[error("the other end repeats what it hears")]
    Echo,
    /// There are no random numbers to begin with.
    #[error("no random numbers")]
    NoRandom,
}

/// Who began. The two ends' keys are not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Connects,
    Listens,
}

/// What has come of what was received.
#[derive(Debug)]
pub(crate) enum Heard {
    /// What media is encrypted with: ours, and theirs. Whether the other end has the secret is not
    /// known yet.
    Keys { ours: SrtpKey, theirs: SrtpKey },
    /// It has the secret, and takes media at this port. Comes before the next two, and once.
    Ready { udp_port: u16 },
    Message {
        message: Message,
        /// How long it was.
        bytes: usize,
    },
    /// A message on what the other end calls so.
    Data { name: u64, message: DataMessage },
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Protocol {
    role: Role,
    nonce: [u8; NONCE],
    state: State,
    received: Vec<u8>,
    /// What is to be sent, in order. To be taken out by whoever sends it.
    pub(crate) outgoing: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Hello(PipeSecret),
    /// Ours, and theirs.
    Open(Box<[Direction; 2]>),
}

/// One direction of what is said.
struct Direction {
    key: LessSafeKey,
    /// The number of the next message.
    next: u64,
}

impl std::fmt::Debug for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Direction")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Protocol {
    /// Says hello.
    ///
    /// # Errors
    ///
    /// There are no random numbers.
    pub(crate) fn new(role: Role, secret: PipeSecret) -> Result<Self, LinkError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| LinkError::NoRandom)?;
        Ok(Self {
            role,
            nonce,
            state: State::Hello(secret),
            received: Vec::new(),
            outgoing: [GREETING.as_slice(), &nonce].concat(),
        })
    }

    /// Says something. Before the keys are known, nothing can be said.
    ///
    /// # Errors
    ///
    /// It is longer than what the other end listens to.
    pub(crate) fn say(&mut self, message: &Message) -> Result<(), LinkError> {
        let text = serde_json::to_vec(message).map_err(|_| LinkError::NotUnderstood)?;
        if text.len() > MAX_TEXT {
            return Err(LinkError::TooLong);
        }
        self.say_body(&text)
    }

    /// Says a message of a data channel.
    ///
    /// # Errors
    ///
    /// It is longer than what the other end listens to.
    pub(crate) fn say_data(&mut self, name: u64, message: &DataMessage) -> Result<(), LinkError> {
        self.say_body(&data_frame::write(name, message))
    }

    /// Whatever that is: the fuzzer says what nobody else would.
    pub(crate) fn say_body(&mut self, body: &[u8]) -> Result<(), LinkError> {
        let State::Open(directions) = &mut self.state else {
            return Ok(());
        };
        let [ours, _] = &mut **directions;
        if body.len() > MAX_DATA_FRAME {
            return Err(LinkError::TooLong);
        }
        let length = u32::try_from(body.len()).map_err(|_| LinkError::TooLong)?;
        self.outgoing.extend(length.to_be_bytes());
        ours.seal(body, &mut self.outgoing)
    }

    /// Takes in what was received, and adds what came of it.
    ///
    /// # Errors
    ///
    /// Nothing more is to be believed.
    pub(crate) fn hear(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) -> Result<(), LinkError> {
        self.received.extend_from_slice(bytes);
        let mut taken = 0;
        loop {
            let rest = self.received.get(taken..).unwrap_or_default();
            let used = match &mut self.state {
                State::Hello(secret) => {
                    let Some(nonce) = read_hello(rest)? else {
                        break;
                    };
                    if *nonce == self.nonce {
                        return Err(LinkError::Echo);
                    }
                    let agreed = match self.role {
                        Role::Connects => Agreed::new(secret, &self.nonce, nonce, true),
                        Role::Listens => Agreed::new(secret, nonce, &self.nonce, false),
                    };
                    let Agreed {
                        say,
                        hear,
                        ours,
                        theirs,
                    } = agreed.ok_or(LinkError::NoRandom)?;
                    self.state = State::Open([say, hear].map(Direction::new).into());
                    heard.push(Heard::Keys { ours, theirs });
                    HELLO
                }
                State::Open(directions) => {
                    let [_, theirs] = &mut **directions;
                    let is_first = theirs.next == 0;
                    let longest = if is_first { MAX_FIRST } else { MAX_DATA_FRAME };
                    let Some(sealed) = read_frame(rest, longest)? else {
                        break;
                    };
                    // A copy: what is not authentic is not to be read, not even by mistake.
                    let mut opened = sealed.to_vec();
                    let body = theirs.open(&mut opened)?;
                    heard.push(understand(body, is_first)?);
                    LENGTH + sealed.len()
                }
            };
            taken += used;
        }
        self.received.drain(..taken);
        Ok(())
    }
}

#[cfg(fuzzing)]
impl Protocol {
    /// How much of what was received is kept, because something is missing.
    pub(crate) fn kept(&self) -> usize {
        self.received.len()
    }
}

impl Direction {
    const fn new(key: LessSafeKey) -> Self {
        Self { key, next: 0 }
    }

    /// The key is this direction's of this link only, and so no number is used twice with it. What was
    /// sealed with one is not opened with another: nothing can be repeated, nor come in another order.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Adds a message to what is to be sent.
    fn seal(&mut self, body: &[u8], to: &mut Vec<u8>) -> Result<(), LinkError> {
        let (nonce, at) = (self.next_nonce(), to.len());
        to.extend(body);
        let text = to.get_mut(at..).unwrap_or_default();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), text)
            .map_err(|_| LinkError::TooLong)?;
        to.extend(tag.as_ref());
        Ok(())
    }

    fn open<'b>(&mut self, sealed: &'b mut [u8]) -> Result<&'b [u8], LinkError> {
        let nonce = self.next_nonce();
        let opened = self.key.open_in_place(nonce, Aad::empty(), sealed);
        opened
            .map(|body| &*body)
            .map_err(|_| LinkError::NotAuthentic)
    }
}

fn understand(body: &[u8], is_first: bool) -> Result<Heard, LinkError> {
    if data_frame::is_data(body) {
        let (name, message) = data_frame::read(body).ok_or(LinkError::NotUnderstood)?;
        return match is_first {
            true => Err(LinkError::OutOfOrder),
            false => Ok(Heard::Data { name, message }),
        };
    }
    if body.len() > MAX_TEXT {
        return Err(LinkError::TooLong);
    }
    let message = serde_json::from_slice(body).map_err(|_| LinkError::NotUnderstood)?;
    match (is_first, message) {
        (true, Message::Ready { udp_port }) => Ok(Heard::Ready { udp_port }),
        (false, Message::Ready { .. }) | (true, _) => Err(LinkError::OutOfOrder),
        (false, message) => Ok(Heard::Message {
            message,
            bytes: body.len(),
        }),
    }
}

/// `None` as long as something is missing.
fn read_hello(bytes: &[u8]) -> Result<Option<&[u8; NONCE]>, LinkError> {
    let greeting = bytes.get(..GREETING.len()).unwrap_or(bytes);
    if !GREETING.starts_with(greeting) {
        return Err(LinkError::OtherProtocol);
    }
    let nonce = bytes.get(GREETING.len()..).unwrap_or_default();
    Ok(nonce.first_chunk())
}

/// A message as it was sealed. `None` as long as something is missing.
fn read_frame(bytes: &[u8], longest: usize) -> Result<Option<&[u8]>, LinkError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    // Before it has come: who has not the secret must not fill our memory.
    if length > longest {
        return Err(LinkError::TooLong);
    }
    Ok(rest.get(..length + TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> PipeSecret {
        PipeSecret::new(text.as_bytes()).unwrap()
    }

    fn pair(one: &str, other: &str) -> (Protocol, Protocol) {
        let connects = Protocol::new(Role::Connects, secret(one)).unwrap();
        let listens = Protocol::new(Role::Listens, secret(other)).unwrap();
        (connects, listens)
    }

    fn carry(from: &mut Protocol, to: &mut Protocol) -> Result<Vec<Heard>, LinkError> {
        let bytes = std::mem::take(&mut from.outgoing);
        let mut heard = Vec::new();
        // In pieces, as a network may deliver it.
        for piece in bytes.chunks(7) {
            to.hear(piece, &mut heard)?;
        }
        Ok(heard)
    }

    fn greet(one: &mut Protocol, other: &mut Protocol) -> [(SrtpKey, SrtpKey); 2] {
        [carry(one, other), carry(other, one)].map(|heard| match heard.unwrap().pop() {
            Some(Heard::Keys { ours, theirs }) => (ours, theirs),
            other => panic!("{other:?}"),
        })
    }

    const READY: Message = Message::Ready { udp_port: 9 };
    const CLOSED: Message = Message::Closed {
        name: 7,
        undeliverable: false,
    };

    fn is_closed(heard: &[Heard]) -> bool {
        matches!(
            heard,
            [Heard::Message {
                message: Message::Closed { name: 7, .. },
                ..
            }]
        )
    }

    fn is_ready(heard: &[Heard]) -> bool {
        matches!(heard, [Heard::Ready { udp_port: 9 }])
    }

    #[test]
    fn who_shares_a_secret_understands_each_other() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        let [theirs, ours] = greet(&mut one, &mut other);
        assert_ne!(ours.0, ours.1);
        assert_eq!(ours, (theirs.1, theirs.0));
        one.say(&READY).unwrap();
        assert!(is_ready(&carry(&mut one, &mut other).unwrap()));
        other.say(&READY).unwrap();
        assert!(is_ready(&carry(&mut other, &mut one).unwrap()));
        for _ in 0..3 {
            one.say(&CLOSED).unwrap();
            assert!(is_closed(&carry(&mut one, &mut other).unwrap()));
            other.say(&CLOSED).unwrap();
            assert!(is_closed(&carry(&mut other, &mut one).unwrap()));
        }
    }

    #[test]
    fn messages_of_data_channels_go_between_the_others() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        greet(&mut one, &mut other);
        one.say(&READY).unwrap();
        let sent = DataMessage::text("hello").on_sub_channels(&[3]);
        one.say_data(8, &sent).unwrap();
        one.say(&CLOSED).unwrap();
        match &carry(&mut one, &mut other).unwrap()[..] {
            [
                Heard::Ready { .. },
                Heard::Data { name: 8, message },
                Heard::Message { .. },
            ] => assert_eq!(&sent, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_is_not_ready_or_ready_twice_is_not_listened_to() {
        let said = |messages: &[&Message]| {
            let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
            greet(&mut one, &mut other);
            for message in messages {
                one.say(message).unwrap();
            }
            carry(&mut one, &mut other).map(|_| ())
        };
        assert_eq!(Ok(()), said(&[&READY, &CLOSED]));
        assert_eq!(Err(LinkError::OutOfOrder), said(&[&CLOSED]));
        assert_eq!(Err(LinkError::OutOfOrder), said(&[&READY, &READY]));
        let long = Message::CreateData {
            name: 1,
            parameters: Box::default(),
            label: "x".repeat(MAX_FIRST),
            state: PipedState {
                version: 0,
                paused: false,
            },
        };
        assert_eq!(Ok(()), said(&[&READY, &long]));
        assert_eq!(Err(LinkError::TooLong), said(&[&long]));
    }

    #[test]
    fn keys_are_other_ones_every_time() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        let first = greet(&mut one, &mut other);
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        assert_ne!(first[0].0, greet(&mut one, &mut other)[0].0);
    }

    #[test]
    fn who_has_another_secret_is_not_believed() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdeF");
        greet(&mut one, &mut other);
        one.say(&CLOSED).unwrap();
        let heard = carry(&mut one, &mut other).map(|_| ());
        assert_eq!(Err(LinkError::NotAuthentic), heard);
    }

    #[test]
    fn nothing_is_believed_that_was_changed_repeated_or_sent_back() {
        let said = || {
            let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
            greet(&mut one, &mut other);
            one.say(&READY).unwrap();
            let bytes = std::mem::take(&mut one.outgoing);
            (one, other, bytes)
        };
        let count = said().2.len();
        for at in LENGTH..count {
            let (_, mut other, mut bytes) = said();
            bytes[at] ^= 1;
            let heard = other.hear(&bytes, &mut Vec::new());
            assert_eq!(Err(LinkError::NotAuthentic), heard, "{at}");
        }
        let (_, mut other, bytes) = said();
        other.hear(&bytes, &mut Vec::new()).unwrap();
        let again = other.hear(&bytes, &mut Vec::new());
        assert_eq!(Err(LinkError::NotAuthentic), again);
        let (mut one, _, bytes) = said();
        let back = one.hear(&bytes, &mut Vec::new());
        assert_eq!(Err(LinkError::NotAuthentic), back);
        let (mut one, _) = pair("0123456789abcdef", "0123456789abcdef");
        let hello = one.outgoing.clone();
        assert_eq!(Err(LinkError::Echo), one.hear(&hello, &mut Vec::new()));
    }

    #[test]
    fn nothing_is_believed_that_is_shortened_left_out_or_in_another_order() {
        let said = || {
            let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
            greet(&mut one, &mut other);
            let frames = [&READY, &CLOSED, &CLOSED].map(|message| {
                one.say(message).unwrap();
                std::mem::take(&mut one.outgoing)
            });
            (other, frames)
        };
        let heard = |other: &mut Protocol, frames: &[&[u8]]| {
            let mut heard = Vec::new();
            other
                .hear(&frames.concat(), &mut heard)
                .map(|()| heard.len())
        };
        let (mut other, [first, second, third]) = said();
        assert_eq!(Ok(3), heard(&mut other, &[&first, &second, &third]));
        let (mut other, [first, second, _]) = said();
        let late = heard(&mut other, &[&second, &first]);
        assert_eq!(Err(LinkError::NotAuthentic), late);
        let (mut other, [first, _, third]) = said();
        let left_out = heard(&mut other, &[&first, &third]);
        assert_eq!(Err(LinkError::NotAuthentic), left_out);
        for missing in 1..8 {
            let (mut other, [first, second, _]) = said();
            let short = &first[..first.len() - missing];
            assert_eq!(Ok(0), heard(&mut other, &[short]));
            let taken = heard(&mut other, &[&second]);
            assert_eq!(Err(LinkError::NotAuthentic), taken, "{missing}");
            // Nor if its length is made to fit.
            let (mut other, [first, ..]) = said();
            let length = (first.len() - LENGTH - TAG - missing) as u32;
            let rest = &first[LENGTH..first.len() - missing];
            let taken = heard(&mut other, &[&length.to_be_bytes(), rest]);
            assert_eq!(Err(LinkError::NotAuthentic), taken, "{missing}");
        }
    }

    #[test]
    fn what_is_said_cannot_be_read_on_the_way() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        greet(&mut one, &mut other);
        let message = DataMessage::text("between us");
        let seen = [0, 1].map(|_| {
            one.say_data(8, &message).unwrap();
            std::mem::take(&mut one.outgoing)
        });
        for seen in &seen {
            assert!(!seen.windows(7).any(|own| own == b"between"));
        }
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn a_stranger_cannot_have_us_remember_much() {
        let (mut one, mut other) = pair("0123456789abcdef", "0123456789abcdef");
        let http = one.hear(b"GET / HTTP/1.1\r\n", &mut Vec::new());
        assert_eq!(Err(LinkError::OtherProtocol), http);
        let (mut one, _) = {
            greet(
                &mut pair("0123456789abcdef", "0123456789abcdef").0,
                &mut other,
            );
            (other, ())
        };
        let long = one.hear(&[0xff; 4], &mut Vec::new());
        assert_eq!(Err(LinkError::TooLong), long);
    }
}
