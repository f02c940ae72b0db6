//! Range of steering strengths in which text stays coherent, as measured by the experiment's own `steering` analyses.
//! Uses cached results only.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::catalogue::{Ready, shown};
use crate::lm::Layer;
use crate::plan::{Node, Work};
use crate::stages::analysis::Analysis;
use crate::stages::analysis::steering::{Steering, Unit};
use crate::store::table::Table;
use crate::store::{Entry, Lookup};

/// Limit on the decrease of the log-probability of a token of neutral text, in nats: a perplexity larger by two thirds.
pub const LESS_LIKELY: f64 = 0.5;
/// Limit on the increase of the surprisal of generated text, in nats per token, both measured by the unsteered model:
/// steered text against the text generated without steering.
pub const MORE_SURPRISING: f64 = 1.0;
/// Limit on the share of token trigrams of a generated text that occur earlier in it; the share without steering, if
/// larger, is the limit instead.
pub const REPEATED: f64 = 0.5;

/// Value of the column `steered` for texts generated without steering.
const UNSTEERED: &str = "unsteered";

/// Measurements for an emotion's vector at a layer, or at several layers together.
#[derive(Serialize)]
pub struct Band {
    pub stories: String,
    pub variant: String,
    pub emotion: String,
    pub layers: Vec<Value>,
    pub positions: Value,
    /// Range of strengths in which every measured one left text coherent; both 0 if none did.
    pub low: f64,
    pub high: f64,
    pub points: Vec<Point>,
}

/// Measurements at one strength.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Point {
    /// In units of the mean residual norm.
    pub strength: f64,
    /// Mean change of the log-probability of a token of neutral text.
    pub neutral: Option<f64>,
    /// Increase of the surprisal of the generated text.
    pub surprise: Option<f64>,
    /// Share of its trigrams of tokens that occur earlier in it.
    pub repeated: Option<f64>,
    /// The same share for the text generated without steering.
    pub repeated_before: Option<f64>,
    pub coherent: bool,
}

impl Point {
    fn judge(&mut self) {
        let neutral = self.neutral.is_none_or(|change| change >= -LESS_LIKELY);
        let surprise = self.surprise.is_none_or(|more| more <= MORE_SURPRISING);
        let most = self.repeated_before.unwrap_or(0.0).max(REPEATED);
        self.coherent = neutral && surprise && self.repeated.is_none_or(|share| share <= most);
    }
}

/// Every band of a model.
///
/// # Errors
/// A table cannot be read.
pub fn bands(ready: &Ready, model: &str) -> Result<Vec<Band>> {
    let mut all = Vec::new();
    for node in &ready.plan.nodes {
        let Work::Analysis { analysis, set, .. } = &node.work else { continue };
        let Analysis::Steering(params) = &**analysis else { continue };
        if set.model != model || set.is_check || params.unit != Unit::ResidNorm {
            continue;
        }
        let layers: Vec<Layer> = node.units.iter().filter_map(|unit| unit.layer).collect();
        for unit in &node.units {
            let Lookup::Hit(entry) = ready.store.lookup(node.work.stage(), &unit.key)? else { continue };
            for ((emotion, layer), points) in points(&entry, &ready.resolved.experiment.emotions)? {
                let at = match params.together {
                    true => together(ready, node, params, &layers),
                    false => Layer::of_number(layer).into_iter().collect(),
                };
                let (low, high) = between(&points);
                all.push(Band {
                    stories: set.stories.clone(),
                    variant: set.variant(),
                    emotion,
                    layers: at.into_iter().map(shown).collect(),
                    positions: json!(params.positions),
                    low,
                    high,
                    points,
                });
            }
        }
    }
    Ok(all)
}

/// The layers of an analysis that steers several layers together.
fn together(ready: &Ready, node: &Node, params: &Steering, own: &[Layer]) -> Vec<Layer> {
    if !own.is_empty() {
        return own.to_vec();
    }
    let Work::Analysis { set, .. } = &node.work else { return Vec::new() };
    let model = ready.resolved.models.iter().find(|model| model.name == set.model && model.checks.is_none());
    model.map_or_else(Vec::new, |model| params.layers.of(&model.layers, model.spec.n_layers()))
}

/// Measured points by emotion and layer, sorted by strength.
fn points(entry: &Entry, emotions: &[String]) -> Result<Points> {
    let mut all = Points::new();
    if entry.manifest.file("steering_coherence").is_ok() {
        neutral(&entry.read("steering_coherence")?, &mut all)?;
    }
    if entry.manifest.file("steering_text").is_ok() {
        written(&entry.read("steering_text")?, &mut all)?;
    }
    // Null directions belong to no emotion.
    all.retain(|(steered, _), _| emotions.contains(steered));
    for points in all.values_mut() {
        points.sort_by(|a, b| a.strength.total_cmp(&b.strength));
        points.iter_mut().for_each(Point::judge);
    }
    Ok(all)
}

type Points = BTreeMap<(String, i32), Vec<Point>>;

