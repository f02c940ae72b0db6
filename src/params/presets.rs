//! Word lists and texts that ship with the program, as plain text files in `presets/`.

/// A list with its name.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub about: &'static str,
    text: &'static str,
}

/// `emotions.preset`
pub static EMOTIONS: &[Preset] = &[
    Preset {
        name: "core-9",
        about: "nine emotions in all quarters of valence and arousal",
        text: include_str!("presets/core-9.txt"),
    },
    Preset {
        name: "template-30",
        about: "thirty emotions with near synonyms and opposites",
        text: include_str!("presets/template-30.txt"),
    },
    Preset {
        name: "paper-171",
        about: "the paper's 171 emotions",
        text: include_str!("presets/paper-171.txt"),
    },
];

/// `stories.<name>.template.set`
pub static PASSAGES: &[Preset] = &[Preset {
    name: "passages-10",
    about: "ten everyday passages in first and third person",
    text: include_str!("presets/passages-10.txt"),
}];

/// `topics` of written stories
pub static TOPICS: &[Preset] = &[Preset {
    name: "everyday-100",
    about: "a hundred things and occasions of everyday life",
    text: include_str!("presets/everyday-100.txt"),
}];

/// `neutral.template.set`
pub static NEUTRAL: &[Preset] = &[Preset {
    name: "neutral-40",
    about: "forty factual texts of 60 to 110 words, each on a different subject",
    text: include_str!("presets/neutral-40.txt"),
}];

/// `analysis.<name>.steering.coherence`
pub static COHERENCE: &[Preset] = &[
    Preset { name: "none", about: "no text", text: "" },
    Preset {
        name: "neutral-8",
        about: "eight factual sentences",
        text: include_str!("presets/neutral-8.txt"),
    },
    Preset {
        name: "neutral-40",
        about: "the forty factual texts",
        text: include_str!("presets/neutral-40.txt"),
    },
];

/// `analysis.<name>.preferences.steer.emotions`
pub static EVERY: &[Preset] = &[Preset { name: "all", about: "every emotion of the experiment", text: "" }];

impl Preset {
    /// Its entries: paragraphs or, if there are no empty lines, lines. Lines that start with `#` are comments.
    pub fn entries(&self) -> Vec<String> {
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.trim();
        if text.contains("\n\n") {
            let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace());
            paragraphs
                .map(|words| words.collect::<Vec<_>>().join(" "))
                .filter(|text| !text.is_empty())
                .collect()
        } else {
            text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(presets: &[Preset], name: &str) -> Vec<String> {
        presets.iter().find(|preset| preset.name == name).expect("a preset").entries()
    }

    fn words(text: &str) -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphabetic()).map(str::to_string).collect()
    }

    #[test]
    fn presets_have_as_many_entries_as_their_names_say_each_once() {
        for preset in EMOTIONS.iter().chain(PASSAGES).chain(TOPICS).chain(NEUTRAL).chain(&COHERENCE[1..]) {
            let entries = preset.entries();
            let count = preset.name.rsplit('-').next().and_then(|count| count.parse().ok());
            assert_eq!(Some(entries.len()), count, "{}", preset.name);
            let once: std::collections::HashSet<_> = entries.iter().collect();
            assert_eq!(once.len(), entries.len(), "{}", preset.name);
        }
    }

    #[test]
    fn the_thirty_contain_every_emotion_of_the_replications() {
        let thirty = entries(EMOTIONS, "template-30");
        let named =
            "happy sad angry afraid calm desperate loving guilty surprised joyful furious panicked disgusted";
        for emotion in named.split(' ') {
            assert!(thirty.iter().any(|word| word == emotion), "{emotion}");
        }
    }

    #[test]
    fn texts_name_no_emotion_and_are_long_enough() {
        let emotions = entries(EMOTIONS, "paper-171");
        let (neutral, passages) = (entries(NEUTRAL, "neutral-40"), entries(PASSAGES, "passages-10"));
        for (text, from, to) in
            neutral.iter().map(|text| (text, 60, 110)).chain(passages.iter().map(|text| (text, 55, 75)))
        {
            let count = text.split_whitespace().count();
            assert!((from..=to).contains(&count), "{count} words: {text}");
            let words = words(&text.replace("{emotion}", ""));
            let named = emotions.iter().find(|emotion| words.contains(emotion));
            assert_eq!(named, None, "{text}");
        }
        let shipped = [include_str!("presets/situations-12.txt"), include_str!("presets/templates-4.txt")];
        let texts =
            shipped.iter().flat_map(|text| text.split('"').skip(1).step_by(2)).filter(|t| t.contains(' '));
        let mut count = 0;
        for text in texts {
            count += 1;
            let words = words(text);
            assert_eq!(emotions.iter().find(|emotion| words.contains(emotion)), None, "{text}");
        }
        assert_eq!(count, 12 + 16);
        for passage in passages {
            assert!((1..=3).contains(&passage.matches("{emotion}").count()), "{passage}");
        }
    }
}
