//! Why an operation on an object is refused.

use std::net::{IpAddr, SocketAddr};

use rtc_thread::CallError;
use thiserror::Error;

use crate::ApiError;

use super::data_parameters::DataError;
use super::id::{
    ConsumerId, DataConsumerId, DataProducerId, ObserverId, ProducerId, RouterId, TransportId,
};
use super::plain_transport::PlainConnectError;
use super::rtp_parameters::RtpParametersError;

/// Why an operation on an object was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The worker's thread has ended.
    #[error("the worker is closed")]
    WorkerClosed,
    /// The router is closed, or never was one of this worker.
    #[error("router {0} is closed")]
    RouterClosed(RouterId),
    /// The transport is closed.
    #[error("transport {0} is closed")]
    TransportClosed(TransportId),
    /// The producer is closed, or is not one of this router.
    #[error("producer {0} is closed, or is not of this router")]
    ProducerClosed(ProducerId),
    /// The consumer is closed.
    #[error("consumer {0} is closed")]
    ConsumerClosed(ConsumerId),
    /// The data producer is closed, or is not one of this router.
    #[error("data producer {0} is closed, or is not of this router")]
    DataProducerClosed(DataProducerId),
    /// The data consumer is closed.
    #[error("data consumer {0} is closed")]
    DataConsumerClosed(DataConsumerId),
    /// The client's offer had no line for data channels.
    #[error("transport {0} has no data channels")]
    NoDataChannels(TransportId),
    /// Something about data cannot be.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The observer is closed.
    #[error("observer {0} is closed")]
    ObserverClosed(ObserverId),
    /// Only audio can be observed.
    #[error("producer {0} sends no audio")]
    NoAudio(ProducerId),
    /// A threshold is from -127 to 0 dBov.
    #[error("a threshold of {0} dBov cannot be")]
    BadThreshold(i8),
    /// A router cannot be piped to itself.
    #[error("a router cannot be piped to itself")]
    SameRouter,
    /// The worker has no network thread, or it has ended.
    #[error("there is no network thread")]
    NoNetwork,
    /// No codec was given.
    #[error("no codec is given")]
    NoCodec,
    /// What is to be sent is no RTP packet, or too large for one.
    #[error("no RTP packet, or too large")]
    BadPacket,
    /// The producer sends nothing that could go out on a network.
    #[error("producer {0} sends nothing")]
    NoMedia(ProducerId),
    /// The producer is piped from another router, where its media arrives.
    #[error("producer {0} arrives at another router")]
    ArrivesElsewhere(ProducerId),
    /// The consumer feeds a producer of another router, which is one producer's.
    #[error("consumer {0} feeds a pipe")]
    FeedsAPipe(ConsumerId),
    /// The offer cannot be answered.
    #[error(transparent)]
    Offer(ApiError),
    /// A UDP port could not be opened: the address is not the machine's, or no such port is free.
    #[error("cannot open a UDP port on {ip}: {reason}")]
    CannotBind {
        /// The address that it was to be on.
        ip: IpAddr,
        /// What the system said.
        reason: String,
    },
    /// Another process does not take part in a pipe: nobody listens there, or with another secret.
    #[error("no pipe to {remote}: {reason}")]
    NotLinked {
        /// Where it was to be.
        remote: SocketAddr,
        /// Why there is none.
        reason: String,
    },
    /// The transport is not connected like that.
    #[error(transparent)]
    Connect(#[from] PlainConnectError),
    /// RTP like that is not taken.
    #[error(transparent)]
    Rtp(#[from] RtpParametersError),
    /// The other end can receive nothing that the producer sends.
    #[error("producer {0} sends nothing that could be received")]
    NoCommonCodec(ProducerId),
    /// Another process has said something that makes no sense.
    #[error("another process says something that makes no sense")]
    NotUnderstood,
    /// The object has as many dependents as it may have.
    #[error("the limit of {0} is reached")]
    TooMany(usize),
    /// The operation panicked, which is a fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<ApiError> for ObjectError {
    fn from(error: ApiError) -> Self {
        Self::Offer(error)
    }
}

impl From<CallError> for ObjectError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Quit | CallError::Gone => Self::WorkerClosed,
            other => Self::Internal(other.to_string()),
        }
    }
}
