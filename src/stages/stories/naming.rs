//! Whether a text names an emotion, by its word or by a word with the same stem. Covers English endings, but no
//! synonyms.

use super::words::letters;

/// Whether `text` contains the emotion's word or a word that starts with its stem, in any case, at word boundaries.
///
/// Words are those of [`letters`]. An emotion of several words ("on edge", "self-conscious") must occur in full; only
/// its last word may be inflected. The stem rule errs towards too many matches rather than too few: for long words
/// everything that starts with the stem counts; for words and stems of four letters or fewer only listed endings do,
/// so that "happened" is not "happy", "made" is not "mad" and "ship" is not "shy". See [`Forms::of`].
pub fn names_emotion(text: &str, emotion: &str) -> bool {
    let wanted = letters(emotion);
    let Some((last, first)) = wanted.split_last() else { return false };
    let forms = Forms::of(last);
    let words = letters(text);
    words.windows(wanted.len()).any(|w| w[..first.len()] == *first && forms.has(&w[first.len()]))
}

/// Roots that no ending rule derives.
const IRREGULAR: [(&str, &str); 35] = [
    ("angry", "anger"),
    ("ashamed", "shame"),
    ("awestruck", "awe"),
    ("brokenhearted", "heartbreak"),
    ("compassionate", "compassion"),
    ("contemptuous", "contempt"),
    ("disdainful", "disdain"),
    ("ecstatic", "ecstasy"),
    ("elated", "elation"),
    ("empathetic", "empathy"),
    ("enthusiastic", "enthusiasm"),
    ("grateful", "gratitude"),
    ("hateful", "hatred"),
    ("heartbroken", "heartbreak"),
    ("horrified", "horror"),
    ("hysterical", "hysteria"),
    ("indignant", "indignation"),
    ("jubilant", "jubilation"),
    ("miserable", "misery"),
    ("obstinate", "obstinacy"),
    ("optimistic", "optimism"),
    ("panicked", "panic"),
    ("paranoid", "paranoia"),
    ("proud", "pride"),
    ("regretful", "regret"),
    ("relieved", "relief"),
    ("resentful", "resentment"),
    ("safe", "safety"),
    ("skeptical", "skeptic"),
    ("skeptical", "skepticism"),
    ("sympathetic", "sympathy"),
    ("terrified", "terror"),
    ("triumphant", "triumph"),
    ("vengeful", "vengeance"),
    ("vulnerable", "vulnerability"),
];

/// The words that count as forms of one word: those that start with a prefix, and those listed in full.
struct Forms {
    prefixes: Vec<String>,
    whole: Vec<String>,
}

