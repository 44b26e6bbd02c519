//! The set of backends: who they are, who is up, and the order in which a key tries them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request;

use crate::backends::hash::{Key, Ring};
use crate::backends::key::HashKey;

/// One backend, spoken to over plain HTTP/1.1.
#[derive(Debug)]
pub struct Backend {
    /// As configured; it names the backend in logs and metrics and places it in the hash.
    name: String,
    host: Host,
    port: u16,
    up: AtomicBool,
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A DNS name, resolved at each connect (answers are kept for 5 s at most).
    Name(String),
}

impl Backend {
    /// A backend that counts as up until a check says otherwise.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        let name = match &host {
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
            Host::Address(IpAddr::V4(v4)) => format!("{v4}:{port}"),
            Host::Name(name) => format!("{name}:{port}"),
        };
        Self { name, host, port, up: AtomicBool::new(true) }
    }

    /// `host:port`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Sets the state and says whether it changed.
    pub(crate) fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// All backends and how a key chooses among them.
#[derive(Debug)]
pub struct Backends {
    list: Vec<Arc<Backend>>,
    ring: Ring,
    key: HashKey,
}

impl Backends {
    /// A set of these.
    #[must_use]
    pub fn new(list: Vec<Backend>, key: HashKey) -> Self {
        let ring = Ring::new(list.iter().map(Backend::name));
        Self { list: list.into_iter().map(Arc::new).collect(), ring, key }
    }

    /// The hash key of a request from `client`.
    pub(crate) fn key(&self, head: &request::Parts, client: IpAddr) -> Key {
        self.key.of(head, client)
    }

    /// The backends in the order in which `key` tries them: its own order over those that are up,
    /// then over those that are down, since a check can be wrong and nothing else is left.
    pub(crate) fn order(&self, key: Key) -> impl Iterator<Item = &Arc<Backend>> {
        let pass = move |up: bool| {
            let order = self.ring.order(key).map(|at| &self.list[at]);
            order.filter(move |backend| backend.is_up() == up)
        };
        pass(true).chain(pass(false))
    }

    /// Every backend, as configured.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.list.iter()
    }

    /// Backends, and how many of them are up.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.list.len(), self.list.iter().filter(|backend| backend.is_up()).count())
    }

    /// What is hashed, for the start banner.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_are_down_come_last_in_the_same_order() {
        let list = (1..=5).map(|n| Backend::new(Host::Address([10, 0, 0, n].into()), 80)).collect();
        let backends = Backends::new(list, HashKey::ClientIp);
        let key = Key::of(b"k");
        let names = |backends: &Backends| -> Vec<String> {
            backends.order(key).map(|backend| backend.name().to_owned()).collect()
        };
        let all_up = names(&backends);
        let own = backends.order(key).next().unwrap();
        assert!(own.set_up(false));
        assert!(!own.set_up(false));
        let mut expected = all_up;
        expected.rotate_left(1);
        assert_eq!(names(&backends), expected);
        assert_eq!(backends.counts(), (5, 4));
    }

    #[test]
    fn names_are_what_a_person_would_write() {
        assert_eq!(Backend::new(Host::Address("::1".parse().unwrap()), 80).name(), "[::1]:80");
        assert_eq!(Backend::new(Host::Name("app".into()), 80).name(), "app:80");
    }
}
