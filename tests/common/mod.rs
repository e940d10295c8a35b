//! What several tests share. Each test binary uses a part of it.

#[cfg(target_os = "linux")]
pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod images;
