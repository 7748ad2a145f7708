//! The client's side.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

use super::Identity;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is trusted.
    #[error("there is no authority to trust")]
    NoRoots,
    /// rustls says no.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 towards servers that one of the `roots` vouches for. Which HTTP is spoken is agreed on later.
///
/// # Errors
///
/// There are no roots that can be used, or the identity cannot.
pub fn client_config(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
    identity: Option<Identity>,
) -> Result<ClientConfig, ClientError> {
    let mut store = RootCertStore::empty();
    // Systems carry certificates that rustls has no use for; the others do.
    let (usable, _) = store.add_parsable_certificates(roots);
    if usable == 0 {
        return Err(ClientError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    Ok(match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::certificates, *};

    #[test]
    fn somebody_has_to_be_trusted() {
        assert!(matches!(client_config([], None), Err(ClientError::NoRoots)));
        let made = rcgen::generate_simple_self_signed(["backend.example".to_owned()]).unwrap();
        let roots = certificates(made.cert.pem().as_bytes()).unwrap();
        let identity = Identity::new(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes());
        let config = client_config(roots, Some(identity.unwrap())).unwrap();
        assert!(config.client_auth_cert_resolver.has_certs());
    }
}
