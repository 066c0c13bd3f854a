//! Sessions of plain RTP: for ffmpeg, GStreamer and the like.
//!
//! Each stream has a transport, and so a port, of its own: that is what such programs know how to
//! use. Opening the transports takes a while, and something may fail, or the session end, meanwhile;
//! what was opened by then is closed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Place, Publisher, Session, SessionKey, SessionTransport, Signaling, State};
use crate::ApiError;
use crate::media::TrackInfo;
use crate::names::{DisplayName, PublisherId, RoomName, SessionToken, random_hex};
use crate::objects::{
    ConsumerOptions, MediaKind, ObjectError, PlainConnectOptions, PlainConsumer, PlainTransport,
    PlainTransportOptions, Producer, ProducerId, ProducerOptions, RtpCapabilities, RtpCodec,
    RtpParameters, SessionDescription, TransportEvent,
};
use crate::operation::{Operation, ReplyTo};

/// Picture and sound, and as much again.
const MAX_STREAMS: usize = 4;
/// Nobody says goodbye in plain RTP: whoever sends nothing for so long has left.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// What is to be published by plain RTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainPublish {
    /// What the publisher calls itself.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether RTCP shares the port of RTP. ffmpeg wants two ports.
    #[serde(default)]
    pub rtcp_mux: bool,
    /// What it will send.
    pub streams: Vec<RtpParameters>,
}

/// What is published by plain RTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlainPublished {
    /// Names the session, secretly.
    #[serde(skip)]
    pub session: SessionToken,
    /// Who it is to the others.
    pub publisher: PublisherId,
    /// Where each of the streams is to be sent, in their order.
    pub streams: Vec<PlainIngress>,
}

/// Where a stream is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlainIngress {
    /// What it is for.
    pub kind: MediaKind,
    /// Its packets are known by it.
    pub ssrc: Option<u32>,
    /// The addresses of this machine: whichever can be reached.
    pub addresses: Vec<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// The UDP port for RTCP.
    pub rtcp_port: u16,
}

/// What is to be sent, and where to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainPlay {
    /// Each to a port of its own.
    pub streams: Vec<PlainEgress>,
}

/// Where a stream is to be sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainEgress {
    /// Which of the publisher's streams: the first of this kind.
    pub kind: MediaKind,
    /// Where to. RTCP goes to the next port.
    pub to: SocketAddr,
    /// What the player understands; everything, if nothing is said.
    #[serde(default)]
    pub codecs: Option<Vec<RtpCodec>>,
}

/// What is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainPlayed {
    /// Names the session, secretly.
    pub session: SessionToken,
    /// What the player must know.
    pub sdp: String,
}

/// Where ports for plain RTP are opened.
#[derive(Debug, Clone)]
pub(crate) struct PlainHost {
    pub(crate) bind: IpAddr,
    pub(crate) announced: Vec<IpAddr>,
}

/// A session whose transports are being opened.
#[derive(Debug)]
pub(super) struct PlainOpening {
    /// How many streams are not there yet.
    left: usize,
    purpose: PlainPurpose,
}

#[derive(Debug)]
enum PlainPurpose {
    Publish {
        streams: Vec<RtpParameters>,
        producers: BTreeMap<usize, (ProducerId, PlainIngress)>,
        tracks: Vec<TrackInfo>,
        reply: ReplyTo<PlainPublished>,
    },
    Play {
        streams: Vec<(ProducerId, PlainEgress)>,
        sent: BTreeMap<usize, RtpParameters>,
        reply: ReplyTo<PlainPlayed>,
    },
}

impl PlainOpening {
    /// It is not to be.
    pub(super) fn abandon(self, error: ApiError) {
        match self.purpose {
            PlainPurpose::Publish { reply, .. } => reply.send(Err(error)),
            PlainPurpose::Play { reply, .. } => reply.send(Err(error)),
        }
    }
}

