//! The objects of an SFU, and who is connected to whom: objects that cannot end up inconsistent.
//!
//! A [`Worker`] owns [`Router`]s; a router has transports; on a transport media comes in, as a
//! [`Producer`], or goes out, as a [`Consumer`] of a producer of the same router. A producer can be
//! [piped](Router::pipe) to another router, of the same worker or of another one, where it is a
//! producer again. The names, and what they mean, are mediasoup's.
//!
//! Data channels are the same with messages: a [`DataProducer`] is one that a client has opened, or on
//! which the application sends, and a [`DataConsumer`] is one on which that goes out. What an
//! application sends on a [`DirectTransport`], media or data, goes by way of the router's thread, so
//! that it is before or after everything else as it was called; nothing else that is sent does.
//!
//! Three rules keep everything consistent, whatever is called when, and whether or not anybody waits:
//!
//! - **Order.** An operation takes effect in the order in which it was called. Calling it enqueues it
//!   on the thread of its router; the [`Operation`](crate::Operation) that is returned may be awaited,
//!   or dropped, which changes nothing.
//! - **State.** What depends on something else has a copy of its state, not a listener to its
//!   changes. The copy is made when the dependent is, in one step with it, and whatever changes after
//!   that follows on the way that the creation took, in order. There is no moment between "state
//!   read" and "listener attached", because there is no listener to attach. So once nothing is under
//!   way, everything agrees with what it depends on.
//!
//! - **Media.** Packets never touch a worker's thread. They go from the network thread on which they
//!   arrive to those on which they go out, payloads shared; what a producer, a consumer or a transport
//!   has there is ordered by its worker, in order, and goes when the object does.
//!
//! Events tell the application of changes, in their order. They are read from the object they are
//! about, so none comes before that object.
//!
//! `cargo run --release -p echo-sfu --example founding_scenario` tries both rules on thousands of
//! interleavings of a scenario that breaks SFUs made of listeners, and of its variants.

mod address;
mod bitrate_bounds;
mod bitrate_limits;
mod consumer;
mod data_consumer;
mod data_message;
mod data_on_network;
mod data_parameters;
mod data_pipe;
mod data_producer;
mod data_router;
mod direct;
mod error;
mod events;
mod ice_restart;
mod id;
mod link_data;
mod link_ends;
mod link_router;
mod mailbox;
mod observer;
mod observer_state;
mod on_network;
mod pipe;
mod plain_state;
mod plain_streams;
mod plain_transport;
mod producer;
mod remote_pipe;
mod replica;
mod router;
mod rtp_parameters;
mod scores;
mod session_description;
mod stats;
mod trace;
mod transport;
mod transport_status;
mod volumes;
mod webrtc_transport;
mod worker;

pub use bitrate_bounds::{BadBitrateBounds, BitrateBounds};
pub use consumer::{Consumer, ConsumerEvent, ConsumerOptions, ConsumerStatus};
pub use data_consumer::{DataConsumer, DataConsumerEvent, DataConsumerOptions, DataConsumerStatus};
pub use data_message::{DataKind, DataMessage, MAX_MESSAGE_BYTES, MAX_SUB_CHANNELS};
pub use data_parameters::{DataError, DataParameters, DataProducerOptions, DataReliability};
pub use data_pipe::PipedData;
pub use data_producer::{DataProducer, DataProducerEvent, DataProducerStatus};
pub use direct::RtpSource;
pub use error::ObjectError;
pub use events::{CloseReason, Events};
pub use ice_restart::IceRestart;
pub use id::{
    ConsumerId, DataConsumerId, DataProducerId, ObserverId, ProducerId, RouterId, TransportId,
};
pub use mailbox::Mailbox;
pub use observer::{
    ActiveSpeakerEvent, ActiveSpeakerObserver, ActiveSpeakerObserverOptions, AudioLevelEvent,
    AudioLevelObserver, AudioLevelObserverOptions, Observer, Volume,
};
pub use pipe::Piped;
pub use plain_transport::{
    PlainConnectError, PlainConnectOptions, PlainConsumer, PlainPort, PlainTransport,
    PlainTransportOptions,
};
pub use producer::{Producer, ProducerEvent, ProducerOptions, ProducerStatus};
pub use remote_pipe::{PipeListener, PipeListenerEvent, RemotePipe, RemotePipeEvent};
pub use router::{Router, RouterEvent};
pub use rtp_parameters::{
    MediaKind, RtpCapabilities, RtpCodec, RtpExtension, RtpParameters, RtpParametersError,
};
pub use session_description::SessionDescription;
pub use trace::{ConsumerTracing, ProducerTracing, Trace};
pub use transport::{DirectTransport, TransportEvent};
pub use transport_status::{DtlsState, IceState, TransportStatus};
pub use webrtc_transport::{Purpose, WebRtcTransport};
pub use worker::{Worker, WorkerStatus};

pub(crate) use address::RouterAddress;
pub(crate) use data_message::DataCounters;
pub(crate) use link_data::PipedDataProducer;
pub(crate) use mailbox::MailboxWriter;
