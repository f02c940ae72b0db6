//! Activations by emotion and topic: what resamples of topics and shuffled labels are made of. Knows no model.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::Activations;
use super::groups;
use crate::stages::statistics::draws::Draws;
use crate::stages::vectors;

/// Where a story stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    emotion: usize,
    topic: usize,
}

/// Sums of one layer's activations in float64, and how many each is of: 280 MB for 171 emotions, 100 topics and a
/// `d_model` of 2,048.
pub struct Cells {
    emotions: Vec<String>,
    d_model: usize,
    topics: Vec<Topic>,
}

/// The stories of one topic.
struct Topic {
    /// `[emotion]`
    counts: Vec<usize>,
    /// `[emotion, d_model]`
    sums: Vec<f64>,
}

impl Cells {
    /// Of the stories of `emotions`, shard after shard. Their topics are the groups of [`groups::each`].
    pub fn read(activations: &Activations, emotions: &[String]) -> Result<Cells> {
        let mut cells = Cells { emotions: emotions.to_vec(), d_model: 0, topics: Vec::new() };
        groups::each(activations, emotions, &mut |row| {
            let d_model = row.values.len();
            ensure!(cells.d_model == 0 || cells.d_model == d_model, "activations of different widths");
            cells.d_model = d_model;
            let n = emotions.len();
            while cells.topics.len() <= row.group {
                cells.topics.push(Topic { counts: vec![0; n], sums: vec![0.0; n * d_model] });
            }
            let of = &mut cells.topics[row.group];
            of.counts[row.emotion] += 1;
            let sums = &mut of.sums[row.emotion * d_model..][..d_model];
            sums.iter_mut().zip(row.values).for_each(|(sum, &x)| *sum += f64::from(x));
            Ok(())
        })?;
        Ok(cells)
    }

    /// How many topics there are.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// `[emotion, d_model]`: the mean of each emotion's stories, of which those of topic `t` count `weights[t]` times.
    /// `None` if an emotion has none left.
    pub fn means(&self, weights: &[f64]) -> Option<Vec<f64>> {
        let (n, d) = (self.emotions.len(), self.d_model);
        let mut means = vec![0.0; n * d];
        let whole = means.par_chunks_exact_mut(d.max(1)).enumerate().map(|(emotion, mean)| {
            let mut count = 0.0;
            for (topic, &weight) in self.topics.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
                count += weight * topic.counts[emotion] as f64;
                let sums = &topic.sums[emotion * d..][..d];
                mean.iter_mut().zip(sums).for_each(|(m, x)| *m += weight * x);
            }
            mean.iter_mut().for_each(|m| *m /= count);
            count > 0.0
        });
        let whole = whole.all(|there| there);
        whole.then_some(means)
    }

    /// How often each topic comes in as many draws with replacement as there are topics; drawn anew until every emotion
    /// has a story. `None` if there are fewer than two topics, or no such draw is found in a hundred.
    pub fn resample(&self, draws: &mut Draws) -> Option<Vec<f64>> {
        let n = self.topics.len();
        let whole = |weights: &[f64]| {
            (0..self.emotions.len()).all(|e| {
                let mut topics = self.topics.iter().zip(weights);
                topics.any(|(topic, &weight)| weight > 0.0 && topic.counts[e] > 0)
            })
        };
        let draw = |_| {
            let mut weights = vec![0.0; n];
            (0..n).for_each(|_| weights[draws.below(n)] += 1.0);
            weights
        };
        if n < 2 { None } else { (0..100).map(draw).find(|weights| whole(weights)) }
    }
}

