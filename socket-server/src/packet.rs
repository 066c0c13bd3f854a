//! A datagram that is kept.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Memory that datagrams are received into.
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// Zeroed memory, which the system provides when it is written to.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(vec![0; bytes].into_boxed_slice()))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The data of a datagram, shared and not copied: it may be kept, cloned, and sent to other threads.
///
/// It holds on to a buffer of the [`RecvBatch`](crate::RecvBatch) that it came with, 64 KiB that it
/// may share with datagrams that arrived right before or after it. What is kept for long had better
/// be copied.
#[derive(Clone)]
pub struct Packet {
    buffer: Arc<Buffer>,
    start: usize,
    len: usize,
}

impl Packet {
    pub(crate) fn of_buffer(buffer: Arc<Buffer>, start: usize, len: usize) -> Self {
        Self { buffer, start, len }
    }

    pub(crate) fn copied(data: &[u8]) -> Self {
        Self {
            buffer: Arc::new(Buffer(data.into())),
            start: 0,
            len: data.len(),
        }
    }
}

impl From<&[u8]> for Packet {
    /// Copies.
    fn from(data: &[u8]) -> Self {
        Self::copied(data)
    }
}

impl Deref for Packet {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..][..self.len]
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packet").field(&&**self).finish()
    }
}
