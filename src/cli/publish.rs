//! Which local ports lead to which ports of the container. Pure: nothing is bound here.
//!
//! Exposed ports get a local port of the same number plus `--offset`; `-p` adds mappings, or replaces what an exposed port
//! would have got.

mod address;
mod mapping;

use std::collections::BTreeSet;

pub(crate) use self::address::address;
pub(crate) use self::mapping::{Interface, Mapping};
use crate::cli::failure::Failure;
use crate::protocol::image::{Port, Transport};

/// What the options say about ports, before it is known which ports the image exposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    offset: u16,
    interface: Interface,
    published: Vec<Mapping>,
}

/// What is to be bound, and what was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Mappings, those of exposed ports first.
    pub(crate) mappings: Vec<Mapping>,
    /// Exposed ports that are not TCP.
    pub(crate) skipped: Vec<Port>,
}

impl Request {
    /// Reads `--offset`, `-p` and `--public`.
    ///
    /// # Errors
    ///
    /// An offset or a mapping that is malformed or beyond the range of ports, or a local port that is given twice.
    pub(crate) fn parse(offset: i64, published: &[String], public: bool) -> Result<Self, Failure> {
        let interface = if public {
            Interface::All
        } else {
            Interface::LOOPBACK
        };
        let offset = u16::try_from(offset).map_err(|_| {
            Failure::arguments(format!(
                "`--offset {offset}` is out of range: expected a number from 0 to 65534"
            ))
        })?;
        let mut mappings = Vec::with_capacity(published.len());
        for text in published {
            let mapping = Mapping::parse(text, interface)?;
            refuse_clash(&mappings, mapping)?;
            mappings.push(mapping);
        }
        Ok(Self {
            offset,
            interface,
            published: mappings,
        })
    }

    /// Decides what is to be bound for an image that exposes these ports.
    ///
    /// # Errors
    ///
    /// A local port beyond 65535, or two ports of the container for one local port.
    pub(crate) fn plan(&self, exposed: &BTreeSet<Port>) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        for port in exposed {
            if port.transport != Transport::Tcp {
                plan.skipped.push(*port);
                continue;
            }
            let replaced = self.published.iter().filter(|m| m.remote == port.number);
            let before = plan.mappings.len();
            plan.mappings.extend(replaced);
            if plan.mappings.len() > before {
                continue;
            }
            let local = port.number.checked_add(self.offset).ok_or_else(|| {
                Failure::arguments(format!(
                    "port {port} of the image cannot appear on local port {}, beyond 65535",
                    u32::from(port.number) + u32::from(self.offset)
                ))
                .hint(format!(
                    "use an --offset of at most {}, or -p LOCAL:{}",
                    u16::MAX - port.number,
                    port.number
                ))
            })?;
            plan.mappings.push(Mapping {
                interface: self.interface,
                local,
                remote: port.number,
            });
        }
        let exposes = |number| exposed.contains(&Port::tcp(number));
        plan.mappings
            .extend(self.published.iter().filter(|m| !exposes(m.remote)));
        for (index, mapping) in plan.mappings.iter().enumerate() {
            refuse_clash(&plan.mappings[..index], *mapping)?;
        }
        Ok(plan)
    }
}

