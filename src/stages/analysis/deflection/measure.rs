//! Compares vectors of hidden emotions with those of stories: how much of them lies outside the space that the
//! stories' vectors span. Independent of tables and models.

use anyhow::{Context, Result};

use super::super::labelled::{Labelled, likeness};
use super::super::tested::Tested;
use crate::stages::principal::{self, cosine, dot, norm};
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{Scale, basic, mean, p_value, percentile};
use crate::stages::vectors;

/// The numbers of random draws.
pub struct Draw {
    pub shuffles: usize,
    pub resamples: usize,
    pub seed: u64,
}

/// The claimed quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The variance among the hidden emotions' vectors, divided by that under shuffled labels.
    Hidden,
    /// The same for the part outside the stories' space.
    Outside,
    /// The share of a vector's norm that lies outside, averaged over emotions.
    Kept,
    /// The mean cosine of the hidden emotion's vector with that of stories of the same emotion.
    HiddenWithStories,
    /// The same for vectors by the emotion that is shown.
    ShownWithStories,
}

impl What {
    pub const ALL: [What; 5] =
        [What::Hidden, What::Outside, What::Kept, What::HiddenWithStories, What::ShownWithStories];

    pub fn name(self) -> &'static str {
        match self {
            What::Hidden => "variance among hidden emotions, over its null",
            What::Outside => "variance outside the stories' space, over its null",
            What::Kept => "norm kept outside the stories' space",
            What::HiddenWithStories => "hidden emotion, with stories",
            What::ShownWithStories => "shown emotion, with stories",
        }
    }

    /// The null it is tested against.
    pub fn null(self) -> &'static str {
        match self {
            What::Hidden | What::Outside | What::Kept => {
                "hidden emotions shuffled within topics, never onto the shown one"
            }
            What::HiddenWithStories | What::ShownWithStories => "emotions under each other's names",
        }
    }
}

/// The results at one layer.
pub struct Found {
    /// The number of components removed.
    pub components: usize,
    /// The share of its norm that a random vector keeps without them: `sqrt(1 - components / d)`.
    pub random: f64,
    /// `[emotion, d]`: the hidden emotions' vectors, unmodified and without the components.
    pub before: Vec<f64>,
    pub after: Vec<f64>,
    /// The number of dialogues in which each emotion is hidden.
    pub dialogues: Vec<usize>,
    pub tests: Vec<(What, Tested)>,
}

/// The components that hold a share `variance` of the variance among the stories' vectors (`[emotion, d]`), as unit
/// directions.
///
/// # Errors
/// There are none: a single vector, or vectors that are all equal.
pub fn space(stories: &[f64], d: usize, variance: f64) -> Result<Vec<Vec<f64>>> {
    let found = principal::components(stories, d).context("the stories' vectors")?;
    let kept = vectors::fewest(&found.ratios, variance);
    Ok(found.directions.chunks_exact(d).take(kept).map(<[f64]>::to_vec).collect())
}

/// Measures dialogues at one layer: the labels of rows are the hidden emotion and the shown one, and their span is the
/// turns of the speaker who hides it. `stories`: `[emotion, d]`. `removed`: directions removed from the dialogues'
/// vectors, as they are from the stories'. `variance`: the share of the variance of the stories' vectors whose
/// components are removed from the hidden emotions' vectors.
///
/// # Errors
/// An emotion that nobody hides, or nobody shows; stories' vectors without components.
pub fn measure(
    read: &Labelled,
    stories: &[f64],
    removed: &[Vec<f64>],
    variance: f64,
    draw: &Draw,
) -> Result<Found> {
    let d = read.d;
    let labels = [0, 1].map(|label| read.labels(label));
    let space = space(stories, d, variance)?;
    let outside = |before: &[f64]| {
        let mut after = before.to_vec();
        after.chunks_exact_mut(d).for_each(|vector| vectors::project_out(vector, &space));
        after
    };
    let whole = |label: usize| {
        read.vectors(0, &labels[label], None, removed).with_context(|| {
            let emotion = (0..read.emotions.len()).find(|emotion| !labels[label].contains(emotion));
            let emotion = emotion.map_or("", |at| read.emotions[at].as_str());
            let does = ["hides", "shows"][label];
            format!("there is no dialogue in which somebody {does} `{emotion}`: write more of them, or take the emotion out")
        })
    };
    let (before, shown) = (whole(0)?, whole(1)?);
    // The variance of the unmodified vectors and of the part outside, and the share of the norm kept.
    let numbers = |before: &[f64]| -> [f64; 3] {
        let after = outside(before);
        let spread = |rows: &[f64]| dot(rows, rows) / read.emotions.len() as f64;
        let kept = before.chunks_exact(d).zip(after.chunks_exact(d)).map(|(before, after)| {
            let length = norm(before);
            if length > 0.0 { norm(after) / length } else { 0.0 }
        });
        [spread(before), spread(&after), mean(&kept.collect::<Vec<_>>())]
    };
    let found = numbers(&before);
    // Never the emotion that is shown: otherwise the shown emotion would reveal which one is not hidden.
    let shuffled = rounds(draw.seed, "deflection labels", draw.shuffles, |draws| {
        read.vectors(0, &read.shuffled(0, true, draws), None, removed).map(|before| numbers(&before))
    });
    let shuffled: Vec<[f64; 3]> = shuffled.into_iter().flatten().collect();
    // For each resample of the topics: the share of the norm kept, and the similarity of both sets to the stories'.
    let resampled = rounds(draw.seed, "deflection topics", read.resamples(draw.resamples), |draws| {
        let weights = read.resampled(draws);
        let vectors = |label: usize| read.vectors(0, &labels[label], Some(&weights), removed);
        let [hidden, shown] = [vectors(0)?, vectors(1)?];
        Some([numbers(&hidden)[2], likeness(&hidden, stories, d), likeness(&shown, stories, d)])
    });
    let resampled: Vec<[f64; 3]> = resampled.into_iter().flatten().collect();
    let drawn = |at: usize| resampled.iter().map(|draw| draw[at]).collect::<Vec<f64>>();
    let null = |at: usize| shuffled.iter().map(|draw| draw[at]).collect::<Vec<f64>>();
    let tested = |what: What| match what {
        What::Hidden | What::Outside => {
            let at = usize::from(what == What::Outside);
            let null = null(at);
            let middle = mean(&null);
            let p = p_value(found[at], &null);
            let value = if middle > 0.0 { found[at] / middle } else { f64::NAN };
            Tested { value, interval: None, null_mean: 1.0, p }
        }
        What::Kept => Tested::on_either_side(found[2], &null(2), basic(found[2], &drawn(0), Scale::Share)),
        What::HiddenWithStories => named(&before, stories, d, &drawn(1), draw),
        What::ShownWithStories => named(&shown, stories, d, &drawn(2), draw),
    };
    let hidden = |emotion: usize| labels[0].iter().filter(|&&label| label == emotion).count();
    Ok(Found {
        components: space.len(),
        random: (1.0 - space.len() as f64 / d as f64).max(0.0).sqrt(),
        after: outside(&before),
        dialogues: (0..read.emotions.len()).map(hidden).collect(),
        tests: What::ALL.map(|what| (what, tested(what))).to_vec(),
        before,
    })
}

