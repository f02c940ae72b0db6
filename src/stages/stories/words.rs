//! Unicode words in any language and spelling: for lengths, and to find names. Independent of emotions.

use unicode_normalization_alignments::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// The number of words of a text by Unicode's rules (UAX 29): runs between spaces and punctuation, and in scripts
/// without spaces between words (Chinese, Japanese, Thai) each character.
pub fn count(text: &str) -> usize {
    text.unicode_words().count()
}

/// The words of a text in lower case, composed (NFKC): letters with their combining marks. Hyphens, apostrophes,
/// digits and underscores separate words.
pub fn letters(text: &str) -> Vec<String> {
    let text: String = text.nfkc().map(|(character, _)| character).collect();
    let words = text.unicode_words().flat_map(|word| word.split(parts));
    words.filter(|word| word.chars().any(char::is_alphabetic)).map(str::to_lowercase).collect()
}

/// Whether a character separates two runs of letters within one word of UAX 29.
fn parts(character: char) -> bool {
    character.is_numeric()
        || character.is_ascii_punctuation()
        || ['\u{2019}', '\u{2018}', '\u{b7}', '\u{2024}', '\u{ff07}', '\u{ff0e}', '\u{203f}']
            .contains(&character)
}

/// A name without differences in spelling: case, spaces, hyphens, underscores, apostrophes and the Unicode form of its
/// letters (NFKC). "Grief_Stricken" and "grief-stricken" are one name.
pub fn folded(name: &str) -> String {
    let composed = name.nfkc().map(|(character, _)| character);
    let kept = composed.filter(|c| !(c.is_whitespace() || is_joiner(*c) || is_unseen(*c)));
    kept.flat_map(char::to_lowercase).collect()
}

/// Hyphens, dashes, underscores and apostrophes.
fn is_joiner(character: char) -> bool {
    matches!(
        character,
        '-' | '_' | '\'' | '\u{2010}'..='\u{2015}' | '\u{2018}' | '\u{2019}' | '\u{2212}' | '\u{ad}'
    )
}

/// Whether a text has no visible character.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_unseen(c))
}

/// Zero-width characters, which are invisible.
fn is_unseen(character: char) -> bool {
    matches!(character, '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// Whether a name consists of letters with their combining marks: accents, vowel signs, joiners.
pub fn is_letters(name: &str) -> bool {
    let belongs = |c: char| {
        unicode_normalization_alignments::char::is_combining_mark(c) || matches!(c, '\u{200c}' | '\u{200d}')
    };
    name.starts_with(char::is_alphabetic) && name.chars().all(|c| c.is_alphabetic() || belongs(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_any_script() {
        for (text, n) in [
            ("", 0),
            ("She didn't read the well-known board -- twice.", 8),
            ("她在车站等了很久。", 8),
            ("वह खुश था।", 3),
            ("3.14 or 1,000", 3),
        ] {
            assert_eq!(count(text), n, "{text}");
        }
    }

    #[test]
    fn words_of_letters_keep_their_marks() {
        assert_eq!(
            letters("Sad's mother_tongue, tired.Sad 3x"),
            ["sad", "s", "mother", "tongue", "tired", "sad", "x"]
        );
        assert_eq!(letters("वह गुस्सा थी।"), ["वह", "गुस्सा", "थी"]);
        assert_eq!(letters("心开"), ["心", "开"]);
        assert_eq!(letters("nai\u{308}ve"), letters("na\u{ef}ve"));
    }

    #[test]
    fn one_name_has_many_spellings() {
        for name in [
            "grief_stricken",
            "Grief Stricken",
            "GRIEF\u{2011}STRICKEN",
            " grief-stricken\u{200b}",
            "griefstricken",
        ] {
            assert_eq!(folded(name), "griefstricken", "{name}");
        }
        assert_eq!(folded("de\u{301}tendu"), folded("d\u{e9}tendu"));
        assert_ne!(folded("naive"), folded("na\u{ef}ve"));
        assert_ne!(folded("खुश"), folded("खश"));
    }

    #[test]
    fn marks_belong_to_letters_and_nothing_else_does() {
        for name in ["sad", "खुश", "गुस्सा", "de\u{301}tendu", "开心", "می\u{200c}ترسم"]
        {
            assert!(is_letters(name), "{name}");
        }
        for name in ["", "\u{301}a", "a b", "a/b", "s4d", "a_b"] {
            assert!(!is_letters(name), "{name}");
        }
        assert!(is_blank(" \u{a0}\u{200b}\n") && !is_blank("."));
    }
}
