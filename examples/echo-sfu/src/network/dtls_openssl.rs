//! DTLS by OpenSSL, for peers that the default library refuses: it accepts ECDSA certificates only,
//! and those of GStreamer are RSA.
//!
//! SRTP, hashes and our own certificate stay with the default library.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{
    ErrorCode, HandshakeError, MidHandshakeSslStream, ShutdownState, Ssl, SslContext, SslMethod,
    SslOptions, SslStream, SslVerifyMode,
};
use openssl::x509::X509;
use str0m::DATAGRAM_MTU_TARGET;
use str0m_proto::crypto::dtls::{
    DtlsCert, DtlsCryptoError, DtlsCryptoOperation, DtlsImplError, DtlsInstance, DtlsOutput,
    DtlsProvider, KeyingMaterial, ProtocolVersion, SrtpProfile,
};
use str0m_proto::crypto::{CryptoError, CryptoProvider, DtlsVersion};

const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";
/// In our order of preference: the first needs one pass over a packet, and hardware helps.
const SRTP_PROFILES: &str = "SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80";
/// RFC 5764, section 4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// OpenSSL keeps the time of retransmissions itself; this is how often it is asked.
const RETRANSMISSION_CHECK: Duration = Duration::from_millis(200);
/// Larger than any record in a datagram.
const RECORD_MAX: usize = 1 << 14;
const FAR_AWAY: Duration = Duration::from_secs(3600);

/// The default library for everything but DTLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static DTLS: OpenSslDtls = OpenSslDtls;
    Arc::new(CryptoProvider {
        dtls_provider: &DTLS,
        ..str0m::crypto::from_feature_flags()
    })
}

#[derive(Debug)]
struct OpenSslDtls;

impl DtlsProvider for OpenSslDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        str0m::crypto::from_feature_flags()
            .dtls_provider
            .generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        if version != DtlsVersion::Dtls12 {
            return Err(CryptoError::Other(format!("no {version} with OpenSSL")));
        }
        let ssl = new_ssl(certificate, mtu.unwrap_or(DATAGRAM_MTU_TARGET))
            .map_err(|error| CryptoError::Other(error.to_string()))?;
        Ok(Box::new(Dtls {
            state: State::New(ssl, Datagrams::default()),
            is_active: false,
            now,
            outputs: VecDeque::new(),
            is_closing: false,
        }))
    }
}

fn new_ssl(certificate: &DtlsCert, mtu: usize) -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::dtls())?;
    context.set_cipher_list(CIPHERS)?;
    context.set_tlsext_use_srtp(SRTP_PROFILES)?;
    context.set_private_key(PKey::private_key_from_der(&certificate.private_key)?.as_ref())?;
    context.set_certificate(X509::from_der(&certificate.certificate)?.as_ref())?;
    // The certificate must be there; whether it is the one that the SDP promised, str0m checks.
    let must_have_one = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    context.set_verify_callback(must_have_one, |_, _| true);
    context.set_options(
        SslOptions::NO_DTLSV1 | SslOptions::NO_QUERY_MTU | SslOptions::NO_RENEGOTIATION,
    );
    let mut ssl = Ssl::new(&context.build())?;
    ssl.set_mtu(u32::try_from(mtu).unwrap_or(u32::MAX))?;
    Ok(ssl)
}

/// What OpenSSL takes for the network: one datagram in, any number out.
#[derive(Debug, Default)]
struct Datagrams {
    incoming: Option<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        // As with a socket, what does not fit is lost.
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum State {
    New(Ssl, Datagrams),
    Handshaking(MidHandshakeSslStream<Datagrams>),
    Established(SslStream<Datagrams>),
    /// The handshake failed, and nothing more will come of it.
    Failed,
}

/// What [`DtlsInstance::poll_output`] is going to say.
enum Pending {
    Packet(Vec<u8>),
    PeerCertificate(Vec<u8>),
    Keys(KeyingMaterial, SrtpProfile),
    Connected,
    Data(Vec<u8>),
    CloseNotify,
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Packet(bytes) | Self::PeerCertificate(bytes) | Self::Data(bytes) => bytes,
            Self::Keys(..) | Self::Connected | Self::CloseNotify => &[],
        }
    }
}

