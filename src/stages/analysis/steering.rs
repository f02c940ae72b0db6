//! What adding an emotion vector does to the log-probability of every emotion's word.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::words::{Addition, Site, Words};
use super::{Headline, Input, Kind, LayerVectors, Places, Tables, steering_figures};
use crate::report::figure::Figure;
use crate::stages::principal::norm;
use crate::store::table::{Column, Table};

pub use crate::lm::Positions;

/// Raised when the same vectors would give other tables.
const VERSION: u32 = 1;

/// What the names of random directions start with in the column `steered`: `random-1`, `random-2`, ...
pub const RANDOM: &str = "random-";

/// `[analysis.<name>.steering]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    pub prompts: Vec<String>,
    pub strength: Vec<f64>,
    pub unit: Unit,
    pub layers: Layers,
    pub positions: Positions,
    /// Random directions of equal norm beside each vector: the null.
    pub random: usize,
}

impl Kind for Steering {
    fn kind(&self) -> &'static str {
        "steering"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Steering"
    }

    fn intro(&self) -> &'static str {
        "What happens to the probability of each emotion's word when a vector is added to the residual stream."
    }

    fn needs_model(&self) -> bool {
        true
    }

    fn draws(&self) -> bool {
        self.random > 0
    }

    fn layers(&self, kept: &[usize], n_layers: usize) -> Vec<usize> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        steering_figures::figures(name, tables)
    }

    fn headlines(&self, tables: &[(String, Table)]) -> Result<Vec<Headline>> {
        steering_figures::headlines(tables)
    }

    fn reading(&self) -> &'static str {
        steering_figures::READING
    }
}

/// What a strength of 1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The vector as it is.
    Vector,
    /// The mean residual norm at that layer, in the vector's direction.
    ResidNorm,
}

/// Which of the kept layers are steered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// The kept layer nearest to 2/3 of the depth.
    Default,
    All,
    List(Vec<usize>),
}

impl Layers {
    /// The kept layers that are steered.
    pub fn of(&self, kept: &[usize], n_layers: usize) -> Vec<usize> {
        match self {
            Layers::All => kept.to_vec(),
            Layers::List(list) => kept.iter().copied().filter(|layer| list.contains(layer)).collect(),
            Layers::Default => vec![nearest_two_thirds(kept, n_layers)],
        }
    }
}

/// The kept layer nearest to 2/3 of the depth: block `l` spans the depths from `l` to `l + 1`, so the one that
/// minimises `|l + 0.5 - 2/3 n_layers|`; of two, the later. 28 of 42 and 10 of 16, as in both published replications.
/// Of no layer at all, it is block `floor(2/3 n_layers)`.
pub fn nearest_two_thirds(kept: &[usize], n_layers: usize) -> usize {
    // Six times the distance, in whole numbers.
    let distance = |layer: usize| (6 * layer + 3).abs_diff(4 * n_layers);
    let nearest = kept.iter().copied().min_by_key(|layer| (distance(*layer), std::cmp::Reverse(*layer)));
    nearest.unwrap_or(2 * n_layers / 3)
}