fn refuse_clash(others: &[Mapping], mapping: Mapping) -> Result<(), Failure> {
    let clash = others.iter().find(|other| {
        mapping.local != 0
            && other.local == mapping.local
            && other.interface.overlaps(mapping.interface)
    });
    match clash {
        None => Ok(()),
        Some(other) if other.remote == mapping.remote => Err(Failure::arguments(format!(
            "local port {} is given twice for port {}: expected it once",
            mapping.local, mapping.remote
        ))),
        Some(other) => Err(Failure::arguments(format!(
            "local port {} cannot lead to both port {} and port {} of the container",
            mapping.local, other.remote, mapping.remote
        ))
        .hint(format!(
            "give one of them another local port: -p LOCAL:{}",
            mapping.remote
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(offset: i64, published: &[&str], public: bool) -> Result<Request, String> {
        let published: Vec<String> = published.iter().map(ToString::to_string).collect();
        Request::parse(offset, &published, public).map_err(|failure| failure.to_string())
    }

    fn exposed(ports: &[&str]) -> BTreeSet<Port> {
        ports
            .iter()
            .map(|port| port.parse().expect("a port"))
            .collect()
    }

    /// The plan in short: `interface:local:remote`.
    fn planned(
        offset: i64,
        published: &[&str],
        public: bool,
        ports: &[&str],
    ) -> Result<Vec<String>, String> {
        let plan = request(offset, published, public)?
            .plan(&exposed(ports))
            .map_err(|failure| failure.to_string())?;
        Ok(plan
            .mappings
            .iter()
            .map(|mapping| {
                let interface = match mapping.interface {
                    Interface::All => "*".to_owned(),
                    Interface::Address(ip) => ip.to_string(),
                };
                format!("{interface}:{}:{}", mapping.local, mapping.remote)
            })
            .collect())
    }

    #[test]
    fn exposed_ports_appear_on_loopback_under_their_own_number() {
        assert_eq!(
            planned(0, &[], false, &["80/tcp", "443/tcp"]),
            Ok(vec!["127.0.0.1:80:80".into(), "127.0.0.1:443:443".into()])
        );
        assert_eq!(planned(0, &[], false, &[]), Ok(vec![]));
    }

    #[test]
    fn the_offset_is_added_to_exposed_ports_only() {
        assert_eq!(
            planned(8000, &["9000:9"], false, &["80", "443"]),
            Ok(vec![
                "127.0.0.1:8080:80".into(),
                "127.0.0.1:8443:443".into(),
                "127.0.0.1:9000:9".into()
            ])
        );
    }

    #[test]
    fn offsets_out_of_range_are_refused() {
        for offset in [-1, -8000, 65536, i64::MAX, i64::MIN] {
            let message = request(offset, &[], false).expect_err("out of range");
            assert!(message.contains("from 0 to 65534"), "{message}");
        }
        assert_eq!(
            planned(65534, &[], false, &["1"]),
            Ok(vec!["127.0.0.1:65535:1".into()])
        );
        let message =
            planned(65000, &[], false, &["80", "8080"]).expect_err("beyond the last port");
        assert!(message.contains("73080"), "{message}");
        assert!(message.contains("at most 57455"), "{message}");
    }

    #[test]
    fn a_mapping_of_ones_own_replaces_that_of_the_exposed_port() {
        assert_eq!(
            planned(1000, &["8080:80", "8081:80"], false, &["80", "81"]),
            Ok(vec![
                "127.0.0.1:8080:80".into(),
                "127.0.0.1:8081:80".into(),
                "127.0.0.1:1081:81".into()
            ])
        );
        // A port that is too high for the offset is fine if it does not need it.
        assert_eq!(
            planned(65000, &["8080:8080"], false, &["8080"]),
            Ok(vec!["127.0.0.1:8080:8080".into()])
        );
    }

    #[test]
    fn addresses_are_taken_as_docker_takes_them() {
        assert_eq!(
            planned(
                0,
                &[
                    "[::1]:8080:80",
                    "127.0.0.2:8080:80",
                    "localhost:8080:80/tcp",
                    "0.0.0.0:1:2",
                    "[::]:1:2",
                    "0:80"
                ],
                false,
                &[]
            ),
            Ok(vec![
                "::1:8080:80".into(),
                "127.0.0.2:8080:80".into(),
                "127.0.0.1:8080:80".into(),
                "0.0.0.0:1:2".into(),
                ":::1:2".into(),
                "127.0.0.1:0:80".into()
            ])
        );
    }

    #[test]
    fn public_is_for_mappings_without_an_address() {
        assert_eq!(
            planned(0, &["1:1", "127.0.0.1:2:2"], true, &["80"]),
            Ok(vec![
                "*:80:80".into(),
                "*:1:1".into(),
                "127.0.0.1:2:2".into()
            ])
        );
    }

    #[test]
    fn malformed_mappings_are_refused() {
        for text in [
            "",
            ":",
            "80",
            "80:",
            ":80",
            "a:80",
            "80:b",
            "-1:80",
            "+1:80",
            "80:-1",
            "80:0",
            "65536:80",
            "80:65536",
            "1.2.3:80:80",
            "1.2.3.4.5:80:80",
            "::1:80:80",
            "[::1:80:80",
            "[1.2.3.4]:80:80",
            "[]:80:80",
            "example.com:80:80",
            "80-81:80-81",
            "80:80/xyz",
            "80:53/udp",
            " 80:80",
            "8080:80 ",
            "８０:80",
        ] {
            let message = request(0, &[text], false).expect_err(text);
            assert!(
                message.contains("expected [ADDR:]LOCAL:REMOTE"),
                "{message}"
            );
        }
        let message = request(0, &["80"], false).expect_err("no colon");
        assert!(message.contains("-p 0:80"), "{message}");
    }

    #[test]
    fn a_local_port_is_given_once() {
        for published in [
            ["8080:80", "8080:80"],
            ["8080:80", "8080:81"],
            ["8080:80", "127.0.0.1:8080:81"],
            ["0.0.0.0:8080:80", "8080:81"],
            ["[::]:8080:80", "[::1]:8080:81"],
        ] {
            assert!(request(0, &published, false).is_err(), "{published:?}");
        }
        assert!(request(0, &["1:80", "[::1]:1:81"], true).is_err());
        // Any free port is another one each time.
        assert!(request(0, &["0:80", "0:80"], false).is_ok());
        assert!(request(0, &["8080:80", "[::1]:8080:81"], false).is_ok());
    }

    #[test]
    fn a_mapping_may_not_take_the_local_port_of_an_exposed_port() {
        let message = planned(0, &["81:80"], false, &["80", "81"]).expect_err("81 twice");
        assert!(message.contains("both port 80 and port 81"), "{message}");
        assert!(message.contains("-p LOCAL:81"), "{message}");
        // Swapping them is no clash.
        assert!(planned(0, &["81:80", "80:81"], false, &["80", "81"]).is_ok());
    }

    #[test]
    fn ports_that_are_not_tcp_are_named_and_skipped() {
        let plan = request(0, &[], false)
            .and_then(|request| {
                request
                    .plan(&exposed(&["53/udp", "53/tcp", "9/sctp"]))
                    .map_err(|failure| failure.to_string())
            })
            .expect("valid");
        assert_eq!(plan.mappings.len(), 1);
        let skipped: Vec<String> = plan.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(skipped, ["9/sctp", "53/udp"]);
    }
}