/// `number` times the emotions' means (`[emotion, d_model]`) with the emotions of the stories of each topic shuffled:
/// what vectors are made of that have nothing to do with emotion. `draws(k)` draws the k-th. Reads the activations twice.
pub fn shuffled_means(
    activations: &Activations,
    emotions: &[String],
    number: usize,
    draws: impl Fn(usize) -> Draws,
) -> Result<Vec<Vec<f64>>> {
    let (mut places, mut d_model) = (Vec::new(), 0);
    groups::each(activations, emotions, &mut |row| {
        d_model = row.values.len();
        places.push(Place { emotion: row.emotion, topic: row.group });
        Ok(())
    })?;
    let labels: Vec<Vec<usize>> = (0..number).map(|k| shuffled(&places, &mut draws(k))).collect();
    let mut sums = vec![vec![0.0; emotions.len() * d_model]; number];
    let mut story = 0;
    groups::each(activations, emotions, &mut |row| {
        for (sums, labels) in sums.iter_mut().zip(&labels) {
            let sum = &mut sums[labels[story] * d_model..][..d_model];
            sum.iter_mut().zip(row.values).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        story += 1;
        Ok(())
    })?;
    // An emotion has as many stories under shuffled labels as under its own.
    let mut counts = vec![0.0; emotions.len()];
    places.iter().for_each(|place| counts[place.emotion] += 1.0);
    for sums in &mut sums {
        for (sum, count) in sums.chunks_exact_mut(d_model.max(1)).zip(&counts) {
            sum.iter_mut().for_each(|x| *x /= count);
        }
    }
    Ok(sums)
}

/// An emotion for each story: those of each topic's stories in another order.
fn shuffled(places: &[Place], draws: &mut Draws) -> Vec<usize> {
    let mut topics: Vec<Vec<usize>> = Vec::new();
    for (story, place) in places.iter().enumerate() {
        topics.resize(topics.len().max(place.topic + 1), Vec::new());
        topics[place.topic].push(story);
    }
    let mut labels = vec![0; places.len()];
    for stories in topics {
        let mut emotions: Vec<usize> = stories.iter().map(|&story| places[story].emotion).collect();
        draws.shuffle(&mut emotions);
        stories.into_iter().zip(emotions).for_each(|(story, emotion)| labels[story] = emotion);
    }
    labels
}

/// The vectors of some means, made as the experiment's own are.
pub fn vectors_of(
    activations: &Activations,
    emotions: &[String],
    layer: i32,
    means: &mut [f64],
) -> Result<Vec<f64>> {
    let d_model = means.len() / emotions.len().max(1);
    let removed = vectors::removed(activations.params, activations.neutral, layer, d_model)?;
    vectors::of_means(activations.params, &removed, emotions, means, d_model)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::stages::vectors::{Center, Denoise, Params};
    use crate::store::table::{Column, Table};

    pub const PLAIN: Params = Params { center: Center::Emotions, denoise: Denoise::None, normalize: false };

    /// A table of activations at layer 3: (emotion, topic, values).
    pub fn table(rows: &[(&str, Option<&str>, Vec<f32>)]) -> Table {
        let width = rows.first().map_or(1, |row| row.2.len());
        let values = rows.iter().flat_map(|row| row.2.clone()).collect();
        Table::new(
            "activations/1",
            vec![
                ("story_id", Column::Str((0..rows.len()).map(|row| row.to_string()).collect())),
                ("n_tokens", Column::I32(vec![9; rows.len()])),
                ("emotion", Column::OptStr(rows.iter().map(|row| Some(row.0.to_string())).collect())),
                ("topic", Column::OptStr(rows.iter().map(|row| row.1.map(String::from)).collect())),
                ("layer", Column::I32(vec![3; rows.len()])),
                ("activation", Column::List { width, values, half: false }),
            ],
        )
    }

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

    fn shards() -> [Table; 2] {
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
        [table(&first), table(&second)]
    }

    #[test]
    fn weighted_means_by_hand() {
        let cells = with(&shards(), |activations| Cells::read(activations, &words(&["a", "b"])).unwrap());
        assert_eq!(cells.topics(), 2);
        assert_eq!(cells.means(&[1.0, 1.0]).unwrap(), [3.0, 4.0 / 3.0, 0.0, 4.0]);
        // Topic t once, u twice: a is (1 + 2 (3 + 5)) / 5.
        assert_eq!(cells.means(&[1.0, 2.0]).unwrap(), [17.0 / 5.0, 8.0 / 5.0, 0.0, 5.0]);
        assert_eq!(cells.means(&[0.0, 1.0]).unwrap(), [4.0, 2.0, 0.0, 7.0]);
        assert_eq!(cells.means(&[0.0, 0.0]), None);
    }

    #[test]
    fn unit_weights_give_the_experiment_s_own_vectors() {
        let (shards, emotions) = (shards(), words(&["a", "b"]));
        let own = vectors::run(&PLAIN, shards.iter().cloned().map(Ok), &emotions, None).unwrap();
        let made = with(&shards, |activations| {
            let mut means = Cells::read(activations, &emotions).unwrap().means(&[1.0, 1.0]).unwrap();
            vectors_of(activations, &emotions, 3, &mut means).unwrap()
        });
        let made: Vec<f32> = made.iter().map(|&x| x as f32).collect();
        assert_eq!(own.list("vector").unwrap().1, made);
    }

    #[test]
    fn resamples_are_of_as_many_topics_and_leave_no_emotion_out() {
        let rows: Vec<_> = (0..6).map(|t| ("a", ["p", "q", "r", "s", "t", "u"][t], vec![t as f32])).collect();
        let mut rows: Vec<_> = rows.into_iter().map(|(e, t, v)| (e, Some(t), v)).collect();
        rows.push(("b", Some("u"), vec![1.0]));
        let cells = with(&[table(&rows)], |a| Cells::read(a, &words(&["a", "b"])).unwrap());
        let mut counts = [0.0; 6];
        for seed in 0..200 {
            let weights = cells.resample(&mut Draws::new("test", &[seed])).unwrap();
            assert_eq!(weights.iter().sum::<f64>(), 6.0);
            assert!(weights[5] > 0.0, "`b` is in the last topic alone");
            counts.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight);
        }
        // Given that the last topic comes at all, it comes 1 / (1 - (5/6)^6) = 1.504 times on average.
        assert!((counts[5] / 200.0 - 1.504).abs() < 0.2, "{counts:?}");
        let one = with(&[table(&[("a", Some("t"), vec![1.0])])], |a| Cells::read(a, &words(&["a"])).unwrap());
        assert_eq!(one.resample(&mut Draws::new("test", &[0])), None);
    }

    #[test]
    fn labels_are_shuffled_within_topics() {
        let stories: Vec<Place> = (0..60).map(|i| Place { emotion: i % 4 % 3, topic: i % 5 % 3 }).collect();
        let count = |labels: &[usize], topic, emotion| {
            let here = stories.iter().zip(labels).filter(|(place, _)| place.topic == topic);
            here.filter(|(_, label)| **label == emotion).count()
        };
        let own: Vec<usize> = stories.iter().map(|place| place.emotion).collect();
        let labels = shuffled(&stories, &mut Draws::new("test", &[1]));
        assert_ne!(labels, own);
        for topic in 0..3 {
            for emotion in 0..3 {
                assert_eq!(count(&labels, topic, emotion), count(&own, topic, emotion));
            }
        }
    }

    #[test]
    fn shuffled_means_are_of_all_stories() {
        // Two topics: the labels of each change places or stay, so that each emotion's mean is one of four.
        let rows = [
            ("a", Some("t"), vec![1.0]),
            ("a", Some("u"), vec![10.0]),
            ("b", Some("t"), vec![2.0]),
            ("b", Some("u"), vec![20.0]),
        ];
        let shards = [table(&rows[..3]), table(&rows[3..])];
        let means = with(&shards, |activations| {
            let draws = |k: usize| Draws::new("test", &[k as u64]);
            shuffled_means(activations, &words(&["a", "b"]), 64, draws).unwrap()
        });
        let mut seen: Vec<f64> = means.iter().map(|means| means[0]).collect();
        assert!(means.iter().all(|means| means[0] + means[1] == 16.5));
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        assert_eq!(seen, [5.5, 6.0, 10.5, 11.0]);
    }

    /// Six emotions on eight topics with Gaussian activations of 16 entries, to which `planted` of the emotion's own
    /// direction and twice of the topic's is added; and how far along its direction the vector of the first emotion
    /// reaches, among 19 of shuffled labels: p.
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
            let own = Cells::read(activations, &emotions).unwrap().means(&[1.0; 8]).unwrap();
            let draws = |k: usize| Draws::new("shuffled", &[seed, k as u64]);
            let null = shuffled_means(activations, &emotions, 19, draws).unwrap();
            let reach = |mut means: Vec<f64>| {
                let vectors = vectors_of(activations, &emotions, 3, &mut means).unwrap();
                let along = direction("emotion", 0);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                dot(&vectors[..D], &along) / dot(&vectors[..D], &vectors[..D]).sqrt()
            };
            let null: Vec<f64> = null.into_iter().map(reach).collect();
            super::super::estimates::p_at_least(reach(own), &null).unwrap()
        })
    }

    #[test]
    fn a_planted_emotion_is_beyond_shuffled_labels_and_noise_is_so_one_time_in_twenty() {
        for seed in 0..20 {
            assert_eq!(p_of(1.0, seed), 0.05, "seed {seed}");
        }
        // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
        let significant = (0..200).filter(|&seed| p_of(0.0, seed) <= 0.05).count();
        assert!((3..=18).contains(&significant), "{significant} of 200");
    }
}
