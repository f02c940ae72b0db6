//! The figures and headline numbers of steering: each emotion on its own word beside random directions, and every one on every other.

use std::collections::HashMap;

use anyhow::Result;

use super::steering::RANDOM;
use super::{Group, Headline, groups, published};
use crate::report::figure::{Bar, Bars, Body, Figure, Heatmap, Lines, Series};
use crate::store::table::Table;

/// For each set, layer and strength the bars of self-steering and the heat map of cross-steering; over several
/// strengths the dose curves too.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "steering")? {
        let cells = Cells::read(&group)?;
        for strength in &cells.strengths {
            let suffix = if cells.strengths.len() > 1 { format!("-{strength}") } else { String::new() };
            figures.push(self_steering(format!("{name}-self{suffix}"), &group, &cells, *strength));
            figures.push(cross_steering(format!("{name}-cross{suffix}"), &group, &cells, *strength));
        }
        if cells.strengths.len() > 1 {
            figures.push(dose(format!("{name}-dose"), &group, &cells));
        }
    }
    Ok(figures)
}

/// Changes of log-probability, averaged over prompts.
struct Cells {
    unit: String,
    n_prompts: usize,
    /// In the order of the table.
    strengths: Vec<f64>,
    emotions: Vec<String>,
    /// Names of the random directions.
    random: Vec<String>,
    /// By strength (its bits), steered and measured.
    deltas: HashMap<(u64, String, String), f64>,
}

impl Cells {
    fn read(group: &Group) -> Result<Cells> {
        let table = group.table;
        let (prompt, unit, strength) = (table.str("prompt")?, table.str("unit")?, table.f64("strength")?);
        let (steered, measured, delta) = (table.str("steered")?, table.str("measured")?, table.f64("delta")?);
        let mut sums: HashMap<(u64, String, String), (f64, usize)> = HashMap::new();
        let mut strengths: Vec<f64> = Vec::new();
        for &row in &group.rows {
            let key = (strength[row].to_bits(), steered[row].clone(), measured[row].clone());
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + delta[row], sum.1 + 1);
            if !strengths.contains(&strength[row]) {
                strengths.push(strength[row]);
            }
        }
        let all = super::distinct(steered, &group.rows).into_iter().map(String::from);
        let (random, emotions) = all.partition(|name| name.starts_with(RANDOM));
        Ok(Cells {
            unit: unit[group.rows[0]].clone(),
            n_prompts: super::distinct(prompt, &group.rows).len(),
            strengths,
            emotions,
            random,
            deltas: sums.into_iter().map(|(key, (sum, n))| (key, sum / n as f64)).collect(),
        })
    }

    fn delta(&self, strength: f64, steered: &str, measured: &str) -> Option<f64> {
        self.deltas.get(&(strength.to_bits(), steered.to_string(), measured.to_string())).copied()
    }

    /// What the random directions do to a word.
    fn null(&self, strength: f64, measured: &str) -> Vec<f64> {
        self.random.iter().filter_map(|random| self.delta(strength, random, measured)).collect()
    }

    /// What each emotion's vector does to its own word.
    fn own(&self, strength: f64) -> Vec<f64> {
        self.emotions.iter().filter_map(|emotion| self.delta(strength, emotion, emotion)).collect()
    }

    /// The mean of [`Cells::own`] over emotions.
    fn own_mean(&self, strength: f64) -> Option<f64> {
        mean(&self.own(strength))
    }

    /// The mean over emotions and random directions of what these do to an emotion's word.
    fn null_mean(&self, strength: f64) -> Option<f64> {
        let all = self.emotions.iter().flat_map(|emotion| self.null(strength, emotion));
        mean(&all.collect::<Vec<_>>())
    }

    /// "strength 1 (vector), mean over 2 prompts".
    fn setting(&self, strength: f64) -> String {
        let prompts = if self.n_prompts > 1 {
            format!(", mean over {} prompts", self.n_prompts)
        } else {
            String::new()
        };
        format!("strength {strength} ({}){prompts}", self.unit.replace('_', " "))
    }
}

/// `None` of no values.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The unit of every delta.
const DELTA: &str = "change of log-probability, nats";

