//! Automatic statistics of a set of stories: how many, how long, how similar, and whether their length predicts their
//! emotion. Independent of models and sources.

use std::collections::HashMap;

use super::likeness::{Copies, copies};
use super::{names_emotion, words};

/// The number and lengths of an emotion's stories.
#[derive(Clone, Debug, PartialEq)]
pub struct OfEmotion {
    pub emotion: String,
    pub stories: usize,
    /// In words; 0 without stories.
    pub mean_words: f64,
}

/// Statistics of a set of stories. Words are those of [`words::count`].
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    pub stories: usize,
    /// For the given emotions, in their order; empty for neutral text.
    pub emotions: Vec<OfEmotion>,
    /// Words per story: minimum, quartiles, maximum; `None` without stories.
    pub words: Option<[f64; 5]>,
    pub mean_words: f64,
    /// The sample standard deviation (n - 1) of words per story.
    pub deviation: f64,
    /// The number of stories that name their emotion: see [`names_emotion`].
    pub naming: usize,
    pub copies: Copies,
    /// See [`eta_squared`].
    pub eta_squared: Option<f64>,
    /// See [`expected_eta_squared`].
    pub expected_eta_squared: Option<f64>,
}

impl Quality {
    /// The statistics of `texts`, each given with its emotion.
    pub fn of(texts: &[(Option<&str>, &str)], emotions: &[String]) -> Quality {
        let words: Vec<f64> = texts.iter().map(|(_, text)| words::count(text) as f64).collect();
        let places: HashMap<&str, usize> =
            emotions.iter().enumerate().map(|(place, emotion)| (emotion.as_str(), place)).collect();
        let mut groups: Vec<Vec<f64>> = vec![Vec::new(); emotions.len()];
        for ((emotion, _), words) in texts.iter().zip(&words) {
            if let Some(place) = emotion.and_then(|emotion| places.get(emotion)) {
                groups[*place].push(*words);
            }
        }
        let told = texts.iter().any(|(emotion, _)| emotion.is_some());
        let of_emotion = |(emotion, words): (&String, &Vec<f64>)| OfEmotion {
            emotion: emotion.clone(),
            stories: words.len(),
            mean_words: mean(words),
        };
        let named = |(emotion, text): &&(Option<&str>, &str)| emotion.is_some_and(|e| names_emotion(text, e));
        let (mean_words, n) = (mean(&words), words.len() as f64);
        let squares: f64 = words.iter().map(|w| (w - mean_words).powi(2)).sum();
        Quality {
            stories: texts.len(),
            emotions: emotions.iter().zip(&groups).filter(|_| told).map(of_emotion).collect(),
            words: quartiles(&words),
            mean_words,
            deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
            naming: texts.iter().filter(named).count(),
            copies: copies(&texts.iter().map(|(_, text)| *text).collect::<Vec<_>>()),
            eta_squared: eta_squared(&groups),
            expected_eta_squared: expected_eta_squared(&groups),
        }
    }
}

/// The mean; 0 without values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Minimum, first quartile, median, third quartile, maximum, with linear interpolation (Hyndman and Fan's type 7,
/// numpy's default).
fn quartiles(values: &[f64]) -> Option<[f64; 5]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some([0.0, 0.25, 0.5, 0.75, 1.0].map(|share| {
        let at = share * last as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }))
}

/// The correlation ratio: the share of the variance of lengths that lies between emotions,
///
/// `eta^2 = sum over e of n_e (mean_e - mean)^2 / sum over i of (w_i - mean)^2`,
///
/// where w_i is the number of words of story i, n_e and mean_e the number and the mean of the stories of emotion e. 0:
/// the emotions' stories are equally long on average; 1: the emotion determines how long a story is. If it is large, a
/// vector that seems to encode an emotion may encode the length of its stories. `None` if nothing varies, or if fewer
/// than two emotions have stories.
pub fn eta_squared(groups: &[Vec<f64>]) -> Option<f64> {
    let all: Vec<f64> = groups.iter().flatten().copied().collect();
    let overall = mean(&all);
    let total: f64 = all.iter().map(|words| (words - overall).powi(2)).sum();
    let between: f64 = groups.iter().map(|g| g.len() as f64 * (mean(g) - overall).powi(2)).sum();
    let told = groups.iter().filter(|group| !group.is_empty()).count();
    (told >= 2 && total > 0.0).then(|| between / total)
}

