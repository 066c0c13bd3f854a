//! What a request to the SFU can be refused for.

use rtc_thread::CallError;
use thiserror::Error;

use crate::objects::ObjectError;

/// Why an operation on the [`Sfu`](crate::Sfu) failed, in terms its caller can act on.
///
/// The HTTP layer maps each variant to one status code; nothing else does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The offer is not SDP, or not SDP that can be answered.
    #[error("the SDP offer cannot be used: {0}")]
    BadOffer(String),

    /// The body of a trickle `PATCH` is not an SDP fragment of the session it was sent to.
    #[error("the SDP fragment cannot be used: {0}")]
    BadFragment(String),

    /// Offer and answer, or publisher and viewer, share no codec.
    #[error("no codec in common: {0}")]
    NoCommonCodec(String),

    /// A stream of plain RTP that is not acceptable.
    #[error("the stream cannot be used: {0}")]
    BadStream(String),

    /// Plain RTP was asked for, which the server was not started for.
    #[error("plain RTP is off; start the server with --plain-rtp")]
    PlainRtpOff,

    /// No UDP port could be opened.
    #[error("there is no port left: {0}")]
    NoPort(String),

    /// A room or participant name that is not acceptable.
    #[error("bad name: {0}")]
    BadName(String),

    /// Nobody publishes in this room.
    #[error("there is no room '{0}'")]
    UnknownRoom(String),

    /// The room exists, the publisher does not.
    #[error("there is no publisher '{0}' in this room")]
    UnknownPublisher(String),

    /// No such session: it never was, or it has ended.
    #[error("there is no such session")]
    UnknownSession,

    /// An ICE restart was asked for without saying of which state of the session.
    #[error("to restart ICE, an entity tag is needed, or \"*\"")]
    NoEntityTag,

    /// The session's entity tag is another one.
    #[error("the entity tag does not match the session's")]
    EntityTagMismatch,

    /// The limit on sessions is reached.
    #[error("the limit of {0} sessions is reached")]
    TooManySessions(usize),

    /// The limit on rooms is reached.
    #[error("the limit of {0} rooms is reached")]
    TooManyRooms(usize),

    /// The network threads do not keep up with what they have to do.
    #[error("the server has too much to do")]
    Overloaded,

    /// The SFU is closing, or a thread of it has ended.
    #[error("the server is shutting down")]
    ShuttingDown,

    /// A fault of ours. The text is for the log, not for the client.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Offer(error) => error,
            ObjectError::WorkerClosed | ObjectError::NoNetwork => Self::ShuttingDown,
            ObjectError::Rtp(error) => Self::BadStream(error.to_string()),
            ObjectError::Connect(error) => Self::BadStream(error.to_string()),
            ObjectError::NoCommonCodec(_) | ObjectError::NoMedia(_) => {
                Self::NoCommonCodec("the publisher sends something else".to_owned())
            }
            ObjectError::CannotBind { .. } => Self::NoPort(error.to_string()),
            ObjectError::TooMany(limit) => Self::TooManySessions(limit),
            ObjectError::ProducerClosed(_) | ObjectError::RouterClosed(_) => {
                Self::UnknownPublisher("just gone".to_owned())
            }
            ObjectError::TransportClosed(_) => Self::UnknownSession,
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Quit => Self::ShuttingDown,
            other => Self::Internal(other.to_string()),
        }
    }
}
