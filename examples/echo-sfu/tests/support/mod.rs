//! What the tests with real peers share: the server's process, browsers, other stacks, patience.

#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod cdp;
pub(crate) mod chromium;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod tab;
pub(crate) mod test_page;
pub(crate) mod tools;
pub(crate) mod wait;
