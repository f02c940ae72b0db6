//! Everyday situations that imply an emotion without naming it: which vector is nearest at the position where the
//! model would answer.

use anyhow::{Result, bail};
use serde::Serialize;

use super::estimates::{deals, mean, p_hits};
use super::turns::{self, ReadAt};
use super::{Claim, Group, Input, Inputs, Kind, Null, Places, Published, Tables, groups, published};
use crate::params::{Problem, Read, Reader, Type, params};
use crate::report::figure::{Body, Cell, Figure, Heatmap, TableFigure};
use crate::report::short;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::clopper_pearson;
use crate::store::table::{Column, Table};

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 2;

params! {
    /// Everyday situations that each imply one emotion without naming it, and whose vector is nearest there.
    pub struct Implicit {
        /// Pairs of a text and the emotion that it implies. Those of emotions outside the experiment are skipped, and
        /// the report says which.
        #[ships("twelve that ship", include_str!("../../params/presets/situations-12.txt"))]
        #[of(Type::Pairs)]
        #[with(situations)]
        pub situations: Vec<Situation>;
        /// `user`: each text is the user's turn in the chat template, read at the position before the model's answer;
        /// `raw`: without a template, read at its last token; `mean`: without a template, averaged over its own
        /// tokens.
        pub wrap: ReadAt = "user";
    }
}

/// Texts, each with the emotion that it implies, which need not be one of the experiment's.
pub(super) fn all(reader: &Reader<'_>, name: &str) -> Read<Vec<Situation>> {
    let pairs = reader.pairs(name)?;
    for [(text, span), _] in &pairs {
        if text.trim().is_empty() {
            return reader.wrong(Problem::at(span.clone(), "a situation without text").hint("remove it"));
        }
    }
    Ok(pairs.into_iter().map(|[(text, _), (emotion, _)]| Situation { text, emotion }).collect())
}

fn situations(reader: &Reader<'_>, name: &str) -> Read<Vec<Situation>> {
    let situations = all(reader, name)?;
    let there = |emotions: &Vec<String>| situations.iter().any(|s| emotions.contains(&s.emotion));
    if reader.scope.emotions.get().is_some_and(|emotions| !there(emotions)) {
        let problem = Problem::at(reader.span_of(name), "no situation implies an emotion of this experiment");
        return reader.wrong(problem.hint(
            "write `situations = [[\"what happens\", \"emotion\"], ...]` with emotions of `emotions`",
        ));
    }
    Ok(situations)
}

/// A text, and the emotion that it implies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Situation {
    pub text: String,
    pub emotion: String,
}

impl Kind for Implicit {
    fn kind(&self) -> &'static str {
        "implicit"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Situations that name no emotion"
    }

    fn intro(&self) -> &'static str {
        "Everyday situations that each imply one emotion without naming it: which emotion's vector is nearest to the \
         residual stream just before the model answers?"
    }

    fn inputs(&self) -> Inputs {
        Inputs { model: true, chat: self.wrap == ReadAt::User, ..Inputs::VECTORS }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        let groups = groups(tables, "implicit")?;
        let mut figures = Vec::new();
        for group in &groups {
            figures.extend(self.of_group(name, group)?);
        }
        Ok(figures)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for group in groups(tables, "implicit")? {
            let read = Readings::of(&group)?;
            let twelve = read.implied.len() == 12 && read.probes.len() == 12;
            let beside = |value: Option<f64>| {
                let but =
                    if twelve { published::IMPLICIT_READ_OFF } else { "of other numbers of situations" };
                value.map(|value| Published { source: published::PAPER, value, but }).into_iter().collect()
            };
            for (what, values, [first, rank]) in [
                ("", &read.raw, published::IMPLICIT_RAW),
                (", centred", &read.centred, published::IMPLICIT_CENTRED),
            ] {
                let score = read.score(values);
                let share = 100.0 * score.hits as f64 / read.implied.len() as f64;
                let n = read.implied.len();
                let of = "emotions randomly assigned to situations";
                let null = Null { of, draws: deals(n), mean: None, p: score.p };
                let percent = |i: Interval| Interval { low: 100.0 * i.low, high: 100.0 * i.high };
                let claim =
                    group.claim(format!("implied emotion nearest{what}"), "% of situations", share, 0);
                let interval = clopper_pearson(score.hits, n).map(percent);
                let claim = claim.within(interval, "Clopper and Pearson").against(Some(null));
                claims.push(claim.beside(beside(first)));
                let name = format!("mean rank of the implied emotion{what}");
                claims.push(group.claim(name, "", score.mean_rank, 2).beside(beside(rank)));
            }
        }
        Ok(claims)
    }

    fn reading(&self) -> &'static str {
        READING
    }
}

