//! Certificates of an authority of a test's own, and servers that show them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// Who vouches for the certificates of a test.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM texts.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub pem: String,
    /// The key.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, which others are to trust.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name or an address.
    pub fn certificate(&self, name: &str) -> Certificate {
        self.issue(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// One that was good until years ago.
    pub fn expired(&self, name: &str) -> Certificate {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        Certificate { pem: made.pem(), key: key.serialize_pem() }
    }
}

/// What a server shows and asks for.
#[derive(Debug)]
pub struct Secure {
    config: ServerConfig,
}

impl Secure {
    /// Shows this certificate; with `clients`, wants one that the authority has issued.
    pub fn new(certificate: &Certificate, clients: Option<&Authority>) -> Self {
        let chain =
            CertificateDer::pem_slice_iter(certificate.pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        Self { config: builder.with_single_cert(chain, key).unwrap() }
    }

    /// Offers these protocols: `h2`, `http/1.1`.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// What accepts connections so.
    pub fn acceptor(self) -> tokio_rustls::TlsAcceptor {
        Arc::new(self.config).into()
    }
}

/// The URL of a server behind TLS that is called `localhost`.
pub fn url(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}
