//! An SFU on [`rtc_thread`]: browsers and WHIP/WHEP clients send their camera, and see themselves
//! and each other.
//!
//! A selective forwarding unit receives each publisher's media once and sends it to many viewers,
//! without decoding it. This one is the example of its workspace: small enough to be read, real
//! enough to be used. It runs on libwebrtc's classic three kinds of threads:
//!
//! - the *signaling* thread takes the application's calls ([`Signaling`]), knows sessions and rooms by
//!   name, and keeps the limits;
//! - *worker* threads decide who is sent what: they own the [`objects`], which are mediasoup's;
//! - *network* threads move packets: ICE, DTLS and what comes in by [str0m], what goes out by
//!   themselves.
//!
//! ```
//! use echo_sfu::{ApiError, Sfu, SfuOptions};
//!
//! let sfu = Sfu::start(SfuOptions::default())?;
//! let signaling = sfu.signaling();
//! // Enqueued when called; a future, for whoever likes to await it.
//! let refused = signaling.echo("not an offer".to_owned());
//! let stats = signaling.stats();
//! assert!(matches!(refused.wait(), Err(ApiError::BadOffer(_))));
//! assert_eq!(0, stats.wait()?.sessions);
//! sfu.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The binary puts [`http`] in front: axum on a tokio runtime of its own, which knows nothing but
//! [`Signaling`].
//!
//! # Guarantees
//!
//! - Operations take effect in the order in which they are called, awaited or not.
//! - What depends on something else agrees with it as soon as nothing is under way: [`objects`] says
//!   how.
//! - A session that ends, for whatever reason, leaves nothing behind on any thread; a client that
//!   vanishes has ended within 30 seconds.
//! - What a viewer is sent is one continuous stream, whatever is paused, switched or lost on the way to
//!   it, and begins with a key frame.
//! - What a stranger sends to the UDP port costs two look-ups and one STUN parse, and is counted.
//! - A fault in one session, a panic of the WebRTC library included, ends that session only. A fault
//!   of a worker ends its rooms only; a second later another worker has taken its place, and what was
//!   linked to other processes there is linked again.
//! - Those who are there come first. When a limit is reached, or no network thread has got to its work
//!   within 200 ms for two seconds, who comes then is refused.
//!
//! `docs/architecture.md` follows an echo from thread to thread.

pub mod cli;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod objects;

mod error;
mod ice;
mod media;
mod names;
mod network;
mod operation;
mod pipe_link;
mod reserved;
mod rtp;
mod sdp;
mod sfu;
mod signaling;
mod stats;

pub use error::ApiError;
pub use ice::{BadIceCredentials, IceCredentials};
pub use media::TrackInfo;
pub use names::{DisplayName, PublisherId, RoomName, SessionToken};
pub use network::{NetworkError, NetworkOptions, NetworkThreads};
pub use operation::Operation;
pub use pipe_link::{PipeSecret, PipeSecretTooShort};
pub use rtp::incoming::{IncomingCounts, IncomingStats};
pub use rtp::outgoing::{OutgoingCounts, OutgoingStats};
pub use rtp::rate::BitRate;
pub use rtp::srtp::{SrtpKey, SrtpKeyError, SrtpProfile, UnknownSrtpProfile};
pub use sdp::{Offer, OfferedFlow};
pub use sfu::{Sfu, SfuOptions, StartError, ThreadRole, local_addresses};
pub use signaling::{
    Answer, Patched, PlainEgress, PlainIngress, PlainPlay, PlainPlayed, PlainPublish,
    PlainPublished, Signaling,
};
pub use stats::{
    ConsumerStats, NetworkStats, ProducerStats, ProducerTraffic, PublisherInfo, Quantiles,
    RoomInfo, RouterStats, SfuStats, ThreadReport, TransportStats, TransportTraffic, WorkerStats,
};