/// What the claims of this analysis mean.
const READING: &str = "For situations that imply an emotion without naming it: the share in which that emotion's \
     vector has the largest cosine with the residual stream at the position before the answer, among all implied \
     emotions; the mean rank of the implied emotion; and the probability of as large a share when emotions are \
     randomly assigned to situations. Raw, and with each vector's cosines centred over the situations.";

/// The table `implicit`: the cosine of every situation with every emotion's vector at each layer, and the same minus
/// the vector's mean over the situations. Situations whose emotion has no vector are skipped.
///
/// An error if no situation remains, or if a vector is zero.
fn run(params: &Implicit, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, chat, progress, .. } = input;
    let Some(first) = set.layers.first() else { bail!("there are no vectors") };
    let there: Vec<(usize, &Situation)> =
        params.situations.iter().enumerate().filter(|(_, s)| first.emotions.contains(&s.emotion)).collect();
    if there.is_empty() {
        bail!("none of the situations implies an emotion of this experiment");
    }
    let texts: Vec<String> = there.iter().map(|(_, s)| s.text.clone()).collect();
    let layers: Vec<_> = set.layers.iter().map(|l| l.layer).collect();
    let resids = turns::read(model, &texts, (params.wrap, chat), &layers, progress)?;
    let mut places = Places::default();
    let (mut numbers, mut implied, mut emotions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cosines, mut centred) = (Vec::new(), Vec::new());
    for (layer, resids) in set.layers.iter().zip(&resids) {
        let found: Vec<Vec<f64>> = resids.iter().map(|resid| layer.cosines(resid)).collect::<Result<_>>()?;
        let means: Vec<f64> = (0..layer.emotions.len())
            .map(|e| found.iter().map(|of| of[e]).sum::<f64>() / found.len() as f64)
            .collect();
        for ((number, situation), of) in there.iter().zip(&found) {
            for ((emotion, cosine), mean) in layer.emotions.iter().zip(of).zip(&means) {
                places.push(set, layer.layer);
                numbers.push(*number as i32 + 1);
                implied.push(situation.emotion.clone());
                emotions.push(emotion.clone());
                cosines.push(*cosine);
                centred.push(cosine - mean);
            }
        }
    }
    let columns = vec![
        ("situation", Column::I32(numbers)),
        ("implied", Column::Str(implied)),
        ("emotion", Column::Str(emotions)),
        ("cosine", Column::F64(cosines)),
        ("centred", Column::F64(centred)),
    ];
    Ok(vec![("implicit".into(), places.table("implicit/1", columns))])
}

impl super::LayerVectors {
    /// The cosine of each emotion's vector with `resid`. An error if a vector is zero.
    pub(super) fn cosines(&self, resid: &[f64]) -> Result<Vec<f64>> {
        let length = norm(resid);
        let cosine = |(at, emotion): (usize, &String)| {
            let vector = self.vector(at);
            let scale = length * norm(vector);
            if scale > 0.0 {
                return Ok(dot(resid, vector) / scale);
            }
            bail!("the vector of `{emotion}` at layer {} is zero, and so has no cosine", self.layer)
        };
        self.emotions.iter().enumerate().map(cosine).collect()
    }
}

/// The readings of one group, for the emotions that some situation implies.
struct Readings {
    /// The numbers of the situations, from 1, with the emotion of each.
    numbers: Vec<usize>,
    implied: Vec<String>,
    /// The distinct emotions among these, in order of appearance.
    probes: Vec<String>,
    /// `[situation, probe]`
    raw: Vec<Vec<f64>>,
    centred: Vec<Vec<f64>>,
    /// `[situation]`: the rank of the implied emotion among all emotions of the experiment.
    of_all: Vec<usize>,
    emotions: usize,
}

/// How well the implied emotions are identified.
struct Score {
    /// The nearest probe of each situation.
    nearest: Vec<usize>,
    /// The rank of its implied emotion.
    ranks: Vec<usize>,
    hits: usize,
    mean_rank: f64,
    /// The probability of at least as many hits by chance.
    p: f64,
}

/// The rank of `values[at]` among all values, the largest first; equal values share the better rank.
fn rank(values: &[f64], at: usize) -> usize {
    1 + values.iter().filter(|&&value| value > values[at]).count()
}

impl Readings {
    fn of(group: &Group) -> Result<Readings> {
        let table = group.table;
        let (number, implied, emotion) =
            (table.i32("situation")?, table.str("implied")?, table.str("emotion")?);
        let (cosine, centred) = (table.f64("cosine")?, table.f64("centred")?);
        let probes = super::distinct(implied, &group.rows);
        let emotions = super::distinct(emotion, &group.rows);
        let mut read = Readings {
            numbers: Vec::new(),
            implied: Vec::new(),
            probes: probes.iter().map(|p| p.to_string()).collect(),
            raw: Vec::new(),
            centred: Vec::new(),
            of_all: Vec::new(),
            emotions: emotions.len(),
        };
        // The rows of a situation are consecutive, one per emotion.
        for rows in group.rows.chunks(emotions.len()) {
            let values = |of: &[f64], names: &[&str]| -> Vec<f64> {
                let at = |name: &&str| rows.iter().find(|&&row| emotion[row] == *name);
                names.iter().map(|name| at(name).map_or(f64::NAN, |&row| of[row])).collect()
            };
            let own = &implied[rows[0]];
            read.numbers.push(number[rows[0]] as usize);
            read.implied.push(own.clone());
            read.raw.push(values(cosine, &probes));
            read.centred.push(values(centred, &probes));
            let at = emotions.iter().position(|name| name == own);
            read.of_all.push(at.map_or(0, |at| rank(&values(cosine, &emotions), at)));
        }
        Ok(read)
    }

