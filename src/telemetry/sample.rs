//! How often the same thing may be logged. A flood of refusals is worth a few lines a second and a
//! number; the metrics count every one of them.

use std::time::Duration;

use tokio::time::Instant;

/// Admits at most N lines a second for each key, in a fixed amount of memory.
///
/// Keys share a fixed number of slots, and those that fall into the same slot share its allowance.
/// So peers that invent keys can never cause more than slots × N lines a second.
#[derive(Debug)]
pub(crate) struct Sampler {
    slots: Box<[Slot]>,
    per_second: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The start of the second that `admitted` counts in.
    since: Option<Instant>,
    admitted: u32,
    suppressed: u64,
}

impl Sampler {
    /// Holds `slots` slots (at least one) and admits `per_second` lines in each of their seconds; at
    /// zero, none.
    pub(crate) fn new(slots: usize, per_second: u32) -> Self {
        Self { slots: vec![Slot::default(); slots.max(1)].into_boxed_slice(), per_second }
    }

    /// Whether a line about `key` may be written: then how many were suppressed since the last one.
    ///
    /// `key` is taken modulo the slots: give a hash, or distinct numbers below their count. A second
    /// begins with the first line in it; `now` before that counts as in it.
    pub(crate) fn admit(&mut self, key: u64, now: Instant) -> Option<u64> {
        // Below the slots' count, which is a usize.
        let index = usize::try_from(key % self.slots.len() as u64).unwrap_or(0);
        let slot = &mut self.slots[index];
        let running = slot.since.is_some_and(|since| now.saturating_duration_since(since) < SECOND);
        if !running {
            slot.since = Some(now);
            slot.admitted = 0;
        }
        if slot.admitted >= self.per_second {
            slot.suppressed += 1;
            return None;
        }
        slot.admitted += 1;
        Some(std::mem::take(&mut slot.suppressed))
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn admits_n_a_second_and_reports_the_suppressed() {
        let mut sampler = Sampler::new(8, 2);
        let start = Instant::now();
        assert_eq!(sampler.admit(3, start), Some(0));
        assert_eq!(sampler.admit(3, start + 10 * MS), Some(0));
        for ms in 20..27 {
            assert_eq!(sampler.admit(3, start + ms * MS), None);
        }
        assert_eq!(sampler.admit(3, start + 999 * MS), None);
        assert_eq!(sampler.admit(3, start + 1000 * MS), Some(8));
        assert_eq!(sampler.admit(3, start + 1001 * MS), Some(0));
        assert_eq!(sampler.admit(3, start + 1002 * MS), None);
    }

    #[test]
    fn a_second_begins_with_its_first_line() {
        let mut sampler = Sampler::new(1, 1);
        let start = Instant::now();
        assert_eq!(sampler.admit(0, start), Some(0));
        assert_eq!(sampler.admit(0, start + 1500 * MS), Some(0));
        assert_eq!(sampler.admit(0, start + 2200 * MS), None);
        assert_eq!(sampler.admit(0, start + 2500 * MS), Some(1));
    }

    #[test]
    fn keys_in_different_slots_do_not_share() {
        let mut sampler = Sampler::new(4, 1);
        let now = Instant::now();
        for key in 0..4 {
            assert_eq!(sampler.admit(key, now), Some(0), "key {key}");
        }
        for key in [0, 3, u64::MAX] {
            assert_eq!(sampler.admit(key, now), None, "key {key}");
        }
    }

    #[test]
    fn invented_keys_cannot_pass_slots_times_n() {
        let mut sampler = Sampler::new(16, 3);
        let now = Instant::now();
        let admitted = (0..10_000).filter(|&key| sampler.admit(key, now).is_some()).count();
        assert_eq!(admitted, 48);
    }

    #[test]
    fn a_clock_that_steps_back_admits_no_more() {
        let mut sampler = Sampler::new(1, 1);
        let later = Instant::now() + SECOND;
        assert_eq!(sampler.admit(0, later), Some(0));
        assert_eq!(sampler.admit(0, later - SECOND), None);
    }

    #[test]
    fn zero_admits_nothing_and_no_slots_means_one() {
        assert_eq!(Sampler::new(0, 0).admit(7, Instant::now()), None);
        assert_eq!(Sampler::new(0, 1).admit(7, Instant::now()), Some(0));
    }
}
