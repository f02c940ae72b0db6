//! Word lists and texts that ship with the program, as plain text files beside this one.

/// One list under its name.
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
    about: "forty factual texts of 60 to 110 words, each on a subject of its own",
    text: include_str!("presets/neutral-40.txt"),
}];

impl Preset {
    /// Its entries: paragraphs, or where there are no empty lines, lines. Lines that start with `#` are comments.
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