/// The similarity of two sets' vectors of the same emotions, tested against permuted emotions. Whatever one set
/// contains, if the other is unrelated to emotions then all permutations of its emotions are equally likely.
fn named(own: &[f64], stories: &[f64], d: usize, drawn: &[f64], draw: &Draw) -> Tested {
    let rows = |vectors: &[f64]| vectors.chunks_exact(d).map(<[f64]>::to_vec).collect::<Vec<_>>();
    let (own, stories) = (rows(own), rows(stories));
    let cosines: Vec<Vec<f64>> =
        own.iter().map(|own| stories.iter().map(|story| cosine(own, story)).collect()).collect();
    let likeness = |names: &[usize]| {
        mean(&names.iter().enumerate().map(|(at, &name)| cosines[at][name]).collect::<Vec<_>>())
    };
    let value = likeness(&(0..own.len()).collect::<Vec<_>>());
    let null = rounds(draw.seed, "deflection names", draw.shuffles, |draws: &mut Draws| {
        likeness(&draws.shuffled(own.len()))
    });
    let interval = basic(value, drawn, Scale::Correlation);
    Tested { value, interval, null_mean: mean(&null), p: p_value(value, &null) }
}

/// How much higher an emotion's reading is in one class of prompts than in the others.
pub struct OfClass {
    pub class: usize,
    pub emotion: usize,
    /// The mean cosine over the class's prompts.
    pub mean: f64,
    /// That mean minus the mean over all other prompts.
    pub more: Tested,
}

/// `rows`: for each class, the cosines of its prompts, `[prompt][emotion]`. Null: prompts assigned to the classes at
/// random; p is two-sided. Interval: prompts of each class drawn with replacement.
pub fn by_class(rows: &[Vec<Vec<f64>>], draw: &Draw) -> Vec<OfClass> {
    let sizes: Vec<usize> = rows.iter().map(Vec::len).collect();
    let all: Vec<&Vec<f64>> = rows.iter().flatten().collect();
    let emotions = all.first().map_or(0, |row| row.len());
    // For an order of the prompts, in which the classes take consecutive ranges: [class][emotion], the difference from
    // the other classes.
    let more = |order: &[usize]| -> Vec<Vec<f64>> {
        let mut from = 0;
        let sums: Vec<Vec<f64>> = sizes
            .iter()
            .map(|&size| {
                let own = &order[from..from + size];
                from += size;
                (0..emotions).map(|e| own.iter().map(|&at| all[at][e]).sum()).collect()
            })
            .collect();
        let total = |e: usize| sums.iter().map(|sum: &Vec<f64>| sum[e]).sum::<f64>();
        let n = order.len() as f64;
        let of = |(sum, &size): (&Vec<f64>, &usize)| -> Vec<f64> {
            let size = size as f64;
            sum.iter().enumerate().map(|(e, sum)| sum / size - (total(e) - sum) / (n - size)).collect()
        };
        sums.iter().zip(&sizes).map(of).collect()
    };
    let straight: Vec<usize> = (0..all.len()).collect();
    let found = more(&straight);
    let dealt =
        rounds(draw.seed, "deflection classes", draw.shuffles, |draws| more(&draws.shuffled(all.len())));
    let drawn = rounds(draw.seed, "deflection prompts", draw.resamples, |draws| {
        let mut from = 0;
        let mut order = Vec::with_capacity(all.len());
        for &size in &sizes {
            order.extend(draws.resampled(size).into_iter().map(|at| from + at));
            from += size;
        }
        more(&order)
    });
    let mut all_of = Vec::new();
    for class in 0..rows.len() {
        for emotion in 0..emotions {
            let value = found[class][emotion];
            let of = |drawn: &[Vec<Vec<f64>>]| drawn.iter().map(|d| d[class][emotion]).collect::<Vec<f64>>();
            let interval = percentile(&of(&drawn));
            let mean = mean(&rows[class].iter().map(|row| row[emotion]).collect::<Vec<_>>());
            all_of.push(OfClass {
                class,
                emotion,
                mean,
                more: Tested::on_either_side(value, &of(&dealt), interval),
            });
        }
    }
    all_of
}
