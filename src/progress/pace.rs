//! Rate of a node and its estimated remaining time, once some work has been done to estimate them from.

use std::time::{Duration, Instant};

/// Progress and time at the start of a node. Pieces that are complete right away were computed before, by an earlier or
/// a concurrent run.
#[derive(Default)]
pub struct Pace {
    origin: Option<(f64, Instant)>,
    begun: Option<Instant>,
}

/// Pieces finished within this time of the start are counted as read from the cache, not computed.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Pace {
    /// Records that `done` pieces are finished at `now`.
    pub fn at(&mut self, done: f64, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        if self.origin.is_none() || now - begun < AT_ONCE {
            self.origin = Some((done, now));
        }
    }

    /// As text: `12 of 40 stories, 8.0/min, 210 s left`; with fewer than ten pieces, in percent.
    pub fn shown(&self, done: f64, total: usize, piece: &str, now: Instant) -> String {
        let place = match total {
            ..10 => format!("{:.0} % of {total} {piece}", 100.0 * done / total.max(1) as f64),
            _ => format!("{done:.0} of {total} {piece}"),
        };
        let (Some((from, since)), Some(begun)) = (self.origin, self.begun) else { return place };
        if done <= from {
            return format!("{place}, {} s so far", (now - begun).as_secs());
        }
        let per_second = (done - from) / (now - since).as_secs_f64().max(1e-3);
        let left = (total as f64 - done).max(0.0) / per_second;
        let rate = if total < 10 { String::new() } else { format!(", {:.1}/min", 60.0 * per_second) };
        format!("{place}{rate}, {left:.0} s left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text after the last of the updates `steps` (seconds, done).
    fn said(steps: &[(u64, f64)], total: usize, piece: &str) -> String {
        let begun = Instant::now();
        let mut pace = Pace::default();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for &(seconds, done) in steps {
            pace.at(done, at(seconds));
        }
        let (seconds, done) = steps[steps.len() - 1];
        pace.shown(done, total, piece, at(seconds))
    }

    #[test]
    fn nothing_is_estimated_before_anything_is_done() {
        assert_eq!(said(&[(0, 0.0), (92, 0.0)], 1, "steps"), "0 % of 1 steps, 92 s so far");
        assert_eq!(said(&[(0, 0.0), (92, 0.0)], 40, "stories"), "0 of 40 stories, 92 s so far");
        assert_eq!(said(&[(0, 30.0), (20, 30.0)], 40, "stories"), "30 of 40 stories, 20 s so far");
    }

    /// By hand: 20 of 40 in 100 s are 12 per minute, and the other 20 take as long.
    #[test]
    fn the_rest_is_estimated_by_what_this_run_did() {
        assert_eq!(said(&[(0, 0.0), (100, 20.0)], 40, "stories"), "20 of 40 stories, 12.0/min, 100 s left");
        // 30 were in the cache.
        assert_eq!(
            said(&[(0, 0.0), (0, 30.0), (50, 35.0)], 40, "stories"),
            "35 of 40 stories, 6.0/min, 50 s left"
        );
        assert_eq!(said(&[(0, 0.0), (30, 0.25)], 1, "steps"), "25 % of 1 steps, 90 s left");
    }
}
