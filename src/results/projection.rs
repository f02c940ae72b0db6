//! Projections of single stories onto the emotion vectors. Depends on tables only, not on plans or pages.

use std::collections::HashMap;

use anyhow::Result;

use crate::store::table::Table;

/// The vectors of one layer, and the mean projection onto each of them.
pub struct Directions {
    emotions: Vec<String>,
    /// For each emotion its unit vector, and the projection onto it of the mean over emotions of their mean
    /// activations.
    all: Vec<(Vec<f32>, f64)>,
}

/// The projections of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct Projected {
    /// Onto the vector of its own emotion.
    pub own: f64,
    /// The projection onto the nearest other emotion's vector minus `own`; or, with a probe, the margin by which the
    /// probe misclassifies the story. Above 0 the story is classified as another emotion.
    pub beyond: f64,
    pub other: String,
}

impl Directions {
    /// From a table of vectors of one layer, and the activations of the same layer, shard by shard.
    ///
    /// # Errors
    /// A table has the wrong schema or cannot be read.
    pub fn of(vectors: &Table, shards: impl Iterator<Item = Result<Table>>) -> Result<Directions> {
        let emotions = vectors.str("emotion")?.to_vec();
        let (width, values) = vectors.list("vector")?;
        let mut sums = vec![(vec![0.0f64; width], 0.0f64); emotions.len()];
        for shard in shards {
            let shard = shard?;
            let (_, values) = shard.list("activation")?;
            for (emotion, values) in shard.opt_str("emotion")?.iter().zip(values.chunks_exact(width)) {
                let place = emotions.iter().position(|known| Some(known) == emotion.as_ref());
                if let Some((sum, n)) = place.map(|at| &mut sums[at]) {
                    sum.iter_mut().zip(values).for_each(|(sum, x)| *sum += f64::from(*x));
                    *n += 1.0;
                }
            }
        }
        sums.retain(|(_, n)| *n > 0.0);
        let seen = sums.len().max(1) as f64;
        let mean = |at: usize| sums.iter().map(|(sum, n)| sum[at] / *n).sum::<f64>() / seen;
        let mean: Vec<f64> = (0..width).map(mean).collect();
        let direction = |vector: &[f32]| {
            let unit = unit(vector);
            let along = unit.iter().zip(&mean).map(|(u, m)| f64::from(*u) * m).sum::<f64>();
            (unit, along)
        };
        Ok(Directions { emotions, all: values.chunks_exact(width).map(direction).collect() })
    }

    /// The projections of the stories in a table of activations, by story id.
    ///
    /// # Errors
    /// The table has the wrong schema.
    pub fn project(&self, activations: &Table) -> Result<HashMap<String, Projected>> {
        let (width, values) = activations.list("activation")?;
        let named = activations.str("story_id")?.iter().zip(activations.opt_str("emotion")?);
        let mut projected = HashMap::new();
        for ((id, emotion), values) in named.zip(values.chunks_exact(width.max(1))) {
            let own = self.emotions.iter().position(|known| Some(known) == emotion.as_ref());
            let reach = |(unit, along): &(Vec<f32>, f64)| {
                unit.iter().zip(values).map(|(u, x)| f64::from(*u) * f64::from(*x)).sum::<f64>() - along
            };
            let reach: Vec<f64> = self.all.iter().map(reach).collect();
            let others = (0..reach.len()).filter(|at| Some(*at) != own);
            let other = others.max_by(|a, b| reach[*a].total_cmp(&reach[*b]));
            if let (Some(own), Some(other)) = (own, other) {
                let beyond = reach[other] - reach[own];
                let of = Projected { own: reach[own], beyond, other: self.emotions[other].clone() };
                projected.insert(id.clone(), of);
            }
        }
        Ok(projected)
    }
}

/// `vector` scaled to length 1; a zero vector stays zero.
fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|x| if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn a_story_reaches_along_unit_vectors_from_the_mean_of_the_emotions_means() {
        let vectors = Table::new(
            "vectors/2",
            vec![
                ("emotion", Column::Str(vec!["a".into(), "b".into()])),
                ("vector", Column::List { width: 2, values: vec![2.0, 0.0, 0.0, -3.0], half: false }),
            ],
        );
        // The means of a and b are (4, 1) and (2, -1), and their mean is (3, 0), although a has twice as many
        // stories.
        let emotions = ["a", "b", "a", "x"].map(|emotion| Some(emotion.to_string()));
        let values = vec![5.0, 0.0, 2.0, -1.0, 3.0, 2.0, 9.0, 9.0];
        let activations = Table::new(
            "activations/2",
            vec![
                ("story_id", Column::Str((0..4).map(|at| at.to_string()).collect())),
                ("emotion", Column::OptStr(emotions.to_vec())),
                ("activation", Column::List { width: 2, values, half: false }),
            ],
        );
        let directions = Directions::of(&vectors, [Ok(activations.clone())].into_iter()).unwrap();
        let projected = directions.project(&activations).unwrap();
        let of = |own, beyond, other: &str| Projected { own, beyond, other: other.into() };
        // (2, 0), (-1, -1) and (0, 2) along (1, 0) and (0, -1).
        assert_eq!(projected["0"], of(2.0, -2.0, "b"));
        assert_eq!(projected["1"], of(1.0, -2.0, "a"));
        assert_eq!(projected["2"], of(0.0, -2.0, "b"));
        assert_eq!(projected.len(), 3, "an emotion without a vector");
    }
}