impl Forms {
    /// The forms of a word in lower case.
    ///
    /// | ending | example | also counted |
    /// |---|---|---|
    /// | up to four letters | sad, calm, lazy, hope | listed endings: -ly -ness -er -est -ed -ing -s -ful, doubled letters, -ily, -ing without e |
    /// | -y | happy, guilty | happi-, guilti-, and the rest as a word: guilt |
    /// | -ied | worried | worri-, worry- |
    /// | -ed, -ing | surprised, loving | the stem as a prefix from five letters on (surpris-), else with -e -es -ed -er -ing and as a word: love, lover |
    /// | -ful | joyful | joy, joys, joyous |
    /// | -ous | furious | furi-, fury |
    /// | -ant, -ent | defiant, patient | defianc-, patienc- |
    /// | -e, -ic | desperate, euphoric | the stem as a prefix from four letters on: desperation, euphoria |
    fn of(word: &str) -> Forms {
        let mut forms = Forms { prefixes: Vec::new(), whole: vec![word.to_string()] };
        for (_, root) in IRREGULAR.iter().filter(|(irregular, _)| *irregular == word) {
            forms.endings(root, &["", "s", "d", "ed", "ful", "fully"]);
        }
        let length = |stem: &str| stem.chars().count();
        if length(word) <= 4 {
            forms.short(word);
            return forms;
        }
        forms.prefixes.push(word.to_string());
        if let Some(stem) = word.strip_suffix("ied") {
            forms.prefixes.extend([format!("{stem}i"), format!("{stem}y")]);
        } else if let Some(stem) = word.strip_suffix('y') {
            forms.prefixes.push(format!("{stem}i"));
            if length(stem) >= 4 {
                forms.whole.push(stem.to_string());
            }
        } else if let Some(stem) = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing")) {
            match length(stem) {
                5.. => forms.prefixes.push(stem.to_string()),
                _ => forms.endings(stem, &["e", "es", "ed", "er", "ers", "ing", "ingly", "ely", "ement"]),
            }
        } else if let Some(stem) = word.strip_suffix("ful") {
            forms.endings(stem, &["", "s", "ous", "ously"]);
        } else if let Some(stem) = word.strip_suffix("ous").filter(|stem| length(stem) >= 4) {
            forms.prefixes.push(stem.to_string());
            if let Some(stem) = stem.strip_suffix('i') {
                forms.whole.push(format!("{stem}y"));
            }
        } else if let Some(stem) = word.strip_suffix('t').filter(|s| s.ends_with("an") || s.ends_with("en")) {
            forms.prefixes.push(format!("{stem}c"));
        } else if let Some(stem) = word.strip_suffix('e').or_else(|| word.strip_suffix("ic"))
            && length(stem) >= 4
        {
            forms.prefixes.push(stem.to_string());
        }
        forms
    }

    /// The forms of a word of up to four letters: listed endings only.
    fn short(&mut self, word: &str) {
        self.endings(
            word,
            &["s", "ly", "ness", "er", "est", "ed", "ing", "d", "r", "st", "ful", "fully", "less", "ety"],
        );
        if let Some(stem) = word.strip_suffix('y') {
            self.endings(stem, &["ily", "iness", "ier", "iest"]);
        } else if let Some(stem) = word.strip_suffix('e') {
            self.endings(stem, &["ing"]);
        } else if let Some(letter) = word.chars().last() {
            let doubled = format!("{word}{letter}");
            self.endings(&doubled, &["er", "est", "en", "ens", "ened", "ening", "ed", "ing"]);
        }
    }

    fn endings(&mut self, stem: &str, endings: &[&str]) {
        self.whole.extend(endings.iter().map(|ending| format!("{stem}{ending}")));
    }

    fn has(&self, word: &str) -> bool {
        self.whole.iter().any(|w| w == word) || self.prefixes.iter().any(|p| word.starts_with(p.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_same_stem_name_an_emotion_and_others_do_not() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &[&str]); 27] = [
            ("happy", &["happy", "Happily", "happiness", "HAPPIER", "happy-go-lucky"], &["happened", "unhappy", "hap"]),
            ("furious", &["furiously", "fury", "furiousness"], &["fur", "furniture", "further"]),
            ("loving", &["love", "loved", "lovingly", "lover", "lovely"], &["lovage", "glove", "live"]),
            ("surprised", &["surprise", "surprising", "surprisingly"], &["surplus", "prised"]),
            ("worried", &["worry", "worries", "worrying"], &["worn", "word"]),
            ("angry", &["angrily", "anger", "angered", "angriest"], &["angle", "hangry", "danger"]),
            ("guilty", &["guilt", "guiltily"], &["guild", "gilt"]),
            ("desperate", &["desperately", "desperation"], &["despite", "despair"]),
            ("joyful", &["joy", "joyous", "joyfully"], &["join", "enjoy", "joyce"]),
            ("sad", &["sadly", "sadness", "saddened", "sadder"], &["saddle", "said", "crusade"]),
            ("mad", &["madly", "madness", "maddening"], &["made", "madam"]),
            ("calm", &["calmly", "calmed", "calming"], &["clam", "calmar"]),
            ("lazy", &["lazily", "laziness"], &["laze", "glazy"]),
            ("hope", &["hoping", "hopeful", "hoped", "hopeless"], &["hop", "hopping"]),
            ("shy", &["shyly", "shyness"], &["ship", "shine"]),
            ("terrified", &["terror", "terrify", "terrifying"], &["terrace", "terrible"]),
            ("scared", &["scare", "scaring"], &["scarf", "scarcely", "scar"]),
            ("panicked", &["panic", "panicking"], &["pan", "panel"]),
            ("euphoric", &["euphoria"], &["euphemism"]),
            ("proud", &["pride", "proudly"], &["prod"]),
            ("defiant", &["defiance", "defiantly"], &["define", "defy"]),
            ("indifferent", &["indifference", "indifferently"], &["different"]),
            ("miserable", &["misery", "miserably"], &["miser"]),
            ("safe", &["safely", "safety", "safer"], &["saffron", "safari"]),
            ("optimistic", &["optimism", "optimist", "optimistically"], &["optimal"]),
            ("on edge", &["I was on edge.", "on edge"], &["the edge", "on the edge", "edge on"]),
            ("self-conscious", &["self-consciously", "self conscious"], &["conscious", "self"]),
        ];
        for (emotion, named, other) in cases {
            for text in named {
                assert!(names_emotion(&format!("x, {text}!"), emotion), "`{text}` names {emotion}");
            }
            for text in other {
                assert!(!names_emotion(&format!("x, {text}!"), emotion), "`{text}` does not name {emotion}");
            }
        }
        assert!(!names_emotion("anything", ""));
        // Scripts without spaces between words, and scripts with combining marks.
        for (text, emotion, want) in [
            ("她心里非常开心，连雨声都慢了下来。", "开心", true),
            ("门开了，他的心很静。", "开心", false),
            ("वह गुस्सा थी।", "गुस्सा", true),
            ("वह गुस था।", "गुस्सा", false),
            ("Elle est de\u{301}tendue", "d\u{e9}tendue", true),
        ] {
            assert_eq!(names_emotion(text, emotion), want, "{text}");
        }
    }
}
