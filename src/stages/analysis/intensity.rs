//! Texts that contain a growing number: whether the vectors of the emotions that should rise or fall with it do so.

mod template;

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::estimates::{mean, p_at_least};
use super::made_of::given;
use template::NUMBER;
pub use template::Template;

use super::turns::{self, ReadAt};
use super::{Claim, Group, Input, Inputs, Kind, LayerVectors, Places, Tables, groups, intensity_figures};
use crate::params::{Params as _, Type, params};
use crate::report::figure::Figure;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::correlation::ranks;
use crate::stages::statistics::draws::Draws;
use crate::store::table::{Column, Table};

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 2;

/// The numbers of orders of the numbers, of random directions and of shuffles of the labels: p is at least 1 in 2,000,
/// and 1 in 200.
const ORDERS: usize = 1_999;
const DIRECTIONS: usize = 199;
const SHUFFLES: usize = 199;

/// Phrasings in which the number is only a name, without meaning whatever its value.
const CONTROL: [&str; 4] = [
    "The locker has the number {number} on its door.",
    "Take bus line {number} to the museum.",
    "The recipe is on page {number} of the book.",
    "My ticket is number {number}, and yours is behind it.",
];

params! {
    /// Texts in which a number grows, and whether the emotions named for it rise or fall.
    pub struct Intensity {
        /// The increasing quantity. Emotions outside the experiment are skipped, and the report says which.
        #[ships("`dose`, `hunger`, `missing`, `runway`", include_str!("../../params/presets/templates-4.txt"))]
        #[of(Type::Named(Template::TABLE))]
        #[with(template::all)]
        pub templates: Vec<Template>;
        /// `user`: each text is the user's turn in the chat template, read at the position before the model's answer;
        /// `raw`: without a template, read at its last token; `mean`: without a template, averaged over its own
        /// tokens.
        pub wrap: ReadAt = "user";
    }
}

impl Template {
    /// Its probes among `emotions`, each with 1 (rises) or -1 (falls).
    pub fn probes(&self, emotions: &[String]) -> Vec<(&str, f64)> {
        let rise = self.rise.iter().map(|e| (e, 1.0));
        let all = rise.chain(self.fall.iter().map(|e| (e, -1.0)));
        all.filter(|(e, _)| emotions.contains(e)).map(|(e, sign)| (e.as_str(), sign)).collect()
    }

    /// Inserts a number into a phrasing; integers without decimals.
    fn fill(text: &str, number: f64) -> String {
        text.replace(NUMBER, &number.to_string())
    }
}

impl Kind for Intensity {
    fn kind(&self) -> &'static str {
        "intensity"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Numbers that grow"
    }

    fn intro(&self) -> &'static str {
        "Texts in which only a number changes: do the readings of the emotions that should increase or decrease with \
         it do so just before the model answers?"
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            model: true,
            activations: true,
            seed: true,
            chat: self.wrap == ReadAt::User,
            ..Inputs::VECTORS
        }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        intensity_figures::figures(self, name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        groups(tables, "intensity_trend")?.iter().map(claims).collect::<Result<Vec<_>>>().map(|h| h.concat())
    }

    fn reading(&self) -> &'static str {
        "Over all templates and their emotions: the mean Spearman rank correlation of the number with the emotion's \
         cosine before the answer, signed so that 1 is as expected; and the share of emotions whose correlation, minus \
         that in texts where the number is irrelevant, exceeds that of vectors from shuffled labels (p <= .05; one in \
         twenty is expected by chance)."
    }
}

fn claims(group: &Group) -> Result<Vec<Claim>> {
    let (spearman, p) = (group.table.f64("spearman")?, group.table.f64("p_label")?);
    let signs = group.table.i32("expected")?;
    let turned: Vec<f64> = group.rows.iter().map(|&row| spearman[row] * f64::from(signs[row])).collect();
    let clear = group.rows.iter().filter(|&&row| p[row] <= 0.05).count() as f64 / group.rows.len() as f64;
    Ok(vec![
        group.claim("mean Spearman, as expected", "", mean(&turned).unwrap_or(f64::NAN), 2),
        group.claim("as expected beyond shuffled labels (p \u{2264} .05)", "% of probes", 100.0 * clear, 0),
    ])
}

