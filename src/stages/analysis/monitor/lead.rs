//! The lead time of the first alarm before an event, compared with the alarms of other transcripts. Independent of the
//! texts.

use crate::stages::statistics::draws;

/// Shuffles of the alarms over the transcripts.
const SHUFFLES: usize = 999;

/// A transcript in which the watched event happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The turn of the first alarm.
    pub alarm: Option<usize>,
    pub event: usize,
    pub turns: usize,
}

/// The lead of the alarms over the events.
#[derive(Clone, Debug, PartialEq)]
pub struct Leads {
    pub cases: usize,
    /// The number of cases with an alarm in a turn before that of the event.
    pub before: usize,
    /// The median lead of those, in turns.
    pub median: Option<f64>,
    /// The probability of at least as many if each transcript gets the alarm of another one, at the same fraction of
    /// its length.
    pub p: f64,
}

impl Leads {
    /// The leads of `cases`; `None` if there are none.
    pub fn of(cases: impl Iterator<Item = Case>, seed: u64) -> Option<Leads> {
        let cases: Vec<Case> = cases.collect();
        if cases.is_empty() {
            return None;
        }
        let is_before =
            |alarm: Option<f64>, case: &Case| alarm.is_some_and(|alarm| alarm < case.event as f64);
        let leads = cases.iter().filter_map(|case| Some((case.event as f64) - case.alarm? as f64));
        let mut leads: Vec<f64> = leads.filter(|&lead| lead > 0.0).collect();
        leads.sort_by(f64::total_cmp);
        let before = leads.len();
        let median = (before > 0).then(|| (leads[(before - 1) / 2] + leads[before / 2]) / 2.0);
        let shifted = draws::rounds(seed, "monitor leads", SHUFFLES, |draws| {
            let order = draws.shuffled(cases.len());
            let moved = |(case, &from): (&Case, &usize)| {
                let other = cases[from];
                let alarm = other.alarm.map(|at| (at * case.turns) as f64 / other.turns as f64);
                is_before(alarm.map(f64::floor), case)
            };
            cases.iter().zip(&order).filter(|pair| moved(*pair)).count()
        });
        let as_many = shifted.iter().filter(|&&n| n >= before).count();
        Some(Leads { cases: cases.len(), before, median, p: (1 + as_many) as f64 / (1 + SHUFFLES) as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::statistics::draws::Draws;

    #[test]
    fn alarms_that_know_their_event_are_beyond_those_of_others_and_chance_is_not() {
        let cases = |seed: u64, knows: bool| -> Vec<Case> {
            let mut draws = Draws::new("cases", &[seed]);
            let one = |_| {
                let event = 2 + draws.below(16);
                let alarm = if knows { event - 1 - draws.below(2) } else { draws.below(20) };
                Case { alarm: Some(alarm), event, turns: 20 }
            };
            (0..24).map(one).collect()
        };
        let planted = Leads::of(cases(1, true).into_iter(), 0).unwrap();
        assert_eq!((planted.cases, planted.before), (24, 24));
        assert!(planted.median == Some(1.5) || planted.median == Some(1.0) || planted.median == Some(2.0));
        assert!(planted.p <= 0.01, "{planted:?}");
        let small = (0..200)
            .filter(|&seed| Leads::of(cases(seed, false).into_iter(), seed).unwrap().p <= 0.05)
            .count();
        // scipy.stats.binom.cdf(18, 200, .05) is .994; a p with few possible values may be small too rarely.
        assert!(small <= 18, "{small} of 200");
        assert_eq!(Leads::of(std::iter::empty(), 0), None);
    }
}
