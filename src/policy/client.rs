//! Who is the client, given the peer and the proxies that are trusted? (X-Forwarded-For; RFC 7239
//! §7.4 and §8.1 on why only from the right and only past trusted hops.)

use std::net::IpAddr;

use ipnet::IpNet;

/// The CIDRs whose `X-Forwarded-*` fields are believed. Empty by default: nobody's are.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// Who is at the other end, as far as the gate can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The other end of the TCP connection.
    pub(crate) peer: IpAddr,
    /// What trusted proxies vouch for, or the peer when it is not one.
    pub(crate) address: IpAddr,
    /// Whether what the peer says of addresses, host and scheme is believed.
    pub(crate) peer_is_trusted: bool,
}

impl TrustedProxies {
    /// Trusts these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The networks, for the start banner.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Finds the client of a request whose `X-Forwarded-For` lines are `forwarded_for`, first to
    /// last. Walks from the right past trusted hops; an entry that is no address ends the walk at
    /// the hop that sent it.
    pub(crate) fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> Client {
        let peer = peer.to_canonical();
        let peer_is_trusted = self.trusts(peer);
        let mut address = peer;
        let entries = forwarded_for.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        for entry in entries {
            if !self.trusts(address) {
                break;
            }
            match hop(entry) {
                Some(hop) => address = hop,
                None => break,
            }
        }
        Client { peer, address, peer_is_trusted }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// One entry of X-Forwarded-For: an address, some proxies add the port.
fn hop(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|with_port| with_port.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> (String, bool) {
        let trusted = TrustedProxies::new(trusted.iter().map(|net| net.parse().unwrap()).collect());
        let found = trusted.client(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes()));
        (found.address.to_string(), found.peer_is_trusted)
    }

    #[test]
    fn the_walk_goes_from_the_right_past_trusted_hops() {
        let inside = &["10.0.0.0/8", "fd00::/8"];
        let cases: &[(&str, &[&str], &str)] = &[
            ("192.0.2.1", &[], "192.0.2.1"),
            ("192.0.2.1", &["1.1.1.1"], "192.0.2.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["203.0.113.9, garbage"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, garbage, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(client(inside, peer, lines).0, *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn trust_is_the_peers_own() {
        assert!(client(&["10.0.0.0/8"], "::ffff:10.1.2.3", &[]).1);
        assert!(!client(&["10.0.0.0/8"], "192.0.2.1", &["10.0.0.1"]).1);
        assert!(!client(&[], "127.0.0.1", &["10.0.0.1"]).1);
    }
}
