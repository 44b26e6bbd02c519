//! Addresses, networks and Origins, as the file spells them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::error::{did_you_mean, nearest};
use super::spelled::spelled;
use crate::policy::origin::{OriginRule, split_port};

/// A network of addresses: `10.0.0.0/8`, `fd00::/8`; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network; no bit is set behind its prefix.
    #[must_use]
    pub const fn net(self) -> IpNet {
        self.0
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let Ok(net) = text.parse::<IpNet>() else {
            return Err(format!("`{text}` is not a network such as `10.0.0.0/8` or `fd00::/8`"));
        };
        if net != net.trunc() {
            let message = format!("`{text}` has bits set behind the /{}", net.prefix_len());
            return Err(did_you_mean(message, net.trunc()));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

spelled!(Cidr, "a network such as `10.0.0.0/8`", {
    "type": "string",
    "description": "An address or a network of addresses (CIDR).",
    "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
    "examples": ["10.0.0.0/8", "192.0.2.1", "fd00::/8"],
});

/// An address to listen on: an IP address and a port; `:8443` is every address. Port 0 is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddr(SocketAddr);

impl ListenAddr {
    /// An address to listen on.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// The address to bind; `[::]` means IPv4 as well.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        if let Some(Ok(port)) = text.strip_prefix(':').map(port) {
            return Ok(Self(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)));
        }
        let is_not = format!("`{text}` is not an address such as `[::]:8443` or `127.0.0.1:8443`");
        let bare = without_scheme(text);
        if let Ok(port) = port(bare) {
            return Err(did_you_mean(is_not, format_args!(":{port}")));
        }
        if let Ok(address) = bare.trim_matches(['[', ']']).parse::<IpAddr>() {
            let message = format!("`{text}` names no port");
            return Err(did_you_mean(message, SocketAddr::new(address, 8443)));
        }
        match bare.rsplit_once(':').map(|(host, number)| (host, port(number))) {
            Some(("localhost", Ok(port))) => {
                let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                Err(did_you_mean(is_not, loopback))
            }
            Some(("*", Ok(port))) => Err(did_you_mean(is_not, format_args!(":{port}"))),
            Some((host, Ok(port))) if host.parse::<Ipv6Addr>().is_ok() => {
                Err(did_you_mean(is_not, format_args!("[{host}]:{port}")))
            }
            _ if bare.len() < text.len() && bare.parse::<SocketAddr>().is_ok() => {
                Err(did_you_mean(is_not, bare))
            }
            _ => Err(is_not),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

spelled!(ListenAddr, "an address such as `[::]:8443`", {
    "type": "string",
    "description": "An IP address and a port; `:8443` is every address.",
    "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\])?:[0-9]{1,5}$",
    "examples": ["[::]:8443", "127.0.0.1:8443", ":8443"],
});

/// One address to listen on, or several. In the file, one may stand without a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddrs(pub Vec<ListenAddr>);

impl<'de> Deserialize<'de> for ListenAddrs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = ListenAddrs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as `[::]:8443`, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ListenAddrs, E> {
                text.parse().map(|one| ListenAddrs(vec![one])).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ListenAddrs, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ListenAddrs, A::Error> {
                let mut several = Vec::new();
                while let Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(ListenAddrs(several))
            }
        }

        from.deserialize_any(OneOrSeveral)
    }
}

impl Serialize for ListenAddrs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(to),
            several => several.serialize(to),
        }
    }
}

impl schemars::JsonSchema for ListenAddrs {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListenAddrs".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<ListenAddr>();
        schemars::json_schema!({
            "description": "One address, or a list of them.",
            "anyOf": [one, {"type": "array", "items": one, "minItems": 1}],
        })
    }
}

/// A backend: `host:port`, the host a name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddr {
    /// Lower-case; an IPv6 address without its brackets.
    host: String,
    port: u16,
}

impl ServerAddr {
    /// The name or address, lower-case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_not = format!("`{text}` is not a server such as `10.0.0.1:8080` or `app:8080`");
        let bare = without_scheme(text).split(['/', '?', '#']).next().unwrap_or_default();
        if bare.len() < text.len() {
            return Err(match bare.parse::<Self>() {
                Ok(server) => did_you_mean(is_not, server),
                Err(_) => is_not,
            });
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            let message = format!("`{text}` names no port");
            return Err(did_you_mean(message, format_args!("[{address}]:8080")));
        }
        let Some((host, named)) = split_port(text) else {
            return Err(match text.rsplit_once(':').map(|(host, number)| (host, port(number))) {
                Some((host, Ok(port))) if host.parse::<Ipv6Addr>().is_ok() => {
                    did_you_mean(is_not, format_args!("[{host}]:{port}"))
                }
                Some((host, Err(_))) if !host.is_empty() && !host.contains(':') => {
                    format!("`{text}` names no port from 1 to 65535")
                }
                _ => is_not,
            });
        };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        // A resolver would ask the network for what is only a slip in an address.
        let last_label = host.rsplit('.').next().unwrap_or_default();
        let is_numeric = !host.contains(':') && last_label.bytes().all(|b| b.is_ascii_digit());
        if is_numeric && host.parse::<Ipv4Addr>().is_err() {
            return Err(match port(&host) {
                Ok(number) if named.is_none() => {
                    format!("`{text}` is a port without a host, such as `127.0.0.1:{number}`")
                }
                _ => format!("`{host}` is not an IPv4 address"),
            });
        }
        match named {
            Some(0) => Err(format!("`{text}` names port 0, where nothing can listen")),
            Some(port) => {
                let canonical = host.parse::<IpAddr>().map(|address| address.to_string());
                Ok(Self { host: canonical.unwrap_or(host), port })
            }
            None => {
                let message = format!("`{text}` names no port");
                Err(did_you_mean(message, format_args!("{text}:8080")))
            }
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

spelled!(ServerAddr, "a server such as `10.0.0.1:8080`", {
    "type": "string",
    "description": "A name or IP address and a port.",
    "pattern": "^([0-9A-Za-z._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$",
    "examples": ["10.0.0.1:8080", "app.internal:8080", "[fd00::1]:8080"],
});

/// An allowed Origin: `same-origin`, `https://app.example.com`, `https://*.example.com`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginEntry(pub OriginRule);

impl FromStr for OriginEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match nearest(text, ["same-origin"]) {
            Some(word) if word != text => {
                Err(did_you_mean(format_args!("`{text}` is not an Origin"), word))
            }
            _ => text.parse().map(Self),
        }
    }
}