fn self_steering(name: String, group: &Group, cells: &Cells, strength: f64) -> Figure {
    let (mut bars, mut raised, mut above) = (Vec::new(), 0, 0);
    for emotion in &cells.emotions {
        let Some(value) = cells.delta(strength, emotion, emotion) else { continue };
        let null = cells.null(strength, emotion);
        let band = null.iter().copied().reduce(f64::min).zip(null.iter().copied().reduce(f64::max));
        raised += usize::from(value > 0.0);
        above += usize::from(band.is_some_and(|(_, high)| value > high));
        bars.push(Bar { label: emotion.clone(), value, band });
    }
    let n = bars.len();
    let null = match cells.random.len() {
        0 => "There are no random directions to compare with.".to_string(),
        k => format!(
            "The band is the range of {k} random directions of the same norm; {above} of {n} emotions lie above it."
        ),
    };
    let [least, most] = published::LLAMA_SELF_STEERING;
    group.figure(
        name,
        format!("Self-steering: {}", cells.setting(strength)),
        format!(
            "What adding an emotion's own vector does to the log-probability of its word. It rises for {raised} of {n} \
             emotions. {null} Published for {} at strength 1: {:+.1} ({}) to {:+.1} ({}).",
            published::LLAMA,
            least.1,
            least.0,
            most.1,
            most.0
        ),
        Body::Bars(Bars {
            y: DELTA.into(),
            bars,
            band: if cells.random.is_empty() { String::new() } else { "random directions of equal norm".into() },
        }),
    )
}

fn cross_steering(name: String, group: &Group, cells: &Cells, strength: f64) -> Figure {
    let every = |steered: &String| {
        let row = cells
            .emotions
            .iter()
            .map(|measured| cells.delta(strength, steered, measured).unwrap_or(f64::NAN));
        row.collect::<Vec<_>>()
    };
    group.figure(
        name,
        format!("Cross-steering: {}", cells.setting(strength)),
        "What adding the vector of the row's emotion does to the log-probability of the column's word. The diagonal is \
         self-steering."
            .into(),
        Body::Heatmap(Heatmap {
            row_axis: "steered".into(),
            column_axis: "measured".into(),
            rows: cells.emotions.clone(),
            columns: cells.emotions.clone(),
            values: cells.emotions.iter().flat_map(every).collect(),
            value: DELTA.into(),
            limit: None,
        }),
    )
}

/// What headline numbers of this analysis mean.
pub const READING: &str = "What adding an emotion's own vector does to the log-probability of its word, in nats: the \
    mean over emotions at each strength (in units of the vector, or of the mean residual norm), beside that of random \
    directions of equal norm where there are any. At the largest strength also the emotion with the least and the one \
    with the most, and the share of emotions that raise their own word.";

/// Self-steering and its null at each strength; least, most and the share that rises at the largest one.
pub fn headlines(tables: &[(String, Table)]) -> Result<Vec<Headline>> {
    let mut headlines = Vec::new();
    for group in groups(tables, "steering")? {
        let cells = Cells::read(&group)?;
        let mut strengths = cells.strengths.clone();
        strengths.sort_by(f64::total_cmp);
        for (at, &strength) in strengths.iter().enumerate() {
            let Some(own) = cells.own_mean(strength) else { continue };
            let setting = format!("{strength} \u{d7} {}", cells.unit.replace('_', " "));
            headlines.push(group.headline(format!("own word at {setting}"), own, 2));
            if let Some(null) = cells.null_mean(strength) {
                headlines.push(group.headline(format!("random at {setting}"), null, 2));
            }
            if at + 1 == strengths.len() {
                // The published ones are of the vector as it is, added once.
                let comparable = cells.unit == "vector" && strength == 1.0;
                headlines.extend(extremes(&group, &cells, strength, comparable));
            }
        }
    }
    Ok(headlines)
}

/// The least and the largest effect on an own word, and the share of emotions whose own word rises.
fn extremes(group: &Group, cells: &Cells, strength: f64, comparable: bool) -> Vec<Headline> {
    let own = cells.own(strength);
    let least = own.iter().copied().fold(f64::INFINITY, f64::min);
    let most = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rising = own.iter().filter(|&&delta| delta > 0.0).count() as f64 / own.len() as f64;
    let [(_, published_least), (_, published_most)] = published::LLAMA_SELF_STEERING;
    let published = |value: f64| if comparable { vec![(published::LLAMA, value)] } else { Vec::new() };
    vec![
        group.headline("own word: least", least, 2).beside(published(published_least)),
        group.headline("own word: most", most, 2).beside(published(published_most)),
        group.headline("own word rises, % of emotions", 100.0 * rising, 0).beside(published(100.0)),
    ]
}

