//! TLS for registries and remote Docker daemons: which cryptography it uses.

/// Makes *ring* the process's provider for TLS, unless there is one already.
///
/// The link's encryption uses *ring* too, so no second cryptographic library is built.
pub(super) fn install_provider() {
    // An error says that there is one, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
