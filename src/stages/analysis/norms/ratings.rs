//! Human ratings of words: from a user's file, or the circumplex. Independent of vectors.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::stages::stories::names_emotion;

/// The rated dimensions.
pub const RATINGS: [&str; 3] = ["valence", "arousal", "dominance"];

/// Accepted column names in lower case: the word, then each rating. They include those of NRC-VAD (Mohammad 2018) and
/// of Warriner, Kuperman and Brysbaert (2013).
const HEADERS: [&[&str]; 4] = [
    &[
        "word",
        "term",
        "words",
        "emotion",
        "lemma",
        "concept",
        "label",
        "term_english",
        "english word",
        "english_word",
    ],
    &["valence", "v.mean.sum", "v"],
    &["arousal", "a.mean.sum", "a"],
    &["dominance", "d.mean.sum", "d"],
];

/// Accepted names of a column with word frequencies, which are used without transformation: supply logarithms. They
/// include those of the Zipf scale (van Heuven et al. 2014) and of SUBTLEX.
const FREQUENCIES: &[&str] = &["frequency", "log_frequency", "zipf", "zipf_value", "lg10wf"];

/// Positions on the circle of affect, in degrees from pleasure towards arousal: the 28 words of Russell (1980), A
/// circumplex model of affect, J. Pers. Soc. Psychol. 39, 1161-1178, figure 2.
const CIRCUMPLEX: [(&str, f64); 28] = [
    ("happy", 7.8),
    ("delighted", 24.9),
    ("excited", 48.6),
    ("astonished", 69.8),
    ("aroused", 73.8),
    ("tense", 92.8),
    ("alarmed", 96.5),
    ("angry", 99.0),
    ("afraid", 116.0),
    ("annoyed", 123.0),
    ("distressed", 138.0),
    ("frustrated", 141.0),
    ("miserable", 188.7),
    ("sad", 207.5),
    ("gloomy", 209.0),
    ("depressed", 210.0),
    ("bored", 242.0),
    ("droopy", 256.7),
    ("tired", 267.7),
    ("sleepy", 271.9),
    ("calm", 316.2),
    ("relaxed", 318.0),
    ("satisfied", 319.0),
    ("at ease", 321.0),
    ("content", 323.0),
    ("serene", 328.6),
    ("glad", 349.0),
    ("pleased", 353.2),
];

/// Words with their ratings.
pub struct Ratings {
    /// Valence, arousal and, if rated, dominance.
    words: HashMap<String, [Option<f64>; 3]>,
    /// For the words with a known frequency.
    frequencies: HashMap<String, f64>,
    /// A description: how many words, on which scale.
    pub source: String,
}

/// A rated emotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// Its index among the emotions.
    pub emotion: usize,
    /// The rated word that was matched.
    pub word: String,
    pub exact: bool,
    pub ratings: [Option<f64>; 3],
    /// The frequency of the word as given in the file.
    pub frequency: Option<f64>,
}

impl Ratings {
    /// Russell's 28 words: valence is the cosine of the position, arousal its sine.
    pub fn circumplex() -> Ratings {
        let of = |&(word, degrees): &(&str, f64)| {
            let (arousal, valence) = degrees.to_radians().sin_cos();
            (word.to_string(), [Some(valence), Some(arousal), None])
        };
        let source = "positions of 28 words on the circle of affect (Russell 1980)".to_string();
        Ratings { words: CIRCUMPLEX.iter().map(of).collect(), frequencies: HashMap::new(), source }
    }

    /// Ratings from a file with a header line: columns for word, valence, arousal and optionally dominance and
    /// frequency, separated by commas or tabs.
    ///
    /// An error names the file and the line: a missing column, not a number, one word with two ratings, a scale that
    /// is not one of 0 to 1, -1 to 1 and 1 to 9.
    pub fn read(path: &Path) -> Result<Ratings> {
        let bytes = fs_err::read(path)?;
        Ratings::of(&bytes).with_context(|| format!("read {}", path.display()))
    }

