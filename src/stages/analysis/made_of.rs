//! The activations behind the vectors of one layer, and alternative vectors computed from them by the same procedure:
//! from a subset of the topics, or with shuffled labels. Does not depend on a model.

use anyhow::{Context, Result};

use crate::stages::read::{self, Shards};
use crate::stages::statistics::Design;
use crate::stages::statistics::design::{Shuffle, Weights};
use crate::stages::statistics::sums::Sums;
use crate::stages::vectors;
use crate::store::table::Table;

/// The activations that the vectors of one layer are computed from, and the parameters of that computation.
#[derive(Clone, Copy)]
pub struct Activations<'a> {
    /// The number of tables.
    pub shards: usize,
    /// Reads one table, from disk each time; schema `activations/2`.
    pub read: &'a dyn Fn(usize) -> Result<Table>,
    /// The texts that such a table was read from, some of which may have been skipped as too short; schema
    /// `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
    pub params: &'a vectors::Params,
    /// The components of neutral text at that layer, if any are removed; schema `neutral/1`.
    pub neutral: Option<&'a Table>,
}

impl<'a> Activations<'a> {
    /// The tables of activations and stories.
    pub fn shards(&self) -> Shards<'a> {
        Shards { count: self.shards, activations: self.read, stories: self.stories }
    }

    /// The sums over the stories of `emotions` at `layer`, from which vectors can be recomputed.
    pub fn remade(&self, emotions: &'a [String], layer: i32, seed: u64) -> Result<Remade<'a>> {
        let (mut design, mut sums) = read::sums(self.shards(), emotions, seed)?;
        if self.params.weights == vectors::Equal::Topics {
            sums.even(&design);
            design = design.evened();
        }
        let removed = vectors::removed(self.params, self.neutral, layer, sums.d())?;
        Ok(Remade { design, sums, emotions, params: self.params, removed })
    }
}

/// The activations; an error if they are not present.
pub fn given<'a, 'b>(activations: Option<&'b Activations<'a>>) -> Result<&'b Activations<'a>> {
    activations.context("this analysis needs the activations")
}

/// Sums of stories by cell, from which vectors are recomputed in the same way as the experiment's own.
pub struct Remade<'a> {
    pub design: Design,
    sums: Sums,
    emotions: &'a [String],
    params: &'a vectors::Params,
    removed: Vec<Vec<f64>>,
}

impl Remade<'_> {
    /// `[emotion, d_model]`: the vectors with these weights of the groups. An error if an emotion has no story left.
    pub fn weighted(&self, weights: &Weights) -> Result<Vec<f64>> {
        self.of(self.sums.means(&self.design, weights).context("a resample without one of the emotions")?)
    }

    /// The vectors under shuffled labels, which have nothing to do with emotion.
    pub fn shuffled(&self, shuffle: &Shuffle) -> Result<Vec<f64>> {
        self.of(self.sums.means_shuffled(&self.design, shuffle))
    }

    fn of(&self, mut means: Vec<f64>) -> Result<Vec<f64>> {
        vectors::of_means(self.params, &self.removed, self.emotions, &mut means, self.sums.d())
    }

    /// The vectors of up to `most` topics or passages ([`Design::topics`]), which are not emotions: computed like
    /// those of emotions with the roles of topics and emotions exchanged. The mean over emotions of the emotion's mean
    /// on a topic, minus the mean over topics.
    ///
    /// An error if a vector is zero and is to be normalised to unit length.
    pub fn topics(&self, most: usize) -> Result<Topics> {
        let (d, labels) = (self.sums.d(), self.design.labels());
        let groups = self.design.topics(most);
        let mut means = vec![0.0; groups.len() * d];
        for (&group, mean) in groups.iter().zip(means.chunks_exact_mut(d.max(1))) {
            for label in 0..labels {
                let weight = 1.0 / (labels as f64 * self.design.count(group, label));
                mean.iter_mut().zip(self.sums.cell(group, label)).for_each(|(m, x)| *m += weight * x);
            }
        }
        let names: Vec<String> = groups.iter().map(|&group| self.design.topic(group).to_string()).collect();
        if names.is_empty() {
            return Ok(Topics::default());
        }
        let vectors = vectors::of_means(self.params, &self.removed, &names, &mut means, d)?;
        Ok(Topics { names, vectors })
    }
}

/// The maximum number of topics in a control: more add little.
pub const MOST_TOPICS: usize = 30;

