//! Master keys, and what two ends agree on before they use them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use str0m::crypto::{AeadAes128Gcm, AeadAes256Gcm, Aes128CmSha1_80, dtls};

/// RFC 4568, section 6.1: whoever reads a key does without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How packets are encrypted and authenticated. Named as in SDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum SrtpProfile {
    /// AES in counter mode, and 80 bits of HMAC-SHA1. What every implementation has.
    Aes128CmSha1_80,
    /// AES-GCM with a key of 128 bits.
    AeadAes128Gcm,
    /// AES-GCM with a key of 256 bits.
    AeadAes256Gcm,
}

/// The name is none of a [`SrtpProfile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an SRTP profile that is known here")]
pub struct UnknownSrtpProfile;

impl SrtpProfile {
    const ALL: [Self; 3] = [
        Self::Aes128CmSha1_80,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// Its name in SDP (RFC 4568 and RFC 7714).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => Aes128CmSha1_80::KEY_LEN,
            Self::AeadAes128Gcm => AeadAes128Gcm::KEY_LEN,
            Self::AeadAes256Gcm => AeadAes256Gcm::KEY_LEN,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => Aes128CmSha1_80::SALT_LEN,
            Self::AeadAes128Gcm => AeadAes128Gcm::SALT_LEN,
            Self::AeadAes256Gcm => AeadAes256Gcm::SALT_LEN,
        }
    }

    /// By how many bytes an RTP packet grows.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => Aes128CmSha1_80::HMAC_TAG_LEN,
            Self::AeadAes128Gcm => AeadAes128Gcm::TAG_LEN,
            Self::AeadAes256Gcm => AeadAes256Gcm::TAG_LEN,
        }
    }

    /// Bytes that DTLS exports (RFC 5764, section 4.2): a key and a salt for each direction.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// What DTLS negotiated.
    pub(crate) fn of_dtls(profile: dtls::SrtpProfile) -> Option<Self> {
        match profile {
            dtls::SrtpProfile::AES128_CM_SHA1_80 => Some(Self::Aes128CmSha1_80),
            dtls::SrtpProfile::AEAD_AES_128_GCM => Some(Self::AeadAes128Gcm),
            dtls::SrtpProfile::AEAD_AES_256_GCM => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }
}

impl fmt::Display for SrtpProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SrtpProfile {
    type Err = UnknownSrtpProfile;

    fn from_str(name: &str) -> Result<Self, UnknownSrtpProfile> {
        let mut all = Self::ALL.into_iter();
        all.find(|profile| profile.name() == name)
            .ok_or(UnknownSrtpProfile)
    }
}

impl From<SrtpProfile> for &'static str {
    fn from(profile: SrtpProfile) -> Self {
        profile.name()
    }
}

impl TryFrom<String> for SrtpProfile {
    type Error = UnknownSrtpProfile;

    fn try_from(name: String) -> Result<Self, UnknownSrtpProfile> {
        name.parse()
    }
}

/// Why bytes are no [`SrtpKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpKeyError {
    /// It is text, but not base64.
    #[error("the key is not base64")]
    NotBase64,
    /// It belongs to another profile, or was cut.
    #[error("{profile} has {expected} bytes of keys and salts, not {actual}")]
    WrongLength {
        /// What the key was meant for.
        profile: SrtpProfile,
        /// How many bytes that wants.
        expected: usize,
        /// How many there were.
        actual: usize,
    },
}

impl SrtpKeyError {
    const fn check_length(
        profile: SrtpProfile,
        expected: usize,
        actual: usize,
    ) -> Result<(), Self> {
        if expected == actual {
            return Ok(());
        }
        Err(Self::WrongLength {
            profile,
            expected,
            actual,
        })
    }
}

/// The master key and salt of one direction. [`Debug`] does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    profile: SrtpProfile,
    /// As long as the profile wants it.
    key: Vec<u8>,
    /// As long as the profile wants it.
    salt: Vec<u8>,
}

impl SrtpKey {
    /// A key that nobody else has.
    ///
    /// # Panics
    ///
    /// If the operating system has no random numbers; no secret can be made then.
    pub fn random(profile: SrtpProfile) -> Self {
        let mut key = vec![0; profile.key_len()];
        let mut salt = vec![0; profile.salt_len()];
        for secret in [&mut key, &mut salt] {
            getrandom::fill(secret).expect("random numbers of the operating system");
        }
        Self { profile, key, salt }
    }

    /// The key and then the salt, as in the `inline:` of SDES (RFC 4568), without what may stand after
    /// them there.
    ///
    /// # Errors
    ///
    /// If it is not base64, or has not the length that the profile wants.
    pub fn from_base64(profile: SrtpProfile, inline: &str) -> Result<Self, SrtpKeyError> {
        let bytes = BASE64.decode(inline).map_err(|_| SrtpKeyError::NotBase64)?;
        let expected = profile.key_len() + profile.salt_len();
        SrtpKeyError::check_length(profile, expected, bytes.len())?;
        let (key, salt) = bytes.split_at(profile.key_len());
        Ok(Self {
            profile,
            key: key.to_vec(),
            salt: salt.to_vec(),
        })
    }

