//! An SFU on `rtc-thread`.

pub mod error;

pub use error::ApiError;