    fn score(&self, values: &[Vec<f64>]) -> Score {
        let own = |of: &String| self.probes.iter().position(|probe| probe == of).unwrap_or_default();
        let nearest = |values: &Vec<f64>| {
            (0..values.len())
                .max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)))
                .unwrap_or_default()
        };
        let nearest: Vec<usize> = values.iter().map(nearest).collect();
        let labels: Vec<usize> = self.implied.iter().map(own).collect();
        let ranks: Vec<usize> = values.iter().zip(&labels).map(|(values, &at)| rank(values, at)).collect();
        let hits = nearest.iter().zip(&labels).filter(|(a, b)| a == b).count();
        let mean_rank = mean(&ranks.iter().map(|&rank| rank as f64).collect::<Vec<_>>()).unwrap_or(f64::NAN);
        Score { p: p_hits(&nearest, &labels), nearest, ranks, hits, mean_rank }
    }
}

impl Implicit {
    fn of_group(&self, name: &str, group: &Group) -> Result<Vec<Figure>> {
        let read = Readings::of(group)?;
        let (raw, centred) = (read.score(&read.raw), read.score(&read.centred));
        let n = read.implied.len();
        let left_out: Vec<&str> = self
            .situations
            .iter()
            .map(|s| s.emotion.as_str())
            .filter(|e| !read.implied.iter().any(|i| i == e))
            .collect();
        let left_out = match left_out.is_empty() {
            true => String::new(),
            false => format!(
                " Skipped, because the experiment has no such emotion: the situations of {}.",
                left_out.join(", ")
            ),
        };
        let place = self.wrap.place();
        let found = |score: &Score| {
            format!(
                "{} of {n} (p = {} by chance), mean rank {:.2}",
                score.hits,
                short(score.p),
                score.mean_rank
            )
        };
        let result = format!(
            "The implied emotion is nearest in {}; with each vector's cosines centred over the situations in {}. \
             {}{left_out}",
            found(&raw),
            found(&centred),
            published::IMPLICIT
        );
        let map = |suffix: &str, title: &str, caption: String, values: &[Vec<f64>]| {
            let body = Body::Heatmap(Heatmap {
                row_axis: "situation implies".into(),
                column_axis: "vector".into(),
                rows: read.implied.clone(),
                columns: read.probes.clone(),
                values: values.concat(),
                value: "cosine".into(),
                limit: None,
            });
            group.figure(format!("{name}-{suffix}"), title.into(), caption, body)
        };
        let rows = (0..n).map(|at| {
            let text = self.situations.get(read.numbers[at] - 1).map_or("", |s| s.text.as_str());
            vec![
                Cell::Text(text.into()),
                Cell::Text(read.implied[at].clone()),
                Cell::Text(read.probes[raw.nearest[at]].clone()),
                Cell::Number(raw.ranks[at] as f64, 0),
                Cell::Text(read.probes[centred.nearest[at]].clone()),
                Cell::Number(centred.ranks[at] as f64, 0),
                Cell::Number(read.of_all[at] as f64, 0),
            ]
        });
        let columns =
            ["situation", "implies", "nearest", "rank", "nearest, centred", "rank, centred", "rank of all"];
        let table =
            Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() });
        Ok(vec![
            map(
                "centred",
                "Situations and vectors, centred",
                format!(
                    "The cosine of each emotion's vector with the residual stream {place}, minus the vector's mean \
                     over the situations, which removes vectors' similarity to all situations alike. The diagonal is \
                     the implied emotion. {result}"
                ),
                &read.centred,
            ),
            map(
                "raw",
                "Situations and vectors, raw",
                format!("The same cosines, not centred, {place}."),
                &read.raw,
            ),
            group.figure(
                format!("{name}-situations"),
                "The nearest emotion to each situation".into(),
                format!(
                    "Rank of the implied emotion among the {} implied emotions; the last column is the raw rank among \
                     all {} emotions of the experiment. p is the probability of as many correct situations when \
                     emotions are randomly assigned to them.",
                    read.probes.len(),
                    read.emotions
                ),
                table,
            ),
        ])
    }
}

#[cfg(test)]
mod tests;