    /// What [`SrtpKey::from_base64`] reads. A secret.
    pub fn to_base64(&self) -> String {
        BASE64.encode([self.key.as_slice(), &self.salt].concat())
    }

    /// The keys of both directions, ours first, from what DTLS exported. The DTLS client's stand first
    /// there (RFC 5764, section 4.2).
    ///
    /// # Errors
    ///
    /// If that has not the length that the profile wants.
    pub fn from_dtls(
        profile: SrtpProfile,
        keying_material: &[u8],
        we_are_client: bool,
    ) -> Result<(Self, Self), SrtpKeyError> {
        let expected = profile.keying_material_len();
        SrtpKeyError::check_length(profile, expected, keying_material.len())?;
        let (keys, salts) = keying_material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let key = |key: &[u8], salt: &[u8]| Self {
            profile,
            key: key.to_vec(),
            salt: salt.to_vec(),
        };
        let client = key(client_key, client_salt);
        let server = key(server_key, server_salt);
        Ok(if we_are_client {
            (client, server)
        } else {
            (server, client)
        })
    }

    /// What it is for.
    pub const fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Of any length, as the examples of RFCs have it.
    #[cfg(test)]
    pub(super) fn of_parts(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Self {
        Self {
            profile,
            key: key.to_vec(),
            salt: salt.to_vec(),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKey")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_known_by_their_names() {
        for profile in SrtpProfile::ALL {
            assert_eq!(Ok(profile), profile.to_string().parse());
            let json = serde_json::to_string(&profile).unwrap();
            assert_eq!(format!("\"{profile}\""), json);
            assert_eq!(profile, serde_json::from_str(&json).unwrap());
        }
        assert_eq!(Err(UnknownSrtpProfile), "F8".parse::<SrtpProfile>());
        assert!(serde_json::from_str::<SrtpProfile>("\"F8\"").is_err());
    }

    #[test]
    fn profiles_are_as_long_as_those_of_dtls() {
        let known = dtls::SrtpProfile::ALL.iter();
        let ours: Vec<_> = known.filter_map(|p| SrtpProfile::of_dtls(*p)).collect();
        assert_eq!(SrtpProfile::ALL.len(), ours.len());
        for (ours, theirs) in ours.iter().zip(dtls::SrtpProfile::ALL) {
            assert_eq!(theirs.keying_material_len(), ours.keying_material_len());
        }
    }

    #[test]
    fn keys_can_be_read_back_and_differ() {
        for profile in SrtpProfile::ALL {
            let key = SrtpKey::random(profile);
            assert_ne!(key, SrtpKey::random(profile));
            assert_eq!(profile, key.profile());
            let inline = key.to_base64();
            assert_eq!(Ok(&key), SrtpKey::from_base64(profile, &inline).as_ref());
            let unpadded = inline.trim_end_matches('=');
            assert_eq!(Ok(&key), SrtpKey::from_base64(profile, unpadded).as_ref());
            let shown = format!("{key:?}");
            assert!(!shown.contains("salt"), "{shown}");
        }
    }

    /// The example of RFC 4568, section 6.1.
    #[test]
    fn inline_holds_the_key_and_then_the_salt() {
        let inline = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let key = SrtpKey::from_base64(SrtpProfile::Aes128CmSha1_80, inline).unwrap();
        assert_eq!(b"YS___semctl () {", key.key());
        assert_eq!(b"\t220;}\n}\nunles", key.salt());
        assert_eq!(inline, key.to_base64());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let profile = SrtpProfile::AeadAes128Gcm;
        for bad in ["!", "a b", "äöü", "AAAA=AAA"] {
            let refused = SrtpKey::from_base64(profile, bad);
            assert_eq!(Err(SrtpKeyError::NotBase64), refused, "{bad}");
        }
        let other = SrtpKey::random(SrtpProfile::Aes128CmSha1_80).to_base64();
        for (bad, actual) in [("", 0), (other.as_str(), 30)] {
            let wrong_length = SrtpKeyError::WrongLength {
                profile,
                expected: 28,
                actual,
            };
            assert_eq!(Err(wrong_length), SrtpKey::from_base64(profile, bad));
        }
        let refused = SrtpKey::from_dtls(profile, &[0; 28], true);
        assert!(matches!(refused, Err(SrtpKeyError::WrongLength { .. })));
    }

    #[test]
    fn the_clients_secrets_stand_first_in_those_of_dtls() {
        let profile = SrtpProfile::AeadAes256Gcm;
        let exported = [[1; 32].as_slice(), &[2; 32], &[3; 12], &[4; 12]].concat();
        let (local, remote) = SrtpKey::from_dtls(profile, &exported, true).unwrap();
        assert_eq!(
            ([1; 32].as_slice(), [3; 12].as_slice()),
            (local.key(), local.salt())
        );
        assert_eq!(
            ([2; 32].as_slice(), [4; 12].as_slice()),
            (remote.key(), remote.salt())
        );
        let swapped = SrtpKey::from_dtls(profile, &exported, false).unwrap();
        assert_eq!((remote, local), swapped);
    }
}
