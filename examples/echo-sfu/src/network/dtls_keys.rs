//! DTLS that also tells us the keys it has agreed on.
//!
//! str0m keeps them to itself; but what goes out is encrypted here, without it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
    SrtpProfile as DtlsSrtpProfile,
};
use str0m::crypto::{CryptoError, CryptoProvider};

use crate::rtp::srtp::{SrtpKey, SrtpProfile};

thread_local! {
    /// The keys of the handshake that has ended last on this thread. A transport takes them as soon
    /// as str0m has returned, so they can be no other's.
    static AGREED: RefCell<Option<AgreedKeys>> = const { RefCell::new(None) };
}

/// What a handshake has agreed on.
#[derive(Debug)]
pub(super) struct AgreedKeys {
    /// For what we send.
    pub(super) local: SrtpKey,
    /// For what the client sends.
    pub(super) remote: SrtpKey,
}

/// What the handshake has agreed on that ended on this thread since this was last called.
pub(super) fn take_agreed() -> Option<AgreedKeys> {
    AGREED.take()
}

/// What str0m is to use.
pub(super) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "openssl")]
    let under = crate::network::dtls_openssl::provider().as_ref().clone();
    #[cfg(not(feature = "openssl"))]
    let under = str0m::crypto::from_feature_flags();
    static TELLING: TellingDtls = TellingDtls;
    Arc::new(CryptoProvider {
        dtls_provider: &TELLING,
        ..under
    })
}

fn dtls_under() -> &'static dyn DtlsProvider {
    #[cfg(feature = "openssl")]
    return crate::network::dtls_openssl::provider().dtls_provider;
    #[cfg(not(feature = "openssl"))]
    return str0m::crypto::from_feature_flags().dtls_provider;
}

#[derive(Debug)]
struct TellingDtls;

impl DtlsProvider for TellingDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        dtls_under().generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let under = dtls_under().new_dtls(certificate, now, version, mtu)?;
        Ok(Box::new(TellingInstance(under)))
    }
}

#[derive(Debug)]
struct TellingInstance(Box<dyn DtlsInstance>);

impl DtlsInstance for TellingInstance {
    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let is_client = self.0.is_active();
        let output = self.0.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            AGREED.set(agreed(material.as_ref(), *profile, is_client));
        }
        output
    }

    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

/// `None` for a profile that we do not speak, which str0m does not offer.
fn agreed(material: &[u8], profile: DtlsSrtpProfile, is_client: bool) -> Option<AgreedKeys> {
    let profile = SrtpProfile::of_dtls(profile)?;
    let (local, remote) = SrtpKey::from_dtls(profile, material, is_client).ok()?;
    Some(AgreedKeys { local, remote })
}
