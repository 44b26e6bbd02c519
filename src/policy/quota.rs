//! May this client open another? A token bucket per client (governor's GCRA) and a count of its
//! open sockets, in one table whose size is bounded. Time is an argument; the lock is the caller's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota as Rate, RateLimiter};
use ipnet::IpNet;

/// `limits.*` as far as they are counted by client.
#[derive(Clone, Debug)]
pub struct QuotaLimits {
    /// Time for one token to come back and the most a client may hold; `None` is no limit.
    pub upgrades: Option<Bucket>,
    /// WebSockets open at once; `None` is no limit.
    pub connections: Option<NonZeroU32>,
    /// Bits of an IPv6 address that name one client, 1 to 128.
    pub ipv6_prefix: u8,
    /// Entries in the table. Clients beyond it share one bucket.
    pub tracked_clients: usize,
    /// Networks that are not counted.
    pub exempt: Vec<IpNet>,
}

/// A token bucket's size and pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Time for one token to come back.
    pub period: Duration,
    /// Tokens that a client has at first, and at most.
    pub burst: NonZeroU32,
}

/// What the limits count by: an address, or the network an IPv6 client can roam in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    /// IPv4 addresses as their IPv4-mapped form.
    Network(Ipv6Addr),
    /// All clients that found the table full.
    Overflow,
}

/// Whether a client may open a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaVerdict {
    Granted,
    /// No token left for so long.
    RateLimited(Duration),
}

/// The table of clients.
pub(crate) struct Quota {
    limits: QuotaLimits,
    gcra: Option<Gcra>,
    rows: HashMap<ClientKey, Row>,
    evicted: u64,
    swept_at: Option<Duration>,
}

impl Quota {
    /// An empty table.
    pub(crate) fn new(limits: QuotaLimits) -> Self {
        let gcra = limits.upgrades.map(Gcra::new);
        Self { limits, gcra, rows: HashMap::new(), evicted: 0, swept_at: None }
    }

    /// Takes one token for `client`, or says how long until one is free. `now` is any clock that
    /// does not go backwards.
    pub(crate) fn take(&mut self, client: IpAddr, now: Duration) -> QuotaVerdict {
        if self.gcra.is_none() {
            return QuotaVerdict::Granted;
        }
        let Some(key) = self.key(client, now) else { return QuotaVerdict::Granted };
        let Some(gcra) = &self.gcra else { return QuotaVerdict::Granted };
        let row = self.rows.entry(key).or_default();
        gcra.take(&mut row.full_again_at, now)
    }

    /// Counts one more open socket of `client` and gives the key to `close` it with; `None` for a
    /// client whose sockets are not counted.
    ///
    /// # Errors
    /// When the client has as many as one may.
    pub(crate) fn open(
        &mut self,
        client: IpAddr,
        now: Duration,
    ) -> Result<Option<ClientKey>, TooMany> {
        let Some(most) = self.limits.connections else { return Ok(None) };
        match self.key(client, now) {
            // One shared count for strangers would let one of them lock out the rest; the limit on
            // all connections bounds them instead.
            None | Some(ClientKey::Overflow) => Ok(None),
            Some(key) => {
                let row = self.rows.entry(key).or_default();
                if row.open >= most.get() {
                    return Err(TooMany);
                }
                row.open += 1;
                Ok(Some(key))
            }
        }
    }

    /// Gives back what `open` counted.
    pub(crate) fn close(&mut self, key: ClientKey) {
        if let Some(row) = self.rows.get_mut(&key) {
            row.open = row.open.saturating_sub(1);
        }
    }

    /// Clients the table holds now.
    pub(crate) fn tracked(&self) -> usize {
        self.rows.len()
    }