impl Signaling {
    /// Opens a session that publishes in a room by plain RTP, one port for each stream. It ends when
    /// one of them has been silent for 30 seconds.
    ///
    /// Refused with [`ApiError::PlainRtpOff`] unless the SFU [was told](crate::SfuOptions::plain_rtp)
    /// to take it.
    pub fn publish_plain(
        &self,
        room: RoomName,
        publish: PlainPublish,
    ) -> Operation<PlainPublished> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "publish plain", %room, "operation called");
            if let Err((error, reply)) = state.publish_plain(room, publish, reply) {
                reply.send(Err(error));
            }
        })
    }

    /// Opens a session that sends what a publisher of a room sends to wherever it is said, by plain
    /// RTP. It lasts as long as the publisher does, or until it is closed.
    ///
    /// Refused as [`publish_plain`](Self::publish_plain) is.
    pub fn play_plain(
        &self,
        room: RoomName,
        publisher: PublisherId,
        play: PlainPlay,
    ) -> Operation<PlainPlayed> {
        self.enqueue(move |state, reply| {
            tracing::debug!(operation = "play plain", %room, "operation called");
            if let Err((error, reply)) = state.play_plain(room, publisher, play, reply) {
                reply.send(Err(error));
            }
        })
    }
}

type Refused<T> = (ApiError, ReplyTo<T>);

impl State {
    fn publish_plain(
        &mut self,
        room: RoomName,
        publish: PlainPublish,
        reply: ReplyTo<PlainPublished>,
    ) -> Result<(), Refused<PlainPublished>> {
        let PlainPublish {
            name,
            rtcp_mux,
            streams,
        } = publish;
        let checked = self.check_plain(streams.len()).and_then(|host| {
            self.check_room(&room)?;
            let name = name.map(|name| name.parse::<DisplayName>()).transpose()?;
            let tracks = streams.iter().map(RtpParameters::track);
            let tracks: Vec<_> = tracks
                .collect::<Result<_, _>>()
                .map_err(|error| ApiError::BadStream(error.to_string()))?;
            Ok((host, name, tracks))
        });
        let (host, name, tracks) = match checked {
            Ok(checked) => checked,
            Err(error) => return Err((error, reply)),
        };
        let count = streams.len();
        let opening = PlainOpening {
            left: count,
            purpose: PlainPurpose::Publish {
                streams,
                producers: BTreeMap::new(),
                tracks,
                reply,
            },
        };
        let options = PlainTransportOptions::new(host.bind)
            .rtcp_mux(rtcp_mux)
            .comedia(true)
            .silence_limit(Some(SILENCE_LIMIT));
        let place = Place::Publisher(room, PublisherId::random());
        self.open_plain(place, name, vec![options; count], opening);
        Ok(())
    }

    fn play_plain(
        &mut self,
        room: RoomName,
        publisher: PublisherId,
        play: PlainPlay,
        reply: ReplyTo<PlainPlayed>,
    ) -> Result<(), Refused<PlainPlayed>> {
        let found = self.check_plain(play.streams.len()).and_then(|host| {
            let (id, _) = self.find_publisher(&room, Some(publisher))?;
            let publishers = self.rooms.get(&room).into_iter();
            let mut publishers = publishers.flat_map(|room| room.publishers.values());
            let publisher = publishers.find(|own| own.id == id);
            let publisher = publisher.ok_or(ApiError::UnknownSession)?;
            let streams = play.streams.into_iter().map(|stream| {
                let producer = publisher.first_of(stream.kind)?;
                Ok((producer, stream))
            });
            let streams = streams.collect::<Result<Vec<_>, ApiError>>()?;
            Ok((host, id, streams))
        });
        let (host, id, streams) = match found {
            Ok(found) => found,
            Err(error) => return Err((error, reply)),
        };
        let count = streams.len();
        let opening = PlainOpening {
            left: count,
            purpose: PlainPurpose::Play {
                streams,
                sent: BTreeMap::new(),
                reply,
            },
        };
        let options = PlainTransportOptions::new(host.bind).rtcp_mux(false);
        let place = Place::Viewer(room, id);
        self.open_plain(place, None, vec![options; count], opening);
        Ok(())
    }

