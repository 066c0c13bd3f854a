//! What a data channel promises.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long a label or the name of a protocol may be. What announces a channel fits one packet.
const MAX_NAME_BYTES: usize = 256;

/// Why something about data was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A message is given up after so many attempts, or after so long, not both (RFC 8832).
    #[error("either retransmits or the lifetime of a message can be limited, not both")]
    BothLimits,
    /// What may be given up cannot be waited for.
    #[error("messages that may be given up cannot be promised in order")]
    OrderedButLimited,
    /// A lifetime has 16 bits of milliseconds.
    #[error("a lifetime of {0:?} cannot be told")]
    LifetimeTooLong(Duration),
    /// The label or the name of the protocol is longer than 256 bytes.
    #[error("a label or protocol of {0} bytes is too long")]
    NameTooLong(usize),
    /// The message is larger than 256 KiB.
    #[error("a message of {0} bytes is too large")]
    MessageTooLarge(usize),
    /// More sub-channels than a message may name, or a consumer may choose.
    #[error("{0} sub-channels are too many")]
    TooManySubChannels(usize),
    /// More waits to be sent than may: the application is faster than the network threads.
    #[error("too much waits to be sent already")]
    TooMuchWaiting,
    /// It is a client that sends on this data producer, or another router's.
    #[error("only what the application has made can it send on")]
    NotTheApplications,
}

/// When a message is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataReliability {
    /// Never.
    #[default]
    Reliable,
    /// After so many attempts beyond the first.
    MaxRetransmits(u16),
    /// After so many milliseconds.
    MaxLifetime(u16),
}

/// What a data channel is called, and what it promises.
///
/// mediasoup: `sctpStreamParameters`, `label` and `protocol`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataParameters {
    /// What whoever opened it called it.
    pub label: String,
    /// What is spoken on it; often nothing.
    pub protocol: String,
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// When a message is given up.
    pub reliability: DataReliability,
}

impl Default for DataParameters {
    /// Reliable and in order, without a name.
    fn default() -> Self {
        Self {
            label: String::new(),
            protocol: String::new(),
            ordered: true,
            reliability: DataReliability::Reliable,
        }
    }
}

impl DataParameters {
    /// Whether every message is promised to arrive.
    pub fn is_reliable(&self) -> bool {
        self.reliability == DataReliability::Reliable
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        let longest = self.label.len().max(self.protocol.len());
        if longest > MAX_NAME_BYTES {
            return Err(DataError::NameTooLong(longest));
        }
        Ok(())
    }
}

/// What a data producer of the application's begins with.
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing by themselves"]
pub struct DataProducerOptions {
    label: String,
    protocol: String,
    ordered: Option<bool>,
    max_retransmits: Option<u16>,
    max_lifetime: Option<Duration>,
    pub(super) paused: bool,
}

impl DataProducerOptions {
    /// Reliable and in order.
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            ..Self::default()
        }
    }

    /// What is spoken on it.
    pub fn protocol(mut self, protocol: &str) -> Self {
        protocol.clone_into(&mut self.protocol);
        self
    }

    /// Whether messages arrive in order. Unless told, they do if they arrive for certain.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.ordered = Some(ordered);
        self
    }

    /// Messages are given up after so many attempts beyond the first.
    pub fn max_retransmits(mut self, retransmits: u16) -> Self {
        self.max_retransmits = Some(retransmits);
        self
    }

    /// Messages are given up after so long. mediasoup: `maxPacketLifeTime`.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Whether it begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    pub(super) fn parameters(self) -> Result<DataParameters, DataError> {
        let reliability = match (self.max_retransmits, self.max_lifetime) {
            (Some(_), Some(_)) => return Err(DataError::BothLimits),
            (Some(retransmits), None) => DataReliability::MaxRetransmits(retransmits),
            (None, Some(lifetime)) => {
                let millis = u16::try_from(lifetime.as_millis());
                let millis = millis.map_err(|_| DataError::LifetimeTooLong(lifetime))?;
                DataReliability::MaxLifetime(millis)
            }
            (None, None) => DataReliability::Reliable,
        };
        let is_reliable = reliability == DataReliability::Reliable;
        if self.ordered == Some(true) && !is_reliable {
            return Err(DataError::OrderedButLimited);
        }
        let parameters = DataParameters {
            label: self.label,
            protocol: self.protocol,
            ordered: self.ordered.unwrap_or(is_reliable),
            reliability,
        };
        parameters.check()?;
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        let options = || DataProducerOptions::new("chat");
        let second = Duration::from_secs(1);
        let refused = |options: DataProducerOptions| options.parameters().unwrap_err();
        assert_eq!(
            DataError::BothLimits,
            refused(options().max_retransmits(1).max_lifetime(second))
        );
        assert_eq!(
            DataError::OrderedButLimited,
            refused(options().max_retransmits(1).ordered(true))
        );
        assert_eq!(
            DataError::LifetimeTooLong(second * 66),
            refused(options().max_lifetime(second * 66))
        );
        let long = "x".repeat(257);
        assert_eq!(
            DataError::NameTooLong(257),
            refused(options().protocol(&long))
        );
    }

    #[test]
    fn what_is_not_told_follows_from_what_is() {
        let usual = DataProducerOptions::new("chat").parameters().unwrap();
        assert!(usual.ordered && usual.is_reliable());
        let options = DataProducerOptions::new("chat").max_retransmits(0);
        assert!(!options.parameters().unwrap().ordered);
    }
}
