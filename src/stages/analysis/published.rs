//! Published values of the same measurements, for comparison with ours. Independent of any run.

/// A column of published values: what was measured, and on what.
pub const PAPER: &str = "paper (171 emotions)";
/// The open replication on Llama-3.2-1B-Instruct: 30 emotions in 10 template passages, float32, layer 10 of 16.
pub const LLAMA: &str = "Llama-3.2-1B-Instruct, layer 10";
/// The open replication on Gemma-4-E4B-it: 9 emotions in 1,002 stories of its own, bfloat16, layer 28 of 42.
pub const GEMMA: &str = "Gemma-4-E4B-it, layer 28";

/// The share of the variance, in per cent, that the leading components explain: "Emotion Concepts and their Function
/// in a Large Language Model" (2 April 2026), then the two replications.
pub const EXPLAINED_VARIANCE: [(&str, [f64; 2]); 3] =
    [(PAPER, [26.0, 15.0]), (LLAMA, [36.2, 12.7]), (GEMMA, [42.2, 18.3])];

/// Values of the paper alone.
pub const PAPER_SHARES: [(&str, f64); 2] =
    [(PAPER, EXPLAINED_VARIANCE[0].1[0]), (PAPER, EXPLAINED_VARIANCE[0].1[1])];

/// What the paper's correlations with human ratings were measured on.
pub const PAPER_WORDS: &str = "paper (45 words)";

/// The number of emotions in each source.
const EMOTIONS: [(&str, usize); 3] = [(PAPER, 171), (LLAMA, 30), (GEMMA, 9)];

/// Why values that `source` published on all its emotion vectors together (shares of their variance, cosines of
/// vectors centred on their mean) are not comparable with the same on `emotions` of them; empty if they are.
pub fn unlike(source: &str, emotions: usize) -> &'static str {
    match EMOTIONS.iter().any(|(of, n)| *of == source && *n != emotions) {
        true => "of another number of emotions",
        false => "",
    }
}

/// Correlations of the paper's first component with ratings of valence, and of its second with ratings of arousal.
pub const PAPER_NORMS: [(&str, &str, f64); 2] = [("PC1", "valence", 0.81), ("PC2", "arousal", 0.66)];

/// Cosines between emotion vectors in the replication on Llama-3.2-1B-Instruct.
pub const LLAMA_COSINES: [(&str, &str, f64); 5] = [
    ("happy", "joyful", 0.923),
    ("angry", "furious", 0.898),
    ("happy", "sad", -0.321),
    ("calm", "panicked", -0.261),
    ("loving", "disgusted", -0.362),
];

/// Cosines between emotion vectors in the replication on Gemma-4-E4B-it.
pub const GEMMA_COSINES: [(&str, &str, f64); 10] = [
    ("happy", "desperate", -0.61),
    ("happy", "guilty", -0.61),
    ("loving", "afraid", -0.58),
    ("calm", "guilty", -0.53),
    ("calm", "afraid", -0.56),
    ("loving", "angry", -0.47),
    ("happy", "loving", 0.50),
    ("afraid", "desperate", 0.46),
    ("guilty", "sad", 0.44),
    ("afraid", "angry", 0.17),
];

/// The effect of adding an emotion's vector once on the log-probability of its own word after "He feels", in the
/// replication on Llama-3.2-1B-Instruct: the smallest and the largest that it reported.
pub const LLAMA_SELF_STEERING: [(&str, f64); 2] = [("sad", 1.2), ("loving", 3.2)];

/// Where the paper's numbers on such situations come from.
pub const IMPLICIT_READ_OFF: &str = "read off a figure of the paper, which does not print them";
/// The paper's result on situations that imply an emotion without naming it, in words.
pub const IMPLICIT: &str = "The paper, on situations of its own: 6 of 12 with mean rank 1.83, and 10 of 12 centred, as \
    they can be read off its figure; it does not print them.";
/// The same result as the share of correct situations, in per cent, and the mean rank.
pub const IMPLICIT_RAW: [Option<f64>; 2] = [Some(50.0), Some(1.83)];
/// The same with each probe centred over the situations; its mean rank was not reported.
pub const IMPLICIT_CENTRED: [Option<f64>; 2] = [Some(100.0 * 10.0 / 12.0), None];
/// Pairs whose cosine was published by at least one of the replications: similar ones, and opposite ones.
pub const PAIRS: [(&str, &str); 6] = [
    ("happy", "joyful"),
    ("angry", "furious"),
    ("happy", "sad"),
    ("calm", "panicked"),
    ("loving", "angry"),
    ("afraid", "desperate"),
];

/// The published cosine of a pair, in either order.
pub fn cosine(list: &[(&str, &str, f64)], a: &str, b: &str) -> Option<f64> {
    list.iter().find(|(x, y, _)| (*x, *y) == (a, b) || (*x, *y) == (b, a)).map(|(_, _, cosine)| *cosine)
}