    fn check_plain(&self, streams: usize) -> Result<PlainHost, ApiError> {
        let host = self.plain.clone().ok_or(ApiError::PlainRtpOff)?;
        if !(1..=MAX_STREAMS).contains(&streams) {
            let rule = format!("1 to {MAX_STREAMS} streams are taken");
            return Err(ApiError::BadStream(rule));
        }
        self.check_sessions()?;
        Ok(host)
    }

    fn open_plain(
        &mut self,
        place: Place,
        name: Option<DisplayName>,
        transports: Vec<PlainTransportOptions>,
        opening: PlainOpening,
    ) {
        self.sessions_ever += 1;
        let key = SessionKey(self.sessions_ever);
        self.note_place(key, &place, name);
        self.take_pulses_later();
        let Some((router, own)) = self.router_for(key, &place).zip(self.own.clone()) else {
            return opening.abandon(ApiError::ShuttingDown);
        };
        for (at, options) in transports.into_iter().enumerate() {
            let created = router.create_plain_transport(options);
            created.hand_to(&own, move |state, outcome| {
                state.plain_created(key, at, outcome);
            });
        }
        let token = SessionToken::random();
        self.tokens.insert(token.clone(), key);
        let session = Session {
            token,
            entity_tag: random_hex::<8>(),
            remote_ufrag: None,
            place,
            opening: None,
            transport: Some(SessionTransport::Plain(Vec::new(), Some(opening))),
        };
        self.sessions.insert(key, session);
    }

    /// A session that is still being opened, and its transports.
    fn plain_opening(
        &mut self,
        key: SessionKey,
    ) -> Option<(&mut Vec<PlainTransport>, &mut PlainOpening)> {
        match self.sessions.get_mut(&key)?.transport.as_mut()? {
            SessionTransport::Plain(transports, Some(opening)) => Some((transports, opening)),
            _ => None,
        }
    }

    fn plain_created(
        &mut self,
        key: SessionKey,
        at: usize,
        outcome: Result<PlainTransport, ObjectError>,
    ) {
        let mut transport = match outcome {
            Ok(transport) => transport,
            Err(error) => return self.plain_failed(key, error.into()),
        };
        let (Some(own), Some(host)) = (self.own.clone(), self.plain.clone()) else {
            return;
        };
        let Some((transports, opening)) = self.plain_opening(key) else {
            // It was ended meanwhile.
            drop(transport.close());
            return;
        };
        transport.events().hand_to(&own, move |state, event| {
            if matches!(event, TransportEvent::Closed(_)) {
                state.session_ended(key);
            }
        });
        match &opening.purpose {
            PlainPurpose::Publish { streams, .. } => {
                if let Some(parameters) = streams.get(at) {
                    let ingress = PlainIngress::of(&transport, parameters, &host);
                    let produced = transport.produce(parameters.clone(), ProducerOptions::new());
                    produced.hand_to(&own, move |state, outcome| {
                        state.plain_produced(key, at, ingress, outcome);
                    });
                }
            }
            PlainPurpose::Play { streams, .. } => {
                if let Some((producer, stream)) = streams.get(at) {
                    let capabilities = match &stream.codecs {
                        Some(codecs) => RtpCapabilities {
                            codecs: codecs.clone(),
                            extensions: Vec::new(),
                        },
                        None => RtpCapabilities::default(),
                    };
                    let remote = PlainConnectOptions::to(stream.to);
                    let options = ConsumerOptions::new();
                    let connected = transport.connect(remote);
                    let consumed = transport.consume(*producer, capabilities, options);
                    connected.hand_to(&own, move |state, outcome| {
                        if let Err(error) = outcome {
                            state.plain_failed(key, error.into());
                        }
                    });
                    consumed.hand_to(&own, move |state, outcome| {
                        state.plain_consumed(key, at, outcome);
                    });
                }
            }
        }
        transports.push(transport);
    }

