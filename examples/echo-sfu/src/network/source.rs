//! A producer on the network thread where its media arrives.

use std::time::{Duration, Instant};

use super::reception::Reception;
use super::trace::Tracer;
use crate::media::NetworkIndex;
use crate::objects::{ProducerId, TransportId};

/// Key frames cost whoever sends them much, and one serves all viewers: requests that come faster
/// wait.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// Where the media of a producer arrives. One that is piped is its source, and arrives where that
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) network: NetworkIndex,
    pub(crate) producer: ProducerId,
}

/// A producer whose media arrives here.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) transport: TransportId,
    pub(super) paused: bool,
    /// The other network threads on which it has consumers.
    pub(super) destinations: Vec<NetworkIndex>,
    /// By layer.
    requests: Vec<KeyFrameRequest>,
    /// By layer.
    pub(super) packets: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) reception: Reception,
    /// None, if nobody wants to know.
    pub(super) tracer: Option<Box<Tracer>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct KeyFrameRequest {
    last: Option<Instant>,
    is_waiting: bool,
    passed_on: u64,
}

/// What becomes of a request for a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFrame {
    /// It is passed on.
    Now,
    /// It is passed on after so long, unless one is by then.
    Later(Duration),
    /// One that waits already stands for it.
    Coalesced,
}

impl Source {
    pub(super) fn new(transport: TransportId, layers: usize) -> Self {
        Self {
            transport,
            paused: false,
            destinations: Vec::new(),
            requests: vec![KeyFrameRequest::default(); layers.max(1)],
            packets: vec![0; layers.max(1)],
            bytes: 0,
            reception: Reception::default(),
            tracer: None,
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.reception.forget();
    }

    /// The layers whose scores have changed since this was last asked. What is paused keeps its own.
    pub(super) fn score_news(&mut self) -> Vec<(u8, u8)> {
        if self.paused {
            self.reception.forget();
            return Vec::new();
        }
        self.reception.news().collect()
    }

    /// Somebody wants a key frame.
    pub(super) fn request_key_frame(&mut self, now: Instant, layer: u8) -> KeyFrame {
        let Some(request) = self.requests.get_mut(usize::from(layer)) else {
            return KeyFrame::Coalesced;
        };
        if request.is_waiting {
            return KeyFrame::Coalesced;
        }
        let not_before = request.last.map(|last| last + KEY_FRAME_INTERVAL);
        match not_before.and_then(|at| at.checked_duration_since(now)) {
            Some(wait) if !wait.is_zero() => {
                request.is_waiting = true;
                KeyFrame::Later(wait)
            }
            _ => {
                request.last = Some(now);
                request.passed_on += 1;
                KeyFrame::Now
            }
        }
    }

    /// How many have been passed on.
    pub(super) fn key_frame_requests(&self) -> u64 {
        self.requests.iter().map(|request| request.passed_on).sum()
    }

    /// A request has waited long enough.
    pub(super) fn wait_is_over(&mut self, layer: u8) {
        if let Some(request) = self.requests.get_mut(usize::from(layer)) {
            request.is_waiting = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_come_faster_wait_and_one_stands_for_all() {
        let mut source = Source::new(TransportId::next(), 1);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(KeyFrame::Now, source.request_key_frame(at(0), 0));
        let wait = KeyFrame::Later(Duration::from_millis(400));
        assert_eq!(wait, source.request_key_frame(at(100), 0));
        assert_eq!(KeyFrame::Coalesced, source.request_key_frame(at(200), 0));
        source.wait_is_over(0);
        assert_eq!(KeyFrame::Now, source.request_key_frame(at(500), 0));
    }

    #[test]
    fn layers_have_requests_of_their_own() {
        let mut source = Source::new(TransportId::next(), 2);
        let now = Instant::now();
        assert_eq!(KeyFrame::Now, source.request_key_frame(now, 0));
        assert_eq!(KeyFrame::Now, source.request_key_frame(now, 1));
        assert_eq!(KeyFrame::Coalesced, source.request_key_frame(now, 2));
    }
}