/// The tables `intensity`: the cosine of each template's emotions with every phrasing and number at each layer; and
/// `intensity_trend`: for each template and emotion the rank correlation with the number (see [`Trend`]).
///
/// Emotions that are not in the experiment, and templates with no other emotions, are skipped. An error if nothing
/// remains, or if a vector is zero.
fn run(params: &Intensity, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, chat, seed, progress, activations, .. } = input;
    let activations = given(activations.as_ref())?;
    let [first] = set.layers.as_slice() else { bail!("one layer at a time") };
    let there: Vec<&Template> =
        params.templates.iter().filter(|t| !t.probes(&first.emotions).is_empty()).collect();
    if there.is_empty() {
        bail!("none of the templates names an emotion of this experiment");
    }
    // The template's own phrasings, then the control phrasings, in which its numbers have no meaning.
    let all = |template: &&Template| {
        let own = template.texts.iter().map(String::as_str).chain(CONTROL);
        let of = |text: &str| template.numbers.iter().map(|&x| Template::fill(text, x)).collect::<Vec<_>>();
        own.flat_map(of).collect::<Vec<String>>()
    };
    let texts: Vec<String> = there.iter().flat_map(all).collect();
    let layers: Vec<_> = set.layers.iter().map(|l| l.layer).collect();
    let resids = turns::read(model, &texts, (params.wrap, chat), &layers, progress)?;
    let (mut curves, mut trends) = (Curves::default(), Trends::default());
    for (layer, resids) in set.layers.iter().zip(&resids) {
        let mut rest = resids.as_slice();
        let draw = |k| {
            Draws::new("intensity null", &[seed, layer.layer.number() as u64, k]).direction(layer.d_model)
        };
        let directions: Vec<Vec<f64>> = (0..DIRECTIONS as u64).map(draw).collect();
        let remade = activations.remade(&layer.emotions, layer.layer.number(), seed)?;
        let shuffled = (0..SHUFFLES).map(|number| remade.shuffled(&remade.design.shuffle(number)));
        let shuffled: Vec<Vec<f64>> = shuffled.collect::<Result<_>>()?;
        for template in &there {
            let numbers = template.numbers.len();
            let (here, others) = rest.split_at((template.texts.len() + CONTROL.len()) * numbers);
            rest = others;
            let mut phrasings: Vec<&[Vec<f64>]> = here.chunks(numbers).collect();
            let controls = phrasings.split_off(template.texts.len());
            let null: Vec<Vec<f64>> =
                directions.par_iter().map(|along| together(&projections(along, &phrasings))).collect();
            for (emotion, sign) in template.probes(&first.emotions) {
                let cosines = cosines(layer, emotion, &phrasings)?;
                let orders = Draws::new("intensity order", &[seed]);
                let named = layer.emotions.iter().position(|e| e == emotion).unwrap_or_default();
                let labels: Vec<[Vec<f64>; 2]> = shuffled
                    .par_iter()
                    .map(|vectors| {
                        let along = &vectors[named * layer.d_model..][..layer.d_model];
                        [&phrasings, &controls].map(|texts| together(&projections(along, texts)))
                    })
                    .collect();
                let control = together(&self::cosines(layer, emotion, &controls)?);
                let mut trend = Trend::of(&template.numbers, &cosines, sign, orders, &null);
                trend.beside(&template.numbers, &control, sign, &labels);
                for (phrasing, values) in cosines.iter().enumerate() {
                    for (number, cosine) in template.numbers.iter().zip(values) {
                        curves.places.push(set, layer.layer);
                        curves.template.push(template.name.clone());
                        curves.phrasing.push(phrasing as i32 + 1);
                        curves.number.push(*number);
                        curves.emotion.push(emotion.to_string());
                        curves.cosine.push(*cosine);
                    }
                }
                trends.places.push(set, layer.layer);
                trends.template.push(template.name.clone());
                trends.emotion.push(emotion.to_string());
                trends.expected.push(sign as i32);
                trends.trend.push(trend);
            }
        }
    }
    Ok(vec![("intensity".into(), curves.finish()), ("intensity_trend".into(), trends.finish())])
}

/// `[phrasing][number]`: the cosines of an emotion's vector. An error if the vector is zero.
fn cosines(layer: &LayerVectors, emotion: &str, phrasings: &[&[Vec<f64>]]) -> Result<Vec<Vec<f64>>> {
    let vector = layer.emotions.iter().position(|e| e == emotion).map(|at| layer.vector(at));
    match vector {
        Some(vector) if norm(vector) > 0.0 => Ok(projections(vector, phrasings)),
        _ => bail!("the vector of `{emotion}` at layer {} is zero, and so has no cosine", layer.layer),
    }
}

fn projections(along: &[f64], phrasings: &[&[Vec<f64>]]) -> Vec<Vec<f64>> {
    let length = norm(along);
    let cosine = |resid: &Vec<f64>| dot(resid, along) / (norm(resid) * length);
    phrasings.iter().map(|resids| resids.iter().map(cosine).collect()).collect()
}

/// The trend of an emotion with the number.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// The mean over phrasings of Spearman's correlation of the number with the cosine, then the minimum and the
    /// maximum.
    pub spearman: f64,
    pub least: f64,
    pub most: f64,
    /// The share of orders of the numbers, the same for all phrasings, with at least this trend in the expected
    /// direction.
    pub p_order: f64,
    /// The share of random directions with at least this trend.
    pub p_direction: f64,
    /// The mean over phrasings of the correlation in the control, where the number has no meaning.
    pub control: f64,
    /// The share of the emotion's vectors under shuffled labels whose correlation, minus that in the control, is at
    /// least as large.
    pub p_label: f64,
}