/// The expected [`eta_squared`] if lengths are independent of emotions: `(k - 1) / (n - 1)` for n stories of k
/// emotions, exact over all assignments of the lengths to the stories.
pub fn expected_eta_squared(groups: &[Vec<f64>]) -> Option<f64> {
    let told = groups.iter().filter(|group| !group.is_empty()).count();
    let stories: usize = groups.iter().map(Vec::len).sum();
    (told >= 2 && stories >= 2).then(|| (told - 1) as f64 / (stories - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_by_hand() {
        assert_eq!(quartiles(&[]), None);
        assert_eq!(quartiles(&[7.0]), Some([7.0; 5]));
        // Positions 0, 0.75, 1.5, 2.25, 3 in 1, 2, 4, 8.
        assert_eq!(quartiles(&[8.0, 1.0, 4.0, 2.0]), Some([1.0, 1.75, 3.0, 5.0, 8.0]));
    }

    #[test]
    fn the_correlation_ratio_by_hand() {
        // Means 2 and 6, overall 4: between 2*4 + 2*4 = 16, total 9 + 1 + 1 + 9 = 20.
        let groups = [vec![1.0, 3.0], vec![5.0, 7.0]];
        assert_eq!(eta_squared(&groups), Some(0.8));
        assert_eq!(expected_eta_squared(&groups), Some(1.0 / 3.0));
        // Groups of unequal size without variation inside: all variance is between them.
        assert_eq!(eta_squared(&[vec![2.0, 2.0], vec![5.0]]), Some(1.0));
        assert_eq!(eta_squared(&[vec![1.0, 3.0], vec![2.0, 2.0]]), Some(0.0));
        assert_eq!(eta_squared(&[vec![1.0, 3.0], vec![]]), None);
        assert_eq!(eta_squared(&[vec![2.0], vec![2.0]]), None);
        assert_eq!(expected_eta_squared(&[vec![1.0], vec![], vec![2.0]]), Some(1.0));
    }

    #[test]
    fn the_expectation_is_the_mean_over_all_assignments() {
        // Lengths 1, 2, 4, 9 in two groups of two: the six ways to choose the first group.
        let lengths = [1.0, 2.0, 4.0, 9.0];
        let mut sum = 0.0;
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            let rest: Vec<f64> = (0..4).filter(|i| ![a, b].contains(i)).map(|i| lengths[i]).collect();
            sum += eta_squared(&[vec![lengths[a], lengths[b]], rest]).unwrap();
        }
        assert!((sum / 6.0 - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_source_in_numbers() {
        let emotions = ["sad", "calm", "proud"].map(String::from);
        let texts = [
            (Some("sad"), "How sad she was."),
            (Some("sad"), "It rained."),
            (Some("calm"), "Calmly it rained and rained."),
            (Some("calm"), "It rained."),
        ];
        let quality = Quality::of(&texts, &emotions);
        let of =
            |emotion: &str, stories, mean_words| OfEmotion { emotion: emotion.into(), stories, mean_words };
        assert_eq!(quality.emotions, [of("sad", 2, 3.0), of("calm", 2, 3.5), of("proud", 0, 0.0)]);
        assert_eq!((quality.stories, quality.naming), (4, 2));
        assert_eq!(quality.words, Some([2.0, 2.0, 3.0, 4.25, 5.0]));
        assert_eq!(quality.copies, Copies { exact: 1, near: 0 });
        // Words 4, 2, 5, 2 with mean 3.25: squares .5625 + 1.5625 + 3.0625 + 1.5625 = 6.75.
        assert!((quality.deviation - (6.75f64 / 3.0).sqrt()).abs() < 1e-12);
        // Means 3 and 3.5: 2 * 0.0625 twice.
        assert!((quality.eta_squared.unwrap() - 0.25 / 6.75).abs() < 1e-12);
        assert_eq!(quality.expected_eta_squared, Some(1.0 / 3.0));

        let neutral = Quality::of(&[(None, "A table."), (None, "A chair.")], &emotions);
        assert_eq!((neutral.emotions.len(), neutral.naming, neutral.eta_squared), (0, 0, None));
    }
}