impl fmt::Display for OriginEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

spelled!(OriginEntry, "an Origin such as `https://app.example.com`", {
    "type": "string",
    "description": "`same-origin`, an Origin, one with `*.` for every subdomain, or `*` alone.",
    "pattern": "^(\\*|same-origin|[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+)$",
    "examples": ["same-origin", "https://app.example.com", "https://*.example.com"],
});

/// What follows `scheme://`, or all of it.
fn without_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

fn port(text: &str) -> Result<u16, ()> {
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().map_err(drop),
        false => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: FromStr<Err = String> + fmt::Display>(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let shown = text.parse::<T>().unwrap().to_string();
            assert_eq!(shown, *expected, "{text}");
            assert_eq!(shown.parse::<T>().unwrap().to_string(), *expected, "{text}, again");
        }
    }

    fn errors<T: FromStr<Err = String> + fmt::Debug>(cases: &[(&str, &str)]) {
        for (text, end) in cases {
            let error = text.parse::<T>().unwrap_err();
            assert!(error.ends_with(end), "{text}: {error}");
        }
    }

    #[test]
    fn networks() {
        shown::<Cidr>(&[
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ]);
        errors::<Cidr>(&[
            ("10.1.2.3/8", "did you mean `10.0.0.0/8`?"),
            ("fd00::1/64", "did you mean `fd00::/64`?"),
            ("10.0.0.0/33", "or `fd00::/8`"),
            ("private", "or `fd00::/8`"),
        ]);
    }

    #[test]
    fn addresses_to_listen_on() {
        shown::<ListenAddr>(&[
            ("[::]:8443", "[::]:8443"),
            (":8443", "[::]:8443"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ]);
        errors::<ListenAddr>(&[
            ("8443", "did you mean `:8443`?"),
            ("*:8443", "did you mean `:8443`?"),
            ("localhost:8443", "did you mean `127.0.0.1:8443`?"),
            ("0.0.0.0", "names no port, did you mean `0.0.0.0:8443`?"),
            ("::1", "names no port, did you mean `[::1]:8443`?"),
            ("fd00:1:2:3:4:5:6:7:443", "did you mean `[fd00:1:2:3:4:5:6:7]:443`?"),
            ("https://0.0.0.0:443", "did you mean `0.0.0.0:443`?"),
            (":99999", "or `127.0.0.1:8443`"),
            ("edge.example.com:443", "or `127.0.0.1:8443`"),
        ]);
    }

    #[test]
    fn servers() {
        shown::<ServerAddr>(&[
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("App.Internal:80", "app.internal:80"),
            ("node_1:3000", "node_1:3000"),
            ("[FD00::0001]:8080", "[fd00::1]:8080"),
        ]);
        errors::<ServerAddr>(&[
            ("10.0.0.1", "names no port, did you mean `10.0.0.1:8080`?"),
            ("app", "names no port, did you mean `app:8080`?"),
            ("fd00::1", "names no port, did you mean `[fd00::1]:8080`?"),
            ("http://app:8080", "did you mean `app:8080`?"),
            ("ws://app:8080/ws", "did you mean `app:8080`?"),
            ("app:8080/ws", "did you mean `app:8080`?"),
            ("10.0.0.256:80", "`10.0.0.256` is not an IPv4 address"),
            ("8080", "such as `127.0.0.1:8080`"),
            ("app:0", "where nothing can listen"),
            ("app:99999", "names no port from 1 to 65535"),
            ("a b:80", "or `app:8080`"),
            ("", "or `app:8080`"),
        ]);
    }

    #[test]
    fn origins() {
        shown::<OriginEntry>(&[
            ("*", "*"),
            ("same-origin", "same-origin"),
            ("https://App.Example.com:443", "https://app.example.com"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
        ]);
        errors::<OriginEntry>(&[
            ("same_origin", "did you mean `same-origin`?"),
            ("app.example.com", "write `https://app.example.com`"),
            ("https://a.example/", "write `https://a.example`"),
        ]);
    }
}