/// Ranks, centred and of unit length, so that the product of two is Spearman's correlation; zeros if all values are
/// equal.
fn standard(values: &[f64]) -> Vec<f64> {
    let ranks = ranks(values);
    let centre = (values.len() as f64 + 1.0) / 2.0;
    let ranks: Vec<f64> = ranks.into_iter().map(|rank| rank - centre).collect();
    let length = norm(&ranks);
    ranks.iter().map(|rank| if length > 0.0 { rank / length } else { 0.0 }).collect()
}

/// The mean over phrasings of the standardised ranks: its product with those of the numbers is the mean correlation.
fn together(cosines: &[Vec<f64>]) -> Vec<f64> {
    let each: Vec<Vec<f64>> = cosines.iter().map(|values| standard(values)).collect();
    (0..each[0].len()).map(|at| each.iter().map(|of| of[at]).sum::<f64>() / each.len() as f64).collect()
}

impl Trend {
    /// `cosines`: `[phrasing][number]`; `sign`: 1 if they should rise, -1 if they should fall; `orders` draws orders
    /// of the numbers; `null`: for each random direction, the mean over phrasings of the standardised ranks of its
    /// cosines.
    pub fn of(
        numbers: &[f64],
        cosines: &[Vec<f64>],
        sign: f64,
        mut orders: Draws,
        null: &[Vec<f64>],
    ) -> Trend {
        let numbers = standard(numbers);
        let each: Vec<f64> = cosines.iter().map(|values| dot(&numbers, &standard(values))).collect();
        let ours = together(cosines);
        let spearman = dot(&numbers, &ours);
        let mut order = numbers.clone();
        let reordered: Vec<f64> = (0..ORDERS)
            .map(|_| {
                orders.shuffle(&mut order);
                sign * dot(&order, &ours)
            })
            .collect();
        let directions: Vec<f64> = null.iter().map(|together| sign * dot(&numbers, together)).collect();
        // Sums in a different order differ in their last bits.
        let p = |null: &[f64]| p_at_least(sign * spearman - 1e-12, null).unwrap_or(1.0);
        Trend {
            spearman,
            least: each.iter().copied().fold(f64::INFINITY, f64::min),
            most: each.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            p_order: p(&reordered),
            p_direction: p(&directions),
            control: 0.0,
            p_label: 1.0,
        }
    }

    /// Compares the trend with that of the same emotion in the control phrasings, and with vectors of shuffled labels:
    /// for each, the mean standardised ranks in the template and in the control.
    fn beside(&mut self, numbers: &[f64], control: &[f64], sign: f64, labels: &[[Vec<f64>; 2]]) {
        let numbers = standard(numbers);
        self.control = dot(&numbers, control);
        let null: Vec<f64> = labels
            .iter()
            .map(|[own, control]| sign * (dot(&numbers, own) - dot(&numbers, control)))
            .collect();
        // Sums in a different order differ in their last bits.
        self.p_label = p_at_least(sign * (self.spearman - self.control) - 1e-12, &null).unwrap_or(1.0);
    }
}

/// The columns of the table `intensity`.
#[derive(Default)]
struct Curves {
    places: Places,
    template: Vec<String>,
    phrasing: Vec<i32>,
    number: Vec<f64>,
    emotion: Vec<String>,
    cosine: Vec<f64>,
}

impl Curves {
    fn finish(self) -> Table {
        let columns = vec![
            ("template", Column::Str(self.template)),
            ("phrasing", Column::I32(self.phrasing)),
            ("number", Column::F64(self.number)),
            ("emotion", Column::Str(self.emotion)),
            ("cosine", Column::F64(self.cosine)),
        ];
        self.places.table("intensity/1", columns)
    }
}

/// The columns of the table `intensity_trend`.
#[derive(Default)]
struct Trends {
    places: Places,
    template: Vec<String>,
    emotion: Vec<String>,
    /// 1: rises; -1: falls.
    expected: Vec<i32>,
    trend: Vec<Trend>,
}

impl Trends {
    fn finish(self) -> Table {
        let column = |of: fn(&Trend) -> f64| Column::F64(self.trend.iter().map(of).collect());
        let numbers = [
            ("spearman", column(|t| t.spearman)),
            ("least", column(|t| t.least)),
            ("most", column(|t| t.most)),
            ("p_order", column(|t| t.p_order)),
            ("p_direction", column(|t| t.p_direction)),
            ("control", column(|t| t.control)),
            ("p_label", column(|t| t.p_label)),
        ];
        let mut columns = vec![
            ("template", Column::Str(self.template)),
            ("emotion", Column::Str(self.emotion)),
            ("expected", Column::I32(self.expected)),
        ];
        columns.extend(numbers);
        self.places.table("intensity_trend/2", columns)
    }
}

#[cfg(test)]
mod tests;
