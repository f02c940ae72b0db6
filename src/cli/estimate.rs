//! Estimates the cost of missing units from the cost of cached units of the same kind. Reads manifests only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::Deserialize;

use crate::plan::{Node, Unit};
use crate::store::{Manifest, Store};

/// Rates of the stages, each read on first use.
pub struct Estimator<'a> {
    store: &'a Store,
    rates: RefCell<HashMap<&'static str, Rc<Rates>>>,
}

/// Rates by kind of unit.
type Rates = HashMap<Kind, Rate>;

/// Units of the same kind have the same cost: the stage with its variant, the model, the device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Kind {
    stage: String,
    model: Option<String>,
    numerics: Option<Numerics>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Numerics {
    device: String,
    dtype: String,
}

/// The total cost of the cached units of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate {
    seconds: f64,
    units: f64,
    rows: f64,
}

impl Rate {
    fn add(&mut self, manifest: &Manifest) {
        self.seconds += manifest.cost.seconds;
        self.units += 1.0;
        self.rows += manifest.files.iter().map(|file| file.rows as f64).sum::<f64>();
    }

    /// The cost of a unit with `stories` is proportional to their number; a unit without stories costs the mean of its
    /// kind.
    fn seconds(&self, stories: usize) -> Option<f64> {
        let (share, of) = if stories > 0 { (stories as f64, self.rows) } else { (1.0, self.units) };
        (of > 0.0).then(|| share * self.seconds / of)
    }
}

impl<'a> Estimator<'a> {
    /// Estimates from the entries in `store`.
    pub fn new(store: &'a Store) -> Estimator<'a> {
        Estimator { store, rates: RefCell::default() }
    }

    /// The expected seconds of `unit` of `node`; `None` if no unit of its kind has been computed yet.
    pub fn seconds(&self, node: &Node, unit: &Unit) -> Option<f64> {
        let kind: Kind = serde_json::from_str(&unit.preimage).ok()?;
        self.rates(node.work.stage()).get(&kind)?.seconds(unit.stories.len())
    }

    fn rates(&self, stage: &'static str) -> Rc<Rates> {
        let known = self.rates.borrow().get(stage).cloned();
        known.unwrap_or_else(|| {
            let mut rates = Rates::new();
            for manifest in self.store.manifests(stage) {
                if let Ok(kind) = serde_json::from_str::<Kind>(&manifest.preimage) {
                    rates.entry(kind).or_default().add(&manifest);
                }
            }
            let rates = Rc::new(rates);
            self.rates.borrow_mut().insert(stage, rates.clone());
            rates
        })
    }
}

/// A duration in at most two units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn shown(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_cost_by_the_story_and_other_units_alike() {
        let rate = Rate { seconds: 30.0, units: 2.0, rows: 300.0 };
        assert_eq!(rate.seconds(256), Some(25.6));
        assert_eq!(rate.seconds(0), Some(15.0));
        assert_eq!(Rate::default().seconds(0), None);
        assert_eq!(Rate { rows: 0.0, ..rate }.seconds(3), None, "only empty shards so far");
    }

    #[test]
    fn times_are_short() {
        let cases =
            [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.7, "1 min"), (200.0, "3 min 20 s")];
        for (seconds, text) in cases.into_iter().chain([(3600.0, "1 h"), (7_500.0, "2 h 5 min")]) {
            assert_eq!(shown(seconds), text);
        }
    }
}
