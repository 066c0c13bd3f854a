//! The names by which the outside speaks of rooms, publishers and sessions.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::ApiError;

/// A room: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RoomName(String);

impl FromStr for RoomName {
    type Err = ApiError;

    fn from_str(name: &str) -> Result<Self, ApiError> {
        let acceptable = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if (1..=64).contains(&name.len()) && name.chars().all(acceptable) {
            Ok(Self(name.to_owned()))
        } else {
            let rule = "a room is named by 1 to 64 characters of A-Z a-z 0-9 _ -";
            Err(ApiError::BadName(rule.to_owned()))
        }
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a publisher calls itself: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisplayName(String);

impl FromStr for DisplayName {
    type Err = ApiError;

    fn from_str(name: &str) -> Result<Self, ApiError> {
        let name = name.trim();
        if (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
            Ok(Self(name.to_owned()))
        } else {
            let rule = "a display name has 1 to 64 characters, and no control characters";
            Err(ApiError::BadName(rule.to_owned()))
        }
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A publisher, as the room knows it. Public.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PublisherId(String);

impl PublisherId {
    pub(crate) fn random() -> Self {
        Self(random_hex::<5>())
    }
}

impl FromStr for PublisherId {
    type Err = ApiError;

    fn from_str(id: &str) -> Result<Self, ApiError> {
        if is_hex(id, 10) {
            Ok(Self(id.to_owned()))
        } else {
            Err(ApiError::UnknownPublisher(id.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session, as its client knows it. Whoever knows it can end the session; so it is 128 random
/// bits, and [`Debug`] does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionToken(String);

impl SessionToken {
    pub(crate) fn random() -> Self {
        Self(random_hex::<16>())
    }
}

impl FromStr for SessionToken {
    type Err = ApiError;

    fn from_str(token: &str) -> Result<Self, ApiError> {
        if is_hex(token, 32) {
            Ok(Self(token.to_owned()))
        } else {
            Err(ApiError::UnknownSession)
        }
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `N` random bytes from the operating system, in hexadecimal.
///
/// # Panics
///
/// If the operating system has no random numbers; no secret can be made then.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random numbers of the operating system");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_may_be() {
        assert!("lobby_1-A".parse::<RoomName>().is_ok());
        for bad in ["", "a b", "ä", "../x", &"x".repeat(65)] {
            assert!(bad.parse::<RoomName>().is_err(), "{bad}");
        }
        assert_eq!("Ann Ä", "  Ann Ä ".parse::<DisplayName>().unwrap().0);
        for bad in ["", " ", "a\nb", &"x".repeat(65)] {
            assert!(bad.parse::<DisplayName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_names_can_be_read_back_and_differ() {
        let token = SessionToken::random();
        assert_eq!(Ok(&token), token.to_string().parse().as_ref());
        assert_ne!(token, SessionToken::random());
        let id = PublisherId::random();
        assert_eq!(Ok(&id), id.to_string().parse().as_ref());
        assert_eq!(Err(ApiError::UnknownSession), "xyz".parse::<SessionToken>());
        assert!(!format!("{token:?}").contains(&token.to_string()));
    }
}
