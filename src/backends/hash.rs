//! The consistent hash: which backend a key means, and which one after it. Rendezvous hashing
//! (Thaler and Ravishankar, 1998): each backend scores the key, the highest score is first. Pure,
//! and the same on every machine and version: replicas of the gate agree without talking.
//!
//! Adding one backend to N moves exactly the keys whose new score is the highest, 1/(N+1) of them
//! on average; removing one moves only its own.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// A hashed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// Hashes a key's bytes. SipHash, so that a client who may choose its key cannot aim many keys
    /// at one backend by arithmetic alone.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(sip(bytes))
    }
}

/// The backends' identities, in an order that matters to nobody but the caller's indexes.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    seeds: Vec<u64>,
}

impl Ring {
    /// A ring of these names. What a backend is called decides which keys are its own.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { seeds: names.map(|name| sip(name.as_bytes())).collect() }
    }

    /// Every backend's index, from the key's own to its last resort. Each step costs one pass over
    /// the backends and no memory.
    pub(crate) fn order(&self, key: Key) -> impl Iterator<Item = usize> + '_ {
        let mut last: Option<(u64, usize)> = None;
        std::iter::from_fn(move || {
            let scores = self.seeds.iter().enumerate().map(|(at, seed)| (mix(key.0 ^ seed), at));
            last = scores.filter(|score| last.is_none_or(|last| *score < last)).max();
            last.map(|(_, at)| at)
        })
    }
}

/// The keys are part of the known answers: changing them moves every client of every deployment.
fn sip(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7773_6761_7465_2d31, 0x636f_6e73_6973_7431);
    hasher.write(bytes);
    hasher.finish()
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, 2014), a bijection on 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: usize) -> Ring {
        let names: Vec<String> = (1..=count).map(|n| format!("10.0.0.{n}:8080")).collect();
        Ring::new(names.iter().map(String::as_str))
    }

    fn first(ring: &Ring, key: usize) -> usize {
        ring.order(Key::of(format!("client-{key}").as_bytes())).next().unwrap()
    }

    #[test]
    fn known_answers_pin_the_function() {
        assert_eq!(Key::of(b"203.0.113.9"), Key(KNOWN_KEY));
        let order: Vec<usize> = ring(5).order(Key::of(b"203.0.113.9")).collect();
        assert_eq!(order, KNOWN_ORDER);
    }

    // From an implementation of its own, in another language.
    const KNOWN_KEY: u64 = 0x56e8_1cdd_5225_304d;
    const KNOWN_ORDER: [usize; 5] = [2, 1, 0, 4, 3];

    #[test]
    fn an_order_names_every_backend_once() {
        let mut order: Vec<usize> = ring(20).order(Key::of(b"k")).collect();
        order.sort_unstable();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
        assert_eq!(ring(0).order(Key::of(b"k")).next(), None);
    }

    #[test]
    fn ten_backends_share_a_hundred_thousand_keys_within_fifteen_percent() {
        let ring = ring(10);
        let mut counts = [0usize; 10];
        for key in 0..100_000 {
            counts[first(&ring, key)] += 1;
        }
        assert!(counts.iter().all(|count| (8_500..=11_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn one_more_backend_takes_its_share_and_nobody_elses() {
        for count in [1usize, 2, 5, 10, 50] {
            let (before, after) = (ring(count), ring(count + 1));
            let moved: Vec<usize> =
                (0..10_000).filter(|key| first(&before, *key) != first(&after, *key)).collect();
            let most = 13_000 / (count + 1);
            assert!(moved.len() <= most, "{count} backends: {} keys moved", moved.len());
            assert!(moved.iter().all(|key| first(&after, *key) == count), "only to the new one");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let names = ["a:1", "b:1", "c:1"];
        let (forth, back) = (Ring::new(names.into_iter()), Ring::new(names.into_iter().rev()));
        for key in 0..1000 {
            assert_eq!(names[first(&forth, key)], names[2 - first(&back, key)]);
        }
    }
}
