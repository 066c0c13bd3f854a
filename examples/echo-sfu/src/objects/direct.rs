//! Transports to the application, as far as they have something on a network thread.

use super::address::RouterAddress;
use super::id::TransportId;
use super::on_network::TransportOnNetwork;
use crate::network::NetworkThreads;

/// Gives a direct transport its place, if there is any.
pub(super) fn open(
    networks: &NetworkThreads,
    id: TransportId,
    owner: &RouterAddress,
) -> Option<TransportOnNetwork> {
    let place = networks.place()?;
    let owner = owner.clone();
    let order = move |network: &mut crate::network::Network| network.open_direct(id, owner);
    // A thread that has quit has no place for anybody.
    place.network.post(order).ok()?;
    Some(TransportOnNetwork { id, place })
}
