//! Session keys, and one packet encrypted or decrypted with them.

use std::fmt;

use str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80,
    Aes128CmSha1_80Cipher, CryptoError, Sha1HmacProvider,
};

use super::{RTP_HEADER_MIN, RtpIdentity, SrtpError, SrtpKey, SrtpProfile, read_u32};

const AES_BLOCK: usize = 16;
/// What of an RTCP packet is never encrypted: its header and the sender's SSRC.
pub(super) const RTCP_HEADER: usize = 8;
/// RFC 3711, section 3.4: the E flag and the index.
const RTCP_TRAILER: usize = 4;
const RTCP_IS_ENCRYPTED: u32 = 1 << 31;
/// The largest index of SRTCP.
pub(super) const RTCP_INDEX_MAX: u32 = RTCP_IS_ENCRYPTED - 1;

/// RTP and RTCP have keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Rtp,
    Rtcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

/// RFC 3711, section 4.3.2: what a session key is for, as a number.
#[derive(Debug, Clone, Copy)]
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

impl Protocol {
    const fn labels(self) -> Labels {
        match self {
            Self::Rtp => Labels {
                encryption: 0,
                authentication: 1,
                salt: 2,
            },
            Self::Rtcp => Labels {
                encryption: 3,
                authentication: 4,
                salt: 5,
            },
        }
    }
}

/// RFC 3711, section 4.3: AES in counter mode as a source of keys. For GCM the same (RFC 7714, section
/// 11), with zeros where its salt is shorter.
pub(super) fn derive<const N: usize>(key: &SrtpKey, label: u8) -> [u8; N] {
    let srtp = str0m::crypto::from_feature_flags().srtp_provider;
    let mut input = [0; AES_BLOCK];
    for (to, from) in input.iter_mut().zip(key.salt()) {
        *to = *from;
    }
    input[7] ^= label;
    let mut derived = [0; N];
    for (counter, chunk) in (0u16..).zip(derived.chunks_mut(AES_BLOCK)) {
        // The counter has these to itself: no salt is longer than 14 bytes.
        input[14..].copy_from_slice(&counter.to_be_bytes());
        // The library writes a block of padding after the one that counts.
        let mut output = [0; 2 * AES_BLOCK];
        match key.profile() {
            SrtpProfile::Aes128CmSha1_80 | SrtpProfile::AeadAes128Gcm => {
                srtp.srtp_aes_128_ecb_round(key.key(), &input, &mut output);
            }
            SrtpProfile::AeadAes256Gcm => {
                srtp.srtp_aes_256_ecb_round(key.key(), &input, &mut output);
            }
        }
        chunk.copy_from_slice(&output[..chunk.len()]);
    }
    derived
}

/// GCM with either length of key. Everything else of the two is the same.
#[derive(Debug)]
pub(super) enum Gcm {
    Aes128(Box<dyn AeadAes128GcmCipher>),
    Aes256(Box<dyn AeadAes256GcmCipher>),
}

impl Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        associated: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        match self {
            Self::Aes128(cipher) => cipher.encrypt(iv, associated, input, output),
            Self::Aes256(cipher) => cipher.encrypt(iv, associated, input, output),
        }
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        associated: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        match self {
            Self::Aes128(cipher) => cipher.decrypt(iv, &[associated], input, output),
            Self::Aes256(cipher) => cipher.decrypt(iv, &[associated], input, output),
        }
    }
}

/// The session keys of one protocol and direction, ready for use.
pub(super) enum Cipher {
    CounterMode {
        aes: Box<dyn Aes128CmSha1_80Cipher>,
        salt: [u8; 14],
        hmac: Hmac,
    },
    Gcm {
        aes: Gcm,
        salt: [u8; 12],
    },
}

/// HMAC-SHA1 with its key.
pub(super) struct Hmac {
    key: [u8; 20],
    sha1: &'static dyn Sha1HmacProvider,
}

