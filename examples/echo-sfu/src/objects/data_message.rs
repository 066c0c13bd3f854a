//! Messages of data channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::data_parameters::DataError;

/// The largest message that is taken, as str0m announces it to clients.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// How many sub-channels a message may name, and a consumer may choose.
pub const MAX_SUB_CHANNELS: usize = 256;

/// Whether a message is text or not. Browsers give the one to their page as a string, the other as
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// UTF-8, as far as its sender keeps to that.
    Text,
    /// Any bytes.
    Binary,
}

/// A message of a data channel. Cheap to clone: the payload is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMessage {
    kind: DataKind,
    payload: Arc<[u8]>,
    sub_channels: Option<Arc<[u16]>>,
}

impl DataMessage {
    /// A message of text.
    pub fn text(text: &str) -> Self {
        Self::new(DataKind::Text, text.as_bytes().into())
    }

    /// A message of bytes.
    pub fn binary(payload: impl Into<Arc<[u8]>>) -> Self {
        Self::new(DataKind::Binary, payload.into())
    }

    pub(crate) const fn new(kind: DataKind, payload: Arc<[u8]>) -> Self {
        Self {
            kind,
            payload,
            sub_channels: None,
        }
    }

    /// Sends it only to consumers that have chosen at least one of these sub-channels. A message that
    /// names none goes to all.
    ///
    /// mediasoup: `subchannels`, of `send`.
    #[must_use]
    pub fn on_sub_channels(mut self, sub_channels: &[u16]) -> Self {
        self.sub_channels = (!sub_channels.is_empty()).then(|| sub_channels.into());
        self
    }

    /// Whether it is text.
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// What is in it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What is in it, if it is text indeed.
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            DataKind::Text => std::str::from_utf8(&self.payload).ok(),
            DataKind::Binary => None,
        }
    }

    pub(crate) fn sub_channels(&self) -> &[u16] {
        self.sub_channels.as_deref().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        if self.payload.len() > MAX_MESSAGE_BYTES {
            return Err(DataError::MessageTooLarge(self.payload.len()));
        }
        let sub_channels = self.sub_channels.as_ref().map_or(0, |own| own.len());
        if sub_channels > MAX_SUB_CHANNELS {
            return Err(DataError::TooManySubChannels(sub_channels));
        }
        Ok(())
    }

    /// Whether it is for a consumer that has chosen these.
    pub(crate) fn is_for(&self, chosen: &[u16]) -> bool {
        let is_chosen = |named: &Arc<[u16]>| named.iter().any(|own| chosen.contains(own));
        self.sub_channels.as_ref().is_none_or(is_chosen)
    }
}

impl From<&str> for DataMessage {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<&[u8]> for DataMessage {
    fn from(payload: &[u8]) -> Self {
        Self::binary(payload)
    }
}

impl From<Vec<u8>> for DataMessage {
    fn from(payload: Vec<u8>) -> Self {
        Self::binary(payload)
    }
}

/// What a data producer or consumer has counted. Its network thread counts; any thread reads.
#[derive(Debug, Default)]
pub(crate) struct DataCounters {
    messages: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    buffered: AtomicUsize,
}

impl DataCounters {
    pub(crate) fn count(&self, message: &DataMessage) {
        let bytes = message.payload.len() as u64;
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_buffered(&self, bytes: usize) {
        self.buffered.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_channels_choose_among_those_who_have_chosen() {
        let to_all = DataMessage::text("all");
        let to_some = DataMessage::text("some").on_sub_channels(&[1, 2]);
        assert!(to_all.is_for(&[]) && to_all.is_for(&[7]));
        assert!(to_some.is_for(&[2, 7]));
        assert!(!to_some.is_for(&[]) && !to_some.is_for(&[7]));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert_eq!(Ok(()), DataMessage::binary(vec![0; 256 << 10]).check());
        let large = DataMessage::binary(vec![0; (256 << 10) + 1]).check();
        assert_eq!(Err(DataError::MessageTooLarge((256 << 10) + 1)), large);
    }
}