    fn plain_failed(&mut self, key: SessionKey, error: ApiError) {
        if let Some(session) = self.sessions.get_mut(&key)
            && let Some(SessionTransport::Plain(_, opening)) = &mut session.transport
            && let Some(opening) = opening.take()
        {
            opening.abandon(error);
        }
        self.session_ended(key);
    }

    fn plain_produced(
        &mut self,
        key: SessionKey,
        at: usize,
        ingress: PlainIngress,
        outcome: Result<Producer, ObjectError>,
    ) {
        let producer = match outcome {
            Ok(producer) => producer.id(),
            Err(error) => return self.plain_failed(key, error.into()),
        };
        if let Some((_, opening)) = self.plain_opening(key)
            && let PlainPurpose::Publish { producers, .. } = &mut opening.purpose
        {
            producers.insert(at, (producer, ingress));
        }
        self.plain_stream_is_there(key);
    }

    fn plain_consumed(
        &mut self,
        key: SessionKey,
        at: usize,
        outcome: Result<PlainConsumer, ObjectError>,
    ) {
        let parameters = match outcome {
            Ok(consumed) => consumed.parameters,
            Err(error) => return self.plain_failed(key, error.into()),
        };
        if let Some((_, opening)) = self.plain_opening(key)
            && let PlainPurpose::Play { sent, .. } = &mut opening.purpose
        {
            sent.insert(at, parameters);
        }
        self.plain_stream_is_there(key);
    }

    /// With the last of its streams, a session is open.
    fn plain_stream_is_there(&mut self, key: SessionKey) {
        let Some((_, opening)) = self.plain_opening(key) else {
            return;
        };
        opening.left = opening.left.saturating_sub(1);
        if opening.left > 0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(SessionTransport::Plain(_, opening)) = &mut session.transport else {
            return;
        };
        let (token, place) = (session.token.clone(), session.place.clone());
        match (opening.take().map(|opening| opening.purpose), place) {
            (
                Some(PlainPurpose::Publish {
                    producers,
                    tracks,
                    reply,
                    ..
                }),
                Place::Publisher(room, publisher),
            ) => {
                let room = self.rooms.get_mut(&room);
                if let Some(own) = room.and_then(|room| room.publishers.get_mut(&key)) {
                    own.tracks = tracks;
                    own.producers = producers.values().map(|(id, _)| *id).collect();
                }
                reply.send(Ok(PlainPublished {
                    session: token,
                    publisher,
                    streams: producers.into_values().map(|(_, stream)| stream).collect(),
                }));
                self.pipe_publisher(key, None);
            }
            (
                Some(PlainPurpose::Play {
                    streams,
                    sent,
                    reply,
                }),
                Place::Viewer(room, _),
            ) => {
                let description = SessionDescription::new(&room.to_string());
                let streams = streams.iter().zip(sent.values());
                let sdp = streams.fold(description, |sdp, ((_, stream), parameters)| {
                    sdp.stream(parameters, stream.to, None)
                });
                reply.send(Ok(PlainPlayed {
                    session: token,
                    sdp: sdp.to_string(),
                }));
            }
            _ => {}
        }
    }
}

impl PlainIngress {
    fn of(transport: &PlainTransport, parameters: &RtpParameters, host: &PlainHost) -> Self {
        let port = transport.local_address().port();
        let rtcp_port = transport.local_rtcp_address().map(|own| own.port());
        Self {
            kind: parameters.kind,
            ssrc: parameters.ssrc,
            addresses: host.announced.clone(),
            port,
            rtcp_port: rtcp_port.unwrap_or(port),
        }
    }
}

impl Publisher {
    fn first_of(&self, kind: MediaKind) -> Result<ProducerId, ApiError> {
        let at = self.tracks.iter().position(|own| own.kind == kind.name());
        let producer = at.and_then(|at| self.producers.get(at)).copied();
        producer.ok_or_else(|| {
            ApiError::NoCommonCodec(format!("the publisher sends no {}", kind.name()))
        })
    }
}