/// The explanation if there is no control with topics' vectors.
pub const NO_TOPICS: &str = "No control with vectors of topics: fewer than five topics or passages have a story of \
     every emotion and form groups of their own (beyond 100 some are merged, beyond 199 all).";

/// Vectors of topics.
#[derive(Default)]
pub struct Topics {
    pub names: Vec<String>,
    /// `[topic, d_model]`
    pub vectors: Vec<f64>,
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::stages::read::tests::table;
    use crate::stages::statistics::draws::Draws;
    use crate::stages::vectors::{Center, Denoise, Equal, Params};

    pub const PLAIN: Params = Params {
        center: Center::Emotions,
        denoise: Denoise::None,
        normalize: false,
        weights: Equal::Stories,
        tokens: None,
    };

    fn with<T>(shards: &[Table], work: impl FnOnce(&Activations) -> T) -> T {
        let read = |shard: usize| Ok(shards[shard].clone());
        work(&Activations {
            shards: shards.len(),
            read: &read,
            stories: &|_| anyhow::bail!("no stories"),
            params: &PLAIN,
            neutral: None,
        })
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| w.to_string()).collect()
    }

    #[test]
    fn unit_weights_give_the_experiment_s_own_vectors() {
        let first = [
            ("a", Some("t"), vec![1.0, 0.0]),
            ("b", Some("t"), vec![0.0, 1.0]),
            ("x", Some("t"), vec![9.0, 9.0]),
        ];
        let second = [
            ("a", Some("u"), vec![3.0, 2.0]),
            ("a", Some("u"), vec![5.0, 2.0]),
            ("b", Some("u"), vec![0.0, 7.0]),
        ];
        let (shards, emotions) = ([table(&first), table(&second)], words(&["a", "b"]));
        let own = vectors::run(&PLAIN, shards.iter().cloned().map(Ok), &emotions, None).unwrap();
        let made = with(&shards, |activations| {
            let remade = activations.remade(&emotions, 3, 0).unwrap();
            remade.weighted(&remade.design.every()).unwrap()
        });
        let made: Vec<f32> = made.iter().map(|&x| x as f32).collect();
        assert_eq!(own.list("vector").unwrap().1, made);
    }

    /// The vectors of topics equal those of emotions with the roles exchanged.
    #[test]
    fn topics_have_the_vectors_that_they_would_have_as_emotions() {
        let (mut noise, names) = (Draws::new("topics", &[]), ["1", "2", "3", "4", "5"]);
        let cells: Vec<_> = (0..15).map(|at| (["a", "b", "c"][at % 3], names[at / 3])).collect();
        let rows: Vec<_> = cells
            .iter()
            .map(|&(emotion, topic)| (emotion, topic, vec![noise.normal() as f32, noise.normal() as f32]))
            .collect();
        let own = table(&rows.iter().map(|(e, t, v)| (*e, Some(*t), v.clone())).collect::<Vec<_>>());
        let turned = table(&rows.iter().map(|(e, t, v)| (*t, Some(*e), v.clone())).collect::<Vec<_>>());
        let want = vectors::run(&PLAIN, [Ok(turned)], &words(&names), None).unwrap();
        let emotions = words(&["a", "b", "c"]);
        let got =
            with(std::slice::from_ref(&own), |made| made.remade(&emotions, 3, 0).unwrap().topics(9).unwrap());
        assert_eq!(got.names, names);
        let got: Vec<f32> = got.vectors.iter().map(|&x| x as f32).collect();
        assert!(got.iter().zip(want.list("vector").unwrap().1).all(|(a, b)| (a - b).abs() < 1e-6));
        // On topic 1 emotion c has no story: four complete topics remain, which are too few.
        let four = with(&[own.select(&[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])], |made| {
            made.remade(&emotions, 3, 0).unwrap().topics(9).unwrap()
        });
        assert!(four.names.is_empty());
    }

    #[test]
    fn shuffled_vectors_are_of_all_stories() {
        // Two topics: the labels of each are exchanged or not, so that each emotion's mean is one of four.
        let rows = [
            ("a", Some("t"), vec![1.0]),
            ("a", Some("u"), vec![10.0]),
            ("b", Some("t"), vec![2.0]),
            ("b", Some("u"), vec![20.0]),
        ];
        let (shards, emotions) = ([table(&rows[..3]), table(&rows[3..])], words(&["a", "b"]));
        let mut seen: Vec<f64> = with(&shards, |activations| {
            let remade = activations.remade(&emotions, 3, 7).unwrap();
            let of = |number| remade.shuffled(&remade.design.shuffle(number)).unwrap();
            (0..64).map(of).inspect(|vectors| assert_eq!(vectors[0], -vectors[1])).map(|v| v[0]).collect()
        });
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        // The means of `a` are 5.5, 6, 10.5 and 11, those of `b` 11, 10.5, 6 and 5.5.
        assert_eq!(seen, [-2.75, -2.25, 2.25, 2.75]);
    }

    /// Stories of one cell stay together: if each of twelve similar stories were shuffled separately, the shuffled
    /// vectors would be far too close to each other, and whatever the cells share would look like the emotion.
    #[test]
    fn cells_that_vary_without_an_emotion_are_significant_as_often_as_they_should_be() {
        const D: usize = 8;
        let names = ["a", "b", "c", "d"];
        let significant = (0..200).filter(|&seed| {
            let mut noise = Draws::new("cells", &[seed]);
            let mut rows = Vec::new();
            for topic in ["1", "2", "3", "4", "5", "6"] {
                for emotion in names {
                    let cell = noise.direction(D);
                    for _ in 0..12 {
                        let values = cell.iter().map(|x| (x + 0.1 * noise.normal()) as f32).collect();
                        rows.push((emotion, Some(topic), values));
                    }
                }
            }
            let (shards, emotions) = ([table(&rows)], words(&names));
            with(&shards, |activations| {
                let remade = activations.remade(&emotions, 3, seed).unwrap();
                let length = |vectors: Vec<f64>| vectors[..D].iter().map(|x| x * x).sum::<f64>();
                let null =
                    (0..19).map(|number| length(remade.shuffled(&remade.design.shuffle(number)).unwrap()));
                let own = length(remade.weighted(&remade.design.every()).unwrap());
                super::super::estimates::p_at_least(own, &null.collect::<Vec<_>>()).unwrap() <= 0.05
            })
        });
        // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
        let significant = significant.count();
        assert!((3..=18).contains(&significant), "{significant} of 200");
    }

    /// Six emotions on eight topics with Gaussian activations of 16 dimensions, to which `planted` times the emotion's
    /// own direction and twice the topic's direction are added. Returns p: the rank of the first emotion's vector,
    /// projected on its direction, among 19 with shuffled labels.
    fn p_of(planted: f64, seed: u64) -> f64 {
        const D: usize = 16;
        let names = ["a", "b", "c", "d", "e", "f"];
        let topics = ["1", "2", "3", "4", "5", "6", "7", "8"];
        let direction = |what, n| Draws::new(what, &[n]).direction(D);
        let mut noise = Draws::new("noise", &[seed]);
        let mut rows = Vec::new();
        for (t, topic) in topics.into_iter().enumerate() {
            for (e, emotion) in names.into_iter().enumerate() {
                let (own, shared) = (direction("emotion", e as u64), direction("topic", t as u64));
                let values = noise.direction(D).into_iter().zip(own.iter().zip(&shared));
                let values = values.map(|(x, (own, shared))| (x + planted * own + 2.0 * shared) as f32);
                rows.push((emotion, Some(topic), values.collect()));
            }
        }
        let (shards, emotions) = ([table(&rows)], words(&names));
        with(&shards, |activations| {
            let remade = activations.remade(&emotions, 3, seed).unwrap();
            let own = remade.weighted(&remade.design.every()).unwrap();
            let null = (0..19).map(|number| remade.shuffled(&remade.design.shuffle(number)).unwrap());
            let reach = |vectors: Vec<f64>| {
                let along = direction("emotion", 0);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                dot(&vectors[..D], &along) / dot(&vectors[..D], &vectors[..D]).sqrt()
            };
            let null: Vec<f64> = null.map(reach).collect();
            super::super::estimates::p_at_least(reach(own), &null).unwrap()
        })
    }

    #[test]
    fn a_planted_emotion_is_beyond_shuffled_labels_and_noise_is_so_one_time_in_twenty() {
        // A shuffle that leaves the emotion most of its own cells has as large a projection.
        let found: Vec<f64> = (0..20).map(|seed| p_of(1.0, seed)).collect();
        assert!(found.iter().filter(|&&p| p == 0.05).count() >= 18, "{found:?}");
        // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
        let significant = (0..200).filter(|&seed| p_of(0.0, seed) <= 0.05).count();
        assert!((3..=18).contains(&significant), "{significant} of 200");
    }
}
