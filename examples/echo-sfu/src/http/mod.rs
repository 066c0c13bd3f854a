//! HTTP in front of the SFU: WHIP, WHEP, echo, rooms, and the page.
//!
//! It runs on a tokio runtime of its own and knows nothing of threads and packets: each handler
//! calls an operation of [`Signaling`](crate::Signaling), which is enqueued by that, and awaits it.

mod page;
mod plain;
mod problem;
mod routes;
mod server;
mod session;
mod tls;

#[cfg(fuzzing)]
pub(crate) use session::offer_body;

pub use routes::{RouteOptions, routes};
pub use server::{ServerOptions, serve};
pub use tls::{Tls, TlsError};