fn point<'a>(all: &'a mut Points, steered: &str, layer: i32, strength: f64) -> &'a mut Point {
    let points = all.entry((steered.to_string(), layer)).or_default();
    let at = points.iter().position(|point| point.strength == strength).unwrap_or_else(|| {
        points.push(Point { strength, ..Point::default() });
        points.len() - 1
    });
    &mut points[at]
}

fn neutral(table: &Table, all: &mut Points) -> Result<()> {
    let (steered, layer) = (table.str("steered")?, table.i32("layer")?);
    let (strength, change) = (table.f64("strength")?, table.f64("delta")?);
    for row in 0..table.rows() {
        point(all, &steered[row], layer[row], strength[row]).neutral = Some(change[row]);
    }
    Ok(())
}

/// Means over the prompts.
fn written(table: &Table, all: &mut Points) -> Result<()> {
    let (steered, layer, prompt) = (table.str("steered")?, table.i32("layer")?, table.str("prompt")?);
    let (strength, surprise) = (table.f64("strength")?, table.opt_f64("surprise")?);
    let repeated = table.opt_f64("repeated")?;
    let before = |row: usize| {
        (0..table.rows())
            .find(|&at| steered[at] == UNSTEERED && layer[at] == layer[row] && prompt[at] == prompt[row])
    };
    let mut sums: BTreeMap<(&str, i32, u64), Vec<usize>> = BTreeMap::new();
    for row in (0..table.rows()).filter(|&row| steered[row] != UNSTEERED) {
        sums.entry((&steered[row], layer[row], strength[row].to_bits())).or_default().push(row);
    }
    for ((name, layer, strength), rows) in sums {
        let mean = |of: &dyn Fn(usize) -> Option<f64>| {
            let values: Vec<f64> = rows.iter().filter_map(|&row| of(row)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let more = mean(&|row| Some(surprise[row]? - surprise[before(row)?]?));
        let (own, plain) = (mean(&|row| repeated[row]), mean(&|row| repeated[before(row)?]));
        let point = point(all, name, layer, f64::from_bits(strength));
        (point.surprise, point.repeated, point.repeated_before) = (more, own, plain);
    }
    Ok(())
}

/// The range from 0 outwards up to the last strength before the first one that breaks coherence.
fn between(points: &[Point]) -> (f64, f64) {
    let far = |side: &dyn Fn(&&Point) -> bool| {
        let mut own: Vec<&Point> = points.iter().filter(side).collect();
        own.sort_by(|a, b| a.strength.abs().total_cmp(&b.strength.abs()));
        own.iter().take_while(|point| point.coherent).last().map_or(0.0, |point| point.strength)
    };
    (far(&|point| point.strength < 0.0), far(&|point| point.strength > 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    fn told(neutral: &[(f64, f64)]) -> Vec<Point> {
        let point = |&(strength, neutral): &(f64, f64)| {
            let mut point = Point { strength, neutral: Some(neutral), ..Point::default() };
            point.judge();
            point
        };
        neutral.iter().map(point).collect()
    }

    #[test]
    fn a_band_ends_before_the_first_strength_that_breaks_text() {
        let points = told(&[(-0.2, -3.0), (-0.1, -0.4), (0.05, 0.1), (0.1, -0.5), (0.2, -0.6), (0.4, -0.1)]);
        assert_eq!(between(&points), (-0.1, 0.1));
        assert_eq!(between(&told(&[(0.1, -0.6), (0.2, 0.0)])), (0.0, 0.0));
        assert_eq!(between(&[]), (0.0, 0.0));
    }

    #[test]
    fn what_is_written_counts_too() {
        let texts = |names: &[&str]| Column::Str(names.iter().map(|name| name.to_string()).collect());
        let columns = vec![
            ("layer", Column::I32(vec![3; 6])),
            ("prompt", texts(&["p", "q", "p", "q", "p", "q"])),
            ("strength", Column::F64(vec![0.0, 0.0, 0.1, 0.1, 0.2, 0.2])),
            ("steered", texts(&[UNSTEERED, UNSTEERED, "a", "a", "a", "a"])),
            ("surprise", Column::OptF64([1.0, 2.0, 2.0, 2.5, 1.0, 2.0].map(Some).to_vec())),
            ("repeated", Column::OptF64([0.0, 0.4, 0.1, 0.1, 0.9, 0.7].map(Some).to_vec())),
        ];
        let mut all = Points::new();
        written(&Table::new("steering_text/1", columns), &mut all).unwrap();
        let mut points = all.remove(&("a".to_string(), 3)).unwrap();
        points.iter_mut().for_each(Point::judge);
        let got: Vec<_> =
            points.iter().map(|p| (p.surprise.unwrap(), p.repeated.unwrap(), p.coherent)).collect();
        assert_eq!(got, [(0.75, 0.1, true), (0.0, 0.8, false)]);
        assert_eq!(between(&points), (0.0, 0.1));
    }
}