struct Dtls {
    state: State,
    is_active: bool,
    now: Instant,
    outputs: VecDeque<Pending>,
    is_closing: bool,
}

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dtls")
            .field("is_active", &self.is_active)
            .field("is_closing", &self.is_closing)
            .finish_non_exhaustive()
    }
}

fn failed(operation: DtlsCryptoOperation) -> DtlsImplError {
    DtlsImplError::CryptoError(DtlsCryptoError::OperationFailed(operation))
}

impl Dtls {
    fn datagrams(&mut self) -> Option<&mut Datagrams> {
        match &mut self.state {
            State::New(_, datagrams) => Some(datagrams),
            State::Handshaking(stream) => Some(stream.get_mut()),
            State::Established(stream) => Some(stream.get_mut()),
            State::Failed => None,
        }
    }

    fn collect_packets(&mut self) {
        if let Some(datagrams) = self.datagrams() {
            let packets = mem::take(&mut datagrams.outgoing);
            self.outputs
                .extend(packets.into_iter().map(Pending::Packet));
        }
    }

    /// Goes on with the handshake, with a datagram or because time has passed.
    fn shake_hands(&mut self) -> Result<(), DtlsImplError> {
        let outcome = match mem::replace(&mut self.state, State::Failed) {
            State::New(ssl, datagrams) if self.is_active => ssl.connect(datagrams),
            State::New(ssl, datagrams) => ssl.accept(datagrams),
            State::Handshaking(stream) => stream.handshake(),
            settled => {
                self.state = settled;
                return Ok(());
            }
        };
        match outcome {
            Ok(stream) => {
                let secrets = Secrets::of(&stream);
                self.state = State::Established(stream);
                self.collect_packets();
                let secrets = secrets.map_err(|error| {
                    tracing::debug!(%error, "DTLS without what SRTP needs");
                    failed(DtlsCryptoOperation::ExtractSrtpKeyingMaterial)
                })?;
                self.outputs.extend([
                    Pending::PeerCertificate(secrets.certificate),
                    Pending::Keys(secrets.keys, secrets.profile),
                    Pending::Connected,
                ]);
                Ok(())
            }
            Err(HandshakeError::WouldBlock(stream)) => {
                self.state = State::Handshaking(stream);
                self.collect_packets();
                Ok(())
            }
            Err(HandshakeError::SetupFailure(error)) => {
                tracing::debug!(%error, "DTLS cannot begin");
                Err(failed(DtlsCryptoOperation::CompleteKeyExchange))
            }
            Err(HandshakeError::Failure(mut stream)) => {
                tracing::debug!(error = %stream.error(), "DTLS handshake failed");
                // The alert that tells the peer why.
                let packets = mem::take(&mut stream.get_mut().outgoing);
                self.outputs
                    .extend(packets.into_iter().map(Pending::Packet));
                Err(failed(DtlsCryptoOperation::CompleteKeyExchange))
            }
        }
    }

