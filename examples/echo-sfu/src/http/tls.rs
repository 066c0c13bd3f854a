//! Certificates: one's own, or one made for the day.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate, ready for use.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
    certificate: CertificateDer<'static>,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {what} from {path}")]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file's path.
        path: String,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("there is no certificate in {0}")]
    NoCertificate(String),
    /// Certificate and key do not belong together, or are of no use.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl Tls {
    /// Takes a certificate chain and its key from PEM files.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the two do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| TlsError::File {
                what: "a certificate",
                path: certificate.display().to_string(),
                source,
            })?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.display().to_string()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
            what: "a private key",
            path: key.display().to_string(),
            source,
        })?;
        Self::new(chain, key)
    }

    /// Makes a certificate for these addresses, signed by itself. Browsers warn of it, once.
    ///
    /// # Errors
    ///
    /// The crypto library refuses.
    pub fn self_signed(addresses: &[IpAddr]) -> Result<Self, TlsError> {
        let mut names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        names.extend(addresses.iter().map(IpAddr::to_string));
        names.sort();
        names.dedup();
        let made = rcgen::generate_simple_self_signed(names)?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Self::new(vec![made.cert.der().clone()], key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let nothing = || TlsError::NoCertificate("the certificate chain".to_owned());
        let certificate = chain.first().cloned().ok_or_else(nothing)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        // No HTTP/2: a client asks a handful of things, one after the other.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// The server's certificate itself.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The SHA-256 fingerprint of the certificate, as browsers show it: pairs of hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let sha256 = str0m::crypto::from_feature_flags().sha256_provider;
        let pairs = sha256
            .sha256(&self.certificate)
            .map(|byte| format!("{byte:02X}"));
        pairs.join(":")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}
