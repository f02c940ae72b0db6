//! How alike two texts are, by the runs of words that they share. Knows no story and no meaning.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Words in a shingle.
const WORDS: usize = 3;

/// The set of a text's word 3-grams, in lower case; of a text of fewer words, the set of its words. Words are runs of
/// letters and digits. Each is kept as 64 bits of a hash: two different ones collide about once in 10^19 pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shingles {
    /// Ascending, each once.
    hashes: Vec<u64>,
}

impl Shingles {
    pub fn of(text: &str) -> Shingles {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let size = if words.len() < WORDS { 1 } else { WORDS };
        let mut hashes: Vec<u64> = words.windows(size).map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Shingles { hashes }
    }

    /// `|A and B| / |A or B|`; two texts without any word are alike (1).
    pub fn jaccard(&self, other: &Shingles) -> f64 {
        let (a, b) = (&self.hashes, &other.hashes);
        let (mut i, mut j, mut shared) = (0, 0, 0);
        while i < a.len() && j < b.len() {
            match a[i].cmp(&b[j]) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => (i, j, shared) = (i + 1, j + 1, shared + 1),
            }
        }
        match a.len() + b.len() - shared {
            0 => 1.0,
            all => shared as f64 / all as f64,
        }
    }
}

fn hash(words: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(a: &str, b: &str) -> f64 {
        let (a, b) = (Shingles::of(a), Shingles::of(b));
        assert_eq!(a.jaccard(&b), b.jaccard(&a));
        a.jaccard(&b)
    }

    #[test]
    fn likeness_by_hand() {
        // {a b c, b c d, c d e} and {a b c, b c d, c d f}: two of four.
        assert_eq!(alike("A b c d, e.", "a b C d f!"), 0.5);
        // Each 3-gram counts once: {a a a} and {a a a}.
        assert_eq!(alike("a a a a", "a a a"), 1.0);
        // Fewer than three words: {rain, snow} and {rain}.
        assert_eq!(alike("Rain, snow", "rain"), 0.5);
        // Words are no 3-grams.
        assert_eq!(alike("rain snow", "rain snow hail"), 0.0);
        assert_eq!(alike("", "..."), 1.0);
        assert_eq!(alike("", "rain"), 0.0);
    }
}
