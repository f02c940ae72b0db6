//! Steering compared with vectors of topics, a control that is not an emotion. Does not depend on a model.

use super::steering_deltas::Deltas;
use super::steering_figures::null;
use super::steering_nulls::TOPIC;
use super::{Claim, Group, Null};

/// The effect of the emotions' vectors on their own words (`own`: the mean over emotions) minus that of vectors of
/// topics with the same norm on these words; p: the share of topics whose vector, in place of every emotion's, has at
/// least the same effect. `None` if there are no vectors of topics.
pub fn claim(group: &Group, deltas: &Deltas, strength: f64, own: f64) -> Option<Claim> {
    let null = null(deltas, strength, own, TOPIC)?;
    let setting = format!("{strength} \u{d7} {}", deltas.unit());
    let more = own - null.mean?;
    let claim = group.claim(format!("own word beside topics at {setting}"), "nats", more, 2);
    Some(claim.against(Some(Null { mean: Some(0.0), ..null })))
}

#[cfg(test)]
mod tests {
    use super::super::steering_figures::tests::table;
    use super::*;
    use crate::stages::statistics::draws::Draws;

    /// Effects of five emotions' and 19 topics' vectors, drawn from the same distribution, on words that are
    /// directions of their own; each emotion's vector has `planted` along its word's direction. 40 dimensions, centred
    /// over emotions and over topics, of equal norm.
    fn found(seed: u64, planted: f64) -> Claim {
        const D: usize = 40;
        let mut draws = Draws::new("topics", &[seed]);
        let mut some = |n: usize| (0..n).map(|_| draws.direction(D)).collect::<Vec<_>>();
        let words = some(5);
        let mut both = [some(5), some(19)];
        for (vector, word) in both[0].iter_mut().zip(&words) {
            vector.iter_mut().zip(word).for_each(|(x, w)| *x += planted * w);
        }
        for vectors in &mut both {
            let n = vectors.len() as f64;
            let mean: Vec<f64> = (0..D).map(|at| vectors.iter().map(|v| v[at]).sum::<f64>() / n).collect();
            for vector in vectors {
                vector.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
                let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
                vector.iter_mut().for_each(|x| *x /= norm);
            }
        }
        let effect = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let emotions = ["a", "b", "c", "d", "e"];
        let topics: Vec<String> = (1..=19).map(|k| format!("topic-{k}")).collect();
        let mut rows = Vec::new();
        for (emotion, (vector, word)) in emotions.iter().zip(both[0].iter().zip(&words)) {
            rows.push(("p", 1.0, *emotion, *emotion, effect(vector, word)));
            rows.extend(
                topics
                    .iter()
                    .zip(&both[1])
                    .map(|(name, v)| ("p", 1.0, name.as_str(), *emotion, effect(v, word))),
            );
        }
        let tables = table(&rows);
        let (group, deltas) = Deltas::read(&tables).unwrap().remove(0);
        let own = deltas.own(1.0).iter().sum::<f64>() / 5.0;
        claim(&group, &deltas, 1.0, own).unwrap()
    }

    #[test]
    fn emotions_like_topics_are_beyond_them_one_time_in_twenty_and_planted_words_always() {
        let hits = (0..200).filter(|&seed| found(seed, 0.0).p().unwrap() <= 0.05).count();
        // scipy.stats.binom.ppf([.0005, .9995], 200, .05)
        assert!((2..=21).contains(&hits), "{hits} of 200");
        for seed in 0..20 {
            let found = found(seed, 0.6);
            assert!(found.estimate > 0.2 && found.p() == Some(0.05), "{found:?}");
        }
    }

    #[test]
    fn few_topics_have_a_claim_and_do_not_stand_for_the_effect() {
        let mut rows = vec![("p", 1.0, "a", "a", 2.0), ("p", 1.0, "b", "b", 2.0)];
        let names: Vec<String> = (1..=19).map(|k| format!("random-{k}")).collect();
        rows.extend(
            names.iter().flat_map(|name| ["a", "b"].map(|word| ("p", 1.0, name.as_str(), word, 0.0))),
        );
        rows.extend([("p", 1.0, "topic-1", "a", 1.0), ("p", 1.0, "topic-1", "b", 0.0)]);
        let tables = table(&rows);
        let (group, deltas) = Deltas::read(&tables).unwrap().remove(0);
        let claim = claim(&group, &deltas, 1.0, 2.0).unwrap();
        assert_eq!((claim.estimate, claim.p()), (1.5, Some(0.5)));
        assert_eq!((deltas.kinds(), deltas.severe()), (vec!["random", TOPIC], vec!["random"]));
    }
}
