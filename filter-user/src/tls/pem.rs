//! Certificates and keys from PEM texts.

use std::fmt;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// What is wrong with a PEM text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is none where one has to be.
    #[error("there is no certificate in it (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// There is none where one has to be.
    #[error("there is no private key in it (`-----BEGIN PRIVATE KEY-----`)")]
    NoKey,
    /// It cannot be read.
    #[error("it is not PEM: {0}")]
    Broken(String),
    /// The key is another one's.
    #[error("the certificate and the key do not belong together, or are of a kind that cannot be used: {0}")]
    Mismatch(String),
}

/// The certificates of a PEM text, one at least.
///
/// # Errors
///
/// There is none, or the text is broken.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| PemError::Broken(error.to_string()))?;
    if all.is_empty() { Err(PemError::NoCertificate) } else { Ok(all) }
}

/// Who one is to the other side: a chain of certificates, and the key of the first one.
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From the texts of a chain and its key, which can be one text.
    ///
    /// # Errors
    ///
    /// One of them is missing or broken, or the key belongs to another certificate.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, PemError> {
        use rustls::pki_types::pem::Error;
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            Error::NoItemsFound => PemError::NoKey,
            error => PemError::Broken(error.to_string()),
        })?;
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
            .map_err(|error| PemError::Mismatch(error.to_string()))?;
        Ok(Self { chain, key })
    }
}

/// The key is nobody's business.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["backend.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_and_keys_are_found_and_belong_together() {
        let ((chain, key), (other, _)) = (pair(), pair());
        assert_eq!(certificates((chain.clone() + &other).as_bytes()).unwrap().len(), 2);
        let both = format!("{key}{chain}");
        for (chain, key) in [(&chain, &key), (&both, &both)] {
            assert!(Identity::new(chain.as_bytes(), key.as_bytes()).is_ok());
        }
        let error = |chain: &str, key: &str| Identity::new(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error(&key, &key), PemError::NoCertificate);
        assert_eq!(error(&chain, &chain), PemError::NoKey);
        assert_eq!(error("", &key), PemError::NoCertificate);
        assert!(matches!(error(&other, &key), PemError::Mismatch(_)));
        let broken = chain.replace("-----END", "-----FIN");
        assert!(matches!(error(&broken, &key), PemError::Broken(_) | PemError::NoCertificate));
        let shown = format!("{:?}", Identity::new(chain.as_bytes(), key.as_bytes()).unwrap());
        assert_eq!(shown, "Identity { chain: 1, .. }");
    }
}