    /// Clients forgotten since the last call.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Forgets the clients that hold no socket and whose bucket is full again, and gives the
    /// memory back. Costs a walk over the table.
    pub(crate) fn sweep(&mut self, now: Duration) {
        let before = self.rows.len();
        let now_nanos = nanos(now);
        self.rows.retain(|_, row| row.open > 0 || row.full_again_at > now_nanos);
        if self.rows.capacity() > 4 * self.rows.len().max(64) {
            self.rows.shrink_to_fit();
        }
        self.evicted += (before - self.rows.len()) as u64;
        self.swept_at = Some(now);
    }

    /// The key of a client that is counted. A full table is swept at most once a second.
    fn key(&mut self, client: IpAddr, now: Duration) -> Option<ClientKey> {
        let client = client.to_canonical();
        if self.limits.exempt.iter().any(|network| network.contains(&client)) {
            return None;
        }
        let key = ClientKey::Network(masked(client, self.limits.ipv6_prefix));
        if self.has_room_for(key) {
            return Some(key);
        }
        if self.swept_at.is_none_or(|at| now.saturating_sub(at) >= SWEEP_INTERVAL) {
            self.sweep(now);
        }
        Some(if self.has_room_for(key) { key } else { ClientKey::Overflow })
    }

    fn has_room_for(&self, key: ClientKey) -> bool {
        self.rows.len() < self.limits.tracked_clients || self.rows.contains_key(&key)
    }
}

/// The client holds as many sockets as one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// IPv4 whole, IPv6 by prefix; both in one space of 128 bits.
fn masked(client: IpAddr, ipv6_prefix: u8) -> Ipv6Addr {
    match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => {
            let dropped = 128 - u32::from(ipv6_prefix.clamp(1, 128));
            Ipv6Addr::from_bits(v6.to_bits() >> dropped << dropped)
        }
    }
}

/// One client: 17 bytes of key, 16 of state.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// GCRA's theoretical arrival time in nanoseconds: from then on the bucket is full.
    full_again_at: u64,
    open: u32,
}

/// governor's algorithm over a state that lives in our row: the state store is one slot, which a
/// row passes through. So time stays an argument and one entry holds all that is known of a client.
struct Gcra {
    limiter: RateLimiter<(), Slot, Hand, NoOpMiddleware<Nanos>>,
    slot: Slot,
    hand: Hand,
}

impl Gcra {
    fn new(bucket: Bucket) -> Self {
        // None only for a zero period, which the configuration refuses.
        let rate = Rate::with_period(bucket.period)
            .unwrap_or_else(|| Rate::per_second(NonZeroU32::MAX))
            .allow_burst(bucket.burst);
        let (slot, hand) = (Slot::default(), Hand::default());
        Self { limiter: RateLimiter::new(rate, slot.clone(), hand.clone()), slot, hand }
    }

    fn take(&self, full_again_at: &mut u64, now: Duration) -> QuotaVerdict {
        self.slot.0.store(*full_again_at, Relaxed);
        self.hand.0.store(nanos(now), Relaxed);
        match self.limiter.check_key(&()) {
            Ok(()) => {
                *full_again_at = self.slot.0.load(Relaxed);
                QuotaVerdict::Granted
            }
            Err(not_until) => {
                let wait = not_until.earliest_possible().duration_since(Nanos::new(nanos(now)));
                QuotaVerdict::RateLimited(Duration::from_nanos(wait.as_u64()))
            }
        }
    }
}

/// Zero is "never charged": a client's first arrival.
#[derive(Clone, Default)]
struct Slot(Arc<AtomicU64>);

impl StateStore for Slot {
    type Key = ();

    fn measure_and_replace<T, F, E>(&self, (): &(), f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let held = Some(self.0.load(Relaxed)).filter(|held| *held > 0);
        let (outcome, next) = f(held.map(Nanos::new))?;
        self.0.store(next.as_u64(), Relaxed);
        Ok(outcome)
    }
}

/// A clock that stands where `take` put it.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Relaxed))
    }
}