    pub fn of(bytes: &[u8]) -> Result<Ratings> {
        let text = std::str::from_utf8(bytes).context("not UTF-8")?.trim_start_matches('\u{feff}');
        let first = text.lines().next().unwrap_or_default();
        let separator = if first.contains('\t') { b'\t' } else { b',' };
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers()?.iter().map(|h| h.trim().to_lowercase()).collect();
        let column = |names: &[&str]| header.iter().position(|h| names.contains(&h.as_str()));
        let needed = |at: usize| {
            let there = header.iter().map(|h| format!("`{h}`")).collect::<Vec<_>>().join(", ");
            let wanted = HEADERS[at][0];
            column(HEADERS[at]).with_context(|| format!("line 1: no column `{wanted}`; there are {there}"))
        };
        let word_column = needed(0)?;
        let columns = [Some(needed(1)?), Some(needed(2)?), column(HEADERS[3])];
        let frequency = column(FREQUENCIES);
        let mut frequencies = HashMap::new();
        let mut words: HashMap<String, [Option<f64>; 3]> = HashMap::new();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, |place| place.line());
            let word = record[word_column].trim().to_lowercase();
            ensure!(!word.is_empty(), "line {line}: no word");
            let mut ratings = [None; 3];
            for ((rating, column), name) in ratings.iter_mut().zip(columns).zip(RATINGS) {
                let Some(column) = column else { continue };
                let text = record[column].trim();
                let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
                let number = number.with_context(|| format!("line {line}: `{text}` is no {name}"))?;
                (low, high) = (low.min(number), high.max(number));
                *rating = Some(number);
            }
            let known = frequency
                .map(|column| record[column].trim())
                .filter(|text| !text.is_empty() && *text != "NA");
            if let Some(text) = known {
                let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
                let number = number.with_context(|| format!("line {line}: `{text}` is no frequency"))?;
                frequencies.insert(word.clone(), number);
            }
            if let Some(other) = words.insert(word.clone(), ratings) {
                ensure!(other == ratings, "line {line}: `{word}` has two ratings");
            }
        }
        ensure!(!words.is_empty(), "no word");
        let scale = match (low, high) {
            (0.0.., ..=1.0) => "0 to 1",
            (-1.0.., ..=1.0) => "-1 to 1",
            (1.0.., ..=9.0) => "1 to 9",
            _ => bail!("ratings from {low} to {high}: known scales are 0 to 1, -1 to 1 and 1 to 9"),
        };
        Ok(Ratings { source: format!("{} words rated from {scale}", words.len()), words, frequencies })
    }

    /// The emotions that have ratings: by their own word, otherwise by one with the same stem (the shortest, then the
    /// first alphabetically).
    pub fn rated(&self, emotions: &[String]) -> Vec<Rated> {
        let rated = |(emotion, name): (usize, &String)| {
            let own = name.to_lowercase();
            if let Some(&ratings) = self.words.get(&own) {
                let frequency = self.frequencies.get(&own).copied();
                return Some(Rated { emotion, word: own, exact: true, ratings, frequency });
            }
            let alike = |word: &&String| !word.contains(' ') && names_emotion(word, name);
            let nearest = self.words.keys().filter(alike).min_by_key(|word| (word.len(), word.as_str()))?;
            let frequency = self.frequencies.get(nearest).copied();
            Some(Rated {
                emotion,
                word: nearest.clone(),
                exact: false,
                ratings: self.words[nearest],
                frequency,
            })
        };
        emotions.iter().enumerate().filter_map(rated).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_read() {
        let warriner = ",Word,V.Mean.Sum,V.SD.Sum,A.Mean.Sum,D.Mean.Sum\n1,Happy,8.47,0.9,6.05,7.21\n2,sadness,2.1,1,3.9,4\n";
        let nrc =
            "Word\tValence\tArousal\tDominance\nhappy\t1.000\t0.735\t0.772\nsadness\t0.052\t0.288\t0.164\n";
        let signed = "term,valence,arousal\nhappy,0.9,-0.1\nsadness,-0.8,0.2\n";
        for (text, scale) in [(warriner, "1 to 9"), (nrc, "0 to 1"), (signed, "-1 to 1")] {
            let ratings = Ratings::of(text.as_bytes()).unwrap();
            assert_eq!(ratings.source, format!("2 words rated from {scale}"));
            let emotions = ["angry", "sad", "happy"].map(String::from);
            let rated = ratings.rated(&emotions);
            let found: Vec<_> = rated.iter().map(|r| (r.emotion, r.word.as_str(), r.exact)).collect();
            assert_eq!(found, [(1, "sadness", false), (2, "happy", true)]);
        }
        let frequent = "word,valence,arousal,zipf\nhappy,0.9,0.1,5.2\nsad,0.1,0.2,NA\n";
        let rated = Ratings::of(frequent.as_bytes()).unwrap().rated(&["happy", "sad"].map(String::from));
        assert_eq!([rated[0].frequency, rated[1].frequency], [Some(5.2), None]);
        let rated = Ratings::of(warriner.as_bytes()).unwrap().rated(&["happy".to_string()]);
        assert_eq!(rated[0].ratings, [Some(8.47), Some(6.05), Some(7.21)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, wanted: &str| {
            let error = format!("{:#}", Ratings::of(text.as_bytes()).err().unwrap());
            assert!(error.contains(wanted), "{error}");
        };
        check("word,valence\na,1\n", "no column `arousal`; there are `word`, `valence`");
        check("word,valence,arousal\na,1,x\n", "line 2: `x` is no arousal");
        check("word,valence,arousal\na,0,1\na,1,1\n", "line 3: `a` has two ratings");
        check("word,valence,arousal,frequency\na,0,1,often\n", "line 2: `often` is no frequency");
        check("word,valence,arousal\na,0,1\nb,7,NaN\n", "line 3: `NaN` is no arousal");
        check("word,valence,arousal\na,0,1\nb,7,100\n", "from 0 to 100");
        check("word,valence,arousal\n", "no word");
    }

    #[test]
    fn the_circle_has_pleasure_and_arousal_at_right_angles() {
        let emotions = ["happy", "angry", "sad", "calm", "ease"].map(String::from);
        let rated = Ratings::circumplex().rated(&emotions);
        assert_eq!(rated.len(), 4);
        let signs: Vec<_> =
            rated.iter().map(|r| (r.ratings[0] > Some(0.0), r.ratings[1] > Some(0.0))).collect();
        assert_eq!(signs, [(true, true), (false, true), (false, false), (true, false)]);
        let square = |r: &Rated| r.ratings.iter().flatten().map(|x| x * x).sum::<f64>();
        assert!(rated.iter().all(|r| (square(r) - 1.0).abs() < 1e-12 && r.ratings[2].is_none()));
    }
}