/// The mean over emotions of self-steering and of its null, over strengths.
fn dose(name: String, group: &Group, cells: &Cells) -> Figure {
    let mut strengths = cells.strengths.clone();
    strengths.sort_by(f64::total_cmp);
    let points = |of: &dyn Fn(f64) -> Option<f64>| -> Vec<(f64, f64)> {
        strengths.iter().filter_map(|&s| Some((s, of(s)?))).collect()
    };
    let mut series = vec![Series {
        name: "own vector".into(),
        points: points(&|s| cells.own_mean(s)),
        ..Series::default()
    }];
    if !cells.random.is_empty() {
        let points = points(&|s| cells.null_mean(s));
        series.push(Series { name: "random directions".into(), points, ..Series::default() });
    }
    group.figure(
        name,
        "Self-steering over strength".into(),
        "The mean over emotions of what adding the own vector, or a random direction of equal norm, does to the \
         log-probability of the emotion's word."
            .into(),
        Body::Lines(Lines {
            x: format!("strength ({})", cells.unit.replace('_', " ")),
            y: DELTA.into(),
            series,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Places;
    use super::super::tests::set;
    use super::*;
    use crate::store::table::Column;

    /// A table of (prompt, strength, steered, measured, delta).
    fn table(rows: &[(&str, f64, &str, &str, f64)]) -> Vec<(String, Table)> {
        let set = set(&["a"], &[&[1.0]]);
        let mut places = Places::default();
        rows.iter().for_each(|_| places.push(&set, 3));
        let strings =
            |f: fn(&(&str, f64, &str, &str, f64)) -> String| Column::Str(rows.iter().map(f).collect());
        let columns = vec![
            ("prompt", strings(|r| r.0.into())),
            ("strength", Column::F64(rows.iter().map(|r| r.1).collect())),
            ("unit", strings(|_| "vector".into())),
            ("steered", strings(|r| r.2.into())),
            ("measured", strings(|r| r.3.into())),
            ("delta", Column::F64(rows.iter().map(|r| r.4).collect())),
        ];
        vec![("steering".into(), places.table("steering/1", columns))]
    }

    #[test]
    fn prompts_are_averaged_and_random_directions_make_the_band() {
        let tables = table(&[
            ("p", 1.0, "a", "a", 2.0),
            ("p", 1.0, "a", "b", -1.0),
            ("p", 1.0, "b", "a", 0.5),
            ("p", 1.0, "b", "b", 0.1),
            ("p", 1.0, "random-1", "a", 0.2),
            ("p", 1.0, "random-2", "a", -0.4),
            ("p", 1.0, "random-1", "b", 0.3),
            ("q", 1.0, "a", "a", 1.0),
            ("q", 1.0, "random-1", "a", 0.4),
        ]);
        let figures = figures("causes", &tables).unwrap();
        assert_eq!(
            figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
            ["causes-self", "causes-cross"]
        );
        let Body::Bars(bars) = &figures[0].body else { panic!() };
        let third = 0.6 / 2.0;
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        assert_eq!(bars.bars.len(), 2);
        close(bars.bars[0].value, 1.5);
        close(bars.bars[0].band.unwrap().0, -0.4);
        close(bars.bars[0].band.unwrap().1, third);
        assert!(figures[0].caption.contains("rises for 2 of 2"), "{}", figures[0].caption);
        assert!(figures[0].caption.contains("1 of 2 emotions lie above"), "{}", figures[0].caption);
        let Body::Heatmap(map) = &figures[1].body else { panic!() };
        assert_eq!(map.values, [1.5, -1.0, 0.5, 0.1]);
    }

    #[test]
    fn headlines_by_hand() {
        let tables = table(&[
            ("p", 1.0, "a", "a", 2.0),
            ("q", 1.0, "a", "a", 1.0),
            ("p", 1.0, "b", "b", -0.5),
            ("p", 1.0, "a", "b", 9.0),
            ("p", 1.0, "random-1", "a", 0.25),
            ("p", 1.0, "random-1", "b", -0.75),
            ("p", 0.5, "a", "a", 0.5),
            ("p", 0.5, "b", "b", 1.5),
        ]);
        let headlines = headlines(&tables).unwrap();
        let got: Vec<_> = headlines.iter().map(|h| (h.name.as_str(), h.value)).collect();
        let wanted = [
            ("own word at 0.5 \u{d7} vector", 1.0),
            ("own word at 1 \u{d7} vector", 0.5),
            ("random at 1 \u{d7} vector", -0.25),
            ("own word: least", -0.5),
            ("own word: most", 1.5),
            ("own word rises, % of emotions", 50.0),
        ];
        assert_eq!(got, wanted);
        assert_eq!(headlines[3].published, [(published::LLAMA, 1.2)]);
        // At another strength than the published one there is nothing to compare with.
        let other = super::headlines(&table(&[("p", 2.0, "a", "a", 2.0)])).unwrap();
        assert!(other.iter().all(|h| h.published.is_empty()));
    }

    #[test]
    fn several_strengths_have_figures_of_their_own_and_dose_curves() {
        let tables = table(&[("p", 2.0, "a", "a", 4.0), ("p", 0.5, "a", "a", 1.0)]);
        let figures = figures("causes", &tables).unwrap();
        let names: Vec<_> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["causes-self-2", "causes-cross-2", "causes-self-0.5", "causes-cross-0.5", "causes-dose"]
        );
        let Body::Lines(lines) = &figures[4].body else { panic!() };
        assert_eq!(lines.series.len(), 1);
        assert_eq!(lines.series[0].points, [(0.5, 1.0), (2.0, 4.0)]);
    }
}
