//! The directions added in steering: each emotion's vector, and null directions of equal norm that are unrelated to
//! the emotion.

use anyhow::{Context, Result, ensure};

use super::LayerVectors;
use super::made_of::Remade;
use super::steering::{Steering, Unit};
use super::words::Addition;
use crate::stages::principal::norm;
use crate::stages::statistics::draws::Draws;

/// The kinds of null directions. Their names in the column `steered` are `random-1`, `random-2`, ..., `permuted-1`, ...
pub const NULLS: [&str; 4] = ["random", "permuted", "shuffled", TOPIC];

/// Vectors of topics; their number is limited by the topics of the stories.
pub const TOPIC: &str = "topic";

/// The kind of a null direction, from its name; `None` for an emotion.
pub fn kind(name: &str) -> Option<&'static str> {
    let (kind, number) = name.rsplit_once('-')?;
    NULLS.into_iter().find(|null| *null == kind && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The null directions of one layer.
pub struct Nulls {
    /// Gaussian, `[d_model]` each.
    random: Vec<Vec<f64>>,
    /// Permutations of the coordinates.
    orders: Vec<Vec<usize>>,
    /// Vectors from shuffled labels, `[emotion, d_model]` each.
    shuffled: Vec<Vec<f64>>,
    /// Vectors of topics, `[d_model]` each.
    topics: Vec<Vec<f64>>,
}

impl Nulls {
    /// Draws them. `remade` is used only if labels are shuffled or topics have vectors, and is then required.
    pub fn draw(
        params: &Steering,
        layer: &LayerVectors,
        remade: Option<&Remade>,
        seed: u64,
    ) -> Result<Nulls> {
        let draws =
            |what, number: usize| Draws::new(what, &[seed, layer.layer.number() as u64, number as u64]);
        let order = |number| {
            let mut order: Vec<usize> = (0..layer.d_model).collect();
            draws("steering permuted", number).shuffle(&mut order);
            order
        };
        let mut shuffled = Vec::new();
        if params.shuffled > 0 {
            let remade = remade.context("this analysis needs the activations")?;
            let draw = |number| remade.shuffled(&remade.design.shuffle(number));
            shuffled = (0..params.shuffled).map(draw).collect::<Result<_>>()?;
        }
        let mut topics = Vec::new();
        if params.topics > 0 {
            let remade = remade.context("this analysis needs the activations")?;
            let vectors = remade.topics(params.topics)?.vectors;
            topics = vectors.chunks_exact(layer.d_model).map(<[f64]>::to_vec).collect();
        }
        Ok(Nulls {
            random: (1..=params.random).map(|number| random(seed, layer, number)).collect(),
            orders: (1..=params.permuted).map(order).collect(),
            shuffled,
            topics,
        })
    }

    fn len(&self) -> usize {
        self.random.len() + self.orders.len() + self.shuffled.len() + self.topics.len()
    }

    /// The null direction at `index` for an emotion's vector, of arbitrary norm.
    fn direction(&self, index: usize, layer: &LayerVectors, emotion: usize) -> Vec<f64> {
        let (random, permuted, shuffled) = (self.random.len(), self.orders.len(), self.shuffled.len());
        match index {
            i if i < random => self.random[i].clone(),
            i if i < random + permuted => {
                let vector = layer.vector(emotion);
                self.orders[i - random].iter().map(|&at| vector[at]).collect()
            }
            i if i < random + permuted + shuffled => {
                self.shuffled[i - random - permuted][emotion * layer.d_model..][..layer.d_model].to_vec()
            }
            i => self.topics[i - random - permuted - shuffled].clone(),
        }
    }
}

/// The names of the directions returned by [`additions`], with this number of topics.
pub fn names(params: &Steering, topics: usize, emotions: &[String]) -> Vec<String> {
    let nulls = NULLS.into_iter().zip([params.random, params.permuted, params.shuffled, topics]);
    let nulls = nulls.flat_map(|(kind, n)| (1..=n).map(move |number| format!("{kind}-{number}")));
    emotions.iter().cloned().chain(nulls.flat_map(|name| vec![name; emotions.len()])).collect()
}

/// The factor of each emotion's vector. An error if a vector is zero and only its direction is used.
pub fn scales(unit: Unit, strength: f64, layer: &LayerVectors) -> Result<Vec<f64>> {
    let scale = |(index, emotion): (usize, &String)| match unit {
        Unit::Vector => Ok(strength),
        Unit::ResidNorm => {
            let norm = norm(layer.vector(index));
            ensure!(norm > 0.0, "the vector of `{emotion}` at layer {} is zero", layer.layer);
            Ok(strength * layer.resid_norm / norm)
        }
    };
    layer.emotions.iter().enumerate().map(scale).collect()
}

/// The vectors added at a layer: each emotion's vector, measured on all words; then the null directions, each in place
/// of each emotion's vector, with its norm and the sign of the strength, and measured on that emotion's word only.
pub fn additions(layer: &LayerVectors, scales: &[f64], nulls: &Nulls) -> Result<Vec<Addition>> {
    let n = layer.emotions.len();
    let mut additions = Vec::new();
    for (index, &scale) in scales.iter().enumerate() {
        additions.push(Addition { vector: scaled(layer.vector(index), scale), words: (0..n).collect() });
    }
    for index in 0..nulls.len() {
        for (word, scale) in scales.iter().enumerate() {
            let vector = beside(&nulls.direction(index, layer, word), layer, word, *scale)?;
            additions.push(Addition { vector, words: vec![word] });
        }
    }
    Ok(additions)
}

/// The random direction with this number at a layer, of unit norm.
pub fn random(seed: u64, layer: &LayerVectors, number: usize) -> Vec<f64> {
    let parts = [seed, layer.layer.number() as u64, number as u64];
    Draws::new("steering null", &parts).direction(layer.d_model)
}

/// A null direction in place of an emotion's vector scaled by `scale`: with the same norm.
pub fn beside(direction: &[f64], layer: &LayerVectors, emotion: usize, scale: f64) -> Result<Vec<f32>> {
    let (wanted, length) = (norm(layer.vector(emotion)), norm(direction));
    ensure!(
        length > 0.0 || wanted == 0.0,
        "a null direction of `{}` at layer {} is zero: its stories cannot be shuffled, or its topics do not differ",
        layer.emotions[emotion],
        layer.layer
    );
    let scale = if length > 0.0 { scale * wanted / length } else { 0.0 };
    Ok(scaled(direction, scale))
}

/// The same for several layers simultaneously, each with an equal part of the strength: `[layer, d_model]`. Each layer
/// has its own null directions, with the norm of what is added there.
pub fn at_once(
    unit: Unit,
    strength: f64,
    layers: &[&LayerVectors],
    nulls: &[Nulls],
) -> Result<Vec<Addition>> {
    let share = strength / layers.len() as f64;
    let each =
        layers.iter().zip(nulls).map(|(layer, nulls)| additions(layer, &scales(unit, share, layer)?, nulls));
    let mut each = each.collect::<Result<Vec<_>>>()?.into_iter();
    let mut all = each.next().context("no layer to steer")?;
    for more in each {
        all.iter_mut().zip(more).for_each(|(addition, more)| addition.vector.extend(more.vector));
    }
    Ok(all)
}

/// The number of null directions of each kind under which neutral text is read: it has many more tokens than a prompt.
pub const READ: usize = 5;

/// The subset of `names` (all of [`names()`]) under which neutral text is read: every emotion's vector, and the first
/// [`READ`] directions of each kind, the k-th in place of the k-th emotion (cyclically).
pub fn read_under(names: &[String], emotions: usize) -> Vec<usize> {
    let (mut chosen, mut of_kind) = ((0..emotions).collect::<Vec<_>>(), 0);
    let firsts: Vec<usize> = (emotions..names.len()).step_by(emotions.max(1)).collect();
    for (null, &first) in firsts.iter().enumerate() {
        let same = null > 0 && kind(&names[firsts[null - 1]]) == kind(&names[first]);
        of_kind = if same { of_kind + 1 } else { 0 };
        if of_kind < READ {
            chosen.push(first + of_kind % emotions);
        }
    }
    chosen
}

/// `scale * vector` in fp32.
pub fn scaled(vector: &[f64], scale: f64) -> Vec<f32> {
    vector.iter().map(|x| (scale * x) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Activations;
    use super::super::made_of::tests::PLAIN;
    use super::super::tests::set;
    use super::*;
    use crate::stages::read::tests::table;

    fn params(random: usize, permuted: usize, shuffled: usize) -> Steering {
        Steering { random, permuted, shuffled, ..Steering::plain() }
    }

    fn length(addition: &Addition) -> f64 {
        norm(&addition.vector.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
    }

    #[test]
    fn additions_have_the_norms_that_the_unit_says() {
        let set = set(&["a", "b"], &[&[3.0, 4.0], &[0.0, -2.0]]);
        let layer = &set.layers[0];
        let nulls = Nulls::draw(&params(1, 1, 0), layer, None, 1).unwrap();
        let lengths = |unit, strength| {
            let additions = additions(layer, &scales(unit, strength, layer).unwrap(), &nulls).unwrap();
            assert_eq!(
                names(&params(1, 1, 0), 0, &layer.emotions),
                ["a", "b", "random-1", "random-1", "permuted-1", "permuted-1"]
            );
            let words: Vec<_> = additions.iter().map(|a| a.words.clone()).collect();
            assert_eq!(words, [vec![0, 1], vec![0, 1], vec![0], vec![1], vec![0], vec![1]]);
            let rounded = additions.iter().map(|a| length(a).round() as i64).collect::<Vec<_>>();
            (additions[0].vector.clone(), additions[2].vector.clone(), rounded)
        };
        let (own, random, norms) = lengths(Unit::Vector, 2.0);
        assert_eq!((own, norms), (vec![6.0, 8.0], vec![10, 4, 10, 4, 10, 4]));
        // With a negative strength the nulls are reversed too.
        let (own, turned, norms) = lengths(Unit::Vector, -1.0);
        assert_eq!((own, norms), (vec![-3.0, -4.0], vec![5, 2, 5, 2, 5, 2]));
        assert!(random.iter().zip(&turned).all(|(a, b)| (a + 2.0 * b).abs() < 1e-5));
        // The mean residual norm of this set is 10.
        let (own, _, norms) = lengths(Unit::ResidNorm, 0.5);
        assert_eq!((own, norms), (vec![3.0, 4.0], vec![5; 6]));
        assert_eq!(lengths(Unit::ResidNorm, -0.5).0, [-3.0, -4.0]);
    }

    #[test]
    fn several_layers_share_the_strength_and_have_null_directions_of_their_own() {
        let (one, mut two) =
            (set(&["a", "b"], &[&[3.0, 4.0], &[0.0, -2.0]]), set(&["a", "b"], &[&[6.0, 8.0], &[0.0, 2.0]]));
        two.layers[0].layer = crate::lm::Layer::Block(4);
        let layers = [&one.layers[0], &two.layers[0]];
        let nulls = layers.map(|layer| Nulls::draw(&params(1, 0, 0), layer, None, 1).unwrap());
        let found = at_once(Unit::Vector, 2.0, &layers, &nulls).unwrap();
        assert_eq!(found[0].vector, [3.0, 4.0, 6.0, 8.0]);
        // Half of the mean residual norm of this set, which is 10, times the strength.
        assert_eq!(at_once(Unit::ResidNorm, 0.2, &layers, &nulls).unwrap()[0].vector, [0.6, 0.8, 0.6, 0.8]);
        let halves: Vec<f64> =
            found[2].vector.chunks(2).map(|half| f64::from(half[0].hypot(half[1]))).collect();
        assert!((halves[0] - 5.0).abs() < 1e-5 && (halves[1] - 10.0).abs() < 1e-5, "{halves:?}");
        let turned = found[2].vector[0] * found[2].vector[3] - found[2].vector[1] * found[2].vector[2];
        assert!(turned.abs() > 1e-3, "directions of their own");
    }

    #[test]
    fn permuted_directions_have_the_vector_s_own_entries() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i)).collect();
        let set = set(&["a"], &[&values]);
        let layer = &set.layers[0];
        let nulls = Nulls::draw(&params(0, 2, 0), layer, None, 1).unwrap();
        let additions = additions(layer, &[1.0], &nulls).unwrap();
        for addition in &additions[1..] {
            let mut entries: Vec<f64> = addition.vector.iter().map(|&x| f64::from(x)).collect();
            assert_ne!(entries, values);
            entries.sort_by(f64::total_cmp);
            assert!(entries.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-3), "{entries:?}");
        }
        assert_ne!(additions[1].vector, additions[2].vector);
    }

    #[test]
    fn shuffled_directions_are_vectors_of_shuffled_labels() {
        // Two topics with two emotions: if the labels of both topics are exchanged, the vector is reversed; with one
        // of the two it points along the difference of the topics; unshuffled it is unchanged.
        let rows = [
            ("a", Some("t"), vec![2.0, 1.0]),
            ("b", Some("t"), vec![0.0, 1.0]),
            ("a", Some("u"), vec![2.0, -1.0]),
            ("b", Some("u"), vec![0.0, -1.0]),
        ];
        let shard = table(&rows);
        let read = |_: usize| Ok(shard.clone());
        let activations = Activations {
            shards: 1,
            read: &read,
            stories: &|_| anyhow::bail!("no stories"),
            params: &PLAIN,
            neutral: None,
        };
        let set = set(&["a", "b"], &[&[1.0, 0.0], &[-1.0, 0.0]]);
        let layer = &set.layers[0];
        let remade = activations.remade(&layer.emotions, 3, 1).unwrap();
        let drawn = Nulls::draw(&params(0, 0, 40), layer, Some(&remade), 1).unwrap();
        let mut firsts: Vec<f64> = drawn.shuffled.iter().map(|vectors| vectors[0]).collect();
        assert!(drawn.shuffled.iter().all(|v| v[0] == -v[2] && v[1] == 0.0));
        firsts.sort_by(f64::total_cmp);
        firsts.dedup();
        assert_eq!(firsts, [-1.0, 0.0, 1.0]);
        assert!(Nulls::draw(&params(0, 0, 1), layer, None, 1).is_err());
    }

    #[test]
    fn neutral_text_is_read_under_each_emotion_and_a_few_nulls() {
        let mut names = vec!["a".to_string(), "b".into()];
        for (kind, n) in [("random", 7), ("shuffled", 2)] {
            names.extend((1..=n).flat_map(|k| [format!("{kind}-{k}"), format!("{kind}-{k}")]));
        }
        let chosen = read_under(&names, 2);
        assert_eq!(chosen, [0, 1, 2, 5, 6, 9, 10, 16, 19]);
        assert_eq!(names[16], "shuffled-1");
        assert_eq!(kind("shuffled-12"), Some("shuffled"));
        assert_eq!((kind("self-1"), kind("random"), kind("happy-go-lucky")), (None, None, None));
    }
}
