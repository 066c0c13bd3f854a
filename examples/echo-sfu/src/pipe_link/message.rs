//! What there is to say.

use serde::{Deserialize, Serialize};

use crate::objects::RtpParameters;

/// Something that one end says to the other. Names are the sender's own of what it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Message {
    /// The first: media may be sent to this port.
    Ready { udp_port: u16 },
    /// A producer is piped; this is how it is.
    Create {
        name: u64,
        parameters: Box<RtpParameters>,
        label: String,
        state: PipedState,
    },
    /// One that was created has changed.
    Changed { name: u64, state: PipedState },
    /// One that was created is closed.
    Closed { name: u64 },
    /// One that the other end created is closed here, or was not taken.
    FarEndClosed { name: u64 },
}

/// The state of a producer, and how many changes it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipedState {
    pub(crate) version: u64,
    pub(crate) paused: bool,
}
