//! How what a client's connection carries is divided among the videos that it is sent.

use std::cmp::Reverse;
use std::num::NonZeroU8;

use super::{Network, State};
use crate::objects::{ConsumerId, TransportId};
use crate::rtp::rate::BitRate;

/// What one of them could use.
#[derive(Debug, Clone, Copy)]
struct Want {
    priority: NonZeroU8,
    /// Its smallest layer: that is sent in any case.
    least: u64,
    /// The best layer that it may be sent.
    most: u64,
}

/// What each may use, in the same order. Whoever has a higher priority is served first, as far as the
/// smallest layers of the others leave room; those of one priority are served alike, and what one of
/// them has no use for goes to the others.
fn share(BitRate(total): BitRate, wants: &[Want]) -> Vec<BitRate> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|at| (Reverse(wants[*at].priority), wants[*at].most));
    let mut reserved: u64 = wants.iter().map(|want| want.least).sum();
    let mut left = total;
    let mut shares = vec![BitRate(0); wants.len()];
    for equals in order.chunk_by(|one, other| wants[*one].priority == wants[*other].priority) {
        reserved -= equals.iter().map(|at| wants[*at].least).sum::<u64>();
        for (served, at) in equals.iter().enumerate() {
            let waiting = (equals.len() - served) as u64;
            let want = wants[*at];
            let fair = left.saturating_sub(reserved) / waiting;
            let fair = fair.max(want.least).min(left);
            shares[*at] = BitRate(fair);
            left -= fair.min(want.most.max(want.least));
        }
    }
    shares
}

impl Network {
    /// Serves a consumer before those of a lower priority on the same transport.
    pub(crate) fn set_priority(&mut self, consumer: ConsumerId, priority: NonZeroU8) {
        self.act(|state, _| {
            let Some(own) = state.consumers.get_mut(&consumer) else {
                return;
            };
            own.priority = priority;
            let transport = own.transport;
            state.share_out(transport);
        });
    }
}

impl State {
    /// Divides what a client's connection carries among what it is sent.
    pub(super) fn share_out(&mut self, transport: TransportId) {
        let Some(transport) = self.transports.get(&transport) else {
            return;
        };
        let total = transport.known_downlink;
        let (mut videos, mut wants) = (Vec::new(), Vec::new());
        for id in &transport.consumers {
            let Some(consumer) = self.consumers.get_mut(id) else {
                continue;
            };
            if consumer.kind.is_video() {
                let (BitRate(least), BitRate(most)) = consumer.stream.wanted_bitrates();
                let priority = consumer.priority;
                videos.push(*id);
                wants.push(Want {
                    priority,
                    least,
                    most,
                });
            }
        }
        let shares = total.map(|total| share(total, &wants));
        for (at, id) in videos.iter().enumerate() {
            let share = shares.as_ref().and_then(|shares| shares.get(at)).copied();
            if let Some(consumer) = self.consumers.get_mut(id) {
                consumer.stream.set_bitrate_budget(share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(priority: u8, least: u64, most: u64) -> Want {
        Want {
            priority: NonZeroU8::new(priority).unwrap(),
            least,
            most,
        }
    }

    fn shares(total: u64, wants: &[Want]) -> Vec<u64> {
        let shares = share(BitRate(total), wants);
        shares.into_iter().map(|BitRate(rate)| rate).collect()
    }

    #[test]
    fn equals_share_alike_and_leave_what_they_do_not_need() {
        assert!(shares(1_000, &[]).is_empty());
        assert_eq!(vec![1_000], shares(1_000, &[want(1, 100, 5_000)]));
        let alike = [want(1, 100, 900), want(1, 100, 900)];
        assert_eq!(vec![500, 500], shares(1_000, &alike));
        let small = [want(7, 100, 900), want(7, 100, 200)];
        assert_eq!(vec![800, 500], shares(1_000, &small));
        // One that is paused.
        assert_eq!(vec![1_000, 500], shares(1_000, &[small[0], want(7, 0, 0)]));
    }

    #[test]
    fn a_higher_priority_is_served_first_but_for_the_smallest_layers() {
        let wants = [want(1, 100, 900), want(9, 100, 900), want(5, 100, 300)];
        assert_eq!(vec![800, 1_800, 1_000], shares(2_000, &wants));
        assert_eq!(vec![100, 800, 100], shares(1_000, &wants));
        assert_eq!(vec![100, 900, 100], shares(1_100, &wants));
        // They are sent all the same when not even they fit.
        assert_eq!(vec![50, 100, 100], shares(250, &wants));
    }
}