impl Hmac {
    fn of_parts(&self) -> impl Fn(&[u8], &[&[u8]]) -> [u8; 20] + use<> {
        let sha1 = self.sha1;
        move |key, parts| sha1.sha1_hmac(key, parts)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    pub(super) fn derive(key: &SrtpKey, protocol: Protocol, direction: Direction) -> Self {
        let labels = protocol.labels();
        match key.profile() {
            SrtpProfile::Aes128CmSha1_80 => Self::counter_mode(
                derive(key, labels.encryption),
                derive(key, labels.salt),
                derive(key, labels.authentication),
                direction,
            ),
            SrtpProfile::AeadAes128Gcm => Self::gcm_128(
                derive(key, labels.encryption),
                derive(key, labels.salt),
                direction,
            ),
            SrtpProfile::AeadAes256Gcm => Self::gcm_256(
                derive(key, labels.encryption),
                derive(key, labels.salt),
                direction,
            ),
        }
    }

    pub(super) fn counter_mode(
        key: [u8; 16],
        salt: [u8; 14],
        hmac_key: [u8; 20],
        direction: Direction,
    ) -> Self {
        let crypto = str0m::crypto::from_feature_flags();
        let factory = crypto.srtp_provider.aes_128_cm_sha1_80();
        Self::CounterMode {
            aes: factory.create_cipher(key, direction == Direction::Encrypt),
            salt,
            hmac: Hmac {
                key: hmac_key,
                sha1: crypto.sha1_hmac_provider,
            },
        }
    }

    pub(super) fn gcm_128(key: [u8; 16], salt: [u8; 12], direction: Direction) -> Self {
        let crypto = str0m::crypto::from_feature_flags();
        let factory = crypto.srtp_provider.aead_aes_128_gcm();
        let aes = factory.create_cipher(key, direction == Direction::Encrypt);
        Self::Gcm {
            aes: Gcm::Aes128(aes),
            salt,
        }
    }

    pub(super) fn gcm_256(key: [u8; 32], salt: [u8; 12], direction: Direction) -> Self {
        let crypto = str0m::crypto::from_feature_flags();
        let factory = crypto.srtp_provider.aead_aes_256_gcm();
        let aes = factory.create_cipher(key, direction == Direction::Encrypt);
        Self::Gcm {
            aes: Gcm::Aes256(aes),
            salt,
        }
    }

    const fn tag_len(&self) -> usize {
        match self {
            Self::CounterMode { .. } => Aes128CmSha1_80::HMAC_TAG_LEN,
            Self::Gcm { .. } => AeadAes128Gcm::TAG_LEN,
        }
    }

    /// Writes the packet into `out`, and returns its length. Of `index`, only what the header has not
    /// counts.
    pub(super) fn protect_rtp(
        &mut self,
        header: &[u8],
        payload: &[u8],
        index: u64,
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let identity = RtpIdentity::read(header)?;
        let index = (index & !u64::from(u16::MAX)) | u64::from(identity.sequence);
        let tag_at = header.len() + payload.len();
        let length = tag_at + self.tag_len();
        let packet = out.get_mut(..length).ok_or(SrtpError::OutputTooSmall)?;
        let (copied_header, body) = packet.split_at_mut(header.len());
        copied_header.copy_from_slice(header);
        match self {
            Self::CounterMode { aes, salt, hmac } => {
                let iv = Aes128CmSha1_80::rtp_iv(*salt, identity.ssrc, index);
                aes.encrypt(&iv, payload, &mut body[..payload.len()])
                    .map_err(|_| SrtpError::CipherFailed)?;
                Aes128CmSha1_80::rtp_hmac(hmac.of_parts(), &hmac.key, packet, index, tag_at);
            }
            Self::Gcm { aes, salt } => {
                let iv = gcm_rtp_iv(*salt, identity, index);
                aes.encrypt(&iv, header, payload, body)
                    .map_err(|_| SrtpError::CipherFailed)?;
            }
        }
        Ok(length)
    }

    /// Leaves the payload in `out`, or nothing.
    pub(super) fn unprotect_rtp(
        &mut self,
        packet: &[u8],
        header_len: usize,
        index: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        out.clear();
        let identity = RtpIdentity::read(packet)?;
        if header_len < RTP_HEADER_MIN {
            return Err(SrtpError::TooShort);
        }
        let signed_len = packet.len().checked_sub(self.tag_len());
        let (signed, tag) = signed_len
            .and_then(|length| packet.split_at_checked(length))
            .ok_or(SrtpError::TooShort)?;
        let encrypted = signed.get(header_len..).ok_or(SrtpError::TooShort)?;
        match self {
            Self::CounterMode { aes, salt, hmac } => {
                let sha1 = hmac.of_parts();
                if !Aes128CmSha1_80::rtp_verify(sha1, &hmac.key, signed, index, tag) {
                    return Err(SrtpError::NotAuthentic);
                }
                let iv = Aes128CmSha1_80::rtp_iv(*salt, identity.ssrc, index);
                decrypt_into(out, encrypted.len(), |out| aes.decrypt(&iv, encrypted, out))
            }
            Self::Gcm { aes, salt } => {
                let iv = gcm_rtp_iv(*salt, identity, index);
                let (header, encrypted_and_tag) = packet.split_at(header_len);
                decrypt_into(out, encrypted.len(), |out| {
                    aes.decrypt(&iv, header, encrypted_and_tag, out).map(|_| ())
                })
            }
        }
    }

    /// Leaves the packet in `out`.
    pub(super) fn protect_rtcp(
        &mut self,
        compound: &[u8],
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        out.clear();
        let ssrc = read_u32(compound, 4)?;
        let (header, reports) = compound
            .split_at_checked(RTCP_HEADER)
            .ok_or(SrtpError::TooShort)?;
        let trailer = (RTCP_IS_ENCRYPTED | index).to_be_bytes();
        out.extend_from_slice(header);
        match self {
            Self::CounterMode { aes, salt, hmac } => {
                let iv = Aes128CmSha1_80::rtp_iv(*salt, ssrc, u64::from(index));
                out.resize(compound.len(), 0);
                aes.encrypt(&iv, reports, &mut out[RTCP_HEADER..])
                    .map_err(|_| SrtpError::CipherFailed)?;
                out.extend_from_slice(&trailer);
                let tag_at = out.len();
                out.resize(tag_at + Aes128CmSha1_80::HMAC_TAG_LEN, 0);
                Aes128CmSha1_80::rtcp_hmac(hmac.of_parts(), &hmac.key, out, tag_at);
            }
            Self::Gcm { aes, salt } => {
                let iv = AeadAes128Gcm::rtcp_iv(*salt, ssrc, index);
                out.resize(compound.len() + AeadAes128Gcm::TAG_LEN, 0);
                let associated = gcm_rtcp_associated(header, trailer);
                aes.encrypt(&iv, &associated, reports, &mut out[RTCP_HEADER..])
                    .map_err(|_| SrtpError::CipherFailed)?;
                out.extend_from_slice(&trailer);
            }
        }
        Ok(())
    }

    /// The index that an SRTCP packet carries; not yet to be trusted.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        if packet.len() < RTCP_HEADER + RTCP_TRAILER + self.tag_len() {
            return Err(SrtpError::TooShort);
        }
        let trailer = read_u32(packet, self.rtcp_trailer_at(packet))?;
        if trailer & RTCP_IS_ENCRYPTED == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        Ok(trailer & RTCP_INDEX_MAX)
    }

    /// RFC 3711 has the tag last, RFC 7714 the index. The packet is long enough for both.
    const fn rtcp_trailer_at(&self, packet: &[u8]) -> usize {
        match self {
            Self::CounterMode { .. } => packet.len() - Aes128CmSha1_80::HMAC_TAG_LEN - RTCP_TRAILER,
            Self::Gcm { .. } => packet.len() - RTCP_TRAILER,
        }
    }

    /// Leaves the reports in `out`, header included, or nothing. `index` is what
    /// [`Cipher::rtcp_index`] said of the packet.
    pub(super) fn unprotect_rtcp(
        &mut self,
        packet: &[u8],
        index: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        out.clear();
        let ssrc = read_u32(packet, 4)?;
        let trailer_at = self.rtcp_trailer_at(packet);
        let (header, body) = packet.split_at(RTCP_HEADER);
        let body = &body[..trailer_at - RTCP_HEADER];
        match self {
            Self::CounterMode { aes, salt, hmac } => {
                let (signed, tag) = packet.split_at(trailer_at + RTCP_TRAILER);
                if !Aes128CmSha1_80::rtcp_verify(hmac.of_parts(), &hmac.key, signed, tag) {
                    return Err(SrtpError::NotAuthentic);
                }
                let iv = Aes128CmSha1_80::rtp_iv(*salt, ssrc, u64::from(index));
                out.extend_from_slice(header);
                decrypt_into(out, body.len(), |out| aes.decrypt(&iv, body, out))
            }
            Self::Gcm { aes, salt } => {
                let iv = AeadAes128Gcm::rtcp_iv(*salt, ssrc, index);
                let trailer = (RTCP_IS_ENCRYPTED | index).to_be_bytes();
                let associated = gcm_rtcp_associated(header, trailer);
                out.extend_from_slice(header);
                decrypt_into(out, body.len() - AeadAes128Gcm::TAG_LEN, |out| {
                    aes.decrypt(&iv, &associated, body, out).map(|_| ())
                })
            }
        }
    }
}

fn gcm_rtp_iv(salt: [u8; 12], identity: RtpIdentity, index: u64) -> [u8; 12] {
    let rollovers = (index >> 16) as u32;
    AeadAes128Gcm::rtp_iv(salt, identity.ssrc, rollovers, identity.sequence)
}

/// RFC 7714, section 9.2.
fn gcm_rtcp_associated(
    header: &[u8],
    trailer: [u8; RTCP_TRAILER],
) -> [u8; RTCP_HEADER + RTCP_TRAILER] {
    let mut associated = [0; RTCP_HEADER + RTCP_TRAILER];
    associated[..RTCP_HEADER].copy_from_slice(header);
    associated[RTCP_HEADER..].copy_from_slice(&trailer);
    associated
}

/// Adds what is decrypted to `out`, or empties it: bytes that are not authentic are for nobody.
fn decrypt_into(
    out: &mut Vec<u8>,
    length: usize,
    decrypt: impl FnOnce(&mut [u8]) -> Result<(), CryptoError>,
) -> Result<(), SrtpError> {
    let start = out.len();
    out.resize(start + length, 0);
    decrypt(&mut out[start..]).map_err(|_| {
        out.clear();
        SrtpError::NotAuthentic
    })
}
