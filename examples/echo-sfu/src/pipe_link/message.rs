//! What there is to say.

use serde::{Deserialize, Serialize};

use crate::media::LayerSsrcs;
use crate::objects::{DataParameters, RtpParameters};

/// Something that one end says to the other. Names are the sender's own of what it sends, of media and
/// of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Message {
    /// The first, and said once: media may be sent to this port.
    Ready { udp_port: u16 },
    /// A producer is piped; this is how it is.
    Create {
        name: u64,
        /// Of its one stream, or of that of its smallest layer.
        parameters: Box<RtpParameters>,
        /// What the streams of the other layers have for themselves.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        upper_layers: Vec<LayerSsrcs>,
        label: String,
        state: PipedState,
    },
    /// A data producer is piped. Its messages follow, on the same connection.
    CreateData {
        name: u64,
        parameters: Box<DataParameters>,
        label: String,
        state: PipedState,
    },
    /// One that was created has changed.
    Changed { name: u64, state: PipedState },
    /// One that was created is closed.
    Closed {
        name: u64,
        /// Because something of it could not be sent that was promised.
        #[serde(default, skip_serializing_if = "is_false")]
        undeliverable: bool,
    },
    /// One that the other end created is closed here, or was not taken.
    FarEndClosed { name: u64, reason: FarEndReason },
    /// What is wanted of one that the other end created has changed.
    Wanted { name: u64, demand: Demand },
}

/// The state of a producer, and how many changes it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipedState {
    pub(crate) version: u64,
    pub(crate) paused: bool,
}

/// Why something is not at the far end, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FarEndReason {
    /// It was closed there.
    Closed,
    /// There is as much already as may be.
    Full,
    /// It is nothing that would be understood there.
    Refused,
}

/// How much is wanted of something, in bits per second, by those who are sent most of it. The greater
/// one of two is what both want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Demand {
    /// Nobody is sent it.
    Nothing,
    AtMost(u64),
    Everything,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(what: &bool) -> bool {
    !what
}