/// 584 years fit.
fn nanos(since_start: Duration) -> u64 {
    u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX)
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> QuotaLimits {
        QuotaLimits {
            upgrades: Some(Bucket {
                period: Duration::from_millis(200),
                burst: NonZeroU32::new(10).unwrap(),
            }),
            connections: NonZeroU32::new(2),
            ipv6_prefix: 64,
            tracked_clients: 1000,
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_burst_passes_and_the_next_waits_for_one_token() {
        let mut quota = Quota::new(limits());
        let client = ip("203.0.113.1");
        for _ in 0..10 {
            assert_eq!(quota.take(client, ms(5000)), QuotaVerdict::Granted);
        }
        assert_eq!(quota.take(client, ms(5000)), QuotaVerdict::RateLimited(ms(200)));
        assert_eq!(quota.take(client, ms(5199)), QuotaVerdict::RateLimited(ms(1)));
        assert_eq!(quota.take(client, ms(5200)), QuotaVerdict::Granted);
        assert_eq!(quota.take(client, ms(5200)), QuotaVerdict::RateLimited(ms(200)));
        assert_eq!(quota.take(ip("203.0.113.2"), ms(5200)), QuotaVerdict::Granted);
    }

    #[test]
    fn ipv6_counts_by_prefix_and_ipv4_in_either_form() {
        let mut quota = Quota::new(limits());
        for host in 0..10 {
            let client = ip(&format!("2001:db8::{host}"));
            assert_eq!(quota.take(client, ms(0)), QuotaVerdict::Granted);
        }
        assert!(matches!(quota.take(ip("2001:db8::ff"), ms(0)), QuotaVerdict::RateLimited(_)));
        assert_eq!(quota.take(ip("2001:db8:0:1::1"), ms(0)), QuotaVerdict::Granted);
        for _ in 0..10 {
            quota.take(ip("203.0.113.1"), ms(0));
        }
        let mapped = quota.take(ip("::ffff:203.0.113.1"), ms(0));
        assert!(matches!(mapped, QuotaVerdict::RateLimited(_)));
    }

    #[test]
    fn exempt_clients_are_not_counted() {
        let mut quota = Quota::new(limits());
        for _ in 0..100 {
            assert_eq!(quota.take(ip("192.0.2.7"), ms(0)), QuotaVerdict::Granted);
            assert_eq!(quota.open(ip("192.0.2.7"), ms(0)), Ok(None));
        }
        assert_eq!(quota.tracked(), 0);
    }

    #[test]
    fn a_socket_that_closes_makes_room_for_another() {
        let mut quota = Quota::new(limits());
        let client = ip("203.0.113.1");
        let first = quota.open(client, ms(0)).unwrap().unwrap();
        quota.open(client, ms(0)).unwrap();
        assert_eq!(quota.open(client, ms(0)), Err(TooMany));
        quota.close(first);
        assert!(quota.open(client, ms(0)).is_ok());
        assert_eq!(quota.open(client, ms(0)), Err(TooMany));
    }

    #[test]
    fn a_flood_of_addresses_never_outgrows_the_table() {
        let mut quota = Quota::new(limits());
        let mut refused = 0;
        for n in 0..100_000u32 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0100_0000 + n));
            let verdict = quota.take(client, Duration::from_micros(u64::from(n)));
            refused += u32::from(verdict != QuotaVerdict::Granted);
            assert!(quota.tracked() <= 1001, "the table and one shared row");
        }
        assert!(refused > 90_000, "strangers share one bucket: {refused} refused");
        quota.sweep(Duration::from_secs(60));
        assert_eq!(quota.tracked(), 0);
        assert!(quota.take_evicted() >= 1000);
    }

    #[test]
    fn open_sockets_are_never_forgotten() {
        let mut quota = Quota::new(limits());
        let key = quota.open(ip("203.0.113.1"), ms(0)).unwrap().unwrap();
        quota.sweep(Duration::from_secs(3600));
        assert_eq!(quota.tracked(), 1);
        quota.close(key);
        quota.sweep(Duration::from_secs(3601));
        assert_eq!(quota.tracked(), 0);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(std::mem::size_of::<(ClientKey, Row)>() <= 40);
    }
}
