//! The similarity of two texts by the word n-grams that they share. Independent of stories and of meaning.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

/// Words per shingle.
const WORDS: usize = 3;

/// The set of a text's word 3-grams, in lower case; for a text with fewer words, the set of its words. Words are runs
/// of letters and digits. Each shingle is stored as a 64-bit hash: two different ones collide about once in 10^19
/// pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shingles {
    /// Ascending, without duplicates.
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

    /// The Jaccard similarity `|A and B| / |A or B|`; two texts without words have similarity 1.
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

/// The similarity from which a text counts as a near copy of another.
pub const NEAR: f64 = 0.7;

/// Numbers of texts that repeat an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Exact copies.
    pub exact: usize,
    /// Not exact, but with a [similarity](Shingles::jaccard) of at least [`NEAR`].
    pub near: usize,
}

/// The number of bands in a signature, and of values per band.
const BANDS: usize = 32;
const ROWS: usize = 4;
/// Pairs whose signatures agree in fewer values are not compared further: about five standard deviations below the
/// expected agreement of two texts with the similarity [`NEAR`].
const AGREE: usize = BANDS * ROWS / 2;

/// The number of `texts` that repeat an earlier one.
///
/// By MinHash (Broder 1997): two texts agree in each of the 128 values of their signatures with a probability equal to
/// their similarity, and only texts that agree in all four values of one of 32 bands are compared. Each counted pair
/// is compared shingle by shingle, so there are no false positives; of pairs with a similarity of exactly [`NEAR`] one
/// in 6000 is missed, of those with 0.8 fewer than one in 10^7. The time grows with the number of texts and of pairs
/// with a similarity of at least 0.5.
pub fn copies(texts: &[&str]) -> Copies {
    let mut seen = HashSet::new();
    let distinct: Vec<&str> = texts.iter().copied().filter(|text| seen.insert(*text)).collect();
    let signatures: Vec<Signature> = distinct.par_iter().map(|text| signature(&Shingles::of(text))).collect();
    let agree = |a: usize, b: usize| {
        let (a, b): (&Signature, &Signature) = (&signatures[a], &signatures[b]);
        a.iter().zip(b).filter(|(a, b)| a == b).count() >= AGREE
    };
    let mut near = vec![false; distinct.len()];
    for band in 0..BANDS {
        let key = |at: &usize| &signatures[*at][band * ROWS..][..ROWS];
        let mut order: Vec<usize> = (0..distinct.len()).collect();
        // The sort is stable: earlier texts come first.
        order.sort_by(|a, b| key(a).cmp(key(b)));
        for group in order.chunk_by(|a, b| key(a) == key(b)) {
            for (place, &at) in group.iter().enumerate().filter(|(place, _)| *place > 0) {
                if near[at] {
                    continue;
                }
                let mut earlier = group[..place].iter().filter(|other| agree(**other, at)).peekable();
                if earlier.peek().is_some() {
                    let shingles = Shingles::of(distinct[at]);
                    near[at] = earlier.any(|&other| Shingles::of(distinct[other]).jaccard(&shingles) >= NEAR);
                }
            }
        }
    }
    Copies { exact: texts.len() - distinct.len(), near: near.into_iter().filter(|near| *near).count() }
}

/// The minimum of a set of shingles under each of as many hash functions.
type Signature = [u32; BANDS * ROWS];

fn signature(shingles: &Shingles) -> Signature {
    let mut least = [u32::MAX; BANDS * ROWS];
    for hash in &shingles.hashes {
        for (function, least) in (0u64..).zip(&mut least) {
            // The finalizer of SplitMix64 (Steele, Lea and Flood 2014), applied to the hash and the function's number.
            let mut mixed = hash.wrapping_add((function + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *least = (*least).min((mixed >> 32) as u32);
        }
    }
    least
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
        // Single words are not 3-grams.
        assert_eq!(alike("rain snow", "rain snow hail"), 0.0);
        assert_eq!(alike("", "..."), 1.0);
        assert_eq!(alike("", "rain"), 0.0);
    }
    /// A text of `n` words from `vocabulary`, drawn by a linear congruential generator.
    fn drawn(state: &mut u64, n: usize, vocabulary: u64) -> Vec<String> {
        let mut word = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("w{}", (*state >> 33) % vocabulary)
        };
        (0..n).map(|_| word()).collect()
    }

    #[test]
    fn copies_are_those_that_comparing_all_pairs_finds() {
        let mut state = 7;
        let mut texts: Vec<String> = Vec::new();
        for i in 0..400 {
            // All begin alike, as stories do; every third repeats an earlier one with a few words changed.
            let mut words = vec!["once".to_string(), "upon".to_string(), "a".to_string(), "time".to_string()];
            words.extend(drawn(&mut state, 5 + i % 40, 60));
            if i % 3 == 2 {
                words = texts[i / 2].split(' ').map(String::from).collect();
                for change in 0..i % 5 {
                    let at = (change * 11 + i) % words.len();
                    words[at] = "else".to_string();
                }
            }
            texts.push(words.join(" "));
        }
        texts.extend(["", "rain", "Rain!", "rain snow"].map(String::from));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let sets: Vec<Shingles> = texts.iter().map(|text| Shingles::of(text)).collect();
        let mut want = Copies::default();
        for at in 0..texts.len() {
            if texts[..at].contains(&texts[at]) {
                want.exact += 1;
            } else if sets[..at].iter().any(|set| set.jaccard(&sets[at]) >= NEAR) {
                want.near += 1;
            }
        }
        assert!(want.near > 20 && want.exact > 20, "{want:?}");
        assert_eq!(copies(&texts), want);
    }

    #[test]
    fn planted_copies_are_counted() {
        let mut state = 1;
        let mut texts: Vec<String> = (0..50).map(|_| drawn(&mut state, 100, 100_000).join(" ")).collect();
        let copy = texts[3].clone();
        // A word in the middle is part of three of 98 3-grams: 95 of 101 are shared.
        let near = texts[7].replacen(texts[7].split(' ').nth(50).unwrap(), "else", 1);
        let half = texts[9].split(' ').take(50).collect::<Vec<_>>().join(" ");
        texts.extend([copy, near, half]);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(copies(&texts), Copies { exact: 1, near: 1 });
        assert_eq!(copies(&[]), Copies::default());
    }
}
