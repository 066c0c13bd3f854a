//! By what the two ends of an ICE session know each other.

use std::fmt;

use str0m::IceCreds;
use thiserror::Error;

use crate::names::random_hex;

/// Lengths that RFC 8839, section 5.4, allows.
const UFRAG_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_LENGTHS: std::ops::RangeInclusive<usize> = 22..=256;

/// The user fragment and the password of one end of an ICE session, as `a=ice-ufrag` and `a=ice-pwd`
/// give them. [`Debug`] does not show the password.
///
/// libwebrtc: `IceParameters`. mediasoup: `IceParameters`, without the `iceLite` in it.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    ufrag: String,
    password: String,
}

/// What cannot be ICE credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadIceCredentials {
    /// A user fragment has from 4 to 256 letters, digits, `+` and `/`.
    #[error("the ICE user fragment is not of 4 to 256 letters, digits, '+' and '/'")]
    Ufrag,
    /// A password has from 22 to 256 of them.
    #[error("the ICE password is not of 22 to 256 letters, digits, '+' and '/'")]
    Password,
}

impl IceCredentials {
    /// # Errors
    ///
    /// One of the two is too short, too long, or has characters that ICE does not use.
    pub fn new(
        ufrag: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, BadIceCredentials> {
        let (ufrag, password) = (ufrag.into(), password.into());
        if !UFRAG_LENGTHS.contains(&ufrag.len()) || !ufrag.bytes().all(is_ice_char) {
            return Err(BadIceCredentials::Ufrag);
        }
        if !PASSWORD_LENGTHS.contains(&password.len()) || !password.bytes().all(is_ice_char) {
            return Err(BadIceCredentials::Password);
        }
        Ok(Self { ufrag, password })
    }

    /// 64 random bits and 128.
    pub(crate) fn random() -> Self {
        Self {
            ufrag: random_hex::<8>(),
            password: random_hex::<16>(),
        }
    }

    /// Public: every check has it.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Whoever knows it can answer for this end.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl From<IceCredentials> for IceCreds {
    fn from(credentials: IceCredentials) -> Self {
        Self {
            ufrag: credentials.ufrag,
            pass: credentials.password,
        }
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

const fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_characters_are_those_of_ice() {
        let (ufrag, password) = ("ab+/", "abcdefghijklmnopqrstuv");
        let made = IceCredentials::new(ufrag, password).unwrap();
        assert_eq!((ufrag, password), (made.ufrag(), made.password()));
        let long = "x".repeat(257);
        for bad in ["", "abc", "abc\r", "ab cd", "äbcd", &long] {
            let refused = IceCredentials::new(bad, password);
            assert_eq!(Err(BadIceCredentials::Ufrag), refused, "{bad:?}");
        }
        for bad in ["", "abcdefghijklmnopqrstu", &long] {
            let refused = IceCredentials::new(ufrag, bad);
            assert_eq!(Err(BadIceCredentials::Password), refused, "{bad:?}");
        }
    }

    #[test]
    fn what_is_made_is_valid_and_does_not_show_its_password() {
        let made = IceCredentials::random();
        let again = IceCredentials::new(made.ufrag(), made.password());
        assert_eq!(Ok(&made), again.as_ref());
        let shown = format!("{made:?}");
        assert!(shown.contains(made.ufrag()) && !shown.contains(made.password()));
    }
}