    fn read_records(&mut self) -> Result<(), DtlsImplError> {
        let State::Established(stream) = &mut self.state else {
            return Ok(());
        };
        loop {
            let mut data = vec![0; RECORD_MAX];
            match stream.ssl_read(&mut data) {
                Ok(length) => {
                    data.truncate(length);
                    self.outputs.push_back(Pending::Data(data));
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => {
                    self.outputs.push_back(Pending::CloseNotify);
                    break;
                }
                // OpenSSL drops records that it cannot read, as DTLS wants it.
                Err(error) if error.code() == ErrorCode::WANT_READ => break,
                Err(error) => {
                    tracing::debug!(%error, "DTLS connection failed");
                    return Err(failed(DtlsCryptoOperation::Decrypt));
                }
            }
        }
        self.collect_packets();
        Ok(())
    }
}

impl DtlsInstance for Dtls {
    fn set_active(&mut self, active: bool) {
        self.is_active = active;
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let Some(datagrams) = self.datagrams() else {
            return Err(failed(DtlsCryptoOperation::CompleteKeyExchange));
        };
        if !packet.is_empty() {
            datagrams.incoming = Some(packet.to_vec());
        }
        self.shake_hands()?;
        self.read_records()
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let Some(next) = self.outputs.pop_front() else {
            let is_shaking_hands = matches!(self.state, State::Handshaking(_));
            let wait = if is_shaking_hands {
                RETRANSMISSION_CHECK
            } else {
                FAR_AWAY
            };
            return DtlsOutput::Timeout(self.now + wait);
        };
        let needed = next.bytes().len();
        let Some(copy) = buffer.get_mut(..needed) else {
            self.outputs.push_front(next);
            return DtlsOutput::BufferTooSmall { needed };
        };
        copy.copy_from_slice(next.bytes());
        match next {
            Pending::Packet(_) => DtlsOutput::Packet(copy),
            Pending::PeerCertificate(_) => DtlsOutput::PeerCert(copy),
            Pending::Keys(keys, profile) => DtlsOutput::KeyingMaterial(keys, profile),
            Pending::Connected => DtlsOutput::Connected,
            Pending::Data(_) => DtlsOutput::ApplicationData(copy),
            Pending::CloseNotify => DtlsOutput::CloseNotify,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        match self.state {
            State::Handshaking(_) => self.shake_hands(),
            State::New(..) | State::Established(_) | State::Failed => Ok(()),
        }
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        let State::Established(stream) = &mut self.state else {
            return Ok(0);
        };
        if data.is_empty() {
            return Ok(0);
        }
        let sent = stream.ssl_write(data).map_err(|error| {
            tracing::debug!(%error, "DTLS cannot send");
            failed(DtlsCryptoOperation::Encrypt)
        })?;
        self.collect_packets();
        Ok(sent)
    }

    fn is_active(&self) -> bool {
        self.is_active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        match self.state {
            State::Established(_) => Some(ProtocolVersion::DTLS1_2),
            State::New(..) | State::Handshaking(_) | State::Failed => None,
        }
    }

    fn is_closing(&self) -> bool {
        self.is_closing
    }

    fn is_closed(&self) -> bool {
        self.is_closing && self.outputs.is_empty()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.is_closing = true;
        if let State::Established(stream) = &mut self.state
            && !stream.get_shutdown().contains(ShutdownState::SENT)
        {
            // Fails when the connection has failed: then there is nobody to tell.
            let _ = stream.shutdown();
        }
        self.collect_packets();
        Ok(())
    }
}

/// What a finished handshake gives.
struct Secrets {
    certificate: Vec<u8>,
    keys: KeyingMaterial,
    profile: SrtpProfile,
}

impl Secrets {
    fn of(stream: &SslStream<Datagrams>) -> Result<Self, SecretsError> {
        let ssl = stream.ssl();
        let certificate = ssl.peer_certificate().ok_or(SecretsError::NoCertificate)?;
        let profile = match ssl.selected_srtp_profile().map(|profile| profile.id()) {
            Some(SrtpProfileId::SRTP_AEAD_AES_128_GCM) => SrtpProfile::AEAD_AES_128_GCM,
            Some(SrtpProfileId::SRTP_AEAD_AES_256_GCM) => SrtpProfile::AEAD_AES_256_GCM,
            Some(SrtpProfileId::SRTP_AES128_CM_SHA1_80) => SrtpProfile::AES128_CM_SHA1_80,
            _ => return Err(SecretsError::NoProfile),
        };
        let mut keys = vec![0; profile.keying_material_len()];
        ssl.export_keying_material(&mut keys, EXPORTER_LABEL, None)?;
        Ok(Self {
            certificate: certificate.to_der()?,
            keys: KeyingMaterial::new(&keys),
            profile,
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum SecretsError {
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the peer knows no SRTP profile of ours")]
    NoProfile,
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
}