/// The table `steering`: for every steered layer, strength and prompt what each emotion's vector does to the
/// log-probability, in nats, of every emotion's word, and what random directions do to it.
///
/// A word's log-probability is the sum over its tokens, as the tokenizer splits `" " + word` after the prompt.
/// `random-k` is the k-th Gaussian direction of the layer, drawn from `seed`; beside the word of an emotion it has
/// the norm of what was added for that emotion. Positions: `all` are all; `prompt` the prompt's own (with what the
/// tokenizer puts before it); `generated` those that bring forth what follows the prompt: its last position, from
/// which the word's first token is predicted, and the positions of the word's tokens.
///
/// An error if a vector is zero where its direction alone is wanted, if the model is not the vectors' own, or if a
/// log-probability is not finite.
fn run(params: &Steering, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, seed, progress, .. } = input;
    let kept: Vec<usize> = set.layers.iter().map(|l| l.layer).collect();
    let wanted = params.layers.of(&kept, set.n_layers);
    let layers: Vec<&LayerVectors> = set.layers.iter().filter(|l| wanted.contains(&l.layer)).collect();
    let Some(first) = layers.first() else {
        bail!("none of the layers to steer is among the kept ones {kept:?}")
    };
    for layer in &layers {
        ensure!(
            layer.d_model == model.spec.d_model,
            "vectors of {} entries for another model",
            layer.d_model
        );
        ensure!(layer.emotions == first.emotions, "the layers have vectors of different emotions");
    }
    let words = params.prompts.iter().map(|prompt| Words::new(model, prompt, &first.emotions));
    let words = words.collect::<Result<Vec<_>>>()?;
    let n = first.emotions.len();
    let rounds = layers.len() * params.strength.len();
    let total = words.iter().map(|w| w.rows() + rounds * n * (w.rows() + params.random)).sum();
    let mut before = 0;
    let mut table = Rows::default();
    let mut baselines = Vec::with_capacity(words.len());
    let mut measure = |words: &Words, site: Option<Site>, additions: &[Addition]| {
        let mut rows = 0;
        let found = words.log_probabilities(model, site, additions, &mut |done, of| {
            rows = of;
            progress(before + done, total);
        });
        before += rows;
        found
    };
    for words in &words {
        let nothing = Addition { vector: Vec::new(), words: (0..n).collect() };
        baselines.push(measure(words, None, &[nothing])?.remove(0));
    }
    for layer in &layers {
        let site = Site { layer: layer.layer, positions: params.positions };
        for &strength in &params.strength {
            let (names, additions) = additions(params, layer, strength, seed)?;
            for ((words, prompt), baseline) in words.iter().zip(&params.prompts).zip(&baselines) {
                let found = measure(words, Some(site), &additions)
                    .with_context(|| format!("steering at layer {} with strength {strength}", layer.layer))?;
                for ((name, addition), values) in names.iter().zip(&additions).zip(found) {
                    for (&word, value) in addition.words.iter().zip(values) {
                        table.places.push(set, layer.layer);
                        table.prompt.push(prompt.clone());
                        table.strength.push(strength);
                        table.steered.push(name.clone());
                        table.measured.push(first.emotions[word].clone());
                        table.baseline.push(baseline[word]);
                        table.after.push(value);
                    }
                }
            }
        }
    }
    Ok(vec![("steering".into(), table.finish(params.unit))])
}

/// The columns of the table.
#[derive(Default)]
struct Rows {
    places: Places,
    prompt: Vec<String>,
    strength: Vec<f64>,
    steered: Vec<String>,
    measured: Vec<String>,
    baseline: Vec<f64>,
    after: Vec<f64>,
}

impl Rows {
    fn finish(self, unit: Unit) -> Table {
        let unit = match unit {
            Unit::Vector => "vector",
            Unit::ResidNorm => "resid_norm",
        };
        let delta = self.after.iter().zip(&self.baseline).map(|(after, before)| after - before).collect();
        let columns = vec![
            ("unit", Column::Str(vec![unit.to_string(); self.prompt.len()])),
            ("prompt", Column::Str(self.prompt)),
            ("strength", Column::F64(self.strength)),
            ("steered", Column::Str(self.steered)),
            ("measured", Column::Str(self.measured)),
            ("baseline_logprob", Column::F64(self.baseline)),
            ("steered_logprob", Column::F64(self.after)),
            ("delta", Column::F64(delta)),
        ];
        self.places.table("steering/1", columns)
    }
}

