//! Addresses as people type them: `server.example.com`, `192.0.2.1:5555`, `[2001:db8::1]:5555`.

use std::net::Ipv6Addr;

use crate::cli::failure::Failure;
use crate::keyring::with_port;

/// Reads where something is reached, the value of `option`. Without a port, it is the one that locations listen on.
///
/// # Errors
///
/// When nothing can be reached there, whatever there is.
pub(crate) fn parse(option: &str, text: &str) -> Result<String, Failure> {
    let complete = with_port(text);
    if is_reachable(&complete) {
        return Ok(complete);
    }
    Err(Failure::arguments(format!(
        "`{option} {text}` is not an address: expected HOST or HOST:PORT, as in server.example.com:5555 or [2001:db8::1]:5555"
    )))
}

/// Whether it is a host and a port, as far as their form tells.
fn is_reachable(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Whether it may be the name of a host, or an address with the brackets that IPv6 needs.
fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        // A zone may follow: `fe80::1%2`.
        let ip = inner.split_once('%').map_or(inner, |(ip, _)| ip);
        return ip.parse::<Ipv6Addr>().is_ok();
    }
    let usual = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && !text.starts_with(['-', '.']) && text.chars().all(usual)
}

/// Checks where something is to listen, the value of `option`: as [`parse`] has it, and also `:PORT`, for all addresses. With
/// port 0, any free one is taken.
///
/// # Errors
///
/// When nothing can listen there, on whatever machine.
pub(crate) fn check_listening(option: &str, text: &str) -> Result<(), Failure> {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let complete = with_port(text);
    let parts = complete.rsplit_once(':');
    if text.strip_prefix(':').is_some_and(is_port)
        || parts.is_some_and(|(host, port)| is_host(host) && is_port(port))
    {
        return Ok(());
    }
    Err(Failure::arguments(format!(
        "`{option} {text}` is not an address to listen on: expected ADDR, ADDR:PORT or :PORT, as in 192.0.2.1:5555, [::]:5555 or :5555"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_port_or_gets_one() {
        for (text, complete) in [
            ("server", "server:5555"),
            ("server.example.com:1", "server.example.com:1"),
            ("192.0.2.1", "192.0.2.1:5555"),
            ("::1", "[::1]:5555"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:5555"),
        ] {
            assert_eq!(parse("--address", text), Ok(complete.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_no_address() {
        for text in [
            "", ":", ":5555", "x:y", "x:70000", "x:0", "x:", "a b", "-x", "[x]:1", "::1:zz",
            "http://x", "x/y", "me@x", "x\n",
        ] {
            let failure = parse("--address", text).expect_err(text);
            assert!(failure.to_string().contains("HOST:PORT"), "{failure}");
        }
    }

    #[test]
    fn listening_needs_no_host() {
        for text in ["0.0.0.0", "0.0.0.0:0", ":5555", "[::]:1", "::", "localhost"] {
            assert_eq!(check_listening("--listen", text), Ok(()), "{text}");
        }
        for text in ["", ":", ":x", ":70000", "127.0.0.1:70000", "a b", "x:y"] {
            let failure = check_listening("--listen", text).expect_err(text);
            assert!(failure.to_string().contains("ADDR:PORT"), "{failure}");
        }
    }
}
