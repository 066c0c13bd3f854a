//! An SFU on `rtc-thread`.

pub mod error;

mod demux;
mod media;
mod names;
mod network;
mod operation;
mod sdp;
mod sfu;
mod signaling;
mod stats;
mod transport;
mod worker;

pub use error::ApiError;
pub use media::TrackInfo;
pub use names::{DisplayName, PublisherId, RoomName, SessionToken};
pub use operation::Operation;
pub use sfu::{Sfu, SfuOptions, StartError};
pub use signaling::{Answer, Signaling};
pub use stats::{NetworkStats, PublisherInfo, RoomInfo, SfuStats};