/// What is added at a layer, with its name: each emotion's vector, measured on all words; then random directions,
/// each scaled to each emotion's norm and measured on that one's word.
fn additions(
    params: &Steering,
    layer: &LayerVectors,
    strength: f64,
    seed: u64,
) -> Result<(Vec<String>, Vec<Addition>)> {
    let n = layer.emotions.len();
    let (mut names, mut additions, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for (index, emotion) in layer.emotions.iter().enumerate() {
        let vector = layer.vector(index);
        let scale = match params.unit {
            Unit::Vector => strength,
            Unit::ResidNorm => {
                ensure!(norm(vector) > 0.0, "the vector of `{emotion}` at layer {} is zero", layer.layer);
                strength * layer.resid_norm / norm(vector)
            }
        };
        norms.push((scale * norm(vector)).abs());
        names.push(emotion.clone());
        additions.push(Addition { vector: scaled(vector, scale), words: (0..n).collect() });
    }
    for number in 1..=params.random {
        let direction = random_direction(seed, layer.layer, number, layer.d_model);
        for (word, &norm) in norms.iter().enumerate() {
            names.push(format!("{RANDOM}{number}"));
            additions.push(Addition { vector: scaled(&direction, norm), words: vec![word] });
        }
    }
    Ok((names, additions))
}

fn scaled(vector: &[f64], scale: f64) -> Vec<f32> {
    vector.iter().map(|x| (scale * x) as f32).collect()
}

/// `[d]`: the `number`-th (from 1) Gaussian direction of a layer, of unit norm.
///
/// SHA-256 in counter mode over (seed, layer, number), each digest two pairs of uniform numbers, each pair two
/// normal ones by Box and Muller's formula: the same on every machine.
pub fn random_direction(seed: u64, layer: usize, number: usize, d: usize) -> Vec<f64> {
    let mut values = Vec::with_capacity(d + 4);
    for counter in 0u64.. {
        if values.len() >= d {
            break;
        }
        let mut hasher = Sha256::new_with_prefix("steering null");
        for part in [seed, layer as u64, number as u64, counter] {
            hasher.update(part.to_le_bytes());
        }
        // 53 bits make a float64 in (0, 1), never 0.
        let uniform = hasher
            .finalize()
            .chunks_exact(8)
            .map(|bytes| {
                let bits = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
            })
            .collect::<Vec<_>>();
        for pair in uniform.chunks_exact(2) {
            let (radius, angle) = ((-2.0 * pair[0].ln()).sqrt(), std::f64::consts::TAU * pair[1]);
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
    }
    values.truncate(d);
    let length = norm(&values);
    values.iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_layer_is_the_kept_one_nearest_to_two_thirds() {
        let all = |n: usize| (0..n).collect::<Vec<_>>();
        assert_eq!(Layers::Default.of(&all(16), 16), [10]);
        assert_eq!(Layers::Default.of(&all(42), 42), [28]);
        assert_eq!(Layers::Default.of(&[0, 8, 12], 16), [12]); // 12.5 and 8.5 against 10.67
        assert_eq!(Layers::Default.of(&[3], 16), [3]);
        assert_eq!(Layers::All.of(&[2, 5], 6), [2, 5]);
        assert_eq!(Layers::List(vec![5, 4]).of(&[2, 4, 5], 6), [4, 5]);
    }

    #[test]
    fn additions_have_the_norms_that_the_unit_says() {
        let set = super::super::tests::set(&["a", "b"], &[&[3.0, 4.0], &[0.0, -2.0]]);
        let mut params = Steering {
            prompts: vec![],
            strength: vec![],
            unit: Unit::Vector,
            layers: Layers::Default,
            positions: Positions::All,
            random: 1,
        };
        let norms = |params: &Steering, strength| {
            let (names, additions) = additions(params, &set.layers[0], strength, 1).unwrap();
            assert_eq!(names, ["a", "b", "random-1", "random-1"]);
            assert_eq!(
                additions.iter().map(|a| a.words.clone()).collect::<Vec<_>>(),
                [vec![0, 1], vec![0, 1], vec![0], vec![1]]
            );
            let length = |a: &Addition| norm(&a.vector.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            (
                additions[0].vector.clone(),
                additions.iter().map(|a| length(a).round() as i64).collect::<Vec<_>>(),
            )
        };
        assert_eq!(norms(&params, 2.0), (vec![6.0, 8.0], vec![10, 4, 10, 4]));
        assert_eq!(norms(&params, -1.0), (vec![-3.0, -4.0], vec![5, 2, 5, 2]));
        // The mean residual norm of this set is 10.
        params.unit = Unit::ResidNorm;
        assert_eq!(norms(&params, 0.5), (vec![3.0, 4.0], vec![5, 5, 5, 5]));
    }

    #[test]
    fn random_directions_are_unit_gaussian_and_repeatable() {
        let d = 4096;
        let a = random_direction(7, 3, 1, d);
        assert_eq!(a, random_direction(7, 3, 1, d));
        assert!((norm(&a) - 1.0).abs() < 1e-12);
        // Entries of a unit Gaussian direction have variance 1/d and kurtosis 3.
        let scaled: Vec<f64> = a.iter().map(|x| x * (d as f64).sqrt()).collect();
        let mean = scaled.iter().sum::<f64>() / d as f64;
        let kurtosis = scaled.iter().map(|x| x.powi(4)).sum::<f64>() / d as f64;
        assert!(mean.abs() < 0.06 && (kurtosis - 3.0).abs() < 0.4, "{mean} {kurtosis}");
        for other in
            [random_direction(8, 3, 1, d), random_direction(7, 4, 1, d), random_direction(7, 3, 2, d)]
        {
            let cosine: f64 = a.iter().zip(&other).map(|(a, b)| a * b).sum();
            assert!(cosine.abs() < 0.07, "{cosine}");
        }
        assert_eq!(random_direction(7, 3, 1, 5).len(), 5);
    }
}
