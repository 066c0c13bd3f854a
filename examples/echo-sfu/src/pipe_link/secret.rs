//! A secret that two processes share, and the keys that come of it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use thiserror::Error;

use crate::rtp::srtp::{SrtpKey, SrtpProfile};

/// What media between processes is encrypted with.
const PROFILE: SrtpProfile = SrtpProfile::AeadAes256Gcm;
/// Whoever records what is said can try secrets at leisure: a short one would be found.
const SHORTEST: usize = 16;

/// What two processes must share so that one may [pipe](crate::objects::RemotePipe) to the other: the
/// bytes of a file, say. [`Debug`] does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PipeSecret(Vec<u8>);

/// The secret is shorter than 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the secret is shorter than 16 bytes")]
pub struct PipeSecretTooShort;

impl PipeSecret {
    /// These bytes, which should be random: `openssl rand -hex 32` makes some.
    ///
    /// # Errors
    ///
    /// If there are fewer than 16.
    pub fn new(bytes: &[u8]) -> Result<Self, PipeSecretTooShort> {
        if bytes.len() < SHORTEST {
            return Err(PipeSecretTooShort);
        }
        Ok(Self(bytes.to_vec()))
    }
}

impl fmt::Debug for PipeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeSecret").finish_non_exhaustive()
    }
}

/// What comes of a secret and of the random bytes of both ends.
pub(super) struct Agreed {
    pub(super) say: LessSafeKey,
    pub(super) hear: LessSafeKey,
    pub(super) ours: SrtpKey,
    pub(super) theirs: SrtpKey,
}

/// As many bytes as are wanted.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Agreed {
    /// `None` if the library cannot, which it has no reason to.
    pub(super) fn new(
        secret: &PipeSecret,
        of_who_connects: &[u8],
        of_who_listens: &[u8],
        we_connect: bool,
    ) -> Option<Self> {
        let salt = Salt::new(HKDF_SHA256, &[of_who_connects, of_who_listens].concat());
        let root = salt.extract(&secret.0);
        let expand = |purpose: &[u8], count: usize| {
            let mut bytes = vec![0; count];
            let purpose = [b"echo-sfu pipe 3 ".as_slice(), purpose];
            let expanded = root.expand(&purpose, Bytes(count)).ok()?;
            expanded.fill(&mut bytes).ok()?;
            Some(bytes)
        };
        let key = |purpose: &[u8]| {
            let bytes = expand(purpose, AES_256_GCM.key_len())?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
            Some(LessSafeKey::new(key))
        };
        let of_who_connects = key(b"messages of who connects")?;
        let of_who_listens = key(b"messages of who listens")?;
        let (say, hear) = match we_connect {
            true => (of_who_connects, of_who_listens),
            false => (of_who_listens, of_who_connects),
        };
        let material = expand(b"media", PROFILE.keying_material_len())?;
        let (ours, theirs) = SrtpKey::from_dtls(PROFILE, &material, we_connect).ok()?;
        Some(Self {
            say,
            hear,
            ours,
            theirs,
        })
    }
}
